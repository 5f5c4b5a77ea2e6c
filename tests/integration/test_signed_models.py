"""Only a revision's own train step decides which model is served. API server, object store and MLflow are real."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from minio import Minio
from mlflow.entities import RunTag
from mlflow.store.tracking.rest_store import RestStore as TrackingStore
from mlflow.utils.rest_utils import MlflowHostCreds
from support.cluster import Cluster, eventually, ready
from support.files import contents
from support.operator import OperatorProcess

from sandbox.platform import Sandbox
from winecontract.signatures import DIGEST, SECRET
from winepipelines.api.modelrecord import ModelRecord
from winepipelines.api.pipeline import GROUP, WinePipeline
from winepipelines.api.status import RevisionOutcome

NAMESPACE = "signed"
YEAR_2100 = 4_102_444_800_000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Sandbox("signed", tmp_path_factory.mktemp("sandbox"), without={"operator"}) as sandbox:
        yield Cluster(sandbox)


@pytest.fixture(scope="module")
def operator(cluster: Cluster) -> Iterator[OperatorProcess]:
    with OperatorProcess(cluster.sandbox) as operator:
        yield operator


@pytest.fixture(scope="module")
def served(cluster: Cluster, operator: OperatorProcess) -> WinePipeline:
    cluster.namespace(NAMESPACE)
    cluster.apply(cluster.resource(NAMESPACE))
    return cluster.wait(NAMESPACE, ready)


def annotate(cluster: Cluster, **requests: str) -> None:
    values = [f"{GROUP}/{name}={value}" for name, value in requests.items()]
    cluster.sandbox.kubectl("-n", NAMESPACE, "annotate", "--overwrite", "winepipeline", "mlflow", *values)


def served_digest(cluster: Cluster) -> str:
    deployment = cluster.get("sdep", NAMESPACE, "mlflow")
    assert deployment is not None
    [container] = deployment["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"]
    [variable] = container["env"]
    assert variable["name"] == "MODEL_DIGEST"
    return str(variable["value"])


def key(cluster: Cluster) -> str:
    secret = cluster.get("secrets", NAMESPACE, SECRET)
    assert secret is not None
    return str(secret["data"]["current"])


def change_a_byte(cluster: Cluster, model: ModelRecord) -> None:
    """Change one byte of the pickle, as an attacker with write access to the bucket could."""
    info = cluster.info
    client = Minio(info.s3_endpoint.partition("://")[2], info.s3_access_key, info.s3_secret_key, secure=False)
    bucket, _, folder = model.uri.removeprefix("s3://").partition("/")
    with client.get_object(bucket, f"{folder}/model.pkl") as answer:
        content = bytearray(answer.read())
    content[-2] ^= 1
    path = Path(info.folder) / "changed.pkl"
    path.write_bytes(content)
    client.fput_object(bucket, f"{folder}/model.pkl", str(path))


def forge(cluster: Cluster, pipeline: WinePipeline) -> str:
    """Write a run with a later date than any other, and with every tag that can be read from the victim's run. Return its id."""
    assert pipeline.status.run is not None
    host = MlflowHostCreds(cluster.info.mlflow_url)
    store = TrackingStore(lambda: host)
    found = store.get_experiment_by_name("wine")
    run = store.create_run(found.experiment_id, "evil", YEAR_2100, [], "evil")
    tags = {
        "namespace": NAMESPACE,
        "name": "mlflow",
        "uid": pipeline.uid,
        "revision": str(pipeline.status.revision),
        "kfp-run": pipeline.status.run.id,
        "model-uri": f"{run.info.artifact_uri}/model",
        "digest": "sha256:" + "e" * 64,
        "signature": "v1:00000000:" + "0" * 64,
    }
    store.log_batch(run.info.run_id, [], [], [RunTag(f"{GROUP}/{name}", value) for name, value in tags.items()])
    store.update_run_info(run.info.run_id, 3, YEAR_2100 + 1, "evil")
    return str(run.info.run_id)


def test_server_gets_the_digest_that_the_step_signed(cluster: Cluster, served: WinePipeline) -> None:
    assert served.status.served is not None
    assert DIGEST.fullmatch(served.status.served.model.digest)
    assert served_digest(cluster) == served.status.served.model.digest
    assert 5 < cluster.predict(NAMESPACE) < 7


