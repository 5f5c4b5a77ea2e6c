"""A served model that is scaled to zero: it stays Ready and is not woken, and a first request may start its pod."""

from dataclasses import replace
from datetime import timedelta

import pytest
from support.canary import canary_world, weights
from support.world import World

from winecontract.reasons import Reason
from winepipelines.api.observed import CanaryComparison
from winepipelines.api.status import Condition, ConditionType

DEPLOYED, ENDPOINT_VERIFIED, READY = ConditionType.DEPLOYED, ConditionType.ENDPOINT_VERIFIED, ConditionType.READY
AFTER_PROBATION = timedelta(minutes=11)


def sleep(world: World) -> None:
    world.deployment().scaled_to_zero = True


def wake(world: World) -> None:
    """Start a pod, as a request does."""
    world.deployment().scaled_to_zero = False


def verified(world: World) -> Condition:
    return world.condition(ENDPOINT_VERIFIED)


def probes(world: World) -> int:
    return world.calls.count("ProbeEndpoint")


@pytest.fixture
def idle(world: World) -> World:
    """A resource whose served model answered and was scaled to zero."""
    world.serve()
    sleep(world)
    world.calls.clear()
    world.reconcile()
    return world


@pytest.fixture
def starting(world: World) -> World:
    """A resource whose new model was scaled to zero before it was probed."""
    world.train()
    world.rolled_out = True
    sleep(world)
    world.reconcile()
    return world


class TestServed:
    def test_model_that_answered_stays_ready_and_is_not_woken(self, idle: World) -> None:
        assert idle.ready()
        assert probes(idle) == 0
        assert verified(idle).status == "True"
        assert verified(idle).reason == Reason.PREDICTION_MATCHED
        assert "No pod is running: the next request starts one" in verified(idle).message
        assert idle.condition(DEPLOYED).status == "True"

    def test_nothing_is_written_or_probed_while_it_sleeps(self, idle: World) -> None:
        writes = idle.writes
        for _ in range(5):
            idle.pass_time(minutes=20)
            idle.reconcile()
        assert (idle.writes, probes(idle)) == (writes, 0)

    def test_check_is_repeated_while_pods_run(self, idle: World) -> None:
        wake(idle)
        idle.reconcile()
        assert probes(idle) == 1
        assert verified(idle).message.startswith("Revision 1 returns the model's own prediction at")
        idle.wrong_answers = {1}
        idle.pass_time(minutes=20)
        idle.reconcile()
        assert not idle.ready()

    def test_wrong_answer_is_not_forgotten_when_it_sleeps(self, world: World) -> None:
        world.serve()
        world.pass_time(minutes=11)
        world.wrong_answers = {1}
        world.reconcile()
        assert verified(world).status == "False"
        sleep(world)
        world.calls.clear()
        world.reconcile()
        assert probes(world) == 1
        assert (world.ready(), verified(world).reason) == (False, Reason.ENDPOINT_STARTING)
        wake(world)
        world.wrong_answers = set()
        world.reconcile()
        assert world.ready()

    def test_served_model_that_does_not_wake_is_reported_after_the_progress_deadline(self, world: World) -> None:
        world.serve()
        world.pass_time(minutes=11)
        world.wrong_answers = {1}
        world.reconcile()
        sleep(world)
        world.reconcile()
        assert verified(world).reason == Reason.ENDPOINT_STARTING
        world.pass_time(minutes=16)
        world.reconcile()
        assert verified(world).reason == Reason.ENDPOINT_UNREACHABLE
        assert world.status.served is not None

    def test_later_revision_is_trained_without_waking_the_served_model(self, idle: World) -> None:
        idle.change(training={"seed": 7})
        idle.reconcile()
        idle.calls.clear()
        idle.reconcile()
        assert probes(idle) == 0
        assert verified(idle).status == "True"
        assert "No pod is running" in verified(idle).message


