"""Size of the status after many revisions: historyLimit and a size limit bound the history."""

import json
import math
from collections import Counter

import pytest
from support.world import World

from winepipelines.api.modelrecord import ModelRecord, ModelServer, TrainingData
from winepipelines.api.observed import RunState, ServerView, TrainingRecords
from winepipelines.api.status import RevisionOutcome

REVISIONS, LIMIT = 1000, 50  # the schema's greatest limit
SIZE = 60 * 1024  # bytes; with spec and metadata 64 KiB. An API server refuses an object of 1.5 MiB
IMAGE = "registry.team-wine.example:5000/winepipelines/server@sha256:" + "5" * 64
METRICS = {"rmse": 0.7012345, "mae": 0.5512345} | {f"recall_of_quality_{number}_at_threshold": math.pi for number in range(29)}
GATE = [{"metric": "r2", "atLeast": 0.3}, *({"metric": name, "atLeast": 0.1} for name in list(METRICS)[2:5])]


LONG_NAMES = [f"{n:02}{'recall_of_a_quality' * 4}"[:64] for n in range(30)]
LONG_GATE = [{"metric": "r2", "atLeast": 0.3}, *({"metric": name, "atMost": 9} for name in LONG_NAMES[:15])]
LONG_METRICS = {"r2": 0.4} | dict.fromkeys(LONG_NAMES, math.pi)


def _outcome(revision: int) -> RevisionOutcome:
    """Return the outcome to simulate for a revision. Most of the last revisions have the longest records."""
    if revision == 1 or revision % 10 == 0 or (revision > REVISIONS - LIMIT and revision % 5 > 2):
        return RevisionOutcome.SERVED
    return RevisionOutcome.GATE_FAILED if revision % 2 else RevisionOutcome.FAILED


@pytest.fixture(scope="module")
def world() -> World:
    """Run a thousand revisions."""
    world = World(server=ServerView("1.18.2", server=ModelServer(image=IMAGE)))
    world.change(historyLimit=LIMIT, gate=GATE)
    for revision in range(1, REVISIONS + 1):
        _start(world, revision)
        if _outcome(revision) is RevisionOutcome.FAILED:
            world.fail(permanent=True)
            world.reconcile()
        else:
            _log(world, revision, {"r2": 0.1 if _outcome(revision) is RevisionOutcome.GATE_FAILED else 0.4} | METRICS)
        if _outcome(revision) is RevisionOutcome.SERVED:
            _serve(world)
    return world


def _start(world: World, revision: int) -> None:
    world.pass_time(hours=1)
    if revision > 1:
        world.annotate(retrain=f"nightly-{revision:04}")
    world.reconcile()
    assert world.status.revision == revision


def _log(world: World, revision: int, metrics: dict[str, float], folder: str = "s3://mlflow-artifacts-of-team-wine") -> None:
    uri = f"{folder}/experiments/1234567890/models/m-{revision:032x}/artifacts"
    model = ModelRecord(
        uri=uri,
        mlflow_run=f"{revision:032x}",
        version=str(revision),
        metrics=metrics,
        digest=f"sha256:{revision:064x}",
        example_digest=f"{revision:032x}",
        data=TrainingData(sha256=f"{revision:064x}"),
    )
    world.move_run(RunState.SUCCEEDED)
    world.records[revision] = TrainingRecords(model)
    world.reconcile()


def _serve(world: World) -> None:
    for _ in range(2):  # as the canary, then as the served model
        world.rolled_out = True
        world.reconcile()


class TestAfterAThousandRevisions:
    def test_status_is_below_the_size_limit(self, world: World) -> None:
        assert len(METRICS) + 1 == 32
        assert world.status.served is not None
        assert len(world.status.served.model.metrics) == 32
        assert len(json.dumps(world.status.to_body())) < SIZE

    def test_history_has_the_newest_revisions_with_their_outcomes(self, world: World) -> None:
        newest = range(REVISIONS, REVISIONS - LIMIT, -1)
        assert [(entry.revision, entry.outcome) for entry in world.status.history] == [(n, _outcome(n)) for n in newest]
        assert all(
            entry.model and entry.model.metrics for entry in world.status.history if entry.outcome is not RevisionOutcome.FAILED
        )
        assert Counter(map(_outcome, newest)).keys() == {
            RevisionOutcome.SERVED,
            RevisionOutcome.GATE_FAILED,
            RevisionOutcome.FAILED,
        }

    def test_registry_has_an_alias_for_the_served_model_only(self, world: World) -> None:
        assert world.status.served is not None
        assert world.versions == {"champion": world.status.served.model.version} == {"champion": str(REVISIONS)}

    def test_each_revision_had_one_run_and_no_run_is_live(self, world: World) -> None:
        assert len(world.created) == len(set(world.created)) == REVISIONS
        assert not [run for run in world.runs if run.live]


class TestLongestAllowedValues:
    @staticmethod
    def _world(image: str, folder: str) -> World:
        world = World(server=ServerView("1.18.2", server=ModelServer(image=image)))
        world.change(historyLimit=LIMIT, gate=LONG_GATE)
        for revision in range(1, LIMIT + 6):
            _start(world, revision)
            _log(world, revision, LONG_METRICS, folder)
            _serve(world)
        assert world.status.served is not None
        assert len(world.status.served.model.metrics) == 31
        return world

    def test_oldest_revisions_lose_their_metrics_when_names_in_the_gate_are_long(self) -> None:
        status = self._world(IMAGE, "s3://mlflow-artifacts-of-team-wine").status
        assert len(json.dumps(status.to_body())) < SIZE
        assert [entry.outcome for entry in status.history] == [RevisionOutcome.SERVED] * LIMIT
        assert status.history[0].model is not None
        assert status.history[0].model.metrics.keys() == {rule["metric"] for rule in LONG_GATE}
        kept = [bool(entry.model and entry.model.metrics) for entry in status.history]
        assert kept == sorted(kept, reverse=True)
        assert not kept[-1]

    def test_history_drops_the_oldest_revisions_when_addresses_are_long(self) -> None:
        status = self._world("registry.example/" + "i" * 495, "s3://" + "b" * 1950).status
        assert len(json.dumps(status.to_body())) < SIZE
        revisions = [entry.revision for entry in status.history]
        assert 10 < len(revisions) < LIMIT
        assert revisions == list(range(LIMIT + 5, LIMIT + 5 - len(revisions), -1))
