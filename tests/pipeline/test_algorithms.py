"""Algorithms of the table, their parameters and the search."""

import inspect
import math
import os
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
from winecontract.algorithms import ALGORITHMS, DEFAULT, Algorithm
from winecontract.reasons import Reason
from winecontract.tags import PREFIX
from winesteps import estimator, search, tracking
from winesteps.compile import TEMPLATES
from winesteps.estimator import Split
from winesteps.failures import Attempt, StepFailure
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
    """List the trials in order."""
    experiment = client.get_run(trained.run_id).info.experiment_id
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{trained.run_id}'")
    return sorted(found, key=lambda run: int(str(run.info.run_name).rpartition("-")[2]))


def refused(run: Train, reason: Reason, task: Task, *data: Path) -> str:
    with pytest.raises(StepFailure) as caught:
        run(task, *data)
    assert caught.value.reason is reason
    return caught.value.message


class TestAlgorithms:
    """Each algorithm."""

    @pytest.mark.parametrize("algorithm", list(ALGORITHMS))
    def test_model_predicts_the_same_after_it_is_loaded(
        self, run: Train, client: MlflowClient, algorithm: str, table: Path
    ) -> None:
        trained = run(Task(algorithm=algorithm, parameters=SMALL.get(algorithm)))
        assert client.get_run(trained.run_id).data.params["algorithm"] == algorithm
        rows = pd.read_parquet(table).drop(columns="quality")
        split = estimator.split_rows(pd.read_parquet(table), "quality", 0.25, 1337)
        answers = pd.Series(mlflow.pyfunc.load_model(trained.model_uri).predict(rows), index=rows.index)
        again = estimator.evaluate(split.y_test, answers[split.x_test.index])
        assert again["r2"] == pytest.approx(trained.metrics["r2"], abs=1e-12)

    @pytest.mark.parametrize("algorithm", ["RandomForest", "HistGradientBoosting"])
    def test_trees_reach_a_higher_r2_than_the_default(self, run: Train, algorithm: str) -> None:
        assert run(Task(algorithm=algorithm, parameters=SMALL[algorithm])).metrics["r2"] > 0.3

    def test_parameters_are_converted_to_integer_or_float(self, run: Train, client: MlflowClient) -> None:
        """`max_features` of 1 would be one column, of 1.0 all of them."""
        parameters = {"n_estimators": 5.0, "max_features": 1}
        logged = client.get_run(run(Task(algorithm="RandomForest", parameters=parameters)).run_id).data.params
        assert (logged["n_estimators"], logged["max_features"]) == ("5", "1.0")

    @pytest.mark.parametrize(
        ("task", "message"),
        [
            (Task(algorithm="RandomForest", parameters={"alpha": 0.5}), "alpha is not a parameter of RandomForest"),
            (Task(algorithm="RandomForest", parameters={"n_estimators": 1.5}), "must be an integer from 1 to 1000"),
            (Task(algorithm="RandomForest", parameters={"n_estimators": 1001}), "must be an integer from 1 to 1000"),
            (
                Task(algorithm="HistGradientBoosting", parameters={"learning_rate": 0}),
                "learning_rate must be a number from 0.001",
            ),
            (Task(search={"alpha": 0.5}), "search.alpha must be a list"),
            (Task(search={"alpha": []}), "search.alpha must be a list of 1 to 10"),
            (Task(search={"alpha": list(range(11))}), "search.alpha must be a list of 1 to 10"),
            (Task(search={"alpha": [0.1, -1]}), "each value of search.alpha must be a number from 0 to 1000, not -1"),
            (Task(search={"n_estimators": [10]}), "search.n_estimators is not a parameter of ElasticNet"),
            (
                Task(algorithm="RandomForest", search={"n_estimators": TEN, "max_depth": TEN, "min_samples_leaf": [1, 2]}),
                "100 combinations",
            ),
        ],
    )
    def test_invalid_parameter_is_rejected_by_name(self, run: Train, task: Task, message: str) -> None:
        assert message in refused(run, Reason.PARAMETERS_INVALID, task)

    @pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=str)
    def test_table_has_the_defaults_and_names_of_scikit_learn(self, algorithm: Algorithm) -> None:
        signature = inspect.signature(estimator.estimator_class(algorithm.name)).parameters
        assert set(algorithm.defaults) | set(algorithm.estimator_defaults) == set(algorithm.known)
        assert not set(algorithm.defaults) & set(algorithm.estimator_defaults)
        assert dict(algorithm.estimator_defaults) == {name: signature[name].default for name in algorithm.estimator_defaults}
        assert {*algorithm.known, "random_state"} <= set(signature)

    @pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=str)
    def test_table_says_which_models_are_coefficients(self, algorithm: Algorithm) -> None:
        parameters = estimator.check_parameters(algorithm.name, SMALL.get(algorithm.name, {}), 0.25, 1)
        fitted, _ = estimator.fit(algorithm.name, parameters, _two_columns(), 1)
        assert hasattr(fitted, "coef_") is algorithm.linear

    def test_default_of_the_pipeline_is_the_table_s(self) -> None:
        compiled = next(yaml.safe_load_all((TEMPLATES / "pipelines" / "wine-training.yaml").read_text()))
        assert compiled["root"]["inputDefinitions"]["parameters"]["algorithm"]["defaultValue"] == Task().algorithm == DEFAULT


