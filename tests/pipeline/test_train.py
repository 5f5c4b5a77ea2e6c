"""Training: the guide's numbers, what is written to MLflow, and what is refused."""

import gc
import json
import math
import os
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from winecontract.reasons import Reason
from winecontract.tags import PREFIX
from winesteps import estimator, model, report, tracking
from winesteps.failures import Attempt, StepFailure
from winesteps.preprocess import preprocess
from winesteps.shortlived import uncollected
from winesteps.train import TAG_LENGTH, Task, Trained, train

OWNER = {"namespace": "admin", "name": "mlflow", "uid": "1f0c", "revision": 7.0}
GUIDE = Task(parameters={"alpha": 0.5, "l1_ratio": 0.5})


@pytest.fixture
def run(store: str) -> Any:
    """Trains and returns the outcome and the MLflow run's id."""

    def run(table: Path, task: Task = GUIDE) -> Trained:
        return train(table, task, tracking.Record(store, "wine", owner=OWNER, kfp_run="run-1"), Attempt())

    return run


def made(folder: Path, columns: dict[str, Any]) -> Path:
    """A table of one's own as parquet."""
    pd.DataFrame(columns, dtype=float).to_parquet(folder / "table")
    return folder / "table"


def refused(run: Any, reason: Reason, *arguments: Any) -> str:
    with pytest.raises(StepFailure) as caught:
        run(*arguments)
    assert caught.value.reason is reason, caught.value
    return caught.value.message


class TestGuide:
    """The defaults on the guide's data."""

    @pytest.fixture
    def trained(self, run: Any, table: Path) -> Trained:
        outcome: Trained = run(table)
        return outcome

    def test_metrics(self, trained: Trained) -> None:
        assert trained.metrics["r2"] == pytest.approx(0.14, abs=0.005)
        assert trained.metrics["rmse"] == pytest.approx(0.749, abs=0.0005)
        assert trained.metrics["mae"] == pytest.approx(0.605, abs=0.0005)

    def test_what_mlflow_has(self, trained: Trained, store: str, tmp_path: Path) -> None:
        logged = MlflowClient(store).get_run(trained.run_id)
        assert logged.info.status == "FINISHED"
        assert logged.data.metrics == trained.metrics
        assert logged.data.params == {
            "algorithm": "ElasticNet",
            "alpha": "0.5",
            "l1_ratio": "0.5",
            "target": "quality",
            "features": "11",
            "test_fraction": "0.25",
            "seed": "1337",
            "stratified": "true",
            "rows_train": "1199",
            "rows_test": "400",
        }
        tags = {name.removeprefix(PREFIX): value for name, value in logged.data.tags.items()}
        assert tags.items() >= {"uid": "1f0c", "revision": "7", "kfp-run": "run-1", "name": "mlflow"}.items()
        assert tags["model-uri"] == trained.model_uri == f"{logged.info.artifact_uri}/model"
        assert tags["model-version"] == trained.version == "1"
        assert Path(logged.info.artifact_uri, "evaluation", "predicted-against-actual.png").read_bytes()[:4] == b"\x89PNG"

    def test_the_registry(self, trained: Trained, run: Any, table: Path, store: str) -> None:
        assert run(table, Task(seed=1)).version == "2"
        entry = MlflowClient(store).get_model_version("wine-elasticnet", trained.version)
        assert entry.source == trained.model_uri
        assert entry.run_id == trained.run_id
        assert entry.tags == {"namespace": "admin", "name": "mlflow", "uid": "1f0c", "revision": "7"}

    def test_a_server_loads_it_and_answers_as_the_tags_say(self, trained: Trained, store: str) -> None:
        tags = MlflowClient(store).get_run(trained.run_id).data.tags
        example = json.loads(tags["winepipelines.io/example"])
        rows = pd.DataFrame(example["ndarray"], columns=example["names"])
        assert len(rows) == 3
        assert rows["alcohol"].between(8, 15).all(), "in the data's own units"
        answers = mlflow.pyfunc.load_model(trained.model_uri).predict(rows)
        assert list(answers) == pytest.approx(json.loads(tags["winepipelines.io/prediction"]), abs=1e-12)

    def test_the_model_folder(self, trained: Trained) -> None:
        folder = Path(trained.model_uri)
        description = yaml.safe_load((folder / "MLmodel").read_text())
        assert description["flavors"]["sklearn"]["serialization_format"] == "cloudpickle"
        inputs = json.loads(description["signature"]["inputs"])
        assert [(column["name"], column["type"]) for column in inputs][:2] == [
            ("fixed_acidity", "double"),
            ("volatile_acidity", "double"),
        ]
        assert len(json.loads((folder / "input_example.json").read_text())["data"]) == 3
        required = (folder / "requirements.txt").read_text().split()
        assert f"scikit-learn=={version('scikit-learn')}" in required
        assert all("==" in line for line in required)

    def test_the_report(self, trained: Trained) -> None:
        assert '<img alt="Predicted against actual values" src="data:image/png;base64,' in trained.html
        assert "<th>r2</th><td>0.1354</td>" in trained.html
        assert "wine-elasticnet version 1" in trained.html


