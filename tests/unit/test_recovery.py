"""No state is final: a corrected image, setting or platform leads to Ready."""

import pytest
from support.memory import START
from support.world import World

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused
from winepipelines.api.modelrecord import ModelServer
from winepipelines.api.observed import DataCheckResult, RunState, ServerView
from winepipelines.api.status import ConditionType, RevisionOutcome, Stage, Trigger
from winepipelines.pipelines.queries import CompareCanary, ProbeEndpoint

READY, DEPLOYED, STALLED = ConditionType.READY, ConditionType.DEPLOYED, ConditionType.STALLED
WRONG, RIGHT = "server:typo", "server:2"


def with_wrong_image(world: World) -> World:
    """Set a server image that cannot be pulled."""
    world.server, world.broken_images = ServerView(server=ModelServer(image=WRONG)), {WRONG}
    return world


class TestFirstModelWithWrongServerImage:
    def test_revision_is_rejected_and_the_reason_stays(self, world: World) -> None:
        with_wrong_image(world).train()
        world.pass_rollout_deadline()
        assert [(entry.revision, entry.outcome, entry.reason) for entry in world.status.history] == [
            (1, RevisionOutcome.REJECTED, "ErrImagePull")
        ]
        assert world.status.stage is Stage.FAILED
        assert world.condition(STALLED).reason == world.condition(DEPLOYED).reason == "ErrImagePull"
        assert WRONG in world.condition(READY).message
        writes = world.writes
        world.pass_time(minutes=5)
        world.reconcile()
        assert world.writes == writes

    @pytest.mark.parametrize("after_the_deadline", [False, True])
    def test_model_serves_with_a_corrected_image(self, world: World, after_the_deadline: bool) -> None:
        with_wrong_image(world).train()
        world.reconcile()
        if after_the_deadline:
            world.pass_rollout_deadline()
        world.server = ServerView(server=ModelServer(image=RIGHT))
        world.reconcile()
        assert world.applied is not None
        assert world.applied.model.server.image == RIGHT
        assert world.status.condition(STALLED) is None, "a rollout in progress is not Stalled"
        world.roll_out()
        assert world.ready()
        assert world.status.served is not None
        assert world.status.served.model.server.image == RIGHT
        assert [entry.outcome for entry in world.status.history] == [RevisionOutcome.SERVED]
        assert len(world.created) == 1, "the model must not be trained again"

    def test_model_serves_when_the_image_can_be_pulled_later(self, world: World) -> None:
        with_wrong_image(world).train()
        world.pass_rollout_deadline()
        world.broken_images.clear()
        world.roll_out()
        assert world.ready()
        assert world.status.candidate is not None
        assert world.status.candidate.rejection is None
        assert [entry.outcome for entry in world.status.history] == [RevisionOutcome.SERVED]

    def test_corrected_image_gets_a_new_deadline(self, world: World) -> None:
        with_wrong_image(world).train()
        world.pass_rollout_deadline()
        world.server, world.broken_images = ServerView(server=ModelServer(image=RIGHT)), {WRONG, RIGHT}
        world.reconcile()
        assert world.status.condition(STALLED) is None
        world.pass_rollout_deadline()
        assert RIGHT in world.condition(STALLED).message

    def test_retrain_starts_another_revision(self, world: World) -> None:
        with_wrong_image(world).train()
        world.pass_rollout_deadline()
        world.annotate(retrain="now")
        world.reconcile()
        assert (world.status.revision, world.status.trigger) == (2, Trigger.REQUEST)

    def test_schedule_starts_another_revision(self, world: World) -> None:
        world.change(training={"schedule": "0 * * * *"})
        with_wrong_image(world).train()
        world.pass_rollout_deadline()
        world.pass_time(hours=1)
        world.reconcile()
        assert (world.status.revision, world.status.trigger) == (2, Trigger.SCHEDULE)

    def test_changed_data_start_another_revision(self, world: World) -> None:
        world.change(data={"url": "http://data/wine.csv", "checkSchedule": "0 * * * *"})
        with_wrong_image(world).train()
        world.pass_rollout_deadline()
        world.pass_time(hours=1)
        world.reconcile()
        assert world.created[-1] == "mlflow-01234567-data-1"
        world.data_checks[1] = DataCheckResult(True, "b" * 64)
        world.move_run(RunState.SUCCEEDED)
        world.reconcile()
        world.reconcile()
        assert (world.status.revision, world.status.trigger) == (2, Trigger.DATA_CHANGE)

    def test_model_serves_when_an_older_operator_wrote_the_status(self, world: World) -> None:
        with_wrong_image(world).train()
        world.reconcile()
        candidate = world.status.candidate
        assert candidate is not None
        older = candidate.with_(rollout_started_at=START)
        world.pipeline = world.pipeline.with_status(world.status.with_(candidate=older))
        world.pass_time(hours=5)
        world.server = ServerView(server=ModelServer(image=RIGHT))
        world.reconcile()
        world.roll_out()
        assert world.ready()


