"""The validation of records in MLflow, which anyone with write access to MLflow can change."""

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from winepipelines.api.modelrecord import ModelRecord, TrainingData
from winepipelines.api.observed import DataCheckResult
from winepipelines.platform import records

ROOT = "s3://mlflow/1/abc/artifacts"
GROUP = "winepipelines.io"


def run(tags: dict[str, str], *, status: str = "FINISHED", run_id: str = "abc", root: str = ROOT, **info: Any) -> Any:
    """Build a run as MLflow's client returns it."""
    metrics = info.pop("metrics", {})
    times = {"start_time": 1_000, "end_time": 2_000, **info}
    data = SimpleNamespace(tags={f"{GROUP}/{name}": value for name, value in tags.items()}, metrics=metrics)
    return SimpleNamespace(info=SimpleNamespace(run_id=run_id, status=status, artifact_uri=root, **times), data=data)


def model_of(*runs: Any) -> ModelRecord:
    model = records.read(runs).model
    assert model is not None
    return model


def test_model_is_that_of_the_newest_run() -> None:
    newer, older = (run({"model-uri": f"{ROOT}/model", "model-version": version}) for version in ("2", "1"))
    assert model_of(newer, older).version == "2"


def test_model_is_none_when_the_run_has_not_finished() -> None:
    assert records.read([run({"model-uri": f"{ROOT}/model"}, status="RUNNING")]).model is None


def test_model_is_accepted_when_the_artifact_root_ends_in_a_slash() -> None:
    assert model_of(run({"model-uri": f"{ROOT}/model"}, root=f"{ROOT}/")).uri == f"{ROOT}/model"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "s3,endpoint=http://evil:mlflow/1/abc/artifacts/model",
        ":http,url='http://evil':model",
        ":s3,access_key_id=x,endpoint=evil:bucket/x",
        "s3://mlflow/1/abd/artifacts/model",
        "s3://mlflow/1/abc/artifacts",
        "s3://mlflow/1/abc/artifacts/model/../../../9",
        "s3://mlflow/1/abc/artifacts/model/",
        "s3://evil/s3://mlflow/1/abc/artifacts/model",
        "S3://mlflow/1/abc/artifacts/model",
        " s3://mlflow/1/abc/artifacts/model",
        "x" * 100_000,
        "\x00\n",
    ],
)
def test_model_is_refused_when_it_is_outside_its_run(uri: str) -> None:
    found = records.read([run({"model-uri": uri})])
    assert found.model is None
    assert "MLflow run abc" in found.refused
    assert len(found.refused) < 1000
    assert found.refused.isprintable()
    good = run({"model-uri": f"{ROOT}/model"})
    assert model_of(run({"model-uri": uri}), good).uri == f"{ROOT}/model"
    assert records.read([run({"model-uri": uri}), good]).refused == ""


@pytest.mark.parametrize("version", ["", "1 OR 1=1", "-1", "1.5", "9" * 19, "latest", "١"])
def test_version_is_empty_when_it_is_not_a_number(version: str) -> None:
    assert model_of(run({"model-uri": f"{ROOT}/model", "model-version": version})).version == ""


def test_metrics_are_limited_to_finite_values_with_valid_names() -> None:
    many = {f"m{number:03}": float(number) for number in range(100)}
    odd = {"nan": math.nan, "inf": math.inf, "less": -math.inf, "stored": 1.7976931348623157e308, "a\nb": 1.0, "x" * 65: 1.0}
    kept = records.metrics({**odd, **many, "rmse": 0.7, "r2": 0.123456789})
    assert len(kept) == 32
    assert list(kept)[:3] == ["r2", "rmse", "m000"]
    assert kept["r2"] == 0.123457
    json.dumps(kept, allow_nan=False)


@pytest.mark.parametrize("reason", ["", "not a reason", "Ready\nx", "1st", "x" * 65, "Ünruh", '"}'])
def test_failure_reason_is_unexpected_error_when_a_condition_cannot_have_it(reason: str) -> None:
    failure = records.read([run({"failure-reason": reason}, status="FAILED")]).failure
    assert failure is not None
    assert failure.reason == "UnexpectedError"


def test_failure_fields_are_bounded() -> None:
    tags = {"failure-reason": "DataInvalid", "failure-message": "a\r\n\x1b[31m" * 2000, "failed-step": "s" * 500}
    failure = records.read([run(tags, status="FAILED", end_time=10**18)]).failure
    assert failure is not None
    assert failure.message.isprintable()
    assert len(failure.message) <= 1000
    assert len(failure.step) <= 64
    assert not failure.permanent
    assert failure.at.year == 1970


OTHER_ROOT = "s3://mlflow/1/old/artifacts"
ORIGINAL = {"uid": "u", "model-uri": f"{OTHER_ROOT}/model", "model-version": "3"}
REUSE = ORIGINAL | {"reused-run": "old"}


def original(**changes: Any) -> Any:
    tags = {name: value for name, value in (ORIGINAL | changes.pop("tags", {})).items() if value}
    return run(tags, **({"run_id": "old", "root": OTHER_ROOT} | changes))


