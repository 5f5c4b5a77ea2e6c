"""A candidate is tried beside the model that serves, rolled back if it stops answering; a person may go back, too."""

import pytest
from support.world import World

from winepipelines.lifecycle import reasons
from winepipelines.resource.observed import RunState, ServerView, StoredModel, TrialView
from winepipelines.resource.status import ConditionType, Outcome, Stage, Trigger

READY, DEPLOYED, ANSWERING = ConditionType.READY, ConditionType.DEPLOYED, ConditionType.ANSWERING
CANARY = {"canary": {"steps": [10, 50], "pause": "5m"}}
SPLITS = ServerView(image="server:1", splits_traffic=True)


@pytest.fixture
def world() -> World:
    """Revision 1 serves, and the platform splits traffic."""
    world = World(server=SPLITS)
    world.change(serving=CANARY)
    world.serve()
    return world


def candidate(world: World, **spec: object) -> None:
    """Revision 2 of another seed is trained, applied beside revision 1, and up."""
    world.change(training={"seed": 7}, **spec)
    world.reconcile()
    world.succeed()
    world.reconcile()
    world.rolled_out = True


def weights(world: World) -> tuple[int, int | None, int]:
    """Who serves, who is on trial, with which share."""
    applied = world.applied
    assert applied is not None
    return applied.model.revision, applied.trial.revision if applied.trial else None, applied.weight


class TestCanary:
    def test_it_takes_its_shares_one_after_another_and_then_all(self, world: World) -> None:
        candidate(world)
        assert weights(world) == (1, 2, 0), "first on its own service"
        world.reconcile()
        assert weights(world) == (1, 2, 10)
        assert world.rolled_out, "another share starts no pod"
        assert world.condition(DEPLOYED).reason == reasons.ON_TRIAL
        assert "10 % of the traffic until 12:05:00 UTC (step 1 of 2)" in world.condition(DEPLOYED).message
        world.pass_time(minutes=4)
        world.reconcile()
        assert weights(world) == (1, 2, 10)
        world.pass_time(minutes=1)
        world.reconcile()
        assert weights(world) == (1, 2, 50)
        world.pass_time(minutes=5)
        world.calls.clear()
        world.reconcile()
        assert weights(world) == (2, None, 0)
        assert world.calls.count("ApplyDeployment") == 2, "its pods of the trial go first: there may be no room for three"
        assert not world.rolled_out, "it takes over in the predictor that everyone asks"
        world.roll_out()
        assert world.ready()

    def test_between_two_steps_nothing_is_written(self, world: World) -> None:
        candidate(world)
        world.reconcile()
        writes = world.writes
        for _ in range(3):
            world.pass_time(seconds=10)
            world.reconcile()
        assert world.writes == writes
        assert world.decision is not None
        assert world.decision.wake_at == world.now + world.policy.trial_interval

    @pytest.mark.parametrize(
        ("trial", "reason"),
        [
            (TrialView(20, 1, wrong=True, reason="PredictionDiffers", message="it answered 9"), "PredictionDiffers"),
            (TrialView(20, 2, reason="EndpointUnreachable", message="no answer"), "EndpointUnreachable"),
            (TrialView(20, milliseconds=300, served_milliseconds=4), reasons.TRIAL_SLOW),
        ],
    )
    def test_on_failure_all_traffic_goes_back_at_once(self, world: World, trial: TrialView, reason: str) -> None:
        candidate(world)
        world.reconcile()
        world.trials[2] = trial
        world.reconcile()
        assert weights(world) == (1, None, 0)
        assert world.rolled_out, "what served has never stopped"
        world.reconcile()
        assert world.condition(READY).reason == reason
        assert world.condition(ANSWERING).status == "True"
        assert world.status.history[0].outcome is Outcome.REJECTED

    @pytest.mark.parametrize(
        "trial",
        [TrialView(20, 1, reason="EndpointUnreachable", message="once"), TrialView(20, milliseconds=100, served_milliseconds=4)],
    )
    def test_one_lost_prediction_and_a_few_milliseconds_are_no_failure(self, world: World, trial: TrialView) -> None:
        candidate(world)
        world.reconcile()
        world.trials[2] = trial
        world.reconcile()
        assert weights(world) == (1, 2, 10)

    def test_where_traffic_is_not_split_it_is_checked_and_takes_over(self, world: World) -> None:
        world.server = ServerView(image="server:1")
        candidate(world)
        assert weights(world) == (1, 2, 0)
        world.reconcile()
        assert weights(world) == (2, None, 0)
        world.roll_out()
        assert "does not split traffic" in world.condition(DEPLOYED).message

    def test_the_next_spec_takes_a_candidate_back(self, world: World) -> None:
        candidate(world)
        world.reconcile()
        world.change(training={"seed": 8})
        world.reconcile()
        assert weights(world) == (1, None, 0)
        assert [entry.outcome for entry in world.status.history] == [Outcome.SUPERSEDED, Outcome.SERVED]

    def test_a_retrain_on_trial_leaves_ready_true(self, world: World) -> None:
        world.ask(retrain="now")
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.rolled_out = True
        world.reconcile()
        assert weights(world) == (1, 2, 10)
        assert world.ready()
        assert "revision 2 is on trial with 10 %" in world.condition(READY).message

    def test_the_traffic_is_in_the_status_while_it_is_shared(self, world: World) -> None:
        candidate(world)
        world.reconcile()
        assert world.status.endpoint is not None
        assert world.status.endpoint.traffic == "90 % revision 1, 10 % revision 2"
        for _ in range(2):
            world.pass_time(minutes=5)
            world.reconcile()
        world.roll_out()
        assert world.status.endpoint is not None
        assert world.status.endpoint.traffic == ""


