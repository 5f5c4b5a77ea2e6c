"""What a prediction's run says in MLflow is believed as far as it can be: tags are written in users' namespaces."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from support.prediction_world import CHAMPION, OUTPUT, PredictionWorld

from winepipelines.platform import predicted
from winepipelines.resource.prediction import PredictionStatus, RejectedFor

PREDICTION = PredictionWorld().prediction.with_status(PredictionStatus(model=CHAMPION))
GOOD = {
    "output": OUTPUT,
    "model": "abc",
    "rows": "10",
    "scored": "7",
    "rejected": json.dumps([{"reason": "MissingValue", "rows": 2}, {"reason": "FieldCount", "rows": 1}]),
}


def run(status: str = "FINISHED", others: dict[str, str] | None = None, said: dict[str, str] | None = None) -> Any:
    """An MLflow run with tags."""
    tags = {f"winepipelines.io/prediction-{name}": value for name, value in (GOOD | (said or {})).items()} | (others or {})
    info = SimpleNamespace(run_id="r1", status=status, start_time=0, end_time=1000, artifact_uri="s3://mlflow/1/r1/artifacts")
    return SimpleNamespace(info=info, data=SimpleNamespace(tags=tags, metrics={}))


def test_a_good_outcome_is_read() -> None:
    found = predicted.read([run(said={"report": "s3://elsewhere/report.json"})], PREDICTION)
    assert found.refused == ""
    assert found.scored is not None
    assert (found.scored.rows, found.scored.output) == (10, OUTPUT)
    assert found.scored.report == f"{OUTPUT}.report.json", "where it is follows from the output, whatever the tag says"
    assert found.scored.rejected == (RejectedFor(reason="MissingValue", rows=2), RejectedFor(reason="FieldCount", rows=1))


def test_the_newest_outcome_and_the_newest_failure_are_told() -> None:
    failure = {"winepipelines.io/failure-reason": "DataUnreachable", "winepipelines.io/failed-step": "predict"}
    found = predicted.read([run("FAILED", failure), run(), run(said={"rows": "9", "scored": "6"})], PREDICTION)
    assert found.failure is not None
    assert found.failure.reason == "DataUnreachable"
    assert found.scored is not None
    assert found.scored.rows == 10


def test_a_run_that_has_not_finished_says_nothing() -> None:
    assert predicted.read([run("RUNNING")], PREDICTION).scored is None


@pytest.mark.parametrize(
    ("change", "said"),
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
def test_what_cannot_be_is_refused_and_said(change: dict[str, str], said: str) -> None:
    found = predicted.read([run(said=change)], PREDICTION)
    assert found.scored is None
    assert said in found.refused
    assert len(found.refused) < 1000
    assert predicted.read([run(said=change), run()], PREDICTION).refused == "", "a good one settles it"
