"""A requested retraining: when it ends a failing revision, and what the status reports while it waits."""

import pytest
from support.world import World

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused, Unavailable
from winepipelines.api.observed import RunState, SecretState, StoredModel
from winepipelines.api.status import ConditionType, RevisionOutcome
from winepipelines.pipelines.actions import ApplyDeployment, CreateRun
from winepipelines.pipelines.queries import GetChildren

READY, DEPLOYED, STALLED = ConditionType.READY, ConditionType.DEPLOYED, ConditionType.STALLED
PENDING = ConditionType.RETRAIN_PENDING


class TestRequest:
    """The annotation `retrain` starts a revision, or the status reports what it waits for."""

    @pytest.mark.parametrize("reason", ["ModelMissing", "BucketMissing"])
    def test_retrain_replaces_an_unreadable_model(self, world: World, reason: str) -> None:
        world.reconcile()
        world.succeed()
        world.stored = StoredModel("s3://mlflow/1/model", False, reason, "there is no MLmodel")
        world.reconcile()
        assert world.condition(STALLED).reason == reason
        world.annotate(retrain="now")
        world.reconcile()
        assert (world.status.revision, world.status.history[0].outcome) == (2, RevisionOutcome.SUPERSEDED)

    def test_schedule_replaces_an_unreadable_model(self, world: World) -> None:
        world.change(training={"schedule": "0 * * * *"})
        world.reconcile()
        world.succeed()
        world.stored = StoredModel("s3://mlflow/1/model", False, "ModelMissing", "there is no MLmodel")
        world.reconcile()
        world.pass_time(hours=1)
        world.reconcile()
        assert world.status.revision == 2

    def test_retrain_replaces_a_rejected_deployment(self, world: World) -> None:
        world.down[ApplyDeployment] = Refused(Reason.DEPLOYMENT_REJECTED, "denied by a webhook")
        world.train()
        world.annotate(retrain="now")
        world.reconcile()
        assert world.status.revision == 2

    def test_retrain_replaces_a_rejected_submission(self, world: World) -> None:
        world.down[CreateRun] = Refused(Reason.KUBEFLOW_REQUEST_REJECTED, "403")
        world.reconcile()
        world.annotate(retrain="now")
        world.reconcile()
        assert world.status.revision == 2
        world.down.clear()
        world.reconcile()
        assert world.created == ["mlflow-01234567-2"]

    def test_retrain_reports_that_it_waits_for_the_current_revision(self, world: World) -> None:
        world.serve()
        world.annotate(retrain="one")
        world.reconcile()
        world.annotate(retrain="two")
        world.reconcile()
        assert world.ready()
        pending = world.condition(PENDING)
        assert (pending.status, pending.reason) == ("True", "RevisionInProgress")
        assert pending.message.endswith("It begins when revision 2 has ended.")
        world.succeed()
        world.reconcile()
        world.roll_out()
        assert world.status.revision == 3
        assert world.status.condition(PENDING) is None

    def test_retrain_reports_that_it_waits_while_suspended(self, world: World) -> None:
        world.serve()
        world.change(suspend=True)
        world.annotate(retrain="now")
        world.reconcile()
        assert world.ready()
        assert world.condition(PENDING).reason == "Suspended"
        assert "when spec.suspend is false" in world.condition(PENDING).message
        writes = world.writes
        world.pass_time(hours=1)
        world.reconcile()
        assert world.writes == writes

    def test_retrain_reports_that_it_waits_for_the_namespace(self, world: World) -> None:
        world.serve()
        world.source = SecretState("kubeflow", "source", False)
        world.annotate(retrain="now")
        world.reconcile()
        assert world.condition(PENDING).reason == "CorrectionRequired"
        assert world.condition(STALLED).reason == "SourceSecretMissing"
        world.source = SecretState("kubeflow", "source", True)
        world.reconcile()
        assert world.status.revision == 2

    def test_retrain_reports_that_it_waits_during_an_outage(self, world: World) -> None:
        world.down[CreateRun] = Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "answered 503")
        world.reconcile()
        world.annotate(retrain="now")
        world.pass_time(minutes=1)
        world.reconcile()
        assert world.condition(PENDING).reason == "RevisionInProgress"

    def test_live_run_is_kept_when_the_namespace_was_not_ready_for_a_retrain(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.down[GetChildren] = Refused(Reason.KUBERNETES_REQUEST_REJECTED, "forbidden")
        world.annotate(retrain="now")
        world.reconcile()
        world.down.clear()
        world.reconcile()
        assert world.run().live
        assert world.status.revision == 1
