"""The result of a prediction in MLflow is validated, because users' namespaces can write its tags."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from support.prediction_world import MODEL, OUTPUT, SPEC, PredictionWorld

from winepipelines.api.prediction import PredictionStatus, RejectedRows
from winepipelines.platform import predicted

PREDICTION = PredictionWorld().prediction.with_status(PredictionStatus(model=MODEL))
GOOD = {
    "output": OUTPUT,
    "model": "abc",
    "rows": "10",
    "scored": "7",
    "rejected": json.dumps([{"reason": "MissingValue", "rows": 2}, {"reason": "FieldCount", "rows": 1}]),
}


def run(status: str = "FINISHED", more: dict[str, str] | None = None, changed: dict[str, str] | None = None) -> Any:
    """An MLflow run with tags."""
    tags = {f"winepipelines.io/prediction-{name}": value for name, value in (GOOD | (changed or {})).items()} | (more or {})
    info = SimpleNamespace(run_id="r1", status=status, start_time=0, end_time=1000, artifact_uri="s3://mlflow/1/r1/artifacts")
    return SimpleNamespace(info=info, data=SimpleNamespace(tags=tags, metrics={}))


def test_result_is_read_when_it_is_valid() -> None:
    found = predicted.read([run(changed={"report": "s3://elsewhere/report.json"})], PREDICTION)
    assert found.refused == ""
    assert found.scored is not None
    assert (found.scored.rows, found.scored.output) == (10, OUTPUT)
    assert found.scored.report == f"{OUTPUT}.report.json", (
        "the operator derives the report's URL from the output and ignores the tag"
    )
    assert found.scored.rejected == (RejectedRows(reason="MissingValue", rows=2), RejectedRows(reason="FieldCount", rows=1))


def test_result_is_compared_with_the_chosen_output_when_the_spec_has_none() -> None:
    chosen = "s3://mlpipeline/private/admin/predictions/scores-89abcdef.csv"
    unset = replace(PREDICTION, spec=SPEC.with_(output="")).with_status(PredictionStatus(model=MODEL, output=chosen))
    found = predicted.read([run(changed={"output": chosen})], unset)
    assert found.scored is not None
    assert found.scored.output == chosen
    assert "not at s3://mlpipeline/private/" in predicted.read([run()], unset).refused


def test_records_have_the_newest_result_and_the_newest_failure() -> None:
    failure = {"winepipelines.io/failure-reason": "DataUnreachable", "winepipelines.io/failed-step": "predict"}
    found = predicted.read([run("FAILED", failure), run(), run(changed={"rows": "9", "scored": "6"})], PREDICTION)
    assert found.failure is not None
    assert found.failure.reason == "DataUnreachable"
    assert found.scored is not None
    assert found.scored.rows == 10


def test_result_is_ignored_when_the_run_has_not_finished() -> None:
    assert predicted.read([run("RUNNING")], PREDICTION).scored is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"output": "s3://other/red.parquet"}, "not at s3://scores/red.parquet"),
        ({"output": "x" * 9000}, "not at s3://scores/red.parquet"),
        ({"model": "def"}, "another model"),
        ({"rows": "11"}, "add up"),
        ({"rows": "-1"}, "add up"),
        ({"rows": "9" * 400}, "add up"),
        ({"scored": "all"}, "add up"),
        ({"rejected": ""}, "add up"),
        ({"rejected": "null"}, "add up"),
        ({"rejected": "[1]"}, "add up"),
        ({"rejected": "[" * 4000}, "add up"),
        ({"rejected": '[{"reason": "a b", "rows": 3}]'}, "add up"),
        ({"rejected": '[{"reason": "A", "rows": true}]', "scored": "9"}, "add up"),
        ({"rejected": '[{"reason": "A", "rows": -3}]', "scored": "13"}, "add up"),
        ({"rejected": '[{"reason": "A", "rows": 1}, {"reason": "A", "rows": 2}]'}, "add up"),
        ({"rejected": json.dumps([{"reason": f"R{n}x", "rows": 1} for n in range(17)]), "rows": "24"}, "add up"),
    ],
)
def test_result_is_refused_with_a_message_when_it_is_inconsistent(change: dict[str, str], problem: str) -> None:
    found = predicted.read([run(changed=change)], PREDICTION)
    assert found.scored is None
    assert problem in found.refused
    assert len(found.refused) < 1000
    assert predicted.read([run(changed=change), run()], PREDICTION).refused == "", "a valid result in another run is accepted"
