"""A resource goes away: what is ended, what is left, and how long it may take."""

import pytest
from support.world import World

from winepipelines.lifecycle.actions import LeaveModels, TerminateRun
from winepipelines.lifecycle.questions import Runs
from winepipelines.resource.errors import NotSent, Unavailable
from winepipelines.resource.observed import RunState


@pytest.fixture
def world() -> World:
    return World()


class TestDeletion:
    def test_it_ends_the_run(self, world: World) -> None:
        world.reconcile()
        world.delete()
        world.reconcile()
        assert world.run().state is RunState.CANCELING
        assert not world.exists

    def test_it_removes_a_run_that_cannot_be_ended(self, world: World) -> None:
        world.reconcile()
        world.workflows_gone = True
        world.delete()
        world.reconcile()
        assert world.runs == []
        assert not world.exists

    def test_it_removes_no_run_that_was_not_asked_to_end(self, world: World) -> None:
        world.reconcile()
        world.down[TerminateRun] = NotSent("KubeflowUnavailable", "cannot be reached")
        world.delete()
        world.reconcile()
        assert world.run().state is RunState.PENDING
        assert world.exists

    def test_it_ends_the_deployment(self, world: World) -> None:
        world.serve()
        world.delete()
        world.reconcile()
        assert world.applied is None
        assert not world.exists

    def test_it_retains_the_deployment_where_asked(self, world: World) -> None:
        world.serve()
        world.change(deletionPolicy="Retain")
        world.delete()
        world.reconcile()
        assert world.applied is not None
        assert not world.owned
        assert not world.exists

    def test_it_does_not_wait_for_ever(self, world: World) -> None:
        world.reconcile()
        world.down[Runs] = Unavailable("KubeflowUnavailable", "down")
        world.delete()
        world.reconcile()
        assert world.exists
        world.pass_time(minutes=3)
        world.reconcile()
        assert not world.exists
        assert "its run" in world.left_behind[0]

    def _is_late_without_kubeflow(self, world: World) -> None:
        world.serve()
        world.change(data={"url": "http://data/new.csv"}, deletionPolicy="Retain")
        world.reconcile()
        world.down[Runs] = Unavailable("KubeflowUnavailable", "down")
        world.delete()
        world.reconcile()
        world.pass_time(minutes=3)

    def test_what_is_retained_is_released_however_late(self, world: World) -> None:
        self._is_late_without_kubeflow(world)
        world.reconcile()
        assert not world.exists
        assert world.applied is not None
        assert not world.owned, "the garbage collector would take it"
        assert world.left_behind == ("its run (down)",)

    def test_a_platform_that_is_back_at_the_last_moment_is_cleaned_up(self, world: World) -> None:
        self._is_late_without_kubeflow(world)
        world.down.clear()
        world.reconcile()
        assert world.run().state is RunState.CANCELING
        assert not world.exists
        assert world.left_behind == ()

    def test_its_models_stay_in_mlflow_and_it_is_said_whose_they_were(self, world: World) -> None:
        world.serve()
        world.change(training={"seed": 7})
        world.serve()
        world.delete()
        world.reconcile()
        assert not world.exists
        assert [(model.version, model.mlflow_run) for model in world.tagged] == [("1", "mlflow-1"), ("2", "mlflow-2")]
        assert world.aliases == {}, "nobody serves them any more"

    def test_what_is_retained_keeps_its_alias(self, world: World) -> None:
        world.change(deletionPolicy="Retain")
        world.serve()
        world.delete()
        world.reconcile()
        assert world.versions == {"champion": "1"}

    def test_mlflow_down_holds_a_deletion_up_for_a_while_and_is_told(self, world: World) -> None:
        world.serve()
        world.down[LeaveModels] = Unavailable("MlflowUnavailable", "does not answer")
        world.delete()
        world.reconcile()
        assert world.exists
        world.pass_time(minutes=3)
        world.reconcile()
        assert not world.exists
        assert world.left_behind == ("a tag on its models in MLflow (does not answer)",)

    def test_it_says_why_something_was_left_behind(self, world: World) -> None:
        world.reconcile()
        world.down[TerminateRun] = NotSent("KubeflowUnavailable", "cannot be reached")
        world.delete()
        world.pass_time(minutes=3)
        world.reconcile()
        assert not world.exists
        assert world.left_behind == ("its run (cannot be reached)",)
