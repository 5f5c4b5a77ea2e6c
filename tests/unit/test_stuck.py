"""No state is final: what a corrected platform, a corrected spec or a request for another revision leads out of."""

import pytest
from support.memory import START
from support.world import World

from winepipelines.lifecycle.actions import ApplyDeployment, CreateRun
from winepipelines.lifecycle.questions import Answer, Children, Tried
from winepipelines.resource.errors import Refused, Unavailable
from winepipelines.resource.observed import DataCheck, RunState, SecretState, ServerView, StoredModel
from winepipelines.resource.status import ConditionType, Outcome, Stage, Trigger

READY, DEPLOYED, STALLED = ConditionType.READY, ConditionType.DEPLOYED, ConditionType.STALLED
WRONG, RIGHT = "server:typo", "server:2"


@pytest.fixture
def world() -> World:
    return World()


def trained(world: World) -> None:
    """Its run succeeds, and its model is being rolled out."""
    world.reconcile()
    world.succeed()
    world.reconcile()


def with_wrong_image(world: World) -> World:
    """The administrator's server image cannot be pulled."""
    world.server, world.broken_images = ServerView(image=WRONG), {WRONG}
    return world


def given_up(world: World) -> None:
    """The rollout's deadline passes."""
    world.reconcile()
    world.pass_time(minutes=16)
    world.reconcile()


class TestAFirstModelWithAWrongServerImage:
    def test_its_revision_ends_and_the_reason_stays(self, world: World) -> None:
        trained(with_wrong_image(world))
        given_up(world)
        assert [(entry.revision, entry.outcome, entry.reason) for entry in world.status.history] == [
            (1, Outcome.REJECTED, "ErrImagePull")
        ]
        assert world.status.stage is Stage.FAILED
        assert world.condition(STALLED).reason == world.condition(DEPLOYED).reason == "ErrImagePull"
        assert WRONG in world.condition(READY).message
        writes = world.writes
        world.pass_time(minutes=5)
        world.reconcile()
        assert world.writes == writes

    @pytest.mark.parametrize("after_the_deadline", [False, True])
    def test_a_corrected_image_reaches_it(self, world: World, after_the_deadline: bool) -> None:
        trained(with_wrong_image(world))
        world.reconcile()
        if after_the_deadline:
            given_up(world)
        world.server = ServerView(image=RIGHT)
        world.reconcile()
        assert world.applied is not None
        assert world.applied.model.image == RIGHT
        assert world.status.condition(STALLED) is None, "it is being rolled out"
        world.roll_out()
        assert world.ready()
        assert world.status.served is not None
        assert world.status.served.image == RIGHT
        assert [entry.outcome for entry in world.status.history] == [Outcome.SERVED]
        assert len(world.created) == 1, "nothing is trained again"

    def test_an_image_that_is_there_after_all_needs_nothing_else(self, world: World) -> None:
        trained(with_wrong_image(world))
        given_up(world)
        world.broken_images.clear()
        world.roll_out()
        assert world.ready()
        assert world.status.candidate is not None
        assert world.status.candidate.rejected == ""
        assert [entry.outcome for entry in world.status.history] == [Outcome.SERVED]

    def test_a_corrected_image_has_a_deadline_of_its_own(self, world: World) -> None:
        trained(with_wrong_image(world))
        given_up(world)
        world.server, world.broken_images = ServerView(image=RIGHT), {WRONG, RIGHT}
        world.reconcile()
        assert world.status.condition(STALLED) is None
        given_up(world)
        assert RIGHT in world.condition(STALLED).message

    def test_retrain_begins_another_revision(self, world: World) -> None:
        trained(with_wrong_image(world))
        given_up(world)
        world.ask(retrain="now")
        world.reconcile()
        assert (world.status.revision, world.status.trigger) == (2, Trigger.REQUEST)

    def test_a_schedule_begins_another_revision(self, world: World) -> None:
        world.change(training={"schedule": "0 * * * *"})
        trained(with_wrong_image(world))
        given_up(world)
        world.pass_time(hours=1)
        world.reconcile()
        assert (world.status.revision, world.status.trigger) == (2, Trigger.SCHEDULE)

    def test_other_data_begin_another_revision(self, world: World) -> None:
        world.change(data={"url": "http://data/wine.csv", "checkSchedule": "0 * * * *"})
        trained(with_wrong_image(world))
        given_up(world)
        world.pass_time(hours=1)
        world.reconcile()
        assert world.created[-1] == "mlflow-01234567-data-1"
        world.data_checks[1] = DataCheck(True, "b" * 64)
        world.move_run(RunState.SUCCEEDED)
        world.reconcile()
        world.reconcile()
        assert (world.status.revision, world.status.trigger) == (2, Trigger.DATA_CHANGE)

    def test_a_status_that_an_older_operator_left_is_led_out_of(self, world: World) -> None:
        trained(with_wrong_image(world))
        world.reconcile()
        candidate = world.status.candidate
        assert candidate is not None
        older = candidate.with_(deploying_since=START)
        world.pipeline = world.pipeline.with_status(world.status.with_(candidate=older))
        world.pass_time(hours=5)
        world.server = ServerView(image=RIGHT)
        world.reconcile()
        world.roll_out()
        assert world.ready()


