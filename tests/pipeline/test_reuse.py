"""Reuse of a model with the same data and settings, and evaluation of the served model on the new rows."""

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from winecontract import signatures
from winecontract.tags import PREFIX
from winesteps import model, tracking
from winesteps.failures import Attempt
from winesteps.train import Task, Trained, train

OWNER = {"namespace": "admin", "name": "mlflow", "uid": "1f0c", "revision": 1}
TASK = Task(parameters={"alpha": 0.5, "l1_ratio": 0.5}, source={"data_sha256": "a" * 64}, data_etag='"one"')
Run_ = Callable[..., Trained]


@pytest.fixture
def run(store: str, table: Path, monkeypatch: pytest.MonkeyPatch) -> Run_:
    """Trains for a resource's next revision, with a key. What serves need not be signed here: see test_signed_models."""
    monkeypatch.setenv(signatures.KEY_VARIABLE, signatures.new_key())
    revisions = iter(range(1, 100))
    known: list[str] = []

    def run(
        task: Task = TASK, *, data: Path = table, owner: dict[str, Any] | None = None, kfp_run: str = "", is_known: bool = True
    ) -> Trained:
        revision = next(revisions)
        owner = OWNER | {"revision": revision} if owner is None else owner
        record = tracking.Record(store, "wine", owner=owner, kfp_run=kfp_run or f"run-{revision}")
        trained = train(data, replace(task, reusable_runs=tuple(known), allow_unsigned=True), record, Attempt())
        if is_known:  # the operator has found the model by its Kubeflow run
            known.insert(0, trained.run_id)
        return trained

    return run


@pytest.fixture
def client(store: str) -> MlflowClient:
    return MlflowClient(store)


def step_tags(client: MlflowClient, trained: Trained) -> dict[str, str]:
    return {name.removeprefix(PREFIX): value for name, value in client.get_run(trained.run_id).data.tags.items()}


def is_reuse(client: MlflowClient, trained: Trained, original: Trained) -> bool:
    return step_tags(client, trained).get("reused-run") == original.run_id and trained.model_uri == original.model_uri


def values(run: Run) -> tuple[dict[str, float], dict[str, str]]:
    return run.data.metrics, run.data.params


