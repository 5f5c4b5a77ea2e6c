"""Rollbacks: by the operator during probation, and by request."""

import pytest
from support.canary import canary_world, weights
from support.world import World

from winecontract.reasons import Reason
from winepipelines.api.observed import RunState, StoredModel
from winepipelines.api.status import ConditionType, RevisionOutcome, Stage, Trigger

READY, DEPLOYED, ENDPOINT_VERIFIED = ConditionType.READY, ConditionType.DEPLOYED, ConditionType.ENDPOINT_VERIFIED


@pytest.fixture
def world() -> World:
    return canary_world()


class TestRollback:
    def promoted(self) -> World:
        """Serve revision 1, then promote revision 2."""
        world = World()
        world.serve()
        world.change(training={"seed": 7})
        world.serve()
        assert weights(world) == (2, None, 0)
        return world

    def test_model_that_fails_on_probation_is_rolled_back(self) -> None:
        world = self.promoted()
        world.wrong_answers = {2}
        world.pass_time(seconds=30)
        world.reconcile()
        assert not world.ready()
        assert weights(world) == (2, None, 0), "one failed check must not roll back"
        world.pass_time(seconds=31)
        world.reconcile()
        assert weights(world) == (1, None, 0)
        world.roll_out()
        assert world.status.served is not None
        assert world.status.served.revision == 1
        assert world.status.history[0].outcome is RevisionOutcome.ROLLED_BACK
        assert world.condition(READY).reason == "PredictionMismatch"
        assert "Rolled back revision 2; revision 1 serves again." in world.condition(READY).message
        assert world.alias == "1"

    def test_previous_model_of_the_same_spec_is_ready_after_a_rollback(self) -> None:
        world = World()
        world.serve()
        world.annotate(retrain="now")
        world.serve()
        world.wrong_answers = {2}
        world.reconcile()
        world.pass_time(seconds=31)
        world.reconcile()
        world.roll_out()
        assert world.ready()
        assert "Revision 1 serves at" in world.condition(READY).message

    def test_single_failed_check_causes_no_rollback(self) -> None:
        world = self.promoted()
        world.wrong_answers = {2}
        world.reconcile()
        world.wrong_answers = set()
        world.pass_time(seconds=10)
        world.reconcile()
        assert world.ready()
        world.wrong_answers = {2}
        world.pass_time(seconds=60)
        world.reconcile()
        assert weights(world) == (2, None, 0), "a passed check must reset the period of failures"

    def test_model_is_checked_more_often_on_probation(self) -> None:
        world = self.promoted()
        assert world.decision is not None
        assert world.decision.requeue_at == world.now + world.timeouts.probation_interval
        world.pass_time(minutes=11)
        decision = world.reconcile()
        assert decision.requeue_at == world.now + world.timeouts.check_interval

    def test_model_that_fails_after_probation_stays(self) -> None:
        world = self.promoted()
        world.pass_time(minutes=11)
        world.wrong_answers = {2}
        for _ in range(4):
            world.reconcile()
            world.pass_time(minutes=5)
        assert weights(world) == (2, None, 0)


class TestRequestedRollback:
    def serve_three_revisions(self) -> World:
        """Serve revisions 1 to 3, of three seeds."""
        world = World()
        world.serve()
        for seed in (7, 8):
            world.change(training={"seed": seed})
            world.serve()
        return world

    def test_rollback_restores_any_revision_in_the_history(self) -> None:
        world = self.serve_three_revisions()
        world.annotate(rollback="1")
        world.reconcile()
        world.roll_out()
        assert world.applied is not None
        assert world.applied.model.uri == "s3://mlflow/1/model"
        assert len(world.created) == 3, "a rollback needs no run"
        assert world.status.revision == 4
        entry = world.status.history[0]
        assert entry.model is not None
        assert (entry.trigger, entry.model.revision) == (Trigger.ROLLBACK, 1)
        assert world.condition(READY).reason == Reason.ROLLED_BACK, "the spec describes another model"
        kinds = {condition.type for condition in world.status.conditions}
        assert not kinds & {"Stalled", "Reconciling"}, "a completed rollback is neither Stalled nor Reconciling"
        assert world.condition(ENDPOINT_VERIFIED).status == "True"
        assert world.status.stage is Stage.SERVING
        assert world.alias == "1"

    def test_rollback_to_a_model_of_the_same_spec_is_ready(self) -> None:
        world = World()
        world.serve()
        world.annotate(retrain="now")
        world.serve()
        world.annotate(retrain="now", rollback="1")
        world.reconcile()
        world.roll_out()
        assert world.ready()
        assert "the model of revision 1 restored by a rollback" in world.condition(READY).message

    def test_rollback_terminates_the_current_run(self) -> None:
        world = self.serve_three_revisions()
        world.annotate(retrain="now")
        world.reconcile()
        world.annotate(retrain="now", rollback="2")
        world.reconcile()
        assert world.run().state is RunState.CANCELING
        world.move_run(RunState.FAILED)
        world.reconcile()
        world.roll_out()
        assert world.applied is not None
        assert world.applied.model.uri == "s3://mlflow/2/model"

    @pytest.mark.parametrize("revision", ["99", "yesterday", "0", "-1"])
    def test_impossible_rollback_is_reported_once_and_changes_nothing(self, revision: str) -> None:
        world = self.serve_three_revisions()
        world.annotate(rollback=revision)
        world.reconcile()
        writes = world.writes
        world.reconcile()
        assert world.writes == writes
        assert weights(world) == (3, None, 0)
        assert world.ready()
        assert "the revisions in status.history that served are: 1, 2, 3." in world.condition(READY).message
        assert [event.reason for event in world.events].count("RequestRejected") == 1

    def test_rollback_to_a_deleted_model_is_rejected(self) -> None:
        world = self.serve_three_revisions()
        world.stored = StoredModel("s3://mlflow/1/model", False, "ModelMissing", "there is no MLmodel at s3://mlflow/1/model")
        world.annotate(rollback="1")
        world.reconcile()
        assert weights(world) == (3, None, 0)
        assert "there is no MLmodel" in world.condition(READY).message

    def test_changed_spec_ends_the_rollback(self) -> None:
        world = self.serve_three_revisions()
        world.annotate(rollback="1")
        world.reconcile()
        world.roll_out()
        world.change(training={"seed": 9})
        world.serve()
        assert world.status.served is not None
        assert world.status.served.revision == 5
