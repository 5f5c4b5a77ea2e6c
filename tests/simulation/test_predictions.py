"""A WinePrediction finish_run once all faults are corrected, with a result or a reason, and then stays unchanged."""

import random
from dataclasses import replace

import pytest
from support.memory import Crash
from support.prediction_world import SERVING, PredictionWorld

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError, Refused, Unavailable
from winepipelines.api.observed import RunState
from winepipelines.api.prediction import PredictionStage
from winepipelines.api.scoring import PipelineView
from winepipelines.pipelines.queries import ListRuns
from winepipelines.predictions.actions import SubmitPrediction
from winepipelines.predictions.queries import GetPipeline, GetScoringResult
from winepipelines.runs.actions import AddFinalizer, DeleteRun, TerminateRun

HISTORIES, LENGTH, BOUND = 300, 40, 90  # steps of one history; reconciles, a minute apart, until it must have ended
CALLS = (
    ListRuns,
    GetScoringResult,
    GetPipeline,
    SubmitPrediction,
    TerminateRun,
    DeleteRun,
    AddFinalizer,
)
ERRORS: tuple[PlatformError, ...] = (
    Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "away"),
    Refused(Reason.KUBEFLOW_REQUEST_REJECTED, "no rights"),
)


def run_history(seed: int) -> PredictionWorld:
    """Run a history of faults, correct them, and let the prediction end."""
    chance, world = random.Random(seed), PredictionWorld()
    world.pipeline = PipelineView(exists=chance.random() < 0.5)
    for _ in range(LENGTH):
        step(world, chance)
        world.crash_in = chance.randrange(8) if chance.random() < 0.1 else None
        try:
            world.reconcile()
        except Crash:
            continue
        finally:
            world.crash_in = None
        world.calls.clear()
    world.down.clear()
    world.pipeline = SERVING
    for _ in range(BOUND):
        if not world.status.is_over and world.runs and world.runs[-1].live:
            finish_run(world)
        world.pass_time(seconds=61)
        world.reconcile()
    return world


def step(world: PredictionWorld, chance: random.Random) -> None:
    """Apply one random event."""
    match chance.randrange(6):
        case 0:
            world.down[chance.choice(CALLS)] = chance.choice(ERRORS)
        case 1:
            world.down.clear()
        case 2:
            world.pass_time(seconds=chance.choice((1, 31, 400, 3600, -30)))
        case 3:
            world.pipeline = chance.choice((PipelineView(exists=False), SERVING))
        case 4 if world.runs and world.runs[-1].live:
            reason = chance.choice(("DataUnreachable", "TrackingUnavailable", "DataNotCsv"))
            world.fail(reason, permanent=reason == "DataNotCsv")
        case _ if world.runs and chance.random() < 0.1:
            world.runs.clear()


def finish_run(world: PredictionWorld) -> None:
    """Finish the run_history run: terminated if requested, else successful."""
    if world.runs[-1].state is RunState.CANCELING:
        world.runs[-1] = replace(world.runs[-1], state=RunState.FAILED, finished_at=world.now)
    else:
        world.succeed()


@pytest.mark.parametrize("first", range(0, HISTORIES, 100))
def test_prediction_ends_once_all_faults_are_corrected(first: int) -> None:
    for seed in range(first, first + 100):
        world = run_history(seed)
        condition = world.condition()
        assert world.status.is_over, f"seed {seed}: {condition}"
        assert world.status.stage is PredictionStage.SUCCEEDED or condition.reason, f"seed {seed}: no reason"
        before = world.writes, len(world.created)
        for _ in range(3):
            world.pass_time(hours=1)
            world.reconcile()
        assert (world.writes, len(world.created)) == before, f"seed {seed}: written after its end"