def test_the_straight_script_gets_the_same(run: Any, table: Path, store: str, wine: str) -> None:
    script = Path(__file__).resolve().parents[2] / "bench" / "baseline.py"
    done = subprocess.run(
        [sys.executable, str(script), "--url", wine, "--tracking-uri", store], capture_output=True, text=True, check=True
    )
    straight = json.loads(done.stdout)
    ours = run(table)
    for name in ("r2", "rmse", "mae"):
        assert straight[name] == pytest.approx(ours.metrics[name], abs=1e-6)
    assert straight["model_uri"].endswith("/artifacts/model")
    assert set(straight["seconds"]) == {"import", "download", "preprocess", "train", "log", "total"}
    registered = MlflowClient(store).get_model_version("wine-elasticnet", "1")
    assert registered.source == straight["model_uri"]


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (Task(algorithm="Oracle"), ["'Oracle' is not a known algorithm", "ElasticNet"]),
        (Task(parameters={"alfa": 1}), ["alfa is not a parameter of ElasticNet", "parameters of ElasticNet are alpha, l1_ratio"]),
        (Task(parameters={"alpha": -0.1}), ["alpha must be a number from 0 to 1000, not -0.1"]),
        (Task(parameters={"alpha": "0.5"}), ["alpha must be a number", "'0.5'"]),
        (Task(parameters={"alpha": True}), ["alpha must be a number"]),
        (Task(parameters={"alpha": math.nan}), ["alpha must be a number"]),
        (Task(parameters={"alpha": 2000, "l1_ratio": 2, "x": 1}), ["alpha must", "l1_ratio must", "x is not a parameter"]),
        (Task(test_fraction=0.0), ["test_fraction must be a number from 0.01 to 0.9"]),
        (Task(test_fraction=1.0), ["test_fraction must"]),
        (Task(seed=-1), ["seed must be an integer from 0 to 4294967295"]),
    ],
)
def test_parameters_are_checked_by_name(run: Any, table: Path, task: Task, expected: list[str]) -> None:
    message = refused(run, Reason.PARAMETERS_INVALID, table, task)
    assert all(words in message for words in expected), message


@pytest.mark.parametrize(
    ("task", "advice"),
    [
        (Task(parameters={"alpha": 10, "l1_ratio": 1}), "Lower alpha or l1_ratio"),
        (Task(algorithm="RandomForest", parameters={"n_estimators": 2, "min_samples_leaf": 1000}), "Lower min_samples_leaf"),
        (Task(algorithm="HistGradientBoosting", parameters={"min_samples_leaf": 1000}), "or use more rows"),
    ],
)
def test_a_model_that_ignores_its_input_is_refused(run: Any, table: Path, task: Task, advice: str) -> None:
    message = refused(run, Reason.MODEL_CONSTANT, table, task)
    assert f"{task.algorithm} predicts 5.6" in message
    assert "for every row, whatever its values" in message
    assert advice in message


def test_summary_of_the_data_is_tagged_and_logged(run: Any, store: str, red_wine: Path, tmp_path: Path) -> None:
    lines = red_wine.read_text().splitlines()
    content = [f"Id;{lines[0]};note", *(f"{number};{line};x" for number, line in enumerate(lines[1:]))]
    number, _, rest = content[9].split(";", 2)
    content[9] = f"{number};NA;{rest}"
    (tmp_path / "data.csv").write_text("\n".join(content))
    preprocess(tmp_path / "data.csv", tmp_path / "read", missing="dropRows", columns={"drop": ["note"]})
    trained = run(tmp_path / "read")
    made = MlflowClient(store).get_run(trained.run_id)
    summary = json.loads(made.data.tags["winepipelines.io/data"])
    assert (summary["rows"], summary["rowsDropped"], summary["columnsDropped"], summary["format"]) == (1598, 1, ["note"], "utf-8")
    assert 'The column "Id" numbers the rows' in summary["warnings"][0]
    assert (made.data.params["rows_dropped"], made.data.params["columns_dropped"]) == ("1", "note")
    assert "rows_dropped" in trained.html
    assert "numbers the rows" in trained.html
    again = run(tmp_path / "read")
    tags = MlflowClient(store).get_run(again.run_id).data.tags
    assert tags["winepipelines.io/data"] == made.data.tags["winepipelines.io/data"]