class TestFirstModelWithFailedPredictionCheck:
    def test_revision_is_rejected_and_serves_when_the_check_passes_later(self, world: World) -> None:
        world.wrong_answers = {1}
        world.train()
        world.rolled_out = True
        world.reconcile()
        world.pass_time(minutes=1)
        world.reconcile()
        assert world.condition(STALLED).reason == "PredictionMismatch"
        assert world.status.history[0].outcome is RevisionOutcome.REJECTED
        world.wrong_answers = set()
        world.pass_time(seconds=10)
        world.reconcile()
        assert world.ready()
        assert [entry.outcome for entry in world.status.history] == [RevisionOutcome.SERVED]

    def test_revision_is_rejected_when_it_has_no_input_example(self, world: World) -> None:
        world.down[ProbeEndpoint] = Refused(Reason.INPUT_EXAMPLE_MISSING, "no usable input example")
        world.train()
        world.rolled_out = True
        world.reconcile()
        world.pass_time(minutes=1)
        world.reconcile()
        assert world.condition(STALLED).reason == "InputExampleMissing"
        assert world.status.history[0].outcome is RevisionOutcome.REJECTED


class TestCandidateBesideServedModel:
    def test_candidate_is_rejected_when_it_has_no_input_example(self, world: World) -> None:
        world.serve()
        world.change(training={"seed": 7})
        world.train()
        world.down[CompareCanary] = Refused(Reason.INPUT_EXAMPLE_MISSING, "no usable input example")
        world.rolled_out = True
        world.reconcile()
        world.pass_time(minutes=1)
        world.reconcile()
        assert (world.status.history[0].outcome, world.status.history[0].reason) == (
            RevisionOutcome.REJECTED,
            "InputExampleMissing",
        )

    def reject_candidate(self, world: World) -> None:
        world.serve()
        world.change(training={"seed": 7})
        with_wrong_image(world).train()
        world.pass_rollout_deadline()
        world.reconcile()
        assert world.condition(STALLED).reason == "ErrImagePull"
        assert world.applied is not None
        assert (world.applied.model.server.image, world.applied.canary) == ("server:1", None)

    def test_candidate_is_deployed_again_when_the_image_is_corrected(self, world: World) -> None:
        self.reject_candidate(world)
        world.server = ServerView(server=ModelServer(image=RIGHT))
        world.roll_out()
        world.roll_out()
        assert world.ready()
        assert world.status.served is not None
        assert (world.status.served.revision, world.status.served.model.server.image) == (2, RIGHT)
        assert [entry.outcome for entry in world.status.history] == [RevisionOutcome.SERVED, RevisionOutcome.SERVED]

    def test_candidate_gets_a_corrected_image_before_its_deadline(self, world: World) -> None:
        world.serve()
        world.change(training={"seed": 7})
        with_wrong_image(world).train()
        world.reconcile()
        world.server = ServerView(server=ModelServer(image=RIGHT))
        world.reconcile()
        assert world.applied is not None
        assert world.applied.canary is not None
        assert (world.applied.model.server.image, world.applied.canary.server.image) == ("server:1", RIGHT)

    def test_candidate_is_deployed_again_when_spec_serving_changes(self, world: World) -> None:
        world.serve()
        world.change(training={"seed": 7}, serving={"resources": {"requests": {"cpu": "64"}}})
        world.train()
        world.pod_problem = ("Unschedulable", "0/1 nodes are available: 1 Insufficient cpu")
        world.pass_rollout_deadline()
        assert world.condition(STALLED).reason == "Unschedulable"
        world.pod_problem = ("", "")
        world.reconcile()
        assert world.status.candidate is not None
        assert world.status.candidate.rejection is not None
        assert world.status.candidate.rejection.reason == "Unschedulable"
        world.change(serving={"resources": {"requests": {"cpu": "1"}}})
        for _ in range(2):
            world.roll_out()
        assert world.ready()
        assert len(world.created) == 2

    def test_candidate_is_deployed_again_when_the_executor_option_changes(self, world: World) -> None:
        self.reject_candidate(world)
        world.broken_images.clear()
        world.server = ServerView(server=ModelServer(image=WRONG, options={"executor": "true"}))
        for _ in range(2):
            world.roll_out()
        assert world.ready()
        assert world.status.served is not None
        assert world.status.served.revision == 2

    def test_candidate_gets_a_new_deadline_when_settings_change(self, world: World) -> None:
        world.serve()
        world.change(training={"seed": 7}, serving={"resources": {"requests": {"cpu": "64"}}})
        world.train()
        world.pod_problem = ("Unschedulable", "0/1 nodes are available: 1 Insufficient cpu")
        world.reconcile()
        world.pass_time(minutes=14)
        world.change(serving={"resources": {"requests": {"cpu": "1"}}})
        world.rolled_out, world.pod_problem = False, ("", "")
        world.reconcile()
        world.pass_time(minutes=10)
        world.reconcile()
        assert world.status.condition(STALLED) is None
        for _ in range(2):
            world.roll_out()
        assert world.ready()

    def test_canary_keeps_its_step_when_settings_change(self, world: World) -> None:
        world.serve()
        canary = {"steps": [10], "pause": "5m"}
        world.change(training={"seed": 7}, serving={"canary": canary})
        world.server = ServerView(server=ModelServer(image=RIGHT), splits_traffic=True)
        world.train()
        for _ in range(2):
            world.rolled_out = True
            world.reconcile()
        world.change(serving={"canary": canary, "replicas": 2})
        world.reconcile()
        assert world.applied is not None
        assert (world.applied.weight, world.replicas) == (10, 2)

    def test_candidate_is_not_deployed_again_with_the_same_settings(self, world: World) -> None:
        self.reject_candidate(world)
        world.broken_images.clear()
        world.rolled_out = True
        writes = None
        for _ in range(10):
            world.pass_time(minutes=5)
            world.reconcile()
            writes = writes or world.writes
        assert world.writes == writes
        assert world.condition(STALLED).reason == "ErrImagePull"

    def test_canary_keeps_its_image_after_a_passed_check(self, world: World) -> None:
        world.serve()
        world.change(training={"seed": 7}, serving={"canary": {"steps": [10], "pause": "5m"}})
        world.server = ServerView(server=ModelServer(image=RIGHT), splits_traffic=True)
        world.train()
        world.rolled_out = True
        world.reconcile()
        world.rolled_out = True
        world.reconcile()
        assert world.applied is not None
        assert world.applied.canary is not None
        assert world.applied.weight == 10
        world.server = ServerView(server=ModelServer(image="server:3"), splits_traffic=True)
        world.reconcile()
        assert world.applied.canary.server.image == RIGHT

    def test_rolled_back_model_is_not_deployed_again(self, world: World) -> None:
        world.serve()
        world.change(training={"seed": 7})
        world.serve()
        world.wrong_answers = {2}
        world.pass_time(seconds=30)
        world.reconcile()
        world.pass_time(minutes=1)
        world.roll_out()
        assert world.status.history[0].outcome is RevisionOutcome.ROLLED_BACK
        world.wrong_answers = set()
        world.server = ServerView(server=ModelServer(image=RIGHT))
        world.roll_out()
        assert world.status.served is not None
        assert world.status.served.revision == 1

    def test_rollback_uses_the_present_image_when_the_earlier_one_is_gone(self, world: World) -> None:
        world.serve()
        world.server = ServerView(server=ModelServer(image=RIGHT))
        world.change(training={"seed": 7})
        world.serve()
        world.annotate(rollback="1")
        world.broken_images = {"server:1"}
        world.reconcile()
        world.pass_rollout_deadline()
        world.roll_out()
        world.roll_out()
        assert world.status.served is not None
        assert (world.status.served.model.revision, world.status.served.model.server.image) == (1, RIGHT)


