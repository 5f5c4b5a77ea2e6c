"""Algorithms beside the guide's, and the search for their parameters."""

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from winecontract import signatures
from winesteps import estimator, search, tracking
from winesteps.compile import TEMPLATES
from winesteps.estimator import ALGORITHMS, Split
from winesteps.failures import Attempt, Reason, StepFailure
from winesteps.train import Task, Trained, train

OWNER = {"namespace": "admin", "name": "mlflow", "uid": "1f0c", "revision": 7}
TEN = list(range(1, 11))
SMALL: dict[str, dict[str, float]] = {
    "ElasticNet": {},
    "RandomForest": {"n_estimators": 20, "max_depth": 8.0},  # Kubeflow has one kind of number
    "HistGradientBoosting": {"max_iter": 20, "max_leaf_nodes": 8},
}
SEARCH = Task(search={"alpha": [0.5, 0.01, 0.1]}, source={"data_sha256": "a" * 64})
Train = Callable[..., Trained]


@pytest.fixture
def run(store: str, table: Path) -> Train:
    def run(task: Task, data: Path = table) -> Trained:
        return train(data, task, tracking.Record(store, "wine", owner=OWNER), Attempt())

    return run


@pytest.fixture
def client(store: str) -> MlflowClient:
    return MlflowClient(store)


def children(client: MlflowClient, trained: Trained) -> list[Run]:
    """The trials, in their order."""
    experiment = client.get_run(trained.run_id).info.experiment_id
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{trained.run_id}'")
    return sorted(found, key=lambda run: int(str(run.info.run_name).rpartition("-")[2]))


def refused(run: Train, reason: Reason, task: Task, *data: Path) -> str:
    with pytest.raises(StepFailure) as caught:
        run(task, *data)
    assert caught.value.reason is reason
    return caught.value.message


class TestAlgorithms:
    """Each of them."""

    @pytest.mark.parametrize("algorithm", list(SMALL))
    def test_its_model_answers_where_it_is_served_as_it_did_where_it_was_trained(
        self, run: Train, client: MlflowClient, algorithm: str, table: Path
    ) -> None:
        trained = run(Task(algorithm=algorithm, parameters=SMALL[algorithm]))
        assert client.get_run(trained.run_id).data.params["algorithm"] == algorithm
        rows = pd.read_parquet(table).drop(columns="quality")
        split = estimator.split_rows(pd.read_parquet(table), "quality", 0.25, 1337)
        answers = pd.Series(mlflow.pyfunc.load_model(trained.model_uri).predict(rows), index=rows.index)
        again = estimator.evaluate(split.y_test, answers[split.x_test.index])
        assert again["r2"] == pytest.approx(trained.metrics["r2"], abs=1e-12)

    @pytest.mark.parametrize("algorithm", ["RandomForest", "HistGradientBoosting"])
    def test_trees_learn_more_than_the_guide(self, run: Train, algorithm: str) -> None:
        assert run(Task(algorithm=algorithm, parameters=SMALL[algorithm])).metrics["r2"] > 0.3

    def test_whole_numbers_are_told_from_shares(self, run: Train, client: MlflowClient) -> None:
        """`max_features` of 1 would be one column, of 1.0 all of them."""
        parameters = {"n_estimators": 5.0, "max_features": 1}
        logged = client.get_run(run(Task(algorithm="RandomForest", parameters=parameters)).run_id).data.params
        assert (logged["n_estimators"], logged["max_features"]) == ("5", "1.0")

    @pytest.mark.parametrize(
        ("task", "said"),
        [
            (Task(algorithm="RandomForest", parameters={"alpha": 0.5}), "alpha is unknown"),
            (Task(algorithm="RandomForest", parameters={"n_estimators": 1.5}), "must be a whole number from 1 to 1000"),
            (Task(algorithm="RandomForest", parameters={"n_estimators": 1001}), "must be a whole number from 1 to 1000"),
            (
                Task(algorithm="HistGradientBoosting", parameters={"learning_rate": 0}),
                "learning_rate must be a number from 0.001",
            ),
            (Task(search={"alpha": 0.5}), "search.alpha must be a list"),
            (Task(search={"alpha": []}), "search.alpha must be a list of 1 to 10"),
            (Task(search={"alpha": list(range(11))}), "search.alpha must be a list of 1 to 10"),
            (Task(search={"alpha": [0.1, -1]}), "search.alpha must hold a number from 0 to 1000, not -1"),
            (Task(search={"n_estimators": [10]}), "search.n_estimators is unknown"),
            (
                Task(algorithm="RandomForest", search={"n_estimators": TEN, "max_depth": TEN, "min_samples_leaf": [1, 2]}),
                "100 combinations",
            ),
        ],
    )
    def test_what_it_does_not_take_is_refused_by_name(self, run: Train, task: Task, said: str) -> None:
        assert said in refused(run, Reason.PARAMETERS_INVALID, task)

    def test_its_ranges_are_the_schema_s(self) -> None:
        crd = yaml.safe_load((TEMPLATES.parent / "crds" / "winepipelines.yaml").read_text())
        spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        training = spec["training"]["properties"]
        assert list(ALGORITHMS) == training["algorithm"]["enum"]
        known = {name: bounds for algorithm in ALGORITHMS.values() for name, bounds in algorithm.parameters.items()}
        assert set(known) == set(training["parameters"]["properties"]) == set(training["search"]["properties"])
        for name, schema in training["parameters"]["properties"].items():
            bounds = known[name]
            assert (bounds.low, bounds.high) == _bounds(schema)
            assert bounds.whole == (schema["type"] == "integer")
        assert training["search"]["maxProperties"] == estimator.MOST_SEARCHED
        assert {array["maxItems"] for array in training["search"]["properties"].values()} == {estimator.MOST_VALUES}
        assert f"<= {estimator.MOST_TRIALS}" in training["search"]["x-kubernetes-validations"][0]["rule"]