class TestReuse:
    """The model that exists."""

    def test_reuse_fits_and_registers_nothing(self, run: Run_, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
        first = run()
        monkeypatch.setattr("winesteps.estimator.fit", None)
        second = run(replace(TASK, data_etag='"two"'))
        assert is_reuse(client, second, first)
        assert second.run_id != first.run_id
        assert second.version == first.version == "1"
        assert values(client.get_run(second.run_id)) == values(client.get_run(first.run_id))
        (version,) = client.search_model_versions("name = 'wine-elasticnet'")
        assert version.run_id == first.run_id
        tags = step_tags(client, second)
        assert tags.items() >= {"revision": "2", "data-sha256": "a" * 64, "data-etag": '"two"'}.items()
        assert json.loads(tags["prediction"]) == json.loads(step_tags(client, first)["prediction"])
        assert client.get_run(second.run_id).info.status == "FINISHED"
        assert first.run_id in second.html
        assert "<img" not in second.html

    def test_reuse_names_the_run_that_trained_the_model(self, run: Run_, client: MlflowClient) -> None:
        first = run()
        assert all(is_reuse(client, run(), first) for _ in range(8)), "reuses do not push the original out of sight"

    def test_model_is_not_reused_when_the_operator_does_not_name_its_run(self, run: Run_, client: MlflowClient) -> None:
        """As that of a cloned run, which has the owner's tags."""
        clone = run(is_known=False)
        assert "reused-run" not in step_tags(client, run())
        assert run().run_id != clone.run_id

    def test_second_attempt_reuses_the_model_of_the_first(self, run: Run_, client: MlflowClient) -> None:
        first = run(kfp_run="same", is_known=False)
        assert is_reuse(client, run(kfp_run="same"), first)

    def test_run_by_hand_reuses_nothing(self, run: Run_, client: MlflowClient) -> None:
        assert [run(owner={}).version for _ in range(2)] == ["1", "2"]

    def test_model_of_another_resource_is_not_reused(self, run: Run_, client: MlflowClient) -> None:
        run()
        assert "reused-run" not in step_tags(client, run(owner=OWNER | {"uid": "2f0c"}))

    @pytest.mark.parametrize(
        "change",
        [
            {"parameters": {"alpha": 0.4, "l1_ratio": 0.5}},
            {"seed": 1},
            {"test_fraction": 0.3},
            {"registered_model": "other"},
            {"server_version": "1.18.2"},
            {"target": "pH"},
            {"source": {"data_sha256": "b" * 64}},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_other_settings_train_another_model(self, run: Run_, client: MlflowClient, change: dict[str, Any]) -> None:
        run()
        assert "reused-run" not in step_tags(client, run(replace(TASK, **change)))

    def test_other_rows_train_another_model(self, run: Run_, client: MlflowClient, table: Path, tmp_path: Path) -> None:
        """The bytes may be the same and the separator another."""
        run()
        pd.read_parquet(table).iloc[:-1].to_parquet(tmp_path / "other")
        assert "reused-run" not in step_tags(client, run(data=tmp_path / "other"))

    def test_other_packages_train_another_model(self, run: Run_, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
        run()
        monkeypatch.setattr(model, "requirements", lambda: ["scikit-learn==99"])
        monkeypatch.setattr(model, "save", _save_with_real_requirements(model.save, monkeypatch))
        assert "reused-run" not in step_tags(client, run())

    def test_model_is_trained_again_when_a_part_of_it_was_deleted(self, run: Run_, client: MlflowClient) -> None:
        first = run()
        client.delete_model_version("wine-elasticnet", first.version)
        second = run()
        assert "reused-run" not in step_tags(client, second), "its version is gone"
        shutil.rmtree(second.model_uri)
        third = run()
        assert "reused-run" not in step_tags(client, third), "its files are gone"
        client.delete_run(third.run_id)
        fourth = run()
        assert "reused-run" not in step_tags(client, fourth), "its run is gone"
        assert is_reuse(client, run(), fourth)

    def test_run_that_claims_the_model_of_another_is_skipped(self, run: Run_, client: MlflowClient) -> None:
        first, liar = run(), run()
        for name, value in step_tags(client, first).items():
            if name in ("fingerprint", "model-version"):
                client.set_tag(liar.run_id, PREFIX + name, value)
        assert is_reuse(client, run(), first)


def _save_with_real_requirements(save: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is installed is installed: only the fingerprint sees other packages."""
    real = model.requirements

    def saved(*arguments: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(model, "requirements", lambda: [line for line in real() if "99" not in line])
            save(*arguments)

    return saved


class TestServed:
    """The model that serves, on the new rows."""

    def test_served_model_has_the_same_metrics_on_the_same_rows(self, run: Run_, client: MlflowClient) -> None:
        serves = run()
        better = run(replace(TASK, parameters={"alpha": 0.01, "l1_ratio": 0.5}, served_run=serves.run_id))
        logged = client.get_run(better.run_id).data.metrics
        assert logged == better.metrics
        for name in ("r2", "rmse", "mae"):
            assert logged[f"served_{name}"] == pytest.approx(serves.metrics[name], abs=1e-12)
        assert logged["r2"] > logged["served_r2"]
        assert "served-problem" not in step_tags(client, better)
        assert "<th>served_r2</th>" in better.html

    def test_reuse_measures_the_served_model_again(self, run: Run_, client: MlflowClient) -> None:
        old = run(replace(TASK, parameters={"alpha": 0.01, "l1_ratio": 0.5}))
        first = run(replace(TASK, served_run=old.run_id))
        again = run(replace(TASK, served_run=first.run_id))
        assert is_reuse(client, again, first)
        assert again.metrics["served_r2"] == pytest.approx(first.metrics["r2"], abs=1e-12)
        assert again.metrics["served_r2"] != pytest.approx(first.metrics["served_r2"], abs=1e-3)
        assert not any(name.startswith("served_") for name in run().metrics), "nor are there old ones where nothing serves"

    def test_served_model_is_measured_when_it_needs_fewer_columns(
        self, run: Run_, client: MlflowClient, table: Path, tmp_path: Path
    ) -> None:
        pd.read_parquet(table).drop(columns="sulphates").to_parquet(tmp_path / "fewer")
        serves = run(data=tmp_path / "fewer")
        assert "served_r2" in run(replace(TASK, served_run=serves.run_id)).metrics

    def unmeasured(self, run: Run_, client: MlflowClient, served_run: str, **change: Any) -> str:
        """Train anyway; return why the served model has no numbers."""
        trained = run(replace(TASK, served_run=served_run, seed=99), **change)
        assert set(trained.metrics) == {"r2", "rmse", "mae"}
        problem = step_tags(client, trained)["served-problem"]
        assert problem.startswith("The served model (MLflow run ")
        assert len(problem) <= 1000
        assert "\n" not in problem
        return problem

    def test_served_model_is_not_measured_when_it_was_deleted(self, run: Run_, client: MlflowClient) -> None:
        assert "0" * 32 in self.unmeasured(run, client, "0" * 32)
        serves = run()
        shutil.rmtree(serves.model_uri)
        assert "could not be loaded" in self.unmeasured(run, client, serves.run_id)

    def test_served_model_is_not_measured_when_another_resource_owns_it(
        self, run: Run_, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = run(owner=OWNER | {"uid": "2f0c"})
        monkeypatch.setattr(model, "fetch", None)
        assert "another resource" in self.unmeasured(run, client, other.run_id)

    def test_served_model_is_not_measured_when_the_id_is_invalid(self, run: Run_, client: MlflowClient) -> None:
        assert "the id is not valid" in self.unmeasured(run, client, "../" * 100)

    def test_served_model_is_not_measured_when_columns_are_missing(
        self, run: Run_, client: MlflowClient, table: Path, tmp_path: Path
    ) -> None:
        serves = run()
        pd.read_parquet(table).rename(columns={"alcohol": "spirit"}).to_parquet(tmp_path / "renamed")
        problem = self.unmeasured(run, client, serves.run_id, data=tmp_path / "renamed")
        assert problem.endswith("no longer has: alcohol.")

    def test_served_model_is_not_measured_when_it_has_another_target(self, run: Run_, client: MlflowClient) -> None:
        assert "predicts 'ph', not 'quality'" in self.unmeasured(run, client, run(replace(TASK, target="pH")).run_id)

    def test_served_model_is_not_measured_when_its_files_are_broken(self, run: Run_, client: MlflowClient) -> None:
        serves = run()
        Path(serves.model_uri, "linear.json").write_bytes(b"no model")
        assert "could not be loaded" in self.unmeasured(run, client, serves.run_id)
        Path(serves.model_uri, "linear.json").unlink()
        Path(serves.model_uri, "model.pkl").write_bytes(b"not a pickle")
        assert "could not be loaded" in self.unmeasured(run, client, serves.run_id)

    def test_served_model_is_not_measured_when_predictions_are_not_finite(self, run: Run_, client: MlflowClient) -> None:
        serves = run()
        file = Path(serves.model_uri, "model.pkl")
        fitted = pickle.loads(file.read_bytes())  # noqa: S301 - the model that this test has trained
        fitted.intercept_ = float("inf")
        file.write_bytes(pickle.dumps(fitted))
        Path(serves.model_uri, "linear.json").unlink()
        assert "not finite" in self.unmeasured(run, client, serves.run_id)
