"""The steps on MLflow as platforms run it: 2.22, 3 with a store of its own, 3 behind a password and a path."""

import json
import os
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from mlflow import MlflowClient
from mlflow.store.artifact.s3_artifact_repo import _cached_get_s3_client
from support.mlflow import MLFLOW_ONLY

from sandbox.mlflow_server import VARIANTS, destination, variant
from sandbox.plan import Info
from sandbox.platform import Sandbox
from winecontract import signatures
from winecontract.reasons import Reason
from winecontract.tags import PREFIX, Tag
from winesteps import chosen, tracking
from winesteps.chosen import Chosen
from winesteps.failures import Attempt, StepFailure, reporting
from winesteps.train import Task, Trained, train

KEY = signatures.new_key()
OWNER = {"namespace": "admin", "name": "mlflow", "uid": "1f0c", "revision": 7.0}


@pytest.fixture(scope="module", params=list(VARIANTS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Info]]:
    """A variant's name, and where it is."""
    with Sandbox("steps-mlflow", tmp_path_factory.mktemp("mlflow"), without=MLFLOW_ONLY, mlflow=request.param) as sandbox:
        yield request.param, sandbox.info


@pytest.fixture(autouse=True)
def step_environment(server: tuple[str, Info], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step's pod has from its Secrets, and nothing of this process."""
    _, info = server
    for name in os.environ:
        if name.startswith(("MLFLOW_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", info.s3_access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", info.s3_secret_key)
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # a step is a process: it has seen no other store
    _cached_get_s3_client.cache_clear()
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "")  # restored afterwards: the step sets it
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv(signatures.KEY_VARIABLE, KEY)
    if info.mlflow_user:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", info.mlflow_user)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", info.mlflow_password)


@pytest.fixture
def record(server: tuple[str, Info]) -> tracking.Record:
    _, info = server
    return tracking.Record(info.mlflow_url, "it's wine", info.s3_endpoint, OWNER, "run-1")


class Intruder:
    """A pickle that makes a folder where it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def place(server: tuple[str, Info], trained: Trained, name: str) -> tuple[Any, dict[str, str]]:
    """A client of the object store, and where a file of the model is in it, as Seldon would look for it."""
    variant_name, info = server
    address = trained.model_uri.replace("mlflow-artifacts:", destination(variant(variant_name)))
    bucket, _, folder = address.removeprefix("s3://").partition("/")
    store = boto3.client("s3", endpoint_url=info.s3_endpoint, region_name="us-east-1")
    return store, {"Bucket": bucket, "Key": f"{folder}/{name}"}


def stored(server: tuple[str, Info], trained: Trained, name: str) -> bytes:
    store, where = place(server, trained, name)
    content: bytes = store.get_object(**where)["Body"].read()
    return content


def put(server: tuple[str, Info], trained: Trained, name: str, content: bytes) -> None:
    store, where = place(server, trained, name)
    store.put_object(**where, Body=content)


def digest_of(record: tracking.Record, trained: Trained) -> str:
    return MlflowClient(record.tracking_uri).get_run(trained.run_id).data.tags[Tag.DIGEST]


@pytest.mark.parametrize("server_version", ["", "1.15.1"])
def test_a_model_is_logged_registered_and_stored(
    server: tuple[str, Info], record: tracking.Record, table: Path, server_version: str
) -> None:
    trained = train(table, Task(registered_model="wine's best", server_version=server_version), record, Attempt())
    client = MlflowClient(record.tracking_uri)
    run = client.get_run(trained.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == pytest.approx(trained.metrics)
    tags = {name.removeprefix(PREFIX): value for name, value in run.data.tags.items()}
    assert tags["model-uri"] == trained.model_uri == f"{run.info.artifact_uri}/model"
    assert trained.model_uri.startswith("mlflow-artifacts:/" if variant(server[0]).proxied else "s3://mlflow/")
    assert (tags["uid"], tags["revision"], tags["model-version"]) == ("1f0c", "7", trained.version)
    version = client.get_model_version("wine's best", trained.version)
    assert version.tags == {"namespace": "admin", "name": "mlflow", "uid": "1f0c", "revision": "7"}
    assert version.run_id == trained.run_id
    assert b"flavors:" in stored(server, trained, "MLmodel")
    assert len(stored(server, trained, "linear.json" if server_version else "model.pkl"))
    assert len(json.loads(tags["prediction"])) == 3


def test_the_model_that_serves_is_measured_and_one_that_exists_is_reused(record: tracking.Record, table: Path) -> None:
    serves = train(table, Task(seed=5), record, Attempt())
    task = Task(seed=6, served_run=serves.run_id, served_digest=digest_of(record, serves))
    measured = train(table, task, record, Attempt())
    assert measured.run_id != serves.run_id
    assert {"served_r2", "served_rmse", "served_mae"} <= set(measured.metrics)
    task = replace(task, served_run=measured.run_id, served_digest=digest_of(record, measured), reusable_runs=[measured.run_id])
    again = train(table, task, replace(record, owner=OWNER | {"revision": 8}), Attempt())
    assert (again.model_uri, again.version) == (measured.model_uri, measured.version)
    assert again.metrics["served_r2"] == pytest.approx(measured.metrics["r2"], abs=1e-12)
    tags = MlflowClient(record.tracking_uri).get_run(again.run_id).data.tags
    assert tags["winepipelines.io/reused-run"] == measured.run_id
    assert tags["winepipelines.io/revision"] == "8"


def test_signed_record_comes_back_from_the_server_as_it_was_signed(record: tracking.Record, table: Path) -> None:
    task = Task(seed=7, algorithm="ElasticNet", search={"alpha": [0.01, 0.1]}, source={"data_sha256": "é" * 64})
    first = train(table, task, record, Attempt())
    served = replace(task, seed=8, served_run=first.run_id, served_digest=digest_of(record, first))
    keys = signatures.Keys.parse({"current": KEY})
    for trained in (first, train(table, served, record, Attempt())):
        run = MlflowClient(record.tracking_uri).get_run(trained.run_id)
        signed = signatures.statement(run.info.run_id, "wine-elasticnet", run.data.tags, run.data.metrics)
        assert signatures.verify(signed, run.data.tags[Tag.SIGNATURE], keys) is None


def test_model_whose_bytes_were_changed_in_the_object_store_is_not_loaded(
    server: tuple[str, Info], record: tracking.Record, table: Path, tmp_path: Path
) -> None:
    trained = train(table, Task(seed=9), record, Attempt())
    client = tracking.connect(record)
    wanted = Chosen(trained.run_id, trained.version, "1f0c", digest_of(record, trained))
    run = chosen.find(client, wanted, record.tracking_uri)
    for folder in ("before", "after"):
        (tmp_path / folder).mkdir()
    loaded, _ = chosen.load(run, wanted, tmp_path / "before", record.tracking_uri)
    assert loaded is not None
    put(server, trained, "model.pkl", pickle.dumps(Intruder(tmp_path / "intruder was here")))
    with pytest.raises(StepFailure) as caught:
        chosen.load(run, wanted, tmp_path / "after", record.tracking_uri)
    assert caught.value.reason is Reason.MODEL_TAMPERED
    assert not (tmp_path / "intruder was here").exists()


def test_a_failure_is_recorded(record: tracking.Record) -> None:
    with pytest.raises(StepFailure), reporting("download", record):
        raise StepFailure(Reason.DATA_NOT_FOUND, "404")
    client = MlflowClient(record.tracking_uri)
    found = client.get_experiment_by_name(record.experiment)
    assert found is not None
    newest = client.search_runs([found.experiment_id], "tags.`winepipelines.io/failed-step` = 'download'")[0]
    assert newest.info.status == "FAILED"
    assert newest.data.tags["winepipelines.io/failure-reason"] == "DataNotFound"


def refused(table: Path, record: tracking.Record, *reasons: Reason) -> str:
    """Train without success, for one of these reasons; return the message."""
    with pytest.raises(StepFailure) as caught:
        train(table, Task(), record, Attempt())
    assert caught.value.reason in reasons
    return caught.value.message


def test_wrong_password_is_reported_and_not_shown(
    server: tuple[str, Info], record: tracking.Record, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not server[1].mlflow_user:
        pytest.skip("it requires none")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "not-the-password")
    message = refused(table, record, Reason.TRACKING_REJECTED)
    assert "wine-mlflow-credentials" in message
    assert "not-the-password" not in message


def test_an_experiment_whose_bucket_is_gone_is_named(server: tuple[str, Info], record: tracking.Record, table: Path) -> None:
    """Field case c18."""
    if variant(server[0]).proxied:
        pytest.skip("the server itself writes to the store")
    tracking.connect(record).create_experiment("no bucket", artifact_location="s3://gone-bucket/x")
    message = refused(table, replace(record, experiment="no bucket"), Reason.BUCKET_MISSING)
    assert "gone-bucket" in message


def test_a_deleted_experiment_is_named(record: tracking.Record, table: Path) -> None:
    """Field case c18."""
    client = tracking.connect(record)
    client.delete_experiment(client.create_experiment("deleted"))
    assert "'deleted' is deleted" in refused(table, replace(record, experiment="deleted"), Reason.EXPERIMENT_DELETED)


def test_a_token_with_a_lines_end_is_not_shown(record: tracking.Record, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No header can hold it, and the client's own error shows it."""
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a-secret-token\n")
    assert "a-secret-token" not in refused(table, record, Reason.TRACKING_UNAVAILABLE, Reason.TRACKING_REJECTED)


def test_message_names_a_host_that_the_server_does_not_allow(
    server: tuple[str, Info], record: tracking.Record, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variant(server[0]).series == 2:
        pytest.skip("MLflow 2 answers whatever it is called")
    strange = record.tracking_uri.replace("127.0.0.1", "mlflow.127.0.0.1.invalid")
    from socket import getaddrinfo as real

    def resolve(host: str, *arguments: object, **options: object) -> object:
        return real("127.0.0.1" if host.endswith(".invalid") else host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    message = refused(table, replace(record, tracking_uri=strange), Reason.TRACKING_REJECTED)
    assert f"Add {strange.split('/')[2]} to MLFLOW_SERVER_ALLOWED_HOSTS" in message


def test_message_names_a_path_without_an_mlflow_api(record: tracking.Record, table: Path) -> None:
    elsewhere = replace(record, tracking_uri=record.tracking_uri.removesuffix("/mlflow") + "/no/such/path")
    message = refused(table, elsewhere, Reason.TRACKING_UNAVAILABLE, Reason.TRACKING_REJECTED)
    assert "the path under which the server answers" in message or "wine-mlflow-credentials" in message