def _bounds(schema: dict[str, Any]) -> tuple[float, float]:
    """Read the least and the largest value that the schema admits; of fractions a rule has them."""
    if "minimum" in schema:
        return schema["minimum"], schema["maximum"]
    [rule] = (rule["rule"] for rule in schema["x-kubernetes-validations"])
    found = re.fullmatch(r"self >= (\S+) && self <= (\S+)", rule)
    assert found is not None, rule
    return float(found[1]), float(found[2])


@pytest.mark.parametrize("algorithm", ["RandomForest", "HistGradientBoosting"])
def test_the_same_whatever_the_number_of_processors(table: Path, algorithm: str) -> None:
    """In processes of their own: how many threads there are is settled at their start."""
    code = (
        "import sys; import pandas; from winesteps import estimator\n"
        f"split = estimator.split_rows(pandas.read_parquet(sys.argv[1]), 'quality', 0.25, 1337)\n"
        f"model, _ = estimator.fit({algorithm!r}, {SMALL[algorithm]!r} | {{'max_depth': 8}}, split, 3)\n"
        "print(repr(estimator.evaluate(split.y_test, model.predict(split.x_test))['r2']))"
    )
    said = []
    for processors in ("1", "2", "4"):
        environment = os.environ | {"LOKY_MAX_CPU_COUNT": processors, "OMP_NUM_THREADS": processors}
        done = subprocess.run(
            [sys.executable, "-c", code, str(table)],
            capture_output=True,
            text=True,
            check=True,
            env=environment | {"PYTHONPATH": os.pathsep.join(str(TEMPLATES.parent / root) for root in ("pipeline", "contract"))},
        )
        said.append(float(done.stdout))
    assert said == pytest.approx([said[0]] * 3, abs=1e-9)


def test_the_seed_is_what_a_forest_grows_from(table: Path) -> None:
    split = estimator.split_rows(pd.read_parquet(table), "quality", 0.25, 1337)

    def grown(seed: int) -> Any:
        return estimator.fit("RandomForest", {"n_estimators": 5}, split, seed)[0].predict(split.x_test)

    assert np.array_equal(grown(1), grown(1))
    assert not np.array_equal(grown(1), grown(2))


