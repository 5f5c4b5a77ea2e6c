"""Deletion of a WinePipeline: what is cleaned up, what is left behind, and the deadline."""

from support.world import World

from winecontract.reasons import Reason
from winepipelines.api.errors import NotSent, Unavailable
from winepipelines.api.observed import RunState
from winepipelines.pipelines.actions import TagOrphanedModels
from winepipelines.pipelines.queries import ListRuns
from winepipelines.runs.actions import TerminateRun


class TestDeletion:
    def test_deletion_terminates_the_run(self, world: World) -> None:
        world.reconcile()
        world.delete()
        world.reconcile()
        assert world.run().state is RunState.CANCELING
        assert not world.exists

    def test_deletion_removes_a_run_that_cannot_be_terminated(self, world: World) -> None:
        world.reconcile()
        world.workflows_gone = True
        world.delete()
        world.reconcile()
        assert world.runs == []
        assert not world.exists

    def test_deletion_keeps_a_run_whose_termination_was_not_sent(self, world: World) -> None:
        world.reconcile()
        world.down[TerminateRun] = NotSent(Reason.KUBEFLOW_UNAVAILABLE, "cannot be reached")
        world.delete()
        world.reconcile()
        assert world.run().state is RunState.PENDING
        assert world.exists

    def test_deletion_deletes_the_deployment(self, world: World) -> None:
        world.serve()
        world.delete()
        world.reconcile()
        assert world.applied is None
        assert not world.exists

    def test_deletion_keeps_the_deployment_when_the_policy_is_retain(self, world: World) -> None:
        world.serve()
        world.change(deletionPolicy="Retain")
        world.delete()
        world.reconcile()
        assert world.applied is not None
        assert not world.owned
        assert not world.exists

    def test_deletion_is_bounded_in_time(self, world: World) -> None:
        world.reconcile()
        world.down[ListRuns] = Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "down")
        world.delete()
        world.reconcile()
        assert world.exists
        world.pass_time(minutes=3)
        world.reconcile()
        assert not world.exists
        assert "its run" in world.left_behind[0]

    def _delete_while_kubeflow_is_down(self, world: World) -> None:
        world.serve()
        world.change(data={"url": "http://data/new.csv"}, deletionPolicy="Retain")
        world.reconcile()
        world.down[ListRuns] = Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "down")
        world.delete()
        world.reconcile()
        world.pass_time(minutes=3)

    def test_retained_deployment_is_released_after_the_deadline(self, world: World) -> None:
        self._delete_while_kubeflow_is_down(world)
        world.reconcile()
        assert not world.exists
        assert world.applied is not None
        assert not world.owned, "the garbage collector deletes owned objects"
        assert world.left_behind == ("its run (down)",)

    def test_deletion_terminates_the_run_when_kubeflow_recovers_late(self, world: World) -> None:
        self._delete_while_kubeflow_is_down(world)
        world.down.clear()
        world.reconcile()
        assert world.run().state is RunState.CANCELING
        assert not world.exists
        assert world.left_behind == ()

    def test_deletion_tags_its_models_in_mlflow_and_deletes_its_aliases(self, world: World) -> None:
        world.serve()
        world.change(training={"seed": 7})
        world.serve()
        world.delete()
        world.reconcile()
        assert not world.exists
        assert [(model.version, model.mlflow_run) for model in world.tagged] == [("1", "mlflow-1"), ("2", "mlflow-2")]
        assert world.aliases == {}, "no model is served any more"

    def test_retained_deployment_keeps_its_alias(self, world: World) -> None:
        world.change(deletionPolicy="Retain")
        world.serve()
        world.delete()
        world.reconcile()
        assert world.versions == {"champion": "1"}

    def test_mlflow_outage_delays_a_deletion_until_the_deadline_and_is_reported(self, world: World) -> None:
        world.serve()
        world.down[TagOrphanedModels] = Unavailable(Reason.MLFLOW_UNAVAILABLE, "does not answer")
        world.delete()
        world.reconcile()
        assert world.exists
        world.pass_time(minutes=3)
        world.reconcile()
        assert not world.exists
        assert world.left_behind == ("a tag on its models in MLflow (does not answer)",)

    def test_deletion_reports_why_a_run_was_left(self, world: World) -> None:
        world.reconcile()
        world.down[TerminateRun] = NotSent(Reason.KUBEFLOW_UNAVAILABLE, "cannot be reached")
        world.delete()
        world.pass_time(minutes=3)
        world.reconcile()
        assert not world.exists
        assert world.left_behind == ("its run (cannot be reached)",)