def test_reused_model_has_the_metrics_of_the_new_run() -> None:
    reuse = run(REUSE, metrics={"r2": 0.5, "served_r2": 0.4})
    assert records.reused_run([reuse]) == "old"
    model = records.read([reuse], original()).model
    assert model is not None
    assert (model.uri, model.mlflow_run, model.version) == (f"{OTHER_ROOT}/model", "old", "3")
    assert model.metrics == {"r2": 0.5, "served_r2": 0.4}


def test_reused_run_is_empty_when_the_newest_run_has_a_model() -> None:
    own = run({"model-uri": f"{ROOT}/model"})
    assert records.reused_run([own, run(REUSE)]) == ""
    assert model_of(own).mlflow_run == "abc"


def test_reused_model_is_refused_when_its_run_is_unknown_to_the_resource() -> None:
    reuse, stranger = run(REUSE | {"kfp-run": "own"}), original(tags={"kfp-run": "clone"})
    assert records.read([reuse], stranger, ["old"]).model is not None
    assert records.read([reuse], original(tags={"kfp-run": "own"}), []).model is not None
    for known in ([], ["older"]):
        found = records.read([reuse], stranger, known)
        assert found.model is None
        assert "no run of this resource" in found.refused


def test_foreign_names_the_kubeflow_run_that_wrote_the_model() -> None:
    own, tags = run({"model-uri": f"{ROOT}/model", "kfp-run": "own"}), {"model-uri": f"{ROOT}/model"}
    assert records.foreign([own], "own") == ""
    assert records.foreign([run({"kfp-run": "clone"}), own], "own") == "", "a run without a model is ignored"
    message = records.foreign([own, run(tags | {"kfp-run": "clone\n" * 100}, run_id="def" * 100)], "own")
    assert "Kubeflow run clone" in message
    assert message.isprintable()
    assert len(message) < 400
    assert "no Kubeflow run" in records.foreign([run(tags)], "own")


@pytest.mark.parametrize("run_id", ["", "../etc", "a b", "x" * 65, "old' OR 1=1"])
def test_reused_run_is_empty_when_the_tag_is_not_a_run_id(run_id: str) -> None:
    reuse = run(REUSE | {"reused-run": run_id})
    assert records.reused_run([reuse]) == ""
    found = records.read([reuse])
    assert found.model is None
    assert "which is not there" in found.refused


@pytest.mark.parametrize(
    ("found_run", "problem"),
    [
        (None, "is not there"),
        (original(run_id="older"), "is not there"),
        (original(status="FAILED"), "no model of this resource"),
        (original(tags={"uid": "someone-else"}), "no model of this resource"),
        (original(tags={"uid": ""}), "no model of this resource"),
        (original(tags={"reused-run": "older"}), "none of its own"),
        (original(tags={"model-uri": ""}), "none of its own"),
        (original(tags={"model-uri": f"{ROOT}/model"}), "another model"),
        (original(root="s3://mlflow/1/other/artifacts"), "not its own model folder"),
    ],
)
def test_reused_model_is_refused_when_the_original_run_does_not_have_it(found_run: Any, problem: str) -> None:
    found = records.read([run(REUSE)], found_run)
    assert found.model is None
    assert problem in found.refused
    own = run({"model-uri": f"{ROOT}/model"})
    assert records.read([run(REUSE), own], found_run).model == model_of(own)


def test_data_and_comparison_failure_are_bounded() -> None:
    good = {"data-sha256": "0" * 64, "data-etag": '"a-1"', "data-version": "v.1", "served-problem": "gone\nfor good"}
    found = records.read([run({"model-uri": f"{ROOT}/model"} | good)])
    assert found.model is not None
    assert found.model.data == TrainingData(sha256="0" * 64, etag='"a-1"', version="v.1")
    assert found.comparison_failure == "gone for good"
    for bad in (
        {"data-sha256": "0" * 63, "data-etag": '"a\r\nHost: b"', "served-problem": "x" * 5000},
        {"data-etag": "e" * 257},
        {"data-version": "v 1"},
    ):
        found = records.read([run({"model-uri": f"{ROOT}/model"} | bad)])
        assert found.model is not None
        assert found.model.data == TrainingData()
        assert len(found.comparison_failure) <= 1000


def test_model_has_the_summary_of_the_data() -> None:
    summary = {
        "rows": 108,
        "rowsDropped": 12,
        "columnsDropped": ["type"],
        "format": "utf-8, gzip",
        "warnings": ["Id numbers the rows."],
    }
    model = model_of(run({"model-uri": f"{ROOT}/model", "data": json.dumps(summary)}))
    assert model.data == TrainingData(rows=108, rows_dropped=12, columns_dropped=("type",), format="utf-8, gzip")
    assert model.warnings == ("Id numbers the rows.",)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": -1},
        {"rows": "1"},
        {"rows": True},
        {"rows": 1e30},
        {"columnsDropped": "type"},
        {"warnings": [1]},
        {"warnings": None},
    ],
)
def test_data_summary_is_empty_when_it_has_another_form(change: dict[str, Any]) -> None:
    summary = {"rows": 1, "rowsDropped": 0, "columnsDropped": [], "format": "", "warnings": []} | change
    model = model_of(run({"model-uri": f"{ROOT}/model", "data": json.dumps(summary)}))
    assert (model.data, model.warnings) == (TrainingData(), ())


