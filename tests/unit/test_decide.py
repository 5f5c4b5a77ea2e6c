"""The story of a resource, told by the decisions: from apply to an answering model, and everything in the way."""

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import pytest
from support.memory import Crash
from support.world import World

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.actions import ApplyChildren, ApplyDeployment, CreateRun, LeaveModels, RetryRun, TerminateRun
from winepipelines.lifecycle.questions import Answer, Records, Runs
from winepipelines.resource.errors import NotSent, Refused, Unavailable
from winepipelines.resource.observed import (
    LoggedModel,
    Presence,
    RunState,
    SecretState,
    ServerView,
    StoredModel,
    TrainingRecords,
)
from winepipelines.resource.spec import Runtime
from winepipelines.resource.status import ConditionType, Outcome, Stage

READY, TRAINED, ANSWERING = ConditionType.READY, ConditionType.TRAINED, ConditionType.ANSWERING


@pytest.fixture
def world() -> World:
    return World()


class TestTheWay:
    def test_from_apply_to_ready(self, world: World) -> None:
        world.reconcile()
        assert world.status.stage is Stage.TRAINING
        assert world.created == ["mlflow-01234567-1"]
        assert world.condition(TRAINED).reason == reasons.PENDING

        world.move_run(RunState.RUNNING)
        world.reconcile()
        assert world.condition(READY).reason == reasons.RUNNING

        world.succeed()
        world.reconcile()
        assert world.status.stage is Stage.DEPLOYING
        assert world.applied is not None
        assert world.applied.model.uri == "s3://mlflow/1/model"

        world.rolled_out = True
        world.reconcile()
        assert world.ready()
        assert world.status.stage is Stage.SERVING
        assert world.status.served is not None
        assert world.status.served.metrics == {"r2": 0.14}
        assert world.status.prediction is not None
        assert world.status.prediction.value == 5.7
        assert [entry.outcome for entry in world.status.history] == [Outcome.SERVED]
        assert {condition.type for condition in world.status.conditions if condition.status == "True"} == {
            "Ready",
            "Prepared",
            "Trained",
            "Accepted",
            "Deployed",
            "Answering",
        }

    def test_a_settled_resource_costs_no_write_and_no_kubeflow(self, world: World) -> None:
        world.serve()
        before = world.writes
        world.calls.clear()
        decision = world.reconcile()
        assert world.writes == before
        assert "Runs" not in world.calls
        assert decision.wake_at == world.now + world.policy.check_interval
        assert decision.follow is None

    def test_conditions_are_kstatus(self, world: World) -> None:
        world.reconcile()
        assert world.condition(ConditionType.RECONCILING).status == "True"
        assert world.status.condition(ConditionType.STALLED) is None
        world.fail(permanent=True)
        world.reconcile()
        assert world.condition(ConditionType.STALLED).reason == "DataUnreachable"
        assert world.status.condition(ConditionType.RECONCILING) is None
        world.change(data={"url": "http://data/better.csv"})
        world.serve()
        assert world.status.condition(ConditionType.RECONCILING) is None
        assert world.status.condition(ConditionType.STALLED) is None
        assert world.status.observed_generation == world.pipeline.generation

    def test_each_transition_is_told_once(self, world: World) -> None:
        world.serve()
        told = [event.reason for event in world.told]
        assert told.count("RevisionStarted") == 1
        assert told.count(reasons.SERVING) == 1
        assert len(told) == len(set(told))