def test_whole_numbers_do(run: Any, table: Path) -> None:
    """Kubeflow has one kind of number."""
    assert run(table, Task(parameters={"alpha": 1, "l1_ratio": 0})).metrics["rmse"] > 0


def test_the_parameters_left_out_are_the_estimator_s(run: Any, table: Path) -> None:
    assert run(table, Task(parameters={"alpha": 0.5})).metrics == run(table).metrics


def test_less_penalty_learns_more(run: Any, table: Path) -> None:
    assert run(table, Task(parameters={"alpha": 0.01, "l1_ratio": 0.5})).metrics["r2"] == pytest.approx(0.346, abs=0.001)


class TestSplit:
    """Which rows are held out."""

    @pytest.mark.parametrize(
        ("counts", "fraction", "stratified"),
        [
            ({1: 8, 2: 92}, 0.25, True),  # 2 and 6 of the rarer
            ({1: 7, 2: 93}, 0.25, False),
            ({1: 7, 2: 93}, 0.75, False),
            ({1: 8, 2: 92}, 0.75, True),
            (dict.fromkeys(range(20), 10), 0.25, True),
            (dict.fromkeys(range(21), 10), 0.25, False),
            ({1.5: 50, 2.5: 50}, 0.5, True),
        ],
    )
    def test_stratified_where_that_makes_sense(self, counts: dict[float, int], fraction: float, stratified: bool) -> None:
        target = [value for value, count in counts.items() for _ in range(count)]
        table = pd.DataFrame({"x": range(len(target)), "y": target}, dtype=float)
        split = estimator.split_rows(table, "y", fraction, 1)
        assert split.stratified is stratified
        if stratified:
            for part in (split.y_train, split.y_test):
                assert part.value_counts().min() >= 2
                assert set(part) == set(counts)

    def test_every_row_is_in_one_part(self) -> None:
        table = pd.DataFrame({"x": range(100), "y": [n % 4 for n in range(100)]}, dtype=float)
        split = estimator.split_rows(table, "y", 0.25, 1)
        assert sorted([*split.x_train["x"], *split.x_test["x"]]) == list(range(100))
        assert list(split.x_test.columns) == ["x"]

    def test_the_seed_decides(self) -> None:
        table = pd.DataFrame({"x": range(100), "y": range(100)}, dtype=float)
        first, same, other = (estimator.split_rows(table, "y", 0.25, seed).x_test for seed in (1, 1, 2))
        assert first.equals(same)
        assert not first.equals(other)


@pytest.mark.parametrize("fraction", [0.05, 0.89])
def test_too_few_rows_for_the_fraction(run: Any, tmp_path: Path, fraction: float) -> None:
    table = made(tmp_path, {"x": range(20), "quality": range(20)})
    message = refused(run, Reason.TOO_FEW_ROWS, table, Task(test_fraction=fraction))
    assert "20 rows" in message


def test_held_out_rows_that_are_all_alike(run: Any, tmp_path: Path) -> None:
    table = made(tmp_path, {"x": range(20), "quality": [1, *[5] * 19]})
    assert "r2 is undefined" in refused(run, Reason.DATA_INVALID, table, Task(test_fraction=0.2, seed=1))


def test_values_too_large_to_learn_from(run: Any, tmp_path: Path) -> None:
    table = made(tmp_path, {"x": [1e308 * (-1) ** n for n in range(20)], "quality": range(20)})
    message = refused(run, Reason.TRAINING_FAILED, table)
    assert message.startswith("ElasticNet")


def test_an_example_of_many_columns_is_shortened(run: Any, tmp_path: Path, store: str) -> None:
    """Tags have a length; the model is checked with as many rows as go in."""
    numbers = np.random.default_rng(1)
    table = made(tmp_path, {f"column_{n}": numbers.random(30) for n in range(150)} | {"quality": numbers.random(30)})
    tags = MlflowClient(store).get_run(run(table, Task(parameters={"alpha": 0.01})).run_id).data.tags
    assert len(tags["winepipelines.io/example"]) <= TAG_LENGTH
    assert len(json.loads(tags["winepipelines.io/example"])["ndarray"]) == 1
    assert len(json.loads(tags["winepipelines.io/prediction"])) == 1