class TestSearch:
    """Which values do best."""

    def test_the_best_is_trained_and_every_trial_is_a_child_run(self, run: Train, client: MlflowClient) -> None:
        trained = run(SEARCH)
        parent = client.get_run(trained.run_id)
        trials = children(client, trained)
        assert [trial.data.params for trial in trials] == [
            {"alpha": alpha, "l1_ratio": "0.5"} for alpha in ("0.5", "0.01", "0.1")
        ]
        assert all(trial.info.status == "FINISHED" for trial in trials)
        assert parent.data.params["alpha"] == "0.01"
        assert parent.data.metrics["trials"] == 3
        best = max(trials, key=lambda trial: float(trial.data.metrics["cv_r2"]))
        assert best.data.metrics == {name: parent.data.metrics[name] for name in best.data.metrics}
        assert set(best.data.metrics) == {f"cv_{name}{end}" for name in ("r2", "rmse", "mae") for end in ("", "_std")}
        by_hand = run(Task(parameters={"alpha": 0.01, "l1_ratio": 0.5}))
        assert trained.metrics["r2"] == pytest.approx(by_hand.metrics["r2"], abs=1e-12), "refit on all training rows"

    def test_a_trial_is_nothing_that_the_operator_looks_for(self, run: Train, client: MlflowClient) -> None:
        for trial in children(client, run(SEARCH)):
            assert not [name for name in trial.data.tags if name.startswith(tracking.PREFIX)]

    def test_the_same_again_searches_nothing(self, run: Train, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(signatures.KEY_VARIABLE, signatures.new_key())
        first = run(SEARCH)
        known = replace(SEARCH, reusable_runs=(first.run_id,))
        second = run(known)
        assert second.model_uri == first.model_uri
        assert children(client, second) == []
        assert client.get_run(second.run_id).data.metrics == client.get_run(first.run_id).data.metrics
        assert run(replace(known, search={"alpha": [0.5, 0.01]})).model_uri != first.model_uri

    def test_several_parameters_are_combined_and_what_is_searched_for_is_not_fixed(
        self, run: Train, client: MlflowClient
    ) -> None:
        wishes = {"max_depth": [2, 3], "n_estimators": [3, 4.0]}
        trained = run(Task(algorithm="RandomForest", parameters={"n_estimators": 900, "min_samples_leaf": 2}, search=wishes))
        assert [(trial.data.params["max_depth"], trial.data.params["n_estimators"]) for trial in children(client, trained)] == [
            *(("2", "3"), ("2", "4"), ("3", "3"), ("3", "4")),
        ]
        assert client.get_run(trained.run_id).data.params["min_samples_leaf"] == "2"

    def test_the_folds_are_of_the_training_rows_alone(self, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        split = estimator.split_rows(pd.read_parquet(table), "quality", 0.25, 1337)
        seen: list[Split] = []

        def spy(algorithm: str, parameters: Any, fold: Split, seed: int, fit: Any = estimator.fit) -> Any:
            seen.append(fold)
            return fit(algorithm, parameters, fold, seed)

        monkeypatch.setattr(search, "fit", spy)
        list(search.trials("ElasticNet", {}, {"alpha": [0.1]}, split, 1))
        assert len(seen) == search.FOLDS
        measured = pd.concat([fold.x_test for fold in seen]).index
        assert sorted(measured) == sorted(split.x_train.index), "each row is measured on once"
        assert all(set(fold.x_train.index) == set(split.x_train.index) - set(fold.x_test.index) for fold in seen)

    def test_a_trial_that_fails_is_passed_over(self, run: Train, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "evaluate", _evaluate_that_fails_for("0.01", monkeypatch))
        trained = run(SEARCH)
        statuses = {trial.data.params["alpha"]: trial for trial in children(client, trained)}
        assert statuses["0.01"].info.status == "FAILED"
        assert "not finite" in statuses["0.01"].data.tags["winepipelines.io/trial-problem"]
        assert statuses["0.01"].data.metrics == {}
        assert client.get_run(trained.run_id).data.params["alpha"] == "0.1"

    def test_where_all_fail_so_does_the_step(self, run: Train, client: MlflowClient, tmp_path: Path) -> None:
        columns = {"x": [1e308 * (-1) ** n for n in range(40)], "quality": range(40)}
        pd.DataFrame(columns, dtype=float).to_parquet(tmp_path / "huge")
        message = refused(run, Reason.TRAINING_FAILED, SEARCH, tmp_path / "huge")
        assert message.startswith("All 3 trials of the search failed. The first: ElasticNet")
        assert client.search_registered_models() == []

    def test_it_needs_rows_for_its_folds(self, run: Train, tmp_path: Path) -> None:
        pd.DataFrame({"x": range(20), "quality": range(20)}, dtype=float).to_parquet(tmp_path / "few")
        message = refused(run, Reason.TOO_FEW_ROWS, replace(SEARCH, test_fraction=0.6), tmp_path / "few")
        assert "needs 10 rows" in message

    def test_the_first_of_equals_is_the_best(self) -> None:
        trials = [search.Trial(number, {"alpha": number}, {"cv_r2": 0.5}) for number in (1, 2)]
        assert search.best(trials).number == 1


def _evaluate_that_fails_for(alpha: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have the trial of this value measured by what is not a number."""
    current: list[str] = []

    def fit(algorithm: str, parameters: Any, fold: Split, seed: int, fit: Any = estimator.fit) -> Any:
        current[:] = [str(parameters["alpha"])]
        return fit(algorithm, parameters, fold, seed)

    def evaluate(actual: Any, predicted: Any) -> dict[str, float]:
        found = estimator.evaluate(actual, predicted)
        return dict.fromkeys(found, math.nan) if current == [alpha] else found

    monkeypatch.setattr(search, "fit", fit)
    return evaluate