class TestPrepare:
    def test_a_missing_source_secret_is_named_and_awaited(self, world: World) -> None:
        world.source = SecretState("kubeflow", "source", exists=False)
        world.reconcile()
        assert world.condition(READY).reason == reasons.SOURCE_SECRET_MISSING
        assert "source in namespace kubeflow" in world.condition(READY).message
        assert world.created == []
        world.source = SecretState("kubeflow", "source", exists=True)
        world.reconcile()
        assert world.created

    def test_missing_keys_are_named(self, world: World) -> None:
        world.artifacts = SecretState("admin", "artifacts", True, ("secretkey",))
        world.reconcile()
        assert world.condition(READY).reason == reasons.ARTIFACT_SECRET_INCOMPLETE
        assert "secretkey" in world.condition(READY).message

    def test_without_the_kind_poddefaults_are_left_out(self, world: World) -> None:
        world.children = Presence.KIND_MISSING
        world.reconcile()
        assert world.condition(ConditionType.PREPARED).status == "True"
        assert world.condition(ConditionType.PREPARED).reason == reasons.PODDEFAULTS_LEFT_OUT
        assert world.created

    def test_what_others_made_is_reported_and_left_alone(self, world: World) -> None:
        world.children = Presence.FOREIGN
        world.reconcile()
        assert world.condition(READY).reason == reasons.FOREIGN_OBJECT
        assert "kubectl -n admin delete secret" in world.condition(READY).message
        assert world.children is Presence.FOREIGN

    def test_a_foreign_poddefault_hinders_nothing_and_the_way_out_is_told(self, world: World) -> None:
        world.foreign_kinds = {"PodDefault"}
        world.reconcile()
        assert world.condition(ConditionType.PREPARED).status == "True"
        assert world.condition(ConditionType.PREPARED).reason == reasons.FOREIGN_OBJECT
        assert "kubectl -n admin delete poddefault access-minio" in world.condition(ConditionType.PREPARED).message
        assert world.created

    @pytest.mark.parametrize(("found", "said"), [(Presence.ABSENT, "was gone"), (Presence.DIFFERS, "was not as it should be")])
    def test_drift_is_mended_by_the_way_and_told(self, world: World, found: Presence, said: str) -> None:
        world.serve()
        writes, world.children = world.writes, found
        world.reconcile()
        assert world.children is Presence.CURRENT
        assert world.ready()
        assert world.writes == writes, "the model answers all the while"
        [told] = world.mended
        assert f"Secret seldon-init-container-secret {said}" in told

    def test_drift_that_cannot_be_mended_is_said_once_not_again_and_again(self, world: World) -> None:
        world.serve()
        world.children = Presence.ABSENT
        world.down[ApplyChildren] = Refused("KubernetesRefused", "no rights")
        world.reconcile()
        assert world.condition(ConditionType.PREPARED).reason == "KubernetesRefused"
        assert world.condition(READY).status == "False"
        told = len(world.told)
        world.pass_time(seconds=10)
        world.reconcile()
        assert len(world.told) == told
        del world.down[ApplyChildren]
        world.reconcile()
        assert world.ready()