class TestAFirstModelThatDoesNotAnswer:
    def test_its_revision_ends_and_it_serves_once_it_answers(self, world: World) -> None:
        world.wrong_answers = {1}
        trained(world)
        world.rolled_out = True
        world.reconcile()
        world.pass_time(minutes=1)
        world.reconcile()
        assert world.condition(STALLED).reason == "PredictionDiffers"
        assert world.status.history[0].outcome is Outcome.REJECTED
        world.wrong_answers = set()
        world.pass_time(seconds=10)
        world.reconcile()
        assert world.ready()
        assert [entry.outcome for entry in world.status.history] == [Outcome.SERVED]

    def test_one_without_an_example_to_ask_with_ends_too(self, world: World) -> None:
        world.down[Answer] = Refused("ExampleMissing", "no usable input example")
        trained(world)
        world.rolled_out = True
        world.reconcile()
        world.pass_time(minutes=1)
        world.reconcile()
        assert world.condition(STALLED).reason == "ExampleMissing"
        assert world.status.history[0].outcome is Outcome.REJECTED


class TestACandidateBesideAModelThatServes:
    def test_without_an_example_it_is_rejected(self, world: World) -> None:
        world.serve()
        world.change(training={"seed": 7})
        trained(world)
        world.down[Tried] = Refused("ExampleMissing", "no usable input example")
        world.rolled_out = True
        world.reconcile()
        world.pass_time(minutes=1)
        world.reconcile()
        assert (world.status.history[0].outcome, world.status.history[0].reason) == (Outcome.REJECTED, "ExampleMissing")

    def rejected(self, world: World) -> None:
        world.serve()
        world.change(training={"seed": 7})
        trained(with_wrong_image(world))
        given_up(world)
        world.reconcile()
        assert world.condition(STALLED).reason == "ErrImagePull"
        assert world.applied is not None
        assert (world.applied.model.image, world.applied.trial) == ("server:1", None)

    def test_is_tried_again_with_a_corrected_image(self, world: World) -> None:
        self.rejected(world)
        world.server = ServerView(image=RIGHT)
        world.roll_out()
        world.roll_out()
        assert world.ready()
        assert world.status.served is not None
        assert (world.status.served.revision, world.status.served.image) == (2, RIGHT)
        assert [entry.outcome for entry in world.status.history] == [Outcome.SERVED, Outcome.SERVED]

    def test_takes_a_corrected_image_before_its_deadline(self, world: World) -> None:
        world.serve()
        world.change(training={"seed": 7})
        trained(with_wrong_image(world))
        world.reconcile()
        world.server = ServerView(image=RIGHT)
        world.reconcile()
        assert world.applied is not None
        assert world.applied.trial is not None
        assert (world.applied.model.image, world.applied.trial.image) == ("server:1", RIGHT)

    def test_is_tried_again_with_another_spec_serving(self, world: World) -> None:
        world.serve()
        world.change(training={"seed": 7}, serving={"resources": {"requests": {"cpu": "64"}}})
        trained(world)
        world.trouble = ("Unschedulable", "0/1 nodes are available: 1 Insufficient cpu")
        given_up(world)
        assert world.condition(STALLED).reason == "Unschedulable"
        world.trouble = ("", "")
        world.reconcile()
        assert world.status.candidate is not None
        assert world.status.candidate.rejected == "Unschedulable"
        world.change(serving={"resources": {"requests": {"cpu": "1"}}})
        for _ in range(2):
            world.roll_out()
        assert world.ready()
        assert len(world.created) == 2

    def test_is_tried_again_with_another_front_of_the_server(self, world: World) -> None:
        self.rejected(world)
        world.broken_images.clear()
        world.server = ServerView(image=WRONG, executor=not world.server.executor)
        for _ in range(2):
            world.roll_out()
        assert world.ready()
        assert world.status.served is not None
        assert world.status.served.revision == 2

    def test_changed_settings_have_a_deadline_of_their_own(self, world: World) -> None:
        world.serve()
        world.change(training={"seed": 7}, serving={"resources": {"requests": {"cpu": "64"}}})
        trained(world)
        world.trouble = ("Unschedulable", "0/1 nodes are available: 1 Insufficient cpu")
        world.reconcile()
        world.pass_time(minutes=14)
        world.change(serving={"resources": {"requests": {"cpu": "1"}}})
        world.rolled_out, world.trouble = False, ("", "")
        world.reconcile()
        world.pass_time(minutes=10)
        world.reconcile()
        assert world.status.condition(STALLED) is None
        for _ in range(2):
            world.roll_out()
        assert world.ready()

    def test_a_step_of_a_canary_is_not_undone_by_changed_settings(self, world: World) -> None:
        world.serve()
        canary = {"steps": [10], "pause": "5m"}
        world.change(training={"seed": 7}, serving={"canary": canary})
        world.server = ServerView(image=RIGHT, splits_traffic=True)
        trained(world)
        for _ in range(2):
            world.rolled_out = True
            world.reconcile()
        world.change(serving={"canary": canary, "replicas": 2})
        world.reconcile()
        assert world.applied is not None
        assert (world.applied.weight, world.replicas) == (10, 2)

    def test_is_not_tried_again_with_the_same_settings(self, world: World) -> None:
        self.rejected(world)
        world.broken_images.clear()
        world.rolled_out = True
        writes = None
        for _ in range(10):
            world.pass_time(minutes=5)
            world.reconcile()
            writes = writes or world.writes
        assert world.writes == writes
        assert world.condition(STALLED).reason == "ErrImagePull"

    def test_keeps_its_image_once_it_has_answered_on_trial(self, world: World) -> None:
        world.serve()
        world.change(training={"seed": 7}, serving={"canary": {"steps": [10], "pause": "5m"}})
        world.server = ServerView(image=RIGHT, splits_traffic=True)
        trained(world)
        world.rolled_out = True
        world.reconcile()
        world.rolled_out = True
        world.reconcile()
        assert world.applied is not None
        assert world.applied.trial is not None
        assert world.applied.weight == 10
        world.server = ServerView(image="server:3", splits_traffic=True)
        world.reconcile()
        assert world.applied.trial.image == RIGHT

    def test_a_model_taken_back_after_its_promotion_is_not_tried_again(self, world: World) -> None:
        world.serve()
        world.change(training={"seed": 7})
        world.serve()
        world.wrong_answers = {2}
        world.pass_time(seconds=30)
        world.reconcile()
        world.pass_time(minutes=1)
        world.roll_out()
        assert world.status.history[0].outcome is Outcome.ROLLED_BACK
        world.wrong_answers = set()
        world.server = ServerView(image=RIGHT)
        world.roll_out()
        assert world.status.served is not None
        assert world.status.served.revision == 1

    def test_a_rollback_to_an_image_that_is_gone_takes_the_present_one(self, world: World) -> None:
        world.serve()
        world.server = ServerView(image=RIGHT)
        world.change(training={"seed": 7})
        world.serve()
        world.ask(rollback="1")
        world.broken_images = {"server:1"}
        world.reconcile()
        given_up(world)
        world.roll_out()
        world.roll_out()
        assert world.status.served is not None
        assert (world.status.served.origin, world.status.served.image) == (1, RIGHT)


