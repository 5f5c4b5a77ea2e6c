"""A WinePrediction is deleted once after its time to live, and a clock that is set back delays no deadline."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from support.prediction_world import PredictionWorld

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused, Unavailable
from winepipelines.api.observed import RunState
from winepipelines.engine.decision import Decision
from winepipelines.engine.errors import Conflict
from winepipelines.pipelines.queries import GetSteps
from winepipelines.platform.kubernetes import Body
from winepipelines.predictions.act import PredictionActor
from winepipelines.predictions.actions import DeleteResource, SubmitPrediction

UNUSED: Any = None


class Kubernetes:
    """An API server with a fixed response to a deletion."""

    def __init__(self, answer: Body | None) -> None:
        self.answer = answer

    async def delete(self, *_: object) -> Body | None:
        return self.answer


async def perform(answer: Body | None) -> Body | None:
    api: Any = Kubernetes(answer)
    return await PredictionActor(api, UNUSED).perform(DeleteResource(), PredictionWorld().prediction)


async def test_delete_resource_returns_the_terminating_object_when_a_finalizer_keeps_it() -> None:
    body = {"metadata": {"name": "scores", "deletionTimestamp": "2026-01-05T12:00:00Z"}}
    assert await perform(body) == body


async def test_delete_resource_raises_conflict_when_the_object_is_gone_at_once() -> None:
    with pytest.raises(Conflict):
        await perform(None)


def _submission_unconfirmed(world: PredictionWorld) -> None:
    world.down[SubmitPrediction] = Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "no answer")
    world.reconcile()
    world.down.clear()


def _failed(world: PredictionWorld) -> None:
    world.reconcile()
    world.fail()
    world.reconcile()


def _failed_without_a_record(world: PredictionWorld) -> None:
    world.reconcile()
    world.move_run(RunState.FAILED)
    world.reconcile()


def _ending(world: PredictionWorld) -> None:
    world.reconcile()
    world.workflows_gone = True
    world.down[GetSteps] = Refused(Reason.KUBERNETES_REQUEST_REJECTED, "the operator may not read Workflows")
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
    """Set the clock back by a day and reconcile; return the decision."""
    world.pass_time(days=-1)
    return world.reconcile()


@pytest.mark.parametrize(
    ("start_waiting", "wait", "is_over"),
    [
        (_submission_unconfirmed, timedelta(seconds=30), lambda world: world.created),
        (_failed, timedelta(seconds=30), lambda world: len(world.created) == 2),
        (_failed_without_a_record, timedelta(seconds=45), lambda world: len(world.created) == 2),
        (_ending, timedelta(minutes=2), lambda world: "DeleteRun" in world.calls),
        (_without_a_result, timedelta(minutes=1), lambda world: world.condition().reason == Reason.RESULT_NOT_RECORDED),
        (_kept_for_an_hour, timedelta(hours=1), lambda world: "DeleteResource" in world.calls),
    ],
)
def test_wait_is_not_extended_when_the_clock_is_set_back(
    start_waiting: Callable[[PredictionWorld], None], wait: timedelta, is_over: Callable[[PredictionWorld], bool]
) -> None:
    world = PredictionWorld()
    start_waiting(world)
    assert not is_over(world)
    decision = _set_back(world)
    assert is_over(world) or (decision.requeue_at is not None and decision.requeue_at <= world.now + wait)
    world.now += wait
    world.reconcile()
    assert is_over(world)


def test_run_deadline_restarts_when_the_clock_is_set_back() -> None:
    world = PredictionWorld()
    world.reconcile()
    decision = _set_back(world)
    assert decision.requeue_at == world.now + timedelta(hours=1)


def test_finished_at_is_not_in_the_future_when_the_clock_is_set_back() -> None:
    world = PredictionWorld()
    world.reconcile()
    world.succeed()
    _set_back(world)
    assert world.status.finished_at == world.now
    assert world.status.duration == "0s"
