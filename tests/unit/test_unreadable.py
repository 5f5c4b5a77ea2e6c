"""Resources that another version of the operator or schema has written can be read, reconciled and deleted."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError
from support.prediction_world import OUTPUT, PredictionWorld
from support.world import World

from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.prediction import PredictionStage, PredictionStatus, WinePrediction
from winepipelines.api.spec import DeletionPolicy
from winepipelines.api.status import Status
from winepipelines.controllers import PREDICTIONS

NOW = datetime(2026, 1, 5, tzinfo=UTC)
UNREADABLE = [
    {},
    {"data": {"url": 7}},
    {"data": "http://data/wine.csv"},
    {"data": {"url": "http://data/wine.csv"}, "training": {"algorithm": "Astrology"}},
    {"data": {"url": "http://data/wine.csv"}, "serving": {"replicas": "many", "autoscaling": {}}, "historyLimit": "x"},
]


def body(spec: dict[str, Any], status: dict[str, Any] | None = None, *, deleted: bool = False) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "mlflow", "namespace": "admin", "uid": "0123456789ab", "resourceVersion": "1"}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-05T12:00:00Z"
    return {"metadata": metadata, "spec": spec, "status": status or {}}


@pytest.mark.parametrize("spec", UNREADABLE)
def test_resource_is_deleted_when_its_spec_cannot_be_read(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WinePipeline.from_body(body(spec))
    world = World()
    world.serve()
    read = WinePipeline.from_body(body({**spec, "deletionPolicy": "Retain"}, world.status.to_body(), deleted=True))
    assert read.spec.deletion_policy is DeletionPolicy.RETAIN, "readable fields of the spec must be used"
    world.change(deletionPolicy="Retain")
    world.pipeline = WinePipeline.from_body(
        {
            **body(spec, world.status.to_body()),
            "metadata": {**body(spec, deleted=True)["metadata"], "finalizers": ["winepipelines.io/cleanup"]},
        }
    )
    world.reconcile()
    assert not world.exists


@pytest.mark.parametrize("spec", [{}, {"pipeline": "mlflow", "input": 7, "output": OUTPUT}, {"attempts": "often"}])
def test_prediction_is_deleted_when_its_spec_cannot_be_read(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WinePrediction.from_body(body(spec))
    world = PredictionWorld()
    world.reconcile()
    metadata = {**body(spec, deleted=True)["metadata"], "uid": world.prediction.uid, "finalizers": ["winepipelines.io/cleanup"]}
    world.prediction = WinePrediction.from_body({"metadata": metadata, "spec": spec, "status": world.status.to_body()})
    for _ in range(3):
        world.pass_time(minutes=1)
        world.reconcile()
    assert not world.exists


def test_prediction_continues_when_its_spec_can_be_read_again() -> None:
    world = PredictionWorld()
    world.reconcile()
    refused = PREDICTIONS.refuse(body({}, world.status.to_body()), "spec: input: field required", NOW)
    assert isinstance(refused, PredictionStatus)
    assert refused.stage is PredictionStage.SCORING
    assert refused.conditions[0].reason == "SpecInvalid"
    world.prediction = world.prediction.with_status(refused)
    world.succeed()
    world.reconcile()
    assert world.status.stage is PredictionStage.SUCCEEDED


def test_finished_prediction_is_unchanged_when_its_spec_cannot_be_read() -> None:
    world = PredictionWorld()
    world.reconcile()
    world.succeed()
    world.reconcile()
    assert PREDICTIONS.refuse(body({}, world.status.to_body()), "spec: input: field required", NOW) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("trigger", "Moonrise"),
        ("stage", "Dreaming"),
        ("run", {"attempt": "second"}),
        ("candidate", {"uri": 7}),
        ("prediction", {"at": "yesterday"}),
        ("conditions", [{"type": "Ready"}]),
        ("dataCheck", "none"),
        ("clock", {"due": 1}),
    ],
)
def test_status_is_read_without_its_invalid_field(field: str, value: object) -> None:
    world = World()
    world.serve()
    stored = world.status.to_body()
    world.pipeline = world.pipeline.with_status(Status.read_leniently({**stored, field: value}))
    for _ in range(4):
        world.roll_out()
    assert world.ready()
    assert len(world.created) == 1, "no other run must be submitted"


def test_history_is_read_without_its_invalid_entries() -> None:
    world = World()
    world.serve()
    world.change(training={"seed": 7})
    world.serve()
    stored = world.status.to_body()
    history = stored["history"]
    assert isinstance(history, list)
    broken = {**history[0], "outcome": "Enlightened"}
    read = Status.read_leniently({**stored, "history": [broken, {**broken, "revision": "x"}, *history[1:]]})
    assert [entry.revision for entry in read.history] == [1]


def test_status_is_empty_when_all_its_fields_are_invalid() -> None:
    assert Status.read_leniently({"revision": {}, "history": "long", "conditions": 7}) == Status()