class TestAModelThatServedAndIsLost:
    """Its files, or its MLflow run, were deleted: another model takes its place, whatever becomes of its pods."""

    def test_a_request_leads_out_of_a_served_model_whose_pods_no_longer_start(self, world: World) -> None:
        world.serve()
        world.lost_models = {"s3://mlflow/1/model"}
        world.reconcile()
        assert world.condition(DEPLOYED).reason == "CrashLoopBackOff"
        world.ask(retrain="now")
        trained(world)
        assert world.applied is not None
        assert world.applied.trial is not None, "it is asked on its own service first"
        for _ in range(3):
            world.roll_out()
        assert world.ready()
        assert world.status.served is not None
        assert world.status.served.revision == 2

    def test_a_candidate_that_answers_wrongly_is_rejected_beside_it_as_beside_any(self, world: World) -> None:
        world.serve()
        world.lost_models, world.wrong_answers = {"s3://mlflow/1/model"}, {2}
        world.ask(retrain="now")
        trained(world)
        world.roll_out()
        world.pass_time(minutes=1)
        world.roll_out()
        assert world.status.history[0].outcome is Outcome.REJECTED
        assert world.applied is not None
        assert world.applied.model.revision == 1

    def test_a_slow_start_of_the_served_pods_costs_a_candidate_nothing(self, world: World) -> None:
        world.serve()
        world.lost_models = {"s3://mlflow/1/model"}
        world.ask(retrain="now")
        trained(world)
        world.pass_time(minutes=14)
        world.rolled_out = True
        world.reconcile()
        world.pass_time(minutes=14)
        for _ in range(3):
            world.roll_out()
        assert world.ready()


