"""Attacks by who writes to MLflow or to the object store: nothing is unpickled that the train step did not sign."""

import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from winecontract import signatures
from winecontract.reasons import Reason
from winecontract.signatures import Fault, Keys
from winecontract.tags import PREFIX, Tag
from winesteps import chosen, model, tracking
from winesteps.chosen import Chosen
from winesteps.failures import Attempt, StepFailure, redact, reporting
from winesteps.train import Task, Trained, train

OWNER = {"namespace": "admin", "name": "mlflow", "uid": "1f0c", "revision": 1.0}
FOREST = {"n_estimators": 5.0}
TASK = Task(algorithm="RandomForest", parameters=FOREST, source={"data_sha256": "a" * 64}, data_etag='"one"')
KEY, OTHER_KEY = signatures.new_key(), signatures.new_key()
Train = Callable[..., Trained]
Forge = Callable[[MlflowClient, str], None]
Attack = Callable[[Path, Path], object]


class Intruder:
    """A pickle that makes a file where it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Exists if an intruder's code has run."""
    return tmp_path / "intruder was here"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(signatures.KEY_VARIABLE, KEY)


@pytest.fixture
def run(store: str, table: Path) -> Train:
    """Trains a revision in a Kubeflow run of its own."""
    revisions = iter(range(1, 100))

    def run(task: Task = TASK, **changes: Any) -> Trained:
        revision = next(revisions)
        record = tracking.Record(store, "wine", owner=OWNER | {"revision": float(revision)}, kfp_run=f"run-{revision}")
        return train(table, replace(task, **changes), record, Attempt())

    return run


@pytest.fixture
def client(store: str) -> MlflowClient:
    return MlflowClient(store)


def fault(run: Run, key: str = KEY, **other: str) -> Fault | None:
    """What the operator finds of a record."""
    signed = signatures.statement(run.info.run_id, "wine-elasticnet", run.data.tags, run.data.metrics)
    return signatures.verify(signed, run.data.tags.get(Tag.SIGNATURE, ""), Keys.parse({"current": key, **other}))


def tags(client: MlflowClient, trained: Trained) -> dict[str, str]:
    return {name.removeprefix(PREFIX): value for name, value in client.get_run(trained.run_id).data.tags.items()}