class TestTrain:
    def test_a_passing_failure_is_tried_again_in_the_same_run(self, world: World) -> None:
        world.reconcile()
        world.fail()
        world.reconcile()
        assert world.condition(TRAINED).reason == "DataUnreachable"
        assert "attempt 1 of 3" in world.condition(TRAINED).message
        assert world.run().state is RunState.FAILED
        world.pass_time(seconds=31)
        world.reconcile()
        assert world.run().state is RunState.RUNNING
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
        assert world.condition(TRAINED).message == "step download: no good (attempt 3 of 3)"
        assert world.condition(ConditionType.STALLED).status == "True"
        assert world.created == ["mlflow-01234567-1"]

    def test_an_outage_of_the_store_uses_up_no_attempt(self, world: World) -> None:
        world.reconcile()
        for _ in range(12):
            world.fail("TrackingUnavailable")
            world.reconcile()
            assert "does not count" in world.condition(TRAINED).message
            world.pass_time(minutes=10)
            world.reconcile()
            assert world.run().state is RunState.RUNNING
            world.pass_time(seconds=5)
        world.succeed()
        world.reconcile()
        assert world.status.stage is Stage.DEPLOYING
        assert world.created == ["mlflow-01234567-1"]

    def test_what_only_a_change_mends_is_not_tried_again(self, world: World) -> None:
        world.reconcile()
        world.fail("ColumnMissing", permanent=True)
        world.reconcile()
        assert world.status.stage is Stage.FAILED
        assert world.condition(READY).reason == "ColumnMissing"
        assert world.status.history[0].outcome is Outcome.FAILED

    def test_a_failure_stays_told_when_kubeflow_has_forgotten_the_run(self, world: World) -> None:
        world.reconcile()
        world.fail("ColumnMissing", permanent=True)
        world.reconcile()
        before = world.status
        world.runs.clear()
        world.records.clear()
        world.reconcile()
        assert world.status == before
        assert len(world.created) == 1

    def test_a_run_whose_workflow_vanished_is_ended_at_its_timeout(self, world: World) -> None:
        world.change(training={"timeout": "10m", "attempts": 1})
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.pass_time(minutes=11)
        world.down[TerminateRun] = Unavailable("KubeflowUnavailable", "no Workflow")
        world.reconcile()
        assert world.condition(TRAINED).reason == "KubeflowUnavailable"
        world.pass_time(minutes=3)
        world.reconcile()
        assert world.runs == []
        assert world.status.stage is Stage.FAILED
        assert world.condition(TRAINED).reason == reasons.RUN_TIMED_OUT

    def test_a_run_that_someone_ends_is_not_started_again(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.CANCELING)
        world.reconcile()
        assert world.condition(TRAINED).reason == reasons.ENDING
        world.move_run(RunState.FAILED)  # as Kubeflow Pipelines does in the end
        world.reconcile()
        assert world.status.stage is Stage.FAILED
        assert world.condition(TRAINED).reason == reasons.RUN_TERMINATED

    def test_a_run_that_someone_deletes_counts_as_an_attempt(self, world: World) -> None:
        world.reconcile()
        world.runs.clear()
        world.pass_time(minutes=1)
        world.reconcile()
        assert len(world.created) == 2
        assert world.status.run is not None
        assert world.status.run.attempt == 2

    def test_a_submission_without_an_answer_is_not_repeated_before_its_grace(self, world: World) -> None:
        world.down[CreateRun] = Unavailable("KubeflowUnavailable", "no answer")
        world.reconcile()
        assert world.condition(TRAINED).reason == "KubeflowUnavailable"
        del world.down[CreateRun]
        world.pass_time(seconds=10)
        world.reconcile()
        assert world.created == []
        world.add_run("mlflow-01234567-1")  # it was carried out, late
        world.reconcile()
        world.pass_time(minutes=1)
        world.reconcile()
        assert len(world.created) == 1

    def test_a_submission_that_was_not_sent_is_repeated_at_once(self, world: World) -> None:
        world.down[CreateRun] = NotSent("KubeflowUnavailable", "cannot be reached")
        world.reconcile()
        del world.down[CreateRun]
        world.reconcile()
        assert len(world.created) == 1

    def test_a_refused_submission_says_what_was_refused(self, world: World) -> None:
        world.down[CreateRun] = Refused("KubeflowRefused", "Kubeflow Pipelines answered 403: not allowed")
        world.reconcile()
        assert world.condition(ConditionType.STALLED).reason == "KubeflowRefused"
        assert "403" in world.condition(READY).message

    def test_an_outage_is_told_once_however_often_it_is_tried(self, world: World) -> None:
        world.down[CreateRun] = Unavailable("KubeflowUnavailable", "answered 503")
        world.reconcile()
        told = list(world.told)
        assert [event.reason for event in told].count("KubeflowUnavailable") == 1
        for _ in range(10):
            world.pass_time(minutes=1)
            world.reconcile()
        assert world.told == told
        assert world.condition(TRAINED).reason == "KubeflowUnavailable"
        del world.down[CreateRun]
        world.pass_time(minutes=1)
        world.reconcile()
        assert world.condition(TRAINED).reason == reasons.PENDING

    def test_a_submission_that_was_carried_out_twice_leaves_one_run(self, world: World) -> None:
        world.reconcile()
        kept = world.run().id
        world.add_run("mlflow-01234567-1")
        world.reconcile()
        assert [run.id for run in world.runs] == [kept]

    def test_kubeflow_down_changes_nothing_but_the_status(self, world: World) -> None:
        world.reconcile()
        world.down[Runs] = Unavailable("KubeflowUnavailable", "down")
        world.reconcile()
        assert world.condition(TRAINED).reason == "KubeflowUnavailable"
        writes = world.writes
        world.pass_time(seconds=10)
        world.reconcile()
        assert world.writes == writes
        assert [event.reason for event in world.told].count("KubeflowUnavailable") == 1

    def test_a_run_that_logged_nothing_is_told(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.SUCCEEDED)
        world.reconcile()
        assert world.condition(TRAINED).reason == reasons.MODEL_PENDING
        world.pass_time(minutes=2)
        world.reconcile()
        assert world.condition(TRAINED).reason == reasons.MODEL_NOT_LOGGED

    def test_a_model_that_seldon_cannot_read_is_not_deployed(self, world: World) -> None:
        world.reconcile()
        world.succeed()
        world.stored = StoredModel("s3://mlflow/1/model", False, "ModelMissing", "there is no MLmodel")
        world.reconcile()
        assert world.condition(READY).reason == "ModelMissing"
        assert world.applied is None
        world.stored = None
        world.reconcile()
        assert world.applied is not None

    def test_suspended_starts_nothing_and_ends_nothing(self, world: World) -> None:
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
        assert world.condition(ANSWERING).status == "True"
        assert len(world.created) == 1


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


