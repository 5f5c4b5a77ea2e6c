"""A prediction whose time is over is deleted once, and the API server is believed; a clock that is set back delays nothing."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from support.prediction_world import PredictionWorld

from winepipelines.lifecycle.decision import Decision
from winepipelines.lifecycle.questions import Steps
from winepipelines.platform.kubernetes import Body, Conflict
from winepipelines.predicting import PredictionActor
from winepipelines.predictions import reasons
from winepipelines.predictions.actions import DeleteResource, SubmitPrediction
from winepipelines.resource.errors import Refused, Unavailable
from winepipelines.resource.observed import RunState

NOBODY: Any = None


class Kubernetes:
    """An API server that answers a deletion."""

    def __init__(self, answer: Body | None) -> None:
        self.answer = answer

    async def delete(self, *_: object) -> Body | None:
        return self.answer


async def perform(answer: Body | None) -> Body | None:
    api: Any = Kubernetes(answer)
    return await PredictionActor(api, NOBODY).perform(DeleteResource(), PredictionWorld().prediction)


async def test_what_a_finalizer_keeps_is_from_then_on_one_that_is_being_deleted() -> None:
    body = {"metadata": {"name": "scores", "deletionTimestamp": "2026-01-05T12:00:00Z"}}
    assert await perform(body) == body


async def test_what_has_gone_at_once_is_not_looked_at_again() -> None:
    with pytest.raises(Conflict):
        await perform(None)


def _submitted_in_doubt(world: PredictionWorld) -> None:
    world.down[SubmitPrediction] = Unavailable("KubeflowUnavailable", "no answer")
    world.reconcile()
    world.down.clear()


def _failed(world: PredictionWorld) -> None:
    world.reconcile()
    world.fail()
    world.reconcile()


def _failed_without_a_word(world: PredictionWorld) -> None:
    world.reconcile()
    world.move_run(RunState.FAILED)
    world.reconcile()


def _ending(world: PredictionWorld) -> None:
    world.reconcile()
    world.workflows_gone = True
    world.down[Steps] = Refused("KubernetesRefused", "Workflows are not the operator's to see")
    world.pass_time(hours=1)
    world.reconcile()


def _without_a_result(world: PredictionWorld) -> None:
    world.reconcile()
    world.move_run(RunState.SUCCEEDED)
    world.reconcile()


def _kept_for_an_hour(world: PredictionWorld) -> None:
    world.change(ttlAfterFinished="1h")
    world.reconcile()
    world.succeed()
    world.reconcile()


def _set_back(world: PredictionWorld) -> Decision[Any, Any]:
    """Set the clock back while something is waited for; return what is decided then."""
    world.pass_time(days=-1)
    return world.reconcile()


@pytest.mark.parametrize(
    ("waiting", "patience", "then"),
    [
        (_submitted_in_doubt, timedelta(seconds=30), lambda world: world.created),
        (_failed, timedelta(seconds=30), lambda world: len(world.created) == 2),
        (_failed_without_a_word, timedelta(seconds=45), lambda world: len(world.created) == 2),
        (_ending, timedelta(minutes=2), lambda world: "DeleteRun" in world.calls),
        (_without_a_result, timedelta(minutes=1), lambda world: world.condition().reason == reasons.RESULT_NOT_RECORDED),
        (_kept_for_an_hour, timedelta(hours=1), lambda world: "DeleteResource" in world.calls),
    ],
)
def test_a_clock_that_is_set_back_makes_nobody_wait_for_longer(
    waiting: Callable[[PredictionWorld], None], patience: timedelta, then: Callable[[PredictionWorld], bool]
) -> None:
    world = PredictionWorld()
    waiting(world)
    assert not then(world)
    decision = _set_back(world)
    assert then(world) or (decision.wake_at is not None and decision.wake_at <= world.now + patience)
    world.now += patience
    world.reconcile()
    assert then(world)


def test_a_run_has_its_whole_time_from_when_the_clock_was_set_back() -> None:
    world = PredictionWorld()
    world.reconcile()
    decision = _set_back(world)
    assert decision.wake_at == world.now + timedelta(hours=1)


def test_nothing_is_said_to_have_ended_in_the_future() -> None:
    world = PredictionWorld()
    world.reconcile()
    world.succeed()
    _set_back(world)
    assert world.status.finished_at == world.now
    assert world.status.duration == "0s"
