"""From a model that is logged to the one that takes traffic, and everything in the way."""

import pytest
from support.world import World

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.actions import ApplyDeployment
from winepipelines.resource.errors import Refused
from winepipelines.resource.observed import RunState
from winepipelines.resource.status import ConditionType, Outcome, Stage

READY, ANSWERING = ConditionType.READY, ConditionType.ANSWERING


@pytest.fixture
def world() -> World:
    return World()


class TestASpecChange:
    def test_the_old_model_serves_until_the_new_one_answers(self, world: World) -> None:
        world.serve()
        world.change(data={"url": "http://data/new.csv"})
        world.reconcile()
        assert world.status.revision == 2
        assert not world.ready()
        assert world.condition(ANSWERING).status == "True"
        assert world.applied is not None
        assert world.applied.model.revision == 1
        world.succeed()
        world.reconcile()
        assert world.applied.trial is not None
        assert (world.applied.model.revision, world.applied.trial.revision, world.applied.weight) == (1, 2, 0)
        assert world.status.served is not None
        assert world.status.served.revision == 1
        world.roll_out()
        assert world.ready()
        assert world.status.served.revision == 2
        assert [entry.revision for entry in world.status.history] == [2, 1]

    def test_a_run_of_the_earlier_spec_is_ended_first(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.change(data={"url": "http://data/new.csv"})
        world.reconcile()
        assert world.run().state is RunState.CANCELING
        assert len(world.created) == 1
        world.move_run(RunState.FAILED)
        world.reconcile()
        assert world.created == ["mlflow-01234567-1", "mlflow-01234567-2"]
        assert world.status.history[0].outcome is Outcome.SUPERSEDED

    def test_serving_changes_need_no_run(self, world: World) -> None:
        world.serve()
        world.change(serving={"replicas": 3})
        world.reconcile()
        assert world.replicas == 3
        assert len(world.created) == 1
        assert world.ready()

    def test_a_failure_leaves_the_old_model_serving(self, world: World) -> None:
        world.serve()
        world.change(data={"url": "http://data/html"})
        world.reconcile()
        world.fail("DataNotCsv", permanent=True)
        world.reconcile()
        assert world.status.stage is Stage.FAILED
        assert world.condition(READY).reason == "DataNotCsv"
        assert world.condition(ANSWERING).status == "True"
        assert world.applied is not None
        assert world.applied.model.revision == 1

    def test_a_model_that_answers_wrongly_is_taken_back(self, world: World) -> None:
        world.serve()
        world.change(data={"url": "http://data/new.csv"})
        world.reconcile()
        world.succeed()
        world.wrong_answers = {2}
        world.reconcile()
        world.rolled_out = True
        world.reconcile()
        assert world.condition(READY).reason == "PredictionDiffers"
        assert world.applied is not None
        assert (world.applied.model.revision, world.applied.weight) == (1, 0), "it has never taken traffic"
        world.pass_time(minutes=1)
        world.reconcile()
        assert (world.applied.model.revision, world.applied.trial) == (1, None)
        world.rolled_out = True
        world.reconcile()
        assert world.status.stage is Stage.FAILED
        assert world.condition(READY).reason == "PredictionDiffers"
        assert "revision 1 serves on" in world.condition(READY).message
        assert world.condition(ANSWERING).status == "True"
        assert world.status.history[0].outcome is Outcome.REJECTED

    def test_a_model_that_never_rolls_out_is_taken_back(self, world: World) -> None:
        world.serve()
        world.change(data={"url": "http://data/new.csv"})
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.pass_time(minutes=16)
        world.reconcile()
        assert world.applied is not None
        assert world.applied.model.revision == 1
        assert world.condition(READY).reason == reasons.PROGRESS_DEADLINE_EXCEEDED


class TestRollout:
    REFUSED = Refused("DeploymentRefused", "the SeldonDeployment mlflow is refused: exceeded quota")

    @staticmethod
    def _retrained(world: World) -> None:
        """Revision 1 serves, revision 2 is trained and being rolled out."""
        world.serve()
        world.change(data={"url": "http://data/new.csv"})
        world.reconcile()
        world.succeed()
        world.reconcile()

    def test_a_pods_own_reason_is_told_at_once_and_taken_back_for_in_the_end(self, world: World) -> None:
        self._retrained(world)
        world.trouble = ("ErrImagePull", "the image s:1 of container classifier is not pulled: not found")
        world.reconcile()
        deployed = world.condition(ConditionType.DEPLOYED)
        assert (deployed.reason, deployed.message) == world.trouble
        assert world.status.condition(ConditionType.STALLED) is None
        assert world.condition(ANSWERING).status == "True"
        writes = world.writes
        world.pass_time(minutes=14)
        world.reconcile()
        assert world.writes == writes
        world.pass_time(minutes=2)
        world.calls.clear()
        world.reconcile()
        assert [call for call in world.calls if call.startswith("write")] == ["write Deploying", "write Failed"]
        assert world.condition(READY).reason == "ErrImagePull"
        assert "was not rolled out within 15 minutes: the image s:1" in world.condition(READY).message
        assert world.applied is not None
        assert world.applied.model.revision == 1

    def test_a_shorter_word_on_the_same_trouble_does_not_replace_a_fuller_one(self, world: World) -> None:
        self._retrained(world)
        world.trouble = ("ErrImagePull", "the image s:1 is not pulled: not found")
        world.reconcile()
        writes = world.writes
        world.trouble = ("ErrImagePull", "the image s:1 is not pulled")
        world.reconcile()
        assert world.writes == writes
        world.trouble = ("ErrImagePull", "the image s:2 is not pulled")
        world.reconcile()
        assert "s:2" in world.condition(ConditionType.DEPLOYED).message

    def test_a_refusal_is_told_once_however_often_it_is_tried(self, world: World) -> None:
        world.serve()
        world.change(data={"url": "http://data/new.csv"})
        world.reconcile()
        world.down[ApplyDeployment] = self.REFUSED
        world.succeed()
        world.reconcile()
        assert world.condition(READY).reason == "DeploymentRefused"
        assert world.condition(ConditionType.STALLED).message == self.REFUSED.message
        assert world.applied is not None
        assert world.applied.model.revision == 1
        writes, told = world.writes, len(world.told)
        for _ in range(5):
            world.pass_time(seconds=10)
            world.reconcile()
        assert (world.writes, len(world.told)) == (writes, told)
        world.down.clear()
        world.reconcile()
        world.roll_out()
        assert world.ready()

    def test_the_next_revision_is_not_told_as_somebodys_change(self, world: World) -> None:
        self._retrained(world)
        assert world.condition(ConditionType.DEPLOYED).message == "the serving platform is rolling it out"
        assert not [event for event in world.told if "not as it should be" in event.message]

    def test_each_rollout_of_a_model_has_a_deadline_of_its_own(self, world: World) -> None:
        world.serve()
        world.pass_time(hours=5)
        world.rolled_out = False
        world.reconcile()
        assert world.status.condition(ConditionType.STALLED) is None
        world.pass_time(minutes=16)
        world.reconcile()
        assert world.condition(ConditionType.STALLED).reason == reasons.PROGRESS_DEADLINE_EXCEEDED

    def test_a_server_that_installs_packages_has_more_time(self, world: World) -> None:
        world.change(serving={"runtime": "mlflowserver"})
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.pass_time(minutes=29)
        world.reconcile()
        assert world.status.condition(ConditionType.STALLED) is None
        world.pass_time(minutes=2)
        world.reconcile()
        assert "within 30 minutes" in world.condition(READY).message
