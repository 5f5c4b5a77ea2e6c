"""No state of a WinePrediction is final but its end: with everything corrected it ends, well or with a reason, and stays so."""

import random
from dataclasses import replace

import pytest
from support.memory import Crash
from support.prediction_world import CHAMPION, PredictionWorld

from winepipelines.lifecycle import actions
from winepipelines.lifecycle.questions import Runs
from winepipelines.predictions.actions import SubmitPrediction
from winepipelines.predictions.questions import Outcome, Pipeline
from winepipelines.resource.errors import PlatformError, Refused, Unavailable
from winepipelines.resource.observed import RunState
from winepipelines.resource.outcome import PipelineView
from winepipelines.resource.prediction import PredictionStage

HISTORIES, LENGTH, BOUND = 300, 40, 90  # steps of one history; looks, a minute apart, until it has ended
CALLS = (
    Runs,
    Outcome,
    Pipeline,
    SubmitPrediction,
    actions.TerminateRun,
    actions.DeleteRun,
    actions.AddFinalizer,
)
ERRORS: tuple[PlatformError, ...] = (Unavailable("KubeflowUnavailable", "away"), Refused("KubeflowRefused", "no rights"))


def live(seed: int) -> PredictionWorld:
    """Live a history of faults, correct everything, and let it come to its end."""
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
    world.pipeline = PipelineView(exists=True, served=CHAMPION)
    for _ in range(BOUND):
        if not world.status.is_over and world.runs and world.runs[-1].live:
            ends(world)
        world.pass_time(seconds=61)
        world.reconcile()
    return world


def step(world: PredictionWorld, chance: random.Random) -> None:
    """Do one thing to the world."""
    match chance.randrange(6):
        case 0:
            world.down[chance.choice(CALLS)] = chance.choice(ERRORS)
        case 1:
            world.down.clear()
        case 2:
            world.pass_time(seconds=chance.choice((1, 31, 400, 3600, -30)))
        case 3:
            world.pipeline = chance.choice((PipelineView(exists=False), PipelineView(exists=True, served=CHAMPION)))
        case 4 if world.runs and world.runs[-1].live:
            reason = chance.choice(("DataUnreachable", "TrackingUnavailable", "DataNotCsv"))
            world.fail(reason, permanent=reason == "DataNotCsv")
        case _ if world.runs and chance.random() < 0.1:
            world.runs.clear()


def ends(world: PredictionWorld) -> None:
    """Have the run under way come to a good end."""
    if world.runs[-1].state is RunState.CANCELING:
        world.runs[-1] = replace(world.runs[-1], state=RunState.FAILED, finished_at=world.now)
    else:
        world.succeed()


@pytest.mark.parametrize("first", range(0, HISTORIES, 100))
def test_a_prediction_ends_once_everything_is_corrected(first: int) -> None:
    for seed in range(first, first + 100):
        world = live(seed)
        said = world.condition()
        assert world.status.is_over, f"seed {seed}: {said}"
        assert world.status.stage is PredictionStage.SUCCEEDED or said.reason, f"seed {seed}: it does not say why"
        before = world.writes, len(world.created)
        for _ in range(3):
            world.pass_time(hours=1)
            world.reconcile()
        assert (world.writes, len(world.created)) == before, f"seed {seed}: it costs a write after its end"
