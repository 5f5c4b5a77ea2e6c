"""A candidate takes shares of the traffic before it takes over."""

from dataclasses import replace

import pytest
from support.canary import SPLITS, canary_world, weights
from support.world import World

from winecontract.reasons import Reason
from winepipelines.api.modelrecord import ModelServer
from winepipelines.api.observed import CanaryComparison, ServerView
from winepipelines.api.status import ConditionType, RevisionOutcome

READY, DEPLOYED, ENDPOINT_VERIFIED = ConditionType.READY, ConditionType.DEPLOYED, ConditionType.ENDPOINT_VERIFIED


@pytest.fixture
def world() -> World:
    return canary_world()


def candidate(world: World, **spec: object) -> None:
    """Revision 2 of another seed is trained, applied beside revision 1, and up."""
    world.change(training={"seed": 7}, **spec)
    world.reconcile()
    world.succeed()
    world.reconcile()
    world.rolled_out = True


class TestCanary:
    def test_canary_takes_its_shares_in_order_and_then_all_traffic(self, world: World) -> None:
        candidate(world)
        assert weights(world) == (1, 2, 0), "first on its own service"
        world.reconcile()
        assert weights(world) == (1, 2, 10)
        assert world.rolled_out, "another share starts no pod"
        assert world.condition(DEPLOYED).reason == Reason.CANARY_IN_PROGRESS
        assert "10 % of the traffic until 12:05:00 UTC (step 1 of 2)" in world.condition(DEPLOYED).message
        world.pass_time(minutes=4)
        world.reconcile()
        assert weights(world) == (1, 2, 10)
        world.pass_time(minutes=1)
        world.reconcile()
        assert weights(world) == (1, 2, 50)
        world.pass_time(minutes=5)
        world.calls.clear()
        world.reconcile()
        assert weights(world) == (2, None, 0)
        assert world.calls.count("ApplyDeployment") == 2, "its pods of the trial go first: there may be no room for three"
        assert not world.rolled_out, "it takes over in the predictor that everyone asks"
        world.roll_out()
        assert world.ready()

    def test_candidate_keeps_its_pods_when_the_backend_promotes_in_place(self, world: World) -> None:
        world.server = replace(SPLITS, promotes_in_place=True)
        candidate(world)
        world.reconcile()
        for _ in range(2):
            world.pass_time(minutes=5)
            world.calls.clear()
            world.reconcile()
        assert weights(world) == (2, None, 0)
        assert world.calls.count("ApplyDeployment") == 1, "the served model is not applied alone in between"

    def test_canary_writes_nothing_between_two_steps(self, world: World) -> None:
        candidate(world)
        world.reconcile()
        writes = world.writes
        for _ in range(3):
            world.pass_time(seconds=10)
            world.reconcile()
        assert world.writes == writes
        assert world.decision is not None
        assert world.decision.requeue_at == world.now + world.timeouts.canary_interval

    @pytest.mark.parametrize(
        ("canary", "reason"),
        [
            (CanaryComparison(20, 1, wrong=True, reason="PredictionMismatch", message="it answered 9"), "PredictionMismatch"),
            (CanaryComparison(20, 2, reason="EndpointUnreachable", message="no answer"), "EndpointUnreachable"),
            (CanaryComparison(20, milliseconds=300, served_milliseconds=4), Reason.CANARY_TOO_SLOW),
        ],
    )
    def test_failed_canary_returns_all_traffic_at_once(self, world: World, canary: CanaryComparison, reason: str) -> None:
        candidate(world)
        world.reconcile()
        world.canaries[2] = canary
        world.reconcile()
        assert weights(world) == (1, None, 0)
        assert world.rolled_out, "what served has never stopped"
        world.reconcile()
        assert world.condition(READY).reason == reason
        assert world.condition(ENDPOINT_VERIFIED).status == "True"
        assert world.status.history[0].outcome is RevisionOutcome.REJECTED

    def test_canary_is_not_rejected_when_the_mesh_refuses_the_operator(self, world: World) -> None:
        candidate(world)
        world.reconcile()
        world.canaries[2] = CanaryComparison(20, 20, reason="MeshAccessDenied", message="the mesh refuses")
        for _ in range(30):
            world.pass_time(minutes=1)
            world.reconcile()
        assert world.condition(READY).reason == "MeshAccessDenied"
        assert world.status.history[0].outcome is not RevisionOutcome.REJECTED
        world.canaries[2] = CanaryComparison(20)
        world.reconcile()
        assert world.condition(READY).reason == Reason.CANARY_IN_PROGRESS
        assert weights(world) == (1, 2, 50)

    @pytest.mark.parametrize(
        "canary",
        [
            CanaryComparison(20, 1, reason="EndpointUnreachable", message="once"),
            CanaryComparison(20, milliseconds=100, served_milliseconds=4),
        ],
    )
    def test_canary_tolerates_one_error_and_small_delays(self, world: World, canary: CanaryComparison) -> None:
        candidate(world)
        world.reconcile()
        world.canaries[2] = canary
        world.reconcile()
        assert weights(world) == (1, 2, 10)

    def test_canary_without_traffic_splitting_is_checked_and_takes_over(self, world: World) -> None:
        world.server = ServerView(server=ModelServer(image="server:1"))
        candidate(world)
        assert weights(world) == (1, 2, 0)
        world.reconcile()
        assert weights(world) == (2, None, 0)
        world.roll_out()
        assert "does not split traffic" in world.condition(DEPLOYED).message

    def test_changed_spec_removes_the_canary(self, world: World) -> None:
        candidate(world)
        world.reconcile()
        world.change(training={"seed": 8})
        world.reconcile()
        assert weights(world) == (1, None, 0)
        assert [entry.outcome for entry in world.status.history] == [RevisionOutcome.SUPERSEDED, RevisionOutcome.SERVED]

    def test_ready_stays_true_during_a_canary_of_the_same_spec(self, world: World) -> None:
        world.annotate(retrain="now")
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.rolled_out = True
        world.reconcile()
        assert weights(world) == (1, 2, 10)
        assert world.ready()
        assert "canary of revision 2 receives 10 %" in world.condition(READY).message

    def test_status_has_the_traffic_shares_during_a_canary(self, world: World) -> None:
        candidate(world)
        world.reconcile()
        assert world.status.endpoint is not None
        assert [(share.revision, share.percent) for share in world.status.endpoint.traffic] == [(1, 90), (2, 10)]
        for _ in range(2):
            world.pass_time(minutes=5)
            world.reconcile()
        world.roll_out()
        assert world.status.endpoint is not None
        assert world.status.endpoint.traffic == ()