class TestARequest:
    """`retrain` begins a revision, or the status says what it waits for."""

    @pytest.mark.parametrize("reason", ["ModelMissing", "BucketMissing"])
    def test_it_leads_out_of_a_model_that_cannot_be_read(self, world: World, reason: str) -> None:
        world.reconcile()
        world.succeed()
        world.stored = StoredModel("s3://mlflow/1/model", False, reason, "there is no MLmodel")
        world.reconcile()
        assert world.condition(STALLED).reason == reason
        world.ask(retrain="now")
        world.reconcile()
        assert (world.status.revision, world.status.history[0].outcome) == (2, Outcome.SUPERSEDED)

    def test_a_schedule_leads_out_of_a_model_that_cannot_be_read(self, world: World) -> None:
        world.change(training={"schedule": "0 * * * *"})
        world.reconcile()
        world.succeed()
        world.stored = StoredModel("s3://mlflow/1/model", False, "ModelMissing", "there is no MLmodel")
        world.reconcile()
        world.pass_time(hours=1)
        world.reconcile()
        assert world.status.revision == 2

    def test_it_leads_out_of_a_deployment_that_is_refused(self, world: World) -> None:
        world.down[ApplyDeployment] = Refused("DeploymentRefused", "denied by a webhook")
        trained(world)
        world.ask(retrain="now")
        world.reconcile()
        assert world.status.revision == 2

    def test_a_refused_submission_is_given_up_for_it(self, world: World) -> None:
        world.down[CreateRun] = Refused("KubeflowRefused", "403")
        world.reconcile()
        world.ask(retrain="now")
        world.reconcile()
        assert world.status.revision == 2
        world.down.clear()
        world.reconcile()
        assert world.created == ["mlflow-01234567-2"]

    def test_it_waits_aloud_for_the_revision_under_way(self, world: World) -> None:
        world.serve()
        world.ask(retrain="one")
        world.reconcile()
        world.ask(retrain="two")
        world.reconcile()
        assert world.ready()
        assert world.condition(READY).message.endswith(
            "; the annotation winepipelines.io/retrain waits: revision 2 has to end first"
        )
        world.succeed()
        world.reconcile()
        world.roll_out()
        assert world.status.revision == 3
        assert "retrain" not in world.condition(READY).message

    def test_it_waits_aloud_under_suspend(self, world: World) -> None:
        world.serve()
        world.change(suspend=True)
        world.ask(retrain="now")
        world.reconcile()
        assert world.ready()
        assert "retrain waits: spec.suspend is true" in world.condition(READY).message
        writes = world.writes
        world.pass_time(hours=1)
        world.reconcile()
        assert world.writes == writes

    def test_it_waits_aloud_for_a_namespace_that_is_not_ready(self, world: World) -> None:
        world.serve()
        world.source = SecretState("kubeflow", "source", False)
        world.ask(retrain="now")
        world.reconcile()
        assert "retrain waits: this has to be corrected first" in world.condition(READY).message
        assert "retrain waits" in world.condition(STALLED).message
        world.source = SecretState("kubeflow", "source", True)
        world.reconcile()
        assert world.status.revision == 2

    def test_it_waits_aloud_when_it_comes_in_an_outage(self, world: World) -> None:
        world.down[CreateRun] = Unavailable("KubeflowUnavailable", "answered 503")
        world.reconcile()
        world.ask(retrain="now")
        world.pass_time(minutes=1)
        world.reconcile()
        assert "retrain waits: revision 1 has to end first" in world.condition(READY).message

    def test_a_run_under_way_is_not_given_up_for_a_namespace_that_was_not_ready(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.down[Children] = Refused("KubernetesRefused", "forbidden")
        world.ask(retrain="now")
        world.reconcile()
        world.down.clear()
        world.reconcile()
        assert world.run().live
        assert world.status.revision == 1
