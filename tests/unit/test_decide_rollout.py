"""Rollouts: from a logged model to the served one, with rejections and deadlines."""

from support.world import World

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused
from winepipelines.api.observed import RunState
from winepipelines.api.status import ConditionType, RevisionOutcome, Stage
from winepipelines.pipelines.actions import ApplyDeployment

READY, ENDPOINT_VERIFIED = ConditionType.READY, ConditionType.ENDPOINT_VERIFIED


class TestSpecChange:
    def test_old_model_serves_until_the_new_one_is_verified(self, world: World) -> None:
        world.serve()
        world.change(data={"url": "http://data/new.csv"})
        world.reconcile()
        assert world.status.revision == 2
        assert not world.ready()
        assert world.condition(ENDPOINT_VERIFIED).status == "True"
        assert world.applied is not None
        assert world.applied.model.revision == 1
        world.succeed()
        world.reconcile()
        assert world.applied.canary is not None
        assert (world.applied.model.revision, world.applied.canary.revision, world.applied.weight) == (1, 2, 0)
        assert world.status.served is not None
        assert world.status.served.revision == 1
        world.roll_out()
        assert world.ready()
        assert world.status.served.revision == 2
        assert [entry.revision for entry in world.status.history] == [2, 1]

    def test_run_of_the_earlier_spec_is_terminated_first(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.change(data={"url": "http://data/new.csv"})
        world.reconcile()
        assert world.run().state is RunState.CANCELING
        assert len(world.created) == 1
        world.move_run(RunState.FAILED)
        world.reconcile()
        assert world.created == ["mlflow-01234567-1", "mlflow-01234567-2"]
        assert world.status.history[0].outcome is RevisionOutcome.SUPERSEDED

    def test_serving_change_creates_no_run(self, world: World) -> None:
        world.serve()
        world.change(serving={"replicas": 3})
        world.reconcile()
        assert world.replicas == 3
        assert len(world.created) == 1
        assert world.ready()

    def test_old_model_keeps_serving_when_the_run_fails(self, world: World) -> None:
        world.serve()
        world.change(data={"url": "http://data/html"})
        world.reconcile()
        world.fail("DataNotCsv", permanent=True)
        world.reconcile()
        assert world.status.stage is Stage.FAILED
        assert world.condition(READY).reason == "DataNotCsv"
        assert world.condition(ENDPOINT_VERIFIED).status == "True"
        assert world.applied is not None
        assert world.applied.model.revision == 1

    def test_candidate_is_rejected_when_its_prediction_differs(self, world: World) -> None:
        world.serve()
        world.change(data={"url": "http://data/new.csv"})
        world.reconcile()
        world.succeed()
        world.wrong_answers = {2}
        world.reconcile()
        world.rolled_out = True
        world.reconcile()
        assert world.condition(READY).reason == "PredictionMismatch"
        assert world.applied is not None
        assert (world.applied.model.revision, world.applied.weight) == (1, 0), "the candidate has received no traffic"
        world.pass_time(minutes=1)
        world.reconcile()
        assert (world.applied.model.revision, world.applied.canary) == (1, None)
        world.rolled_out = True
        world.reconcile()
        assert world.status.stage is Stage.FAILED
        assert world.condition(READY).reason == "PredictionMismatch"
        assert "Revision 1 keeps serving." in world.condition(READY).message
        assert world.condition(ENDPOINT_VERIFIED).status == "True"
        assert world.status.history[0].outcome is RevisionOutcome.REJECTED

    def test_candidate_is_rejected_at_the_progress_deadline(self, world: World) -> None:
        world.serve()
        world.change(data={"url": "http://data/new.csv"})
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.pass_time(minutes=16)
        world.reconcile()
        assert world.applied is not None
        assert world.applied.model.revision == 1
        assert world.condition(READY).reason == Reason.PROGRESS_DEADLINE_EXCEEDED


class TestRollout:
    REFUSED = Refused(Reason.DEPLOYMENT_REJECTED, "the SeldonDeployment mlflow is refused: exceeded quota")

    @staticmethod
    def _retrain(world: World) -> None:
        """Serve revision 1, train revision 2 and start its rollout."""
        world.serve()
        world.change(data={"url": "http://data/new.csv"})
        world.reconcile()
        world.succeed()
        world.reconcile()

    def test_pod_problem_is_reported_at_once_and_rejects_the_candidate_at_the_deadline(self, world: World) -> None:
        self._retrain(world)
        world.pod_problem = ("ErrImagePull", "The image s:1 of container classifier is not pulled: not found")
        world.reconcile()
        deployed = world.condition(ConditionType.DEPLOYED)
        assert (deployed.reason, deployed.message) == world.pod_problem
        assert world.status.condition(ConditionType.STALLED) is None
        assert world.condition(ENDPOINT_VERIFIED).status == "True"
        writes = world.writes
        world.pass_time(minutes=14)
        world.reconcile()
        assert world.writes == writes
        world.pass_time(minutes=2)
        world.calls.clear()
        world.reconcile()
        assert [call for call in world.calls if call.startswith("write")] == ["write Deploying", "write Failed"]
        assert world.condition(READY).reason == "ErrImagePull"
        assert "was not rolled out within 15 minutes. The image s:1" in world.condition(READY).message
        assert world.applied is not None
        assert world.applied.model.revision == 1

    def test_pod_problem_keeps_the_more_detailed_message(self, world: World) -> None:
        self._retrain(world)
        world.pod_problem = ("ErrImagePull", "The image s:1 is not pulled: not found")
        world.reconcile()
        writes = world.writes
        world.pod_problem = ("ErrImagePull", "The image s:1 is not pulled")
        world.reconcile()
        assert world.writes == writes
        world.pod_problem = ("ErrImagePull", "The image s:2 is not pulled")
        world.reconcile()
        assert "s:2" in world.condition(ConditionType.DEPLOYED).message

    def test_rejected_deployment_is_reported_once_however_often_it_is_retried(self, world: World) -> None:
        world.serve()
        world.change(data={"url": "http://data/new.csv"})
        world.reconcile()
        world.down[ApplyDeployment] = self.REFUSED
        world.succeed()
        world.reconcile()
        assert world.condition(READY).reason == "DeploymentRejected"
        assert world.condition(ConditionType.STALLED).message == self.REFUSED.message
        assert world.applied is not None
        assert world.applied.model.revision == 1
        writes, events = world.writes, len(world.events)
        for _ in range(5):
            world.pass_time(seconds=10)
            world.reconcile()
        assert (world.writes, len(world.events)) == (writes, events)
        world.down.clear()
        world.reconcile()
        world.roll_out()
        assert world.ready()

    def test_next_revision_is_not_reported_as_drift(self, world: World) -> None:
        self._retrain(world)
        assert world.condition(ConditionType.DEPLOYED).message == "The serving backend is rolling the model out"
        assert not [event for event in world.events if "drifted" in event.message]

    def test_each_rollout_of_a_model_has_its_own_deadline(self, world: World) -> None:
        world.serve()
        world.pass_time(hours=5)
        world.rolled_out = False
        world.reconcile()
        assert world.status.condition(ConditionType.STALLED) is None
        world.pass_time(minutes=16)
        world.reconcile()
        assert world.condition(ConditionType.STALLED).reason == Reason.PROGRESS_DEADLINE_EXCEEDED

    def test_progress_deadline_is_longer_for_mlflowserver(self, world: World) -> None:
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