def _two_columns() -> Split:
    x = pd.DataFrame({"a": np.arange(40.0), "b": np.arange(40.0) % 7})
    return Split(x, x, 2 * x["a"], 2 * x["a"], stratified=False)


@pytest.mark.parametrize("algorithm", ["RandomForest", "HistGradientBoosting"])
def test_model_is_the_same_on_any_number_of_processors(table: Path, algorithm: str) -> None:
    """Each count needs a new process: the number of threads is fixed at its start."""
    code = (
        "import sys; import pandas; from winesteps import estimator\n"
        f"split = estimator.split_rows(pandas.read_parquet(sys.argv[1]), 'quality', 0.25, 1337)\n"
        f"model, _ = estimator.fit({algorithm!r}, {SMALL[algorithm]!r} | {{'max_depth': 8}}, split, 3)\n"
        "print(repr(estimator.evaluate(split.y_test, model.predict(split.x_test))['r2']))"
    )
    found = []
    for processors in ("1", "2", "4"):
        environment = os.environ | {"LOKY_MAX_CPU_COUNT": processors, "OMP_NUM_THREADS": processors}
        done = subprocess.run(
            [sys.executable, "-c", code, str(table)],
            capture_output=True,
            text=True,
            check=True,
            env=environment | {"PYTHONPATH": os.pathsep.join(str(TEMPLATES.parent / root) for root in ("pipeline", "contract"))},
        )
        found.append(float(done.stdout))
    assert found == pytest.approx([found[0]] * 3, abs=1e-9)


def test_seed_determines_the_forest(table: Path) -> None:
    split = estimator.split_rows(pd.read_parquet(table), "quality", 0.25, 1337)

    def grown(seed: int) -> Any:
        return estimator.fit("RandomForest", {"n_estimators": 5}, split, seed)[0].predict(split.x_test)

    assert np.array_equal(grown(1), grown(1))
    assert not np.array_equal(grown(1), grown(2))


class TestSearch:
    """The search for the best combination."""

    def test_search_trains_the_best_combination_and_logs_each_trial_as_a_child_run(
        self, run: Train, client: MlflowClient
    ) -> None:
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

    def test_trial_has_none_of_the_operators_tags(self, run: Train, client: MlflowClient) -> None:
        for trial in children(client, run(SEARCH)):
            assert not [name for name in trial.data.tags if name.startswith(PREFIX)]

    def test_search_runs_no_trial_when_a_model_is_reused(
        self, run: Train, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(signatures.KEY_VARIABLE, signatures.new_key())
        first = run(SEARCH)
        known = replace(SEARCH, reusable_runs=(first.run_id,))
        second = run(known)
        assert second.model_uri == first.model_uri
        assert children(client, second) == []
        assert client.get_run(second.run_id).data.metrics == client.get_run(first.run_id).data.metrics
        assert run(replace(known, search={"alpha": [0.5, 0.01]})).model_uri != first.model_uri

    def test_search_combines_parameters_and_replaces_fixed_values(self, run: Train, client: MlflowClient) -> None:
        values = {"max_depth": [2, 3], "n_estimators": [3, 4.0]}
        trained = run(Task(algorithm="RandomForest", parameters={"n_estimators": 900, "min_samples_leaf": 2}, search=values))
        assert [(trial.data.params["max_depth"], trial.data.params["n_estimators"]) for trial in children(client, trained)] == [
            *(("2", "3"), ("2", "4"), ("3", "3"), ("3", "4")),
        ]
        assert client.get_run(trained.run_id).data.params["min_samples_leaf"] == "2"

    def test_folds_hold_training_rows_only(self, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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

    def test_search_ignores_a_failed_trial(self, run: Train, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "evaluate", _evaluate_that_fails_for("0.01", monkeypatch))
        trained = run(SEARCH)
        statuses = {trial.data.params["alpha"]: trial for trial in children(client, trained)}
        assert statuses["0.01"].info.status == "FAILED"
        assert "not finite" in statuses["0.01"].data.tags["winepipelines.io/trial-problem"]
        assert statuses["0.01"].data.metrics == {}
        assert client.get_run(trained.run_id).data.params["alpha"] == "0.1"

    def test_step_fails_when_every_trial_fails(self, run: Train, client: MlflowClient, tmp_path: Path) -> None:
        columns = {"x": [1e308 * (-1) ** n for n in range(40)], "quality": range(40)}
        pd.DataFrame(columns, dtype=float).to_parquet(tmp_path / "huge")
        message = refused(run, Reason.TRAINING_FAILED, SEARCH, tmp_path / "huge")
        assert message.startswith("All 3 trials of the search failed. The first one: ElasticNet")
        assert client.search_registered_models() == []

    def test_search_needs_two_rows_for_each_fold(self, run: Train, tmp_path: Path) -> None:
        pd.DataFrame({"x": range(20), "quality": range(20)}, dtype=float).to_parquet(tmp_path / "few")
        message = refused(run, Reason.TOO_FEW_ROWS, replace(SEARCH, test_fraction=0.6), tmp_path / "few")
        assert "needs 10, two for each of 5 folds" in message

    def test_best_is_the_first_of_equal_trials(self) -> None:
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