class TestServedModelWithDeletedFiles:
    """The files or the MLflow run of the served model were deleted. Another model can replace it, even if its pods fail."""

    def test_retrained_model_serves_when_the_served_pods_cannot_start(self, world: World) -> None:
        world.serve()
        world.lost_models = {"s3://mlflow/1/model"}
        world.reconcile()
        assert world.condition(DEPLOYED).reason == "CrashLoopBackOff"
        world.annotate(retrain="now")
        world.train()
        assert world.applied is not None
        assert world.applied.canary is not None, "the new model must be checked as a canary first"
        for _ in range(3):
            world.roll_out()
        assert world.ready()
        assert world.status.served is not None
        assert world.status.served.revision == 2

    def test_candidate_is_rejected_when_its_check_fails_beside_failing_served_pods(self, world: World) -> None:
        world.serve()
        world.lost_models, world.wrong_answers = {"s3://mlflow/1/model"}, {2}
        world.annotate(retrain="now")
        world.train()
        world.roll_out()
        world.pass_time(minutes=1)
        world.roll_out()
        assert world.status.history[0].outcome is RevisionOutcome.REJECTED
        assert world.applied is not None
        assert world.applied.model.revision == 1

    def test_candidate_is_not_rejected_when_the_served_pods_start_slowly(self, world: World) -> None:
        world.serve()
        world.lost_models = {"s3://mlflow/1/model"}
        world.annotate(retrain="now")
        world.train()
        world.pass_time(minutes=14)
        world.rolled_out = True
        world.reconcile()
        world.pass_time(minutes=14)
        for _ in range(3):
            world.roll_out()
        assert world.ready()