def test_data_summary_is_bounded() -> None:
    summary: dict[str, Any] = {"rows": 1, "rowsDropped": 0, "columnsDropped": ["a\nb" * 99] * 40, "format": "x" * 999}
    summary["warnings"] = ["y\n" * 200] * 9
    model = model_of(run({"model-uri": f"{ROOT}/model", "data": json.dumps(summary)[:10_000]}))
    assert model.data == TrainingData(), "a truncated summary is ignored"
    summary |= {"columnsDropped": ["a\nb" * 30] * 20}
    model = model_of(run({"model-uri": f"{ROOT}/model", "data": json.dumps(summary)}))
    assert (len(model.data.columns_dropped), len(model.data.format), len(model.warnings)) == (16, 64, 5)
    shown = [*model.data.columns_dropped, *model.warnings]
    assert all(text.isprintable() for text in shown)
    assert max(map(len, shown)) <= 301


def test_metrics_of_the_gate_come_first() -> None:
    many = {f"a{number:03}": 1.0 for number in range(100)} | dict.fromkeys(["served_mae", "served_r2", "mae", "served_rmse"], 1.0)
    assert list(records.metrics(many))[:4] == ["mae", "served_mae", "served_r2", "served_rmse"]


def test_data_check_result_is_read() -> None:
    tags = {"data-changed": "true", "data-sha256": "a" * 64, "data-etag": '"e"'}
    assert records.read_check([]) is None
    assert records.read_check([run({}, status="RUNNING"), run(tags, status="RUNNING")]) is None
    assert records.read_check([run(tags)]) == DataCheckResult(changed=True, sha256="a" * 64, etag='"e"')
    assert records.read_check([run(tags | {"data-changed": "false", "data-sha256": "?"})]) == DataCheckResult(etag='"e"')


def test_data_check_result_has_the_failure() -> None:
    found = records.read_check([run({"failure-reason": "DataNotFound", "failure-permanent": "true"}, status="FAILED")])
    assert found is not None
    assert found.failure is not None
    assert (found.failure.reason, found.failure.permanent) == ("DataNotFound", True)


EXAMPLE = '{"names": ["a", "b"], "ndarray": [[1, 2.5], [3, 4]]}'


def test_input_example_is_read() -> None:
    example = records.example(run({"example": EXAMPLE, "prediction": "[5, 6.5]"}))
    assert example is not None
    assert (example.names, example.rows, example.predictions) == (["a", "b"], [[1, 2.5], [3, 4]], [5, 6.5])


@pytest.mark.parametrize(
    ("example", "prediction"),
    [
        ("", ""),
        (EXAMPLE, "[5]"),
        (EXAMPLE, "[5, NaN]"),
        (EXAMPLE, "[5, true]"),
        (EXAMPLE, "[5, Infinity]"),
        (EXAMPLE, '{"0": 5, "1": 6}'),
        ('{"names": ["a"], "ndarray": [[1, 2], [3, 4]]}', "[5, 6]"),
        ('{"names": ["a", 2], "ndarray": [[1, 2], [3, 4]]}', "[5, 6]"),
        ('{"names": ["a", "b"], "ndarray": [[1, 2], [3, NaN]]}', "[5, 6]"),
        ('{"names": ["a", "b"], "ndarray": [[1, 2], [3, "4"]]}', "[5, 6]"),
        ('{"names": [], "ndarray": []}', "[]"),
        ('["names", "ndarray"]', "[]"),
        ('{"names": ["a"], "ndarray": [[' + "9" * 400 + "]]}", "[5]"),
        ("[" * 90_000, "[5]"),
        ('{"names": ["a"], "ndarray": [' + ",".join(["[1]"] * 11) + "]}", json.dumps([1] * 11)),
        ("x" * 200_000, "[5]"),
    ],
)
def test_input_example_is_none_when_it_is_not_a_table_of_numbers(example: str, prediction: str) -> None:
    assert records.example(run({"example": example, "prediction": prediction})) is None


TAGS: SearchStrategy[dict[str, str]] = st.dictionaries(
    st.sampled_from(
        [
            "reused-run",
            "data-sha256",
            "data-etag",
            "served-problem",
            "model-uri",
            "model-version",
            "failure-reason",
            "failure-message",
            "failed-step",
            "example",
            "prediction",
        ]
    ),
    st.text() | st.just(f"{ROOT}/model"),
)


@given(TAGS, st.dictionaries(st.text(), st.floats()), st.sampled_from(["FINISHED", "FAILED"]), st.integers() | st.none())
def test_records_are_read_without_error_when_tags_and_metrics_are_arbitrary(
    tags: dict[str, str], metrics: dict[str, float], status: str, end: int | None
) -> None:
    one = run(tags, status=status, metrics=metrics, end_time=end)
    found = records.read([one])
    records.example(one)
    if found.model is not None:
        assert found.model.uri == f"{ROOT}/model"
        json.dumps(found.model.metrics, allow_nan=False)
