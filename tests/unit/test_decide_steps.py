"""Stage train: steps whose pods cannot start, and Workflows that were deleted."""

from support.memory import START
from support.world import World

from winecontract.reasons import Reason
from winepipelines.api.errors import Unavailable
from winepipelines.api.observed import RunState, StepFailure
from winepipelines.api.status import ConditionType, Stage
from winepipelines.pipelines.queries import GetRecords

READY, TRAINED, ENDPOINT_VERIFIED = ConditionType.READY, ConditionType.TRAINED, ConditionType.ENDPOINT_VERIFIED


IMAGE = StepFailure("download", "ErrImagePull", "the image steps:typo of container main is not pulled", False, START)


def run_with_step_that_cannot_start(world: World) -> None:
    """Submit the run; the image of its first step is not pulled."""
    world.reconcile()
    world.move_run(RunState.RUNNING)
    world.step_problem = IMAGE
    world.reconcile()


class TestSteps:
    """Workflow and pods of the run, which Kubeflow Pipelines says nothing of."""

    def test_step_that_cannot_start_is_reported_at_once(self, world: World) -> None:
        run_with_step_that_cannot_start(world)
        condition = world.condition(TRAINED)
        assert condition.reason == "ErrImagePull"
        assert "Step download cannot start: the image steps:typo" in condition.message
        assert world.status.run is not None
        assert world.status.run.problem is not None
        assert world.status.run.problem.reason == "ErrImagePull"
        assert world.condition(ConditionType.STALLED).reason == "ErrImagePull"
        writes = world.writes
        world.pass_time(minutes=5)
        world.reconcile()
        assert world.writes == writes
        world.step_problem = None
        world.reconcile()
        assert world.condition(TRAINED).reason == Reason.RUN_IN_PROGRESS
        assert world.status.run is not None
        assert world.status.run.problem is None

    def test_time_in_which_a_step_could_not_start_does_not_count_towards_the_timeout(self, world: World) -> None:
        world.change(training={"timeout": "10m", "attempts": 1})
        run_with_step_that_cannot_start(world)
        world.pass_time(minutes=8)
        world.step_problem = None
        world.reconcile()
        world.pass_time(minutes=8)
        world.reconcile()
        assert world.condition(TRAINED).reason == Reason.RUN_IN_PROGRESS

    def test_step_that_never_starts_ends_the_attempt_and_stalls(self, world: World) -> None:
        run_with_step_that_cannot_start(world)
        world.pass_time(minutes=16)
        world.reconcile()
        assert world.run().state is RunState.CANCELING
        world.pass_time(seconds=20)
        world.reconcile()
        assert "steps:typo" in world.condition(TRAINED).message
        assert "took longer" not in world.condition(TRAINED).message
        world.move_run(RunState.FAILED)
        world.reconcile()
        assert world.condition(ConditionType.STALLED).reason == "ErrImagePull"
        assert "This attempt does not count." in world.condition(READY).message
        assert "steps:typo" in world.condition(READY).message
        assert len(world.created) == 1

    def test_corrected_setting_starts_another_run_at_once(self, world: World) -> None:
        run_with_step_that_cannot_start(world)
        world.settings = "with the right image"  # the operator has been started anew with it
        world.reconcile()
        assert world.run().state is RunState.CANCELING
        world.move_run(RunState.FAILED)
        world.step_problem = None
        world.reconcile()
        assert world.created == ["mlflow-01234567-1", "mlflow-01234567-1-2"]
        world.succeed()
        world.reconcile()
        world.roll_out()
        assert world.ready()

    def test_setting_corrected_later_starts_another_run(self, world: World) -> None:
        run_with_step_that_cannot_start(world)
        world.pass_time(minutes=16)
        world.reconcile()
        world.move_run(RunState.FAILED)
        world.reconcile()
        world.settings, world.step_problem = "with the right image", None
        world.reconcile()
        assert len(world.created) == 2
        world.succeed()
        world.reconcile()
        world.roll_out()
        assert world.ready()

    def test_secret_corrected_later_is_found_within_the_hour(self, world: World) -> None:
        world.reconcile()
        for _ in range(8):
            world.move_run(RunState.RUNNING)
            world.step_problem = IMAGE
            world.reconcile()
            world.pass_time(minutes=16)
            world.reconcile()
            world.move_run(RunState.FAILED)
            world.reconcile()
            assert world.status.stage is not Stage.FAILED
            world.step_problem = None
            world.pass_time(minutes=61)
            world.reconcile()
            assert world.run().live
        world.succeed()
        world.reconcile()
        world.roll_out()
        assert world.ready()

    def test_unschedulable_step_is_not_stalled(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.step_problem = StepFailure("train", "Unschedulable", "0/1 nodes are available", False, START)
        world.reconcile()
        assert world.condition(TRAINED).reason == "Unschedulable"
        assert world.status.condition(ConditionType.STALLED) is None

    def test_retrain_starts_another_revision_when_a_step_cannot_start(self, world: World) -> None:
        run_with_step_that_cannot_start(world)
        world.annotate(retrain="now")
        world.step_problem = None
        world.reconcile()
        world.move_run(RunState.FAILED)
        world.reconcile()
        assert world.created == ["mlflow-01234567-1", "mlflow-01234567-2"]

    def test_changed_settings_do_not_affect_a_healthy_run(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.settings = "others"
        world.reconcile()
        assert world.run().state is RunState.RUNNING

    def test_deleted_workflow_is_handled_at_once(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.reconcile()
        world.workflows_gone = True
        world.reconcile()
        assert world.runs == [], "it would be RUNNING for ever"
        assert world.condition(TRAINED).reason == Reason.WORKFLOW_DELETED
        assert "workflow-run-1" in world.condition(TRAINED).message
        world.workflows_gone = False
        world.pass_time(minutes=1)
        world.reconcile()
        assert world.created == ["mlflow-01234567-1", "mlflow-01234567-1-2"]

    def test_workflow_that_was_never_seen_is_not_reported_as_deleted(self, world: World) -> None:
        """Where Kubeflow Pipelines is in another cluster there is none to be seen."""
        world.workflows_gone = True
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.pass_time(minutes=5)
        world.reconcile()
        assert world.condition(TRAINED).reason == Reason.RUN_IN_PROGRESS

    def test_pod_gives_the_reason_when_mlflow_has_none(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.FAILED, failed_step="train")
        world.pod_failed = world.run().id
        world.pod_failure = StepFailure("train", "ExperimentDeleted", "it is deleted", True, world.now)
        world.down[GetRecords] = Unavailable(Reason.MLFLOW_UNAVAILABLE, "down")
        world.reconcile()
        assert world.condition(TRAINED).reason == "ExperimentDeleted"
        assert world.condition(TRAINED).message == "Step train failed: it is deleted"
        assert world.status.stage is Stage.FAILED

    def test_eviction_does_not_count_as_an_attempt(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.FAILED, failed_step="train")
        world.pod_failed = world.run().id
        world.pod_failure = StepFailure("train", "Evicted", "The node was low on resource: memory", False, world.now)
        world.reconcile()
        assert world.condition(TRAINED).reason == "Evicted"
        assert "does not count" in world.condition(TRAINED).message