class TestRuntime:
    MLFLOWSERVER: ClassVar[dict[str, str]] = {"runtime": "mlflowserver"}

    def test_nothing_is_trained_for_a_server_that_could_not_read_it(self, world: World) -> None:
        world.server = ServerView("2.0", "nobody knows what 2.0 reads")
        world.change(serving=self.MLFLOWSERVER)
        world.reconcile()
        assert world.condition(READY).reason == reasons.RUNTIME_UNSUPPORTED
        assert world.condition(ConditionType.STALLED).message == "nobody knows what 2.0 reads"
        assert world.created == []
        assert world.status.revision == 0
        world.server = ServerView("1.18.2")
        world.reconcile()
        assert world.created == ["mlflow-01234567-1"]

    def test_another_runtime_or_version_of_its_server_is_another_revision(self, world: World) -> None:
        world.serve()
        world.change(serving=self.MLFLOWSERVER)
        world.serve()
        assert world.status.revision == 2
        assert world.status.served is not None
        assert world.status.served.runtime is Runtime.MLFLOWSERVER
        world.server = ServerView("1.17.1")
        world.serve()
        assert world.status.revision == 3

    def test_what_serves_keeps_its_runtime_until_there_is_a_model_for_the_new_one(self, world: World) -> None:
        world.serve()
        world.change(serving=self.MLFLOWSERVER)
        world.reconcile()
        assert world.applied is not None
        assert world.applied.model.runtime is Runtime.BUNDLED
        world.succeed()
        world.reconcile()
        assert world.applied.model.runtime is Runtime.MLFLOWSERVER

    def test_a_bundled_model_that_serves_asks_for_no_server(self, world: World) -> None:
        world.serve()
        world.calls.clear()
        world.reconcile()
        assert "Server" not in world.calls

    def test_what_serves_keeps_its_image_when_the_operator_comes_with_another(self, world: World) -> None:
        world.serve()
        writes = world.writes
        world.server = ServerView("1.18.2", image="server:2")
        world.calls.clear()
        world.reconcile()
        assert world.writes == writes
        assert "ApplyDeployment" not in world.calls
        world.change(serving={"replicas": 2})
        world.reconcile()
        assert world.applied is not None
        assert (world.applied.model.image, world.applied.model.revision) == ("server:1", 1)
        world.change(training={"seed": 7}, serving={"replicas": 2})
        world.serve()
        assert world.status.served is not None
        assert world.status.served.image == "server:2"
        assert world.applied.model.image == "server:2"

    def test_what_is_rejected_leaves_the_earlier_model_its_image(self, world: World) -> None:
        world.serve()
        world.server = ServerView("1.18.2", image="server:2")
        world.change(training={"seed": 7})
        world.wrong_answers = {2}
        world.reconcile()
        world.succeed()
        world.reconcile()
        assert world.applied is not None
        assert world.applied.trial is not None
        assert world.applied.trial.image == "server:2"
        world.rolled_out = True
        world.reconcile()
        world.pass_time(minutes=1)
        world.reconcile()
        assert (world.applied.model.image, world.applied.model.revision) == ("server:1", 1)

    def test_a_status_of_before_images_were_written_keeps_the_one_that_serves(self, world: World) -> None:
        world.serve()
        status = world.status
        assert status.served is not None
        assert status.candidate is not None
        older = status.with_(served=status.served.with_(image=""), candidate=status.candidate.with_(image=""))
        world.pipeline = world.pipeline.with_status(older)
        world.server = ServerView("1.18.2", image="server:2")
        writes = world.writes
        world.reconcile()
        assert world.writes == writes
        world.change(serving={"replicas": 2})
        world.reconcile()
        assert world.applied is not None
        assert (world.applied.model.image, world.replicas) == ("server:1", 2)