def test_too_many_columns_for_an_example(run: Any, tmp_path: Path, store: str) -> None:
    numbers = np.random.default_rng(1)
    table = made(tmp_path, {f"column_{n}": numbers.random(30) for n in range(300)} | {"quality": numbers.random(30)})
    assert "300 columns" in refused(run, Reason.DATA_INVALID, table, Task(parameters={"alpha": 0.01}))
    assert MlflowClient(store).search_registered_models() == []


def test_mlflow_out_of_reach(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    record = tracking.Record("http://127.0.0.1:9", "wine", owner=OWNER)
    with pytest.raises(StepFailure) as caught:
        train(table, GUIDE, record, Attempt())
    assert caught.value.reason is Reason.TRACKING_UNAVAILABLE
    assert not caught.value.permanent


def test_artifact_store_out_of_reach(store: str, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, f"{name} hidden")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "")  # restored afterwards: the step sets it
    client = MlflowClient(store)
    client.create_experiment("wine", artifact_location="s3://mlflow/")
    record = tracking.Record(store, "wine", s3_endpoint_url="http://127.0.0.1:9", owner=OWNER)
    with pytest.raises(StepFailure) as caught:
        train(table, GUIDE, record, attempt := Attempt())
    assert caught.value.reason is Reason.TRACKING_UNAVAILABLE
    assert "hidden" not in str(caught.value)
    assert attempt.run_id is not None
    tags = client.get_run(attempt.run_id).data.tags
    assert tags["winepipelines.io/uid"] == "1f0c"
    assert "winepipelines.io/model-uri" not in tags, "what is not stored is not announced"
    assert client.search_registered_models() == []


def test_success_is_announced_last_and_at_once(store: str, table: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("log_batch", "log_artifacts", "create_model_version", "set_terminated"):
        original = getattr(MlflowClient, name)

        def spy(self: Any, *rest: Any, _name: str = name, _original: Any = original, **options: Any) -> Any:
            tags = {tag.key.removeprefix(PREFIX) for tag in options.get("tags", ()) if _name == "log_batch"}
            calls.append(f"{_name} {','.join(sorted(tags))}".strip())
            return _original(self, *rest, **options)

        monkeypatch.setattr(MlflowClient, name, spy)
    run(table)
    assert calls[-2:] == ["set_terminated", "log_batch data,digest,example,fingerprint,model-uri,model-version,prediction"]
    assert set(calls[:-2]) == {"log_batch", "log_artifacts", "create_model_version"}


def test_a_registered_model_that_several_runs_make_at_the_same_time(store: str, table: Path, tmp_path: Path) -> None:
    client = MlflowClient(store)
    experiment = client.create_experiment("wine")
    ids = [client.create_run(experiment).info.run_id for _ in range(4)]
    versions: list[str] = []
    start = threading.Barrier(len(ids))

    def register(run_id: str) -> None:
        start.wait()
        versions.append(model.register(client, f"{tmp_path}/mlruns/{run_id}/artifacts/model", run_id, "new", {"uid": "1"}))

    threads = [threading.Thread(target=register, args=(run_id,)) for run_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == ["1", "2", "3", "4"]


def test_a_picture_of_many_rows(tmp_path: Path) -> None:
    values = np.linspace(3, 8, 200_000)
    png = report.scatter_png(values, values, "quality", {"r2": 1.0, "rmse": 0.0})
    assert len(png) < 200_000


def test_a_page_is_safe_to_show() -> None:
    page = report.as_html(b"", "<b>", {"a&b": "<script>"})
    assert "<script>" not in page
    assert "&lt;b&gt;" in page


def test_nothing_is_imported_that_a_step_does_not_need() -> None:
    """Imports are most of a step's time: MLflow, scikit-learn and pandas are for training alone."""
    code = (
        "import sys, winesteps.download, winesteps.failures, winesteps.preprocess\n"
        "print(*sorted({'mlflow', 'sklearn', 'pandas', 'matplotlib', 'boto3', 'requests'} & set(sys.modules)))"
    )
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(Path(model.__file__).parents[2] / folder) for folder in ("pipeline", "contract"))
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == []


def test_the_collector_is_off_for_a_step_and_on_again_after_it() -> None:
    def step() -> None:
        with uncollected():
            assert not gc.isenabled()
            raise ZeroDivisionError

    before = gc.get_freeze_count()
    try:
        with pytest.raises(ZeroDivisionError):
            step()
        assert gc.isenabled()
        assert gc.get_freeze_count() > before, "nor is anything searched at exit"
    finally:
        gc.unfreeze()