class TestRollback:
    def promoted(self) -> World:
        """Revision 2 has just taken over from revision 1."""
        world = World()
        world.serve()
        world.change(training={"seed": 7})
        world.serve()
        assert weights(world) == (2, None, 0)
        return world

    def test_a_model_that_stops_answering_right_after_its_promotion_gives_way(self) -> None:
        world = self.promoted()
        world.wrong_answers = {2}
        world.pass_time(seconds=30)
        world.reconcile()
        assert not world.ready()
        assert weights(world) == (2, None, 0), "once is not yet for good"
        world.pass_time(seconds=31)
        world.reconcile()
        assert weights(world) == (1, None, 0)
        world.roll_out()
        assert world.status.served is not None
        assert world.status.served.revision == 1
        assert world.status.history[0].outcome is Outcome.ROLLED_BACK
        assert world.condition(READY).reason == "PredictionDiffers"
        assert "revision 2 is rolled back, and revision 1 serves again" in world.condition(READY).message
        assert world.alias == "1"

    def test_of_the_same_spec_the_earlier_model_is_ready_again(self) -> None:
        world = World()
        world.serve()
        world.ask(retrain="now")
        world.serve()
        world.wrong_answers = {2}
        world.reconcile()
        world.pass_time(seconds=31)
        world.reconcile()
        world.roll_out()
        assert world.ready()
        assert "revision 1 answers" in world.condition(READY).message

    def test_one_wrong_answer_is_forgiven(self) -> None:
        world = self.promoted()
        world.wrong_answers = {2}
        world.reconcile()
        world.wrong_answers = set()
        world.pass_time(seconds=10)
        world.reconcile()
        assert world.ready()
        world.wrong_answers = {2}
        world.pass_time(seconds=60)
        world.reconcile()
        assert weights(world) == (2, None, 0), "its time begins anew"

    def test_it_is_asked_more_often_at_first(self) -> None:
        world = self.promoted()
        assert world.decision is not None
        assert world.decision.wake_at == world.now + world.policy.probation_interval
        world.pass_time(minutes=11)
        decision = world.reconcile()
        assert decision.wake_at == world.now + world.policy.check_interval

    def test_later_it_stays_and_is_asked_again(self) -> None:
        world = self.promoted()
        world.pass_time(minutes=11)
        world.wrong_answers = {2}
        for _ in range(4):
            world.reconcile()
            world.pass_time(minutes=5)
        assert weights(world) == (2, None, 0)


class TestGoingBack:
    def three(self) -> World:
        """Revisions 1 to 3, of three seeds, have served."""
        world = World()
        world.serve()
        for seed in (7, 8):
            world.change(training={"seed": seed})
            world.serve()
        return world

    def test_by_annotation_to_any_revision_in_the_history(self) -> None:
        world = self.three()
        world.ask(rollback="1")
        world.reconcile()
        world.roll_out()
        assert world.applied is not None
        assert world.applied.model.uri == "s3://mlflow/1/model"
        assert len(world.created) == 3, "without a run"
        assert world.status.revision == 4
        assert (world.status.history[0].trigger, world.status.history[0].origin) == (Trigger.ROLLBACK, 1)
        assert world.condition(READY).reason == reasons.ROLLED_BACK, "the spec asks for another model"
        kinds = {condition.type for condition in world.status.conditions}
        assert not kinds & {"Stalled", "Reconciling"}, "nothing is wrong, and nothing is under way"
        assert world.condition(ANSWERING).status == "True"
        assert world.status.stage is Stage.SERVING
        assert world.alias == "1"

    def test_of_the_same_spec_it_is_ready(self) -> None:
        world = World()
        world.serve()
        world.ask(retrain="now")
        world.serve()
        world.ask(retrain="now", rollback="1")
        world.reconcile()
        world.roll_out()
        assert world.ready()
        assert "the model of revision 1 by request" in world.condition(READY).message

    def test_a_run_under_way_is_ended_for_it(self) -> None:
        world = self.three()
        world.ask(retrain="now")
        world.reconcile()
        world.ask(retrain="now", rollback="2")
        world.reconcile()
        assert world.run().state is RunState.CANCELING
        world.move_run(RunState.FAILED)
        world.reconcile()
        world.roll_out()
        assert world.applied is not None
        assert world.applied.model.uri == "s3://mlflow/2/model"

    @pytest.mark.parametrize("wanted", ["99", "yesterday", "0", "-1"])
    def test_one_that_cannot_be_is_told_once_and_changes_nothing(self, wanted: str) -> None:
        world = self.three()
        world.ask(rollback=wanted)
        world.reconcile()
        writes = world.writes
        world.reconcile()
        assert world.writes == writes
        assert weights(world) == (3, None, 0)
        assert world.ready()
        assert "status.history has these revisions that served: 1, 2, 3" in world.condition(READY).message
        assert [event.reason for event in world.told].count("RequestRefused") == 1

    def test_a_model_that_is_gone_is_not_gone_back_to(self) -> None:
        world = self.three()
        world.stored = StoredModel("s3://mlflow/1/model", False, "ModelMissing", "there is no MLmodel at s3://mlflow/1/model")
        world.ask(rollback="1")
        world.reconcile()
        assert weights(world) == (3, None, 0)
        assert "there is no MLmodel" in world.condition(READY).message

    def test_the_next_spec_leaves_it_behind(self) -> None:
        world = self.three()
        world.ask(rollback="1")
        world.reconcile()
        world.roll_out()
        world.change(training={"seed": 9})
        world.serve()
        assert world.status.served is not None
        assert world.status.served.revision == 5