class TestServing:
    def test_a_served_model_that_stops_answering_is_not_ready(self, world: World) -> None:
        world.serve()
        world.wrong_answers = {1}
        world.reconcile()
        assert not world.ready()
        assert world.condition(ANSWERING).reason == "PredictionDiffers"
        world.wrong_answers = set()
        world.pass_time(seconds=30)
        world.reconcile()
        assert world.ready()
        assert world.status.prediction is not None
        assert world.status.prediction.at == world.now

    def test_mlflow_down_does_not_speak_against_a_served_model(self, world: World) -> None:
        world.serve()
        world.down[Answer] = Unavailable("MlflowUnavailable", "down")
        writes = world.writes
        world.reconcile()
        assert world.ready()
        assert world.writes == writes

    def test_a_deleted_deployment_is_made_again(self, world: World) -> None:
        world.serve()
        world.applied, world.rolled_out = None, False
        world.reconcile()
        assert world.applied is not None
        assert not world.ready()
        assert world.mended == ["the SeldonDeployment was gone: deploying revision 1"]

    def test_a_serving_change_is_no_drift(self, world: World) -> None:
        world.serve()
        world.change(serving={"replicas": 2})
        world.reconcile()
        assert world.replicas == 2
        assert world.mended == []

    def test_an_edited_deployment_is_mended_and_told(self, world: World) -> None:
        world.serve()
        world.replicas = 5
        world.reconcile()
        assert world.replicas == 1
        assert world.mended == ["the SeldonDeployment was not as it should be: deploying revision 1"]

    def test_a_foreign_deployment_is_left_alone(self, world: World) -> None:
        world.foreign = True
        world.reconcile()
        world.succeed()
        world.reconcile()
        assert world.condition(READY).reason == reasons.FOREIGN_OBJECT
        assert world.applied is None


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
        assert world.tagged == (("1", "mlflow-1"), ("2", "mlflow-2"))
        assert world.aliases == {}, "nobody serves them any more"

    def test_what_is_retained_keeps_its_alias(self, world: World) -> None:
        world.change(deletionPolicy="Retain")
        world.serve()
        world.delete()
        world.reconcile()
        assert world.aliases == {"champion": "1"}

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


def _through(world: World) -> None:
    """The whole way, twice, with a failure that passes and a deletion."""
    stages: list[Callable[[], None]] = [
        lambda: world.fail() if world.run().live else None,
        lambda: world.pass_time(minutes=1),
        lambda: world.succeed() if world.runs and world.run().live else None,
        lambda: setattr(world, "rolled_out", True),
        lambda: world.change(data={"url": "http://data/second.csv"}),
        lambda: world.succeed() if world.run().live else None,
        lambda: setattr(world, "rolled_out", True),  # on trial
        lambda: setattr(world, "rolled_out", True),  # in charge
    ]
    _settle(world)
    for stage in stages:
        stage()
        _settle(world)