class TestRecord:
    """What the train step writes, and what of it can be changed afterwards."""

    def test_record_verifies_as_mlflow_gives_it_back(self, run: Train, client: MlflowClient) -> None:
        searched = run(search={"max_features": [0.5, 1.0]})
        measured = run(served_run=searched.run_id, served_digest=tags(client, searched)["digest"])
        for trained in (searched, measured):
            assert fault(client.get_run(trained.run_id)) is None
            assert signatures.digest(Path(trained.model_uri)) == tags(client, trained)["digest"]
        assert "served_r2" in measured.metrics

    @pytest.mark.parametrize(
        "task",
        [TASK, Task(), Task(server_version="1.15.1"), Task(algorithm="HistGradientBoosting")],
        ids=["forest", "linear", "mlflowserver", "boosting"],
    )
    def test_stored_folder_is_the_one_that_was_signed(self, run: Train, client: MlflowClient, task: Task) -> None:
        """Loading the model once more, as the step does, leaves nothing beside it."""
        trained = run(task)
        assert signatures.digest(Path(trained.model_uri)) == tags(client, trained)["digest"]
        assert not list(Path(trained.model_uri).rglob("*.pyc"))

    @pytest.mark.parametrize(
        "forge",
        [
            lambda client, run_id: client.log_metric(run_id, "r2", 0.99),
            lambda client, run_id: client.log_metric(run_id, "served_r2", 0.0),
            lambda client, run_id: client.set_tag(run_id, f"{PREFIX}model-uri", "s3://evil/model"),
            lambda client, run_id: client.set_tag(run_id, f"{PREFIX}digest", "sha256:" + "0" * 64),
            lambda client, run_id: client.set_tag(run_id, f"{PREFIX}prediction", "[1.0]"),
            lambda client, run_id: client.set_tag(run_id, f"{PREFIX}reused-run", "0" * 32),
            lambda client, run_id: client.delete_tag(run_id, f"{PREFIX}data-etag"),
        ],
        ids=["metric raised", "metric of the served model", "address", "digest", "prediction", "reuse", "tag removed"],
    )
    def test_changed_record_is_tampered(self, run: Train, client: MlflowClient, forge: Forge) -> None:
        trained = run()
        forge(client, trained.run_id)
        assert fault(client.get_run(trained.run_id)) is Fault.TAMPERED

    @pytest.mark.parametrize("change", [{}, {"revision": "2"}, {"uid": "2f0c"}, {"namespace": "other"}, {"kfp-run": "run-9"}])
    def test_replayed_record_is_tampered(self, run: Train, client: MlflowClient, change: dict[str, str]) -> None:
        """Another MLflow run with all tags and metrics of a signed one, for another revision, resource or run."""
        signed = client.get_run(run().run_id)
        forged = client.create_run(signed.info.experiment_id, start_time=4102444800000)
        for name, value in (signed.data.tags | {PREFIX + name: value for name, value in change.items()}).items():
            client.set_tag(forged.info.run_id, name, value)
        for name, metric in signed.data.metrics.items():
            client.log_metric(forged.info.run_id, name, metric)
        client.set_terminated(forged.info.run_id)
        assert fault(client.get_run(forged.info.run_id)) is Fault.TAMPERED

    def test_unsigned_without_a_key(self, run: Train, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(signatures.KEY_VARIABLE)
        assert fault(client.get_run(run().run_id)) is Fault.UNSIGNED

    def test_unusable_key_is_reported_before_training(self, run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(signatures.KEY_VARIABLE, "0123456789")
        monkeypatch.setattr("winesteps.estimator.fit", None)
        with pytest.raises(StepFailure, match="wine-model-key") as caught:
            run()
        assert caught.value.reason is Reason.MODEL_KEY_INVALID
        assert not caught.value.permanent, "a new key helps, without a change of the spec"
        assert "0123456789" not in caught.value.message

    def test_key_is_nowhere_in_mlflow_and_no_message(self, run: Train, client: MlflowClient, tmp_path: Path) -> None:
        trained = run()
        assert KEY not in str(client.get_run(trained.run_id).to_dictionary())
        assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert KEY not in redact(f"failed with {KEY}")
        with pytest.raises(StepFailure) as caught, reporting("train", tracking.Record("file:/nowhere", "wine")):
            raise ValueError(KEY)
        assert KEY not in str(caught.value)


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _loader(folder: Path, _: Path) -> None:
    """MLmodel names a module, and the folder the code."""
    (folder / "code").mkdir()
    (folder / "code" / "intruder.py").write_text("import os\nos.mkdir(os.environ['TRACE'])\n")
    text = (folder / "MLmodel").read_text()
    (folder / "MLmodel").write_text(text.replace("loader_module: mlflow.sklearn", "loader_module: intruder\n    code: code"))


def _many(folder: Path, _: Path) -> None:
    for number in range(signatures.MAX_FILES):
        (folder / str(number)).touch()


ATTACKS: dict[str, Attack] = {
    "pickle replaced": lambda folder, trace: (folder / "model.pkl").write_bytes(pickle.dumps(Intruder(trace))),
    "byte of the pickle changed": lambda folder, _: _flip(folder / "model.pkl"),
    "byte of MLmodel changed": lambda folder, _: _flip(folder / "MLmodel"),
    "loader added": _loader,
    "file added": lambda folder, _: (folder / "sitecustomize.py").write_text("1/0"),
    "file removed": lambda folder, _: (folder / "requirements.txt").unlink(),
    "file renamed": lambda folder, _: (folder / "conda.yaml").rename(folder / "conda2.yaml"),
    "many files added": _many,
}
attacks = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())


class TestPredictStep:
    """The step that scores files."""

    @attacks
    def test_changed_model_is_not_loaded(
        self,
        run: Train,
        client: MlflowClient,
        tmp_path: Path,
        trace: Path,
        attack: Attack,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("TRACE", str(trace))
        trained = run()
        attack(Path(trained.model_uri), trace)
        wanted = Chosen(trained.run_id, trained.version, "1f0c", tags(client, trained)["digest"], allow_unsigned=True)
        (tmp_path / "private").mkdir()
        with pytest.raises(StepFailure, match="was not loaded") as caught:
            chosen.load(chosen.find(client, wanted, "file:"), wanted, tmp_path / "private", client.tracking_uri)
        assert caught.value.reason is Reason.MODEL_TAMPERED
        assert caught.value.permanent, "another attempt meets the same files"
        assert not trace.exists()

    def test_intruder_would_have_been_loaded_without_the_check(
        self, run: Train, client: MlflowClient, tmp_path: Path, trace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trained = run()
        ATTACKS["pickle replaced"](Path(trained.model_uri), trace)
        monkeypatch.setattr(model, "verify", lambda *_, **__: None)
        chosen.load(client.get_run(trained.run_id), Chosen(trained.run_id), tmp_path, client.tracking_uri)
        assert trace.exists()

    def test_model_without_a_digest_is_loaded_only_where_that_is_allowed(
        self, run: Train, client: MlflowClient, tmp_path: Path
    ) -> None:
        trained = run()
        with pytest.raises(StepFailure, match="retrain") as caught:
            chosen.load(client.get_run(trained.run_id), Chosen(trained.run_id), tmp_path, client.tracking_uri)
        assert caught.value.reason is Reason.MODEL_UNSIGNED
        allowed = Chosen(trained.run_id, allow_unsigned=True)
        _, columns = chosen.load(client.get_run(trained.run_id), allowed, tmp_path, client.tracking_uri)
        assert len(columns) == 11


class TestServedModel:
    """The train step, which measures the model that serves beside the new one."""

    @attacks
    def test_changed_model_is_not_loaded_and_training_goes_on(
        self,
        run: Train,
        client: MlflowClient,
        trace: Path,
        attack: Attack,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("TRACE", str(trace))
        serves = run()
        attack(Path(serves.model_uri), trace)
        trained = run(seed=5, served_run=serves.run_id, served_digest=tags(client, serves)["digest"])
        assert "ModelTampered" in tags(client, trained)["served-problem"]
        assert set(trained.metrics) == {"r2", "rmse", "mae"}
        assert not trace.exists()
        assert fault(client.get_run(trained.run_id)) is None

    def test_model_without_a_digest_is_measured_only_where_that_is_allowed(self, run: Train, client: MlflowClient) -> None:
        serves = run()
        refused = run(seed=5, served_run=serves.run_id)
        assert "ModelUnsigned" in tags(client, refused)["served-problem"]
        assert "served_r2" in run(seed=6, served_run=serves.run_id, allow_unsigned=True).metrics


class TestReuse:
    """The train step, which takes a model that exists where it would make it again."""

    def test_reused_model_is_signed_anew(self, run: Train, client: MlflowClient) -> None:
        first = run()
        second = run(reusable_runs=[first.run_id])
        reused = tags(client, second)
        assert reused["reused-run"] == first.run_id
        assert reused["digest"] == tags(client, first)["digest"]
        assert reused["signature"] != tags(client, first)["signature"]
        assert fault(client.get_run(second.run_id)) is None

    @pytest.mark.parametrize(
        "forge",
        [
            lambda client, run_id: client.log_metric(run_id, "r2", 0.99),
            lambda client, run_id: client.set_tag(run_id, f"{PREFIX}prediction", "[1.0]"),
            lambda client, run_id: client.set_tag(run_id, Tag.SIGNATURE, ""),
        ],
        ids=["metric raised", "prediction", "signature removed"],
    )
    def test_forged_original_is_not_reused(self, run: Train, client: MlflowClient, forge: Forge) -> None:
        first = run()
        forge(client, first.run_id)
        second = run(reusable_runs=[first.run_id])
        assert "reused-run" not in tags(client, second)
        assert second.metrics["r2"] == pytest.approx(first.metrics["r2"])

    def test_forged_run_of_the_same_kubeflow_run_is_not_reused(self, run: Train, client: MlflowClient, trace: Path) -> None:
        """As an attacker would do who knows the next run's id: a run of their own, with a pickle of their own."""
        first = client.get_run(run().run_id)
        forged = client.create_run(first.info.experiment_id)
        folder = Path(forged.info.artifact_uri) / "model"
        shutil.copytree(Path(first.info.artifact_uri) / "model", folder)
        ATTACKS["pickle replaced"](folder, trace)
        version = client.create_model_version("wine-elasticnet", str(folder), forged.info.run_id)
        changes = {"model-uri": str(folder), "model-version": version.version, "digest": signatures.digest(folder)}
        changes |= {"kfp-run": "run-2", "revision": "2"}
        for name, value in (first.data.tags | {PREFIX + name: str(value) for name, value in changes.items()}).items():
            client.set_tag(forged.info.run_id, name, value)
        client.set_terminated(forged.info.run_id)
        second = run()
        assert "reused-run" not in tags(client, second)
        assert fault(client.get_run(second.run_id)) is None
        assert not trace.exists()

    @attacks
    def test_changed_model_is_made_again(self, run: Train, client: MlflowClient, trace: Path, attack: Attack) -> None:
        """So that `retrain` is the way out of ModelTampered."""
        first = run()
        attack(Path(first.model_uri), trace)
        second = run(reusable_runs=[first.run_id])
        assert "reused-run" not in tags(client, second)
        assert second.model_uri != first.model_uri
        assert not trace.exists()

    def test_original_of_the_previous_key_is_reused_and_signed_with_the_current_one(
        self, run: Train, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = run()
        monkeypatch.setenv(signatures.KEY_VARIABLE, OTHER_KEY)
        monkeypatch.setenv(signatures.PREVIOUS_KEY_VARIABLE, KEY)
        second = run(reusable_runs=[first.run_id])
        assert tags(client, second)["reused-run"] == first.run_id
        assert fault(client.get_run(second.run_id), OTHER_KEY) is None
        assert fault(client.get_run(second.run_id), KEY) is Fault.UNSIGNED

    def test_original_of_an_unknown_key_is_not_reused(
        self, run: Train, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = run()
        monkeypatch.setenv(signatures.KEY_VARIABLE, OTHER_KEY)
        assert "reused-run" not in tags(client, run(reusable_runs=[first.run_id]))