class TestCandidate:
    def test_first_request_may_be_slow(self, starting: World) -> None:
        condition = verified(starting)
        assert (condition.status, condition.reason) == ("False", Reason.ENDPOINT_STARTING)
        assert condition.message == (
            "No pod of revision 1 is running; the first request starts one. Waiting for an answer from http://endpoint/predict "
            "until 12:15:00 UTC."
        )
        assert starting.condition(DEPLOYED).status == "True"
        assert starting.decision is not None
        assert starting.decision.requeue_at == starting.now + starting.timeouts.rollout_interval
        writes = starting.writes
        starting.pass_time(minutes=5)
        starting.reconcile()
        assert starting.writes == writes, "the message does not change"
        wake(starting)
        starting.reconcile()
        assert starting.ready()

    def test_model_that_does_not_start_is_rejected_after_the_progress_deadline(self, starting: World) -> None:
        starting.pass_time(minutes=16)
        starting.reconcile()
        assert not starting.ready()
        assert verified(starting).reason == Reason.ENDPOINT_UNREACHABLE
        assert starting.condition(ConditionType.STALLED).status == "True"

    def test_verify_window_starts_when_the_pods_run(self, starting: World) -> None:
        starting.pass_time(minutes=5)
        starting.wrong_answers = {1}
        wake(starting)
        starting.reconcile()
        assert starting.status.candidate is not None
        assert starting.status.candidate.rejection is None
        starting.pass_time(minutes=1)
        starting.reconcile()
        assert starting.status.candidate.rejection is not None
        assert starting.status.candidate.rejection.reason == "PredictionMismatch"

    def test_promoted_model_is_probed_although_the_one_before_answered(self, world: World) -> None:
        world.serve()
        world.change(training={"seed": 7})
        world.reconcile()
        world.succeed()
        world.reconcile()
        for _ in range(4):
            world.rolled_out = True
            sleep(world)
            world.reconcile()
        assert world.status.served is not None
        assert world.status.served.revision == 1
        assert verified(world).reason == Reason.ENDPOINT_STARTING
        wake(world)
        world.reconcile()
        assert (world.status.served.revision, world.ready()) == (2, True)


class TestCanary:
    UNANSWERED = CanaryComparison(
        20,
        milliseconds=4,
        served_milliseconds=float("inf"),
        served_reason=Reason.ENDPOINT_UNREACHABLE,
        served_message="http://prev does not answer",
    )

    def canary(self, comparison: CanaryComparison) -> World:
        world = canary_world()
        world.annotate(retrain="now")
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.rolled_out = True
        sleep(world)
        world.canaries[2] = comparison
        world.reconcile()
        return world

    def test_served_model_that_starts_is_not_reported_and_the_canary_waits(self) -> None:
        world = self.canary(self.UNANSWERED)
        assert world.condition(DEPLOYED).reason == Reason.ENDPOINT_STARTING
        assert "No pod of revision 1 is running" in world.condition(DEPLOYED).message
        assert (world.ready(), weights(world)) == (True, (1, 2, 0))
        wake(world)
        del world.canaries[2]
        world.reconcile()
        assert weights(world) == (1, 2, 10)

    def test_candidate_that_starts_is_not_rejected_before_the_progress_deadline(self) -> None:
        world = self.canary(CanaryComparison(3, 3, reason=Reason.ENDPOINT_UNREACHABLE, message="http://latest does not answer"))
        world.pass_time(minutes=14)
        world.reconcile()
        assert world.status.candidate is not None
        assert world.status.candidate.rejection is None
        assert "No pod of revision 2 is running" in world.condition(DEPLOYED).message
        world.pass_time(minutes=2)
        world.reconcile()
        assert world.status.candidate.rejection is not None

    def test_wrong_answer_is_rejected_whatever_sleeps(self) -> None:
        world = self.canary(replace(self.UNANSWERED, failed=20, wrong=True, reason="PredictionMismatch", message="it answered 9"))
        world.pass_time(minutes=1)
        world.reconcile()
        assert world.status.candidate is not None
        assert world.status.candidate.rejection is not None
