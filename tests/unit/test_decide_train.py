"""Stage train: attempts, submissions and outages."""

from support.world import World

from winecontract.reasons import Reason
from winepipelines.api.errors import NotSent, Refused, Unavailable
from winepipelines.api.observed import RunState, StoredModel
from winepipelines.api.status import ConditionType, RevisionOutcome, Stage
from winepipelines.pipelines.actions import CreateRun
from winepipelines.pipelines.queries import GetSteps, ListRuns
from winepipelines.runs.actions import TerminateRun

READY, TRAINED, ENDPOINT_VERIFIED = ConditionType.READY, ConditionType.TRAINED, ConditionType.ENDPOINT_VERIFIED


class TestTrain:
    def test_run_is_attempted_again_after_a_passing_failure(self, world: World) -> None:
        world.reconcile()
        world.fail()
        world.reconcile()
        assert world.condition(TRAINED).reason == "DataUnreachable"
        assert "attempt 1 of 3" in world.condition(TRAINED).message
        assert world.run().state is RunState.FAILED
        world.pass_time(seconds=31)
        world.reconcile()
        assert [run.state for run in world.runs] == [RunState.FAILED, RunState.PENDING]
        assert world.status.run is not None
        assert world.status.run.attempt == 2
        world.pass_time(seconds=5)
        world.fail()
        world.reconcile()
        world.pass_time(seconds=61)
        world.reconcile()
        world.pass_time(seconds=5)
        world.fail()
        world.reconcile()
        assert world.status.stage is Stage.FAILED
        assert world.condition(TRAINED).message == "Step download failed: no good. This was attempt 3 of 3."
        assert world.condition(ConditionType.STALLED).status == "True"
        assert world.created == ["mlflow-01234567-1", "mlflow-01234567-1-2", "mlflow-01234567-1-3"]

    def test_store_outage_does_not_count_as_an_attempt(self, world: World) -> None:
        world.reconcile()
        for _ in range(12):
            world.fail("TrackingUnavailable")
            world.reconcile()
            assert "does not count" in world.condition(TRAINED).message
            world.pass_time(minutes=10)
            world.reconcile()
            assert world.run().live
            world.pass_time(seconds=5)
        world.succeed()
        world.reconcile()
        assert world.status.stage is Stage.DEPLOYING
        assert world.created[-1] == "mlflow-01234567-1-13"

    def test_store_outage_ends_the_revision_after_the_limit_of_uncounted_attempts(self, world: World) -> None:
        world.reconcile()
        for _ in range(30):
            if world.status.stage is Stage.FAILED:
                break
            world.fail("ObjectStoreUnavailable")
            world.reconcile()
            world.pass_time(minutes=10)
            world.reconcile()
        assert len(world.created) == 21
        assert world.condition(ConditionType.STALLED).reason == "ObjectStoreUnavailable"
        assert "The platform failed 21 attempts." in world.condition(READY).message

    def test_run_is_not_attempted_again_after_a_permanent_failure(self, world: World) -> None:
        world.reconcile()
        world.fail("ColumnMissing", permanent=True)
        world.reconcile()
        assert world.status.stage is Stage.FAILED
        assert world.condition(READY).reason == "ColumnMissing"
        assert world.status.history[0].outcome is RevisionOutcome.FAILED

    def test_failure_is_kept_when_kubeflow_has_deleted_the_run(self, world: World) -> None:
        world.reconcile()
        world.fail("ColumnMissing", permanent=True)
        world.reconcile()
        before = world.status
        world.runs.clear()
        world.records.clear()
        world.reconcile()
        assert world.status == before
        assert len(world.created) == 1

    def test_run_without_a_workflow_ends_at_its_timeout(self, world: World) -> None:
        world.change(training={"timeout": "10m", "attempts": 1})
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.down[GetSteps] = Refused(Reason.KUBERNETES_REQUEST_REJECTED, "the operator cannot list Workflows")
        world.pass_time(minutes=11)
        world.down[TerminateRun] = Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "no Workflow")
        world.reconcile()
        assert world.condition(TRAINED).reason == "KubeflowUnavailable"
        world.pass_time(minutes=3)
        world.reconcile()
        assert world.runs == []
        assert world.status.stage is Stage.FAILED
        assert world.condition(TRAINED).reason == Reason.RUN_TIMED_OUT

    def test_timed_out_run_quotes_the_exceeded_timeout_when_the_spec_changes(self, world: World) -> None:
        world.change(training={"timeout": "10m", "attempts": 1})
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.pass_time(minutes=11)
        world.reconcile()
        world.change(training={"timeout": "2h", "attempts": 1})
        world.reconcile()
        assert "spec.training.timeout (10m). Terminating the run." in world.condition(TRAINED).message
        world.move_run(RunState.FAILED)
        world.reconcile()
        assert "exceeded spec.training.timeout (10m)" in world.condition(TRAINED).message
        world.annotate(retrain="with the new timeout")
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.pass_time(minutes=60)
        world.reconcile()
        assert world.condition(TRAINED).reason == Reason.RUN_IN_PROGRESS

    def test_run_is_not_attempted_again_when_someone_terminates_it(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.CANCELING)
        world.reconcile()
        assert world.condition(TRAINED).reason == Reason.RUN_TERMINATING
        world.move_run(RunState.FAILED)  # as Kubeflow Pipelines reports in the end
        world.reconcile()
        assert world.status.stage is Stage.FAILED
        assert world.condition(TRAINED).reason == Reason.RUN_TERMINATED

    def test_deleted_run_counts_as_an_attempt(self, world: World) -> None:
        world.reconcile()
        world.runs.clear()
        world.pass_time(minutes=1)
        world.reconcile()
        assert len(world.created) == 2
        assert world.status.run is not None
        assert world.status.run.attempt == 2

    def test_unanswered_submission_is_not_repeated_before_its_grace_period(self, world: World) -> None:
        world.down[CreateRun] = Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "no answer")
        world.reconcile()
        assert world.condition(TRAINED).reason == "KubeflowUnavailable"
        del world.down[CreateRun]
        world.pass_time(seconds=10)
        world.reconcile()
        assert world.created == []
        world.add_run("mlflow-01234567-1")  # the request was processed late
        world.reconcile()
        world.pass_time(minutes=1)
        world.reconcile()
        assert len(world.created) == 1

    def test_unsent_submission_is_repeated_at_once(self, world: World) -> None:
        world.down[CreateRun] = NotSent(Reason.KUBEFLOW_UNAVAILABLE, "cannot be reached")
        world.reconcile()
        del world.down[CreateRun]
        world.reconcile()
        assert len(world.created) == 1

    def test_rejected_submission_reports_the_reason(self, world: World) -> None:
        world.down[CreateRun] = Refused(Reason.KUBEFLOW_REQUEST_REJECTED, "Kubeflow Pipelines answered 403: not allowed")
        world.reconcile()
        assert world.condition(ConditionType.STALLED).reason == "KubeflowRequestRejected"
        assert "403" in world.condition(READY).message

    def test_outage_is_reported_once_however_often_it_is_retried(self, world: World) -> None:
        world.down[CreateRun] = Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "answered 503")
        world.reconcile()
        events = list(world.events)
        assert [event.reason for event in events].count("KubeflowUnavailable") == 1
        for _ in range(10):
            world.pass_time(minutes=1)
            world.reconcile()
        assert world.events == events
        assert world.condition(TRAINED).reason == "KubeflowUnavailable"
        del world.down[CreateRun]
        world.pass_time(minutes=1)
        world.reconcile()
        assert world.condition(TRAINED).reason == Reason.RUN_PENDING

    def test_duplicate_submission_leaves_one_run(self, world: World) -> None:
        world.reconcile()
        kept = world.run().id
        world.add_run("mlflow-01234567-1")
        world.reconcile()
        assert [run.id for run in world.runs] == [kept]

    def test_kubeflow_outage_changes_only_the_status(self, world: World) -> None:
        world.reconcile()
        world.down[ListRuns] = Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "down")
        world.reconcile()
        assert world.condition(TRAINED).reason == "KubeflowUnavailable"
        writes = world.writes
        world.pass_time(seconds=10)
        world.reconcile()
        assert world.writes == writes
        assert [event.reason for event in world.events].count("KubeflowUnavailable") == 1

    def test_run_without_a_logged_model_is_reported(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.SUCCEEDED)
        world.reconcile()
        assert world.condition(TRAINED).reason == Reason.MODEL_PENDING
        world.pass_time(minutes=2)
        world.reconcile()
        assert world.condition(TRAINED).reason == Reason.MODEL_NOT_LOGGED

    def test_unreadable_model_is_not_deployed(self, world: World) -> None:
        world.reconcile()
        world.succeed()
        world.stored = StoredModel("s3://mlflow/1/model", False, "ModelMissing", "there is no MLmodel")
        world.reconcile()
        assert world.condition(READY).reason == "ModelMissing"
        assert world.applied is None
        world.stored = None
        world.reconcile()
        assert world.applied is not None

    def test_suspend_neither_submits_nor_terminates_a_run(self, world: World) -> None:
        world.change(suspend=True)
        world.reconcile()
        assert world.status.stage is Stage.SUSPENDED
        assert world.created == []
        world.change(suspend=False)
        world.reconcile()
        world.change(suspend=True)
        world.succeed()
        world.reconcile()
        world.rolled_out = True
        world.reconcile()
        assert world.ready()
        world.change(data={"url": "http://data/other.csv"})
        world.reconcile()
        assert world.status.stage is Stage.SUSPENDED
        assert world.condition(ENDPOINT_VERIFIED).status == "True"
        assert len(world.created) == 1