def _settle(world: World) -> None:
    """Reconcile; a dead operator is started again, half a minute later."""
    while True:
        try:
            world.reconcile()
        except Crash:
            world.pass_time(seconds=31)
        else:
            return


def test_a_crash_between_any_two_calls_changes_nothing_in_the_end() -> None:
    whole = World()
    _through(whole)
    assert whole.ready()
    for moment in range(len(whole.calls) * 2):
        world = World(crash_in=moment)
        _through(world)
        assert world.ready(), moment
        assert world.created == whole.created, moment
        assert max(world.most_live.values()) == 1, moment
        assert world.status.served is not None
        assert world.status.served.revision == 2
        assert [entry.outcome for entry in world.status.history] == [Outcome.SERVED, Outcome.SERVED], moment


def test_a_retry_that_was_decided_on_but_not_made_is_made(world: World) -> None:
    world.reconcile()
    world.fail()
    world.reconcile()
    world.pass_time(minutes=1)
    world.down[RetryRun] = Unavailable("KubeflowUnavailable", "died")
    world.reconcile()
    assert world.run().state is RunState.FAILED
    del world.down[RetryRun]
    world.pass_time(seconds=10)
    world.reconcile()
    assert world.run().state is RunState.RUNNING
    assert world.status.run is not None
    assert world.status.run.attempt == 2


def test_a_failure_of_an_earlier_attempt_is_not_told_of_a_later_one(world: World) -> None:
    world.change(training={"attempts": 2})
    world.reconcile()
    world.fail("DataUnreachable")
    world.reconcile()
    world.pass_time(minutes=1)
    world.reconcile()
    world.pass_time(minutes=1)
    world.move_run(RunState.FAILED, failed_step="train")  # it left no reason
    world.reconcile()
    assert world.condition(TRAINED).reason == reasons.RUN_FAILED
    assert "step train" in world.condition(TRAINED).message


def test_a_failure_is_given_a_moment_to_be_explained(world: World) -> None:
    world.change(training={"attempts": 1})
    world.reconcile()
    world.move_run(RunState.FAILED)  # and Kubeflow Pipelines does not say yet which task it was
    world.reconcile()
    assert world.condition(TRAINED).reason == reasons.ENDING
    world.pass_time(seconds=1)
    world.fail("ColumnMissing", permanent=True)
    world.reconcile()
    assert world.condition(TRAINED).reason == "ColumnMissing"


def test_a_failure_that_nothing_explains_is_told_as_such(world: World) -> None:
    world.change(training={"attempts": 1})
    world.reconcile()
    world.move_run(RunState.FAILED)
    world.pass_time(seconds=16)
    world.reconcile()
    assert world.condition(TRAINED).reason == reasons.RUN_FAILED
    assert "before any step did" in world.condition(TRAINED).message


def test_mlflow_down_after_the_run_is_waited_for(world: World) -> None:
    world.reconcile()
    world.succeed()
    world.down[Records] = Unavailable("MlflowUnavailable", "down")
    world.reconcile()
    world.pass_time(hours=5)
    world.reconcile()
    assert world.condition(TRAINED).reason == "MlflowUnavailable"
    assert world.status.condition(ConditionType.STALLED) is None
    del world.down[Records]
    world.reconcile()
    assert world.applied is not None


def test_two_models_of_one_revision_leave_the_newest(world: World) -> None:
    world.reconcile()
    world.succeed()
    model = LoggedModel("s3://mlflow/retry/model", "mlflow-retry", "2", {"r2": 0.2})
    world.records[1] = replace(world.records[1], model=model)
    assert isinstance(world.records[1], TrainingRecords)
    world.reconcile()
    assert world.applied is not None
    assert world.applied.model.uri == "s3://mlflow/retry/model"