def test_model_key_is_only_in_the_secret(cluster: Cluster, operator: OperatorProcess, served: WinePipeline) -> None:
    secret = cluster.get("secrets", NAMESPACE, SECRET)
    assert secret is not None
    assert secret["metadata"]["ownerReferences"][0]["uid"] == served.uid
    logs = [content.decode(errors="replace") for _, content, _ in contents(cluster.info.folder / "kubeflow" / "runs")]
    assert logs
    kinds = "wp,sdep,deployments,pods,poddefaults,events,wf"
    places = {
        "objects": cluster.sandbox.kubectl("-n", NAMESPACE, "get", kinds, "-o", "yaml"),
        "runs": json.dumps(cluster.runs(NAMESPACE)),
        "log": operator.log.read_text(),
        "steps": "".join(logs),
    }
    value = key(cluster)
    for place, text in places.items():
        assert value not in text, place
        assert base64.b64decode(value).decode() not in text, place


def test_forged_run_is_not_served(cluster: Cluster, served: WinePipeline) -> None:
    annotate(cluster, retrain="forged")
    pipeline = cluster.wait(NAMESPACE, lambda pipeline: pipeline.status.revision == 2 and bool(pipeline.status.run.id))  # type: ignore[union-attr]
    forged = forge(cluster, pipeline)
    pipeline = cluster.wait(NAMESPACE, lambda pipeline: pipeline.status.candidate is not None and pipeline.status.revision == 2)
    candidate = pipeline.status.candidate
    assert candidate is not None
    assert candidate.model.mlflow_run != forged
    assert forged in candidate.ignored_record, "the status names the ignored run"
    cluster.wait(NAMESPACE, ready)


def test_changed_model_is_not_loaded_and_the_served_model_keeps_serving(cluster: Cluster, served: WinePipeline) -> None:
    first = cluster.wait(NAMESPACE, ready).status.served
    assert first is not None
    cluster.apply(cluster.resource(NAMESPACE, training={"seed": 7}))
    second = cluster.wait(NAMESPACE, lambda pipeline: ready(pipeline) and pipeline.status.served != first)
    served_now = second.status.served
    assert served_now is not None
    assert served_now.model.digest != first.model.digest
    change_a_byte(cluster, first.model)
    annotate(cluster, rollback=str(first.revision))
    refused = cluster.wait(
        NAMESPACE, lambda pipeline: any(entry.reason == "ModelTampered" for entry in pipeline.status.history), seconds=120
    )
    assert refused.status.history[0].outcome is RevisionOutcome.REJECTED
    assert refused.status.served is not None
    assert refused.status.served.revision == served_now.revision
    assert 5 < cluster.predict(NAMESPACE) < 7
    eventually(lambda: served_digest(cluster) == served_now.model.digest)
    annotate(cluster, retrain="after the attack")
    retrained = cluster.wait(NAMESPACE, _has_ended(refused.status.revision + 1))
    assert retrained.status.served is not None
    assert retrained.status.served.model.digest == served_digest(cluster)


def test_deleted_key_is_recreated_and_the_model_keeps_serving(cluster: Cluster, served: WinePipeline) -> None:
    before, pipeline = key(cluster), cluster.wait(NAMESPACE, ready)
    cluster.sandbox.kubectl("-n", NAMESPACE, "delete", "secret", SECRET)
    eventually(lambda: cluster.get("secrets", NAMESPACE, SECRET) is not None)
    assert key(cluster) != before
    assert cluster.wait(NAMESPACE, ready).status.served == pipeline.status.served
    annotate(cluster, retrain="with another key")
    trained = cluster.wait(NAMESPACE, _has_ended(pipeline.status.revision + 1))
    assert trained.status.history[0].outcome in (RevisionOutcome.SERVED, RevisionOutcome.UNCHANGED)


def _has_ended(revision: int) -> Callable[[WinePipeline], bool]:
    """Return whether the revision has ended: while it runs, Ready stays True for the model that serves."""
    return lambda pipeline: ready(pipeline) and bool(pipeline.status.history) and pipeline.status.history[0].revision >= revision
