"""The story of a prediction, told by the decisions: one file, one model, one run, whatever is in the way."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest
from support.memory import START, Crash
from support.prediction_world import CHAMPION, OUTPUT, PredictionWorld

from winepipelines.lifecycle import reasons as run_reasons
from winepipelines.lifecycle.actions import TerminateRun
from winepipelines.lifecycle.questions import Runs, Steps
from winepipelines.predictions import reasons
from winepipelines.predictions.actions import DeleteResource, SubmitPrediction
from winepipelines.predictions.questions import Outcome, Pipeline, UsesOfOutput
from winepipelines.resource.errors import NotSent, Refused, Unavailable
from winepipelines.resource.observed import RunState, StepFailure
from winepipelines.resource.outcome import OutputClaim, OutputUse, PipelineView, PredictionRecords
from winepipelines.resource.prediction import PredictionStage
from winepipelines.resource.status import ConditionType

NAME = "scores-89abcdef-batch"


@pytest.fixture
def world() -> PredictionWorld:
    return PredictionWorld()


class TestTheWay:
    def test_from_apply_to_scored(self, world: PredictionWorld) -> None:
        decision = world.reconcile()
        assert world.created == [NAME]
        assert world.status.stage is PredictionStage.SCORING
        assert world.status.model == CHAMPION
        assert world.condition().reason == run_reasons.PENDING
        assert world.condition(ConditionType.RECONCILING).status == "True"
        assert decision.follow is not None
        assert decision.follow.name == NAME

        world.pass_time(seconds=83)
        world.succeed(rows=1000, MissingValue=20, FieldCount=3)
        decision = world.reconcile()
        assert world.status.stage is PredictionStage.SUCCEEDED
        assert (world.status.rows, world.status.duration) == (1000, "1m23s")
        assert (world.status.output, world.status.report) == (OUTPUT, f"{OUTPUT}.report.json")
        rejected = world.status.rejected
        assert rejected is not None
        assert rejected.model_dump() == {
            "rows": 23,
            "reasons": ({"reason": "MissingValue", "rows": 20}, {"reason": "FieldCount", "rows": 3}),
        }
        assert world.condition().status == "True"
        assert world.condition().message.startswith("977 of 1,000 rows scored with revision 3 (version 3) in 1m23s: s3://scores/")
        assert "23 rejected (MissingValue 20, FieldCount 3), see" in world.condition().message
        assert [condition.type for condition in world.status.conditions] == ["Ready"]
        assert decision.follow is None
        assert decision.wake_at is None

    def test_what_is_over_costs_nothing(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.succeed()
        world.reconcile()
        writes, calls = world.writes, len(world.calls)
        world.pass_time(days=30)
        world.reconcile()
        assert (world.writes, len(world.calls)) == (writes, calls)

    def test_each_transition_is_told_once(self, world: PredictionWorld) -> None:
        for _ in range(3):
            world.reconcile()
        world.succeed()
        for _ in range(3):
            world.reconcile()
        told = [event.reason for event in world.told]
        assert len(told) == len(set(told))
        assert told[-1] == reasons.SCORED


class TestTheModel:
    @pytest.mark.parametrize(
        ("view", "reason"),
        [
            (PipelineView(exists=False), reasons.PIPELINE_MISSING),
            (PipelineView(exists=True), reasons.NOTHING_SERVED),
        ],
    )
    def test_is_waited_for(self, world: PredictionWorld, view: PipelineView, reason: str) -> None:
        world.pipeline = view
        decision = world.reconcile()
        assert world.status.stage is PredictionStage.WAITING
        assert world.condition().reason == reason
        assert world.condition(ConditionType.RECONCILING).status == "True"
        assert decision.wake_at is not None
        assert world.created == []
        world.pipeline = PipelineView(exists=True, served=CHAMPION)
        world.reconcile()
        assert world.created == [NAME]

    def test_is_the_one_that_served_when_the_run_was_submitted_whatever_serves_later(self, world: PredictionWorld) -> None:
        world.down[SubmitPrediction] = Unavailable("KubeflowUnavailable", "no answer")
        world.reconcile()
        world.pipeline = PipelineView(exists=True, served=CHAMPION.with_(revision=4, mlflow_run="def"))
        world.down.clear()
        world.pass_time(minutes=5)
        world.reconcile()
        assert world.scored_with == {NAME: CHAMPION}
        world.pipeline = PipelineView(exists=False)
        world.succeed()
        world.reconcile()
        assert world.status.model == CHAMPION
        assert world.status.stage is PredictionStage.SUCCEEDED


class TestTheOutput:
    OTHER = OutputClaim("admin", "first", "0000", START, PredictionStage.SCORING, begun=True)

    def refused(self, world: PredictionWorld, reason: str) -> str:
        world.reconcile()
        assert world.created == []
        assert world.status.stage is PredictionStage.FAILED
        assert world.condition(ConditionType.STALLED).reason == reason
        assert "make another WinePrediction with another output" in world.condition().message
        return world.condition().message

    @pytest.mark.parametrize(
        ("url", "what"),
        [
            (OUTPUT, "output s3://scores/red.parquet is the input itself"),
            ("s3://scores//red.parquet", "output s3://scores/red.parquet is the input itself"),
            (
                "http://minio.kubeflow:9000/scores/red%2Eparquet?X-Amz-Signature=1",
                "output s3://scores/red.parquet is the input itself",
            ),
            ("s3://scores/red.parquet?versionId=1", "output s3://scores/red.parquet is the input itself"),
            (f"{OUTPUT}.report.json", "the report s3://scores/red.parquet.report.json is the input itself"),
        ],
    )
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_is_not_the_input(self, world: PredictionWorld, url: str, what: str, overwrite: bool) -> None:
        world.change(input={"url": url}, overwrite=overwrite)
        message = self.refused(world, reasons.OUTPUT_IS_SOURCE)
        assert message.startswith(what)
        assert "Signature" not in message

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_is_no_pipelines_training_data(self, world: PredictionWorld, overwrite: bool) -> None:
        world.change(overwrite=overwrite)
        world.output_use = OutputUse(trained_on=("admin/red", "admin/white"))
        assert "the training data of WinePipeline admin/red, admin/white" in self.refused(world, reasons.OUTPUT_IS_SOURCE)

    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize("stage", [None, PredictionStage.WAITING, PredictionStage.SCORING])
    def test_of_an_earlier_prediction_is_refused(
        self, world: PredictionWorld, stage: PredictionStage | None, overwrite: bool
    ) -> None:
        world.prediction = replace(world.prediction, created_at=START + timedelta(seconds=1))
        world.change(overwrite=overwrite)
        world.output_use = OutputUse((replace(self.OTHER, stage=stage, begun=stage is PredictionStage.SCORING),))
        message = self.refused(world, reasons.OUTPUT_CLAIMED)
        assert message.startswith(f"WinePrediction admin/first writes its output to {OUTPUT} too, and came first")

    def test_of_a_later_prediction_that_has_begun_is_refused(self, world: PredictionWorld) -> None:
        world.prediction = replace(world.prediction, created_at=START)
        world.output_use = OutputUse((replace(self.OTHER, created_at=START + timedelta(seconds=1)),))
        self.refused(world, reasons.OUTPUT_CLAIMED)

    def test_of_a_later_prediction_that_waits_is_this_ones(self, world: PredictionWorld) -> None:
        world.prediction = replace(world.prediction, created_at=START)
        world.output_use = OutputUse((replace(self.OTHER, created_at=START + timedelta(seconds=1), stage=None, begun=False),))
        world.reconcile()
        assert world.created == [NAME]

    def test_of_two_of_one_second_one_is_refused(self, world: PredictionWorld) -> None:
        world.prediction = replace(world.prediction, created_at=START)
        for uid, created in (("ffff", 1), ("0000", 0)):
            other = replace(world.prediction, uid=uid)
            claim = OutputClaim("admin", "other", uid, START)
            here, there = PredictionWorld(prediction=world.prediction), PredictionWorld(prediction=other)
            here.output_use = OutputUse((claim,))
            there.output_use = OutputUse((OutputClaim("admin", "scores", world.prediction.uid, START),))
            here.reconcile()
            there.reconcile()
            assert (len(here.created), len(there.created)) == (created, 1 - created)

    def test_that_was_written_is_replaced_only_where_it_may_be(self, world: PredictionWorld) -> None:
        world.output_use = OutputUse((replace(self.OTHER, stage=PredictionStage.SUCCEEDED),))
        assert "only with spec.overwrite: true" in self.refused(world, reasons.OUTPUT_CLAIMED)
        again = PredictionWorld(output_use=world.output_use)
        again.change(overwrite=True)
        again.reconcile()
        assert again.created == [NAME]

    def test_of_one_that_failed_is_free(self, world: PredictionWorld) -> None:
        world.output_use = OutputUse((replace(self.OTHER, stage=PredictionStage.FAILED),))
        world.reconcile()
        assert world.created == [NAME]

    def test_of_one_that_is_being_deleted_is_waited_for(self, world: PredictionWorld) -> None:
        world.output_use = OutputUse((replace(self.OTHER, deleting=True),))
        decision = world.reconcile()
        assert world.condition().reason == reasons.OUTPUT_CLAIMED
        assert world.status.stage is PredictionStage.WAITING
        assert decision.wake_at is not None
        world.output_use = OutputUse()
        world.reconcile()
        assert world.created == [NAME]

    def test_is_not_looked_at_again_once_the_run_is_there(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.output_use = OutputUse((self.OTHER,))
        world.reconcile()
        assert world.status.stage is PredictionStage.SCORING
        world.succeed()
        world.reconcile()
        assert world.status.stage is PredictionStage.SUCCEEDED

    def test_that_is_refused_is_deleted_in_time(self, world: PredictionWorld) -> None:
        world.change(input={"url": OUTPUT}, ttlAfterFinished="1h")
        world.reconcile()
        world.pass_time(hours=1)
        world.reconcile()
        assert "DeleteResource" in world.calls


class TestTheRun:
    def test_a_passing_failure_is_tried_again_by_another_run(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.fail()
        world.reconcile()
        assert "(attempt 1 of 3 failed, the next one starts at 12:00:30 UTC)" in world.condition().message
        world.pass_time(seconds=30)
        world.reconcile()
        world.succeed()
        world.reconcile()
        assert world.status.stage is PredictionStage.SUCCEEDED
        assert world.created == [NAME, f"{NAME}-2"]

    def test_what_only_a_person_can_mend_ends_it(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.fail("ColumnMissing", permanent=True)
        world.reconcile()
        assert world.status.stage is PredictionStage.FAILED
        assert world.condition(ConditionType.STALLED).reason == "ColumnMissing"
        assert "make another WinePrediction" in world.condition().message
        assert world.created == [NAME]

    def test_attempts_come_to_an_end(self, world: PredictionWorld) -> None:
        world.reconcile()
        for _ in range(3):
            world.fail()
            world.reconcile()
            world.pass_time(minutes=10)
            world.reconcile()
        assert world.status.stage is PredictionStage.FAILED
        assert "(attempt 3 of 3)" in world.condition().message
        assert world.created == [NAME, f"{NAME}-2", f"{NAME}-3"]

    def test_what_the_platform_fails_is_no_attempt(self, world: PredictionWorld) -> None:
        world.reconcile()
        for _ in range(5):
            world.fail("TrackingUnavailable")
            world.reconcile()
            world.pass_time(minutes=10)
            world.reconcile()
        world.succeed()
        world.reconcile()
        assert world.status.stage is PredictionStage.SUCCEEDED

    def test_the_timeout_ends_it_also_where_the_workflow_is_gone(self, world: PredictionWorld) -> None:
        world.change(attempts=1)
        world.reconcile()
        world.workflows_gone = True
        world.down[Steps] = Refused("KubernetesRefused", "Workflows are not the operator's to see")
        world.pass_time(hours=1)
        world.reconcile()
        assert world.runs[0].state is RunState.CANCELING
        world.pass_time(minutes=3)
        world.reconcile()
        assert world.runs == []
        assert world.condition().reason == run_reasons.RUN_TIMED_OUT
        assert world.status.stage is PredictionStage.FAILED

    def test_a_deleted_workflow_is_acted_on_at_once(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.reconcile()
        world.workflows_gone = True
        world.reconcile()
        assert world.runs == []
        assert world.condition().reason == run_reasons.WORKFLOW_DELETED

    def test_a_step_that_cannot_start_is_told_at_once(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.move_run(RunState.RUNNING)
        message = 'secret "mlpipeline-minio-artifact" not found'
        world.step_problem = StepFailure("predict", "CreateContainerConfigError", message, False, world.now)
        world.reconcile()
        assert world.condition().reason == "CreateContainerConfigError"
        assert message in world.condition().message

    def test_a_pod_explains_what_mlflow_cannot(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.move_run(RunState.FAILED, failed_step="predict")
        world.pod_failed = world.runs[-1].id
        world.pod_failure = StepFailure("predict", "ColumnMissing", "no alcohol", True, world.now)
        world.down[Outcome] = Unavailable("MlflowUnavailable", "down")
        world.reconcile()
        assert world.condition().reason == "ColumnMissing"

    def test_ended_by_someone_it_stays_ended(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.move_run(RunState.CANCELING)
        world.reconcile()
        world.move_run(RunState.FAILED)
        world.reconcile()
        assert world.condition().reason == run_reasons.RUN_TERMINATED
        assert world.status.stage is PredictionStage.FAILED

    def test_deleted_by_someone_it_is_submitted_again_as_another_attempt(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.runs.clear()
        world.pass_time(minutes=1)
        world.reconcile()
        assert world.created == [NAME, f"{NAME}-2"]
        assert world.status.run is not None
        assert world.status.run.attempt == 2

    def test_a_second_run_of_the_name_is_removed(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.add_run(NAME)
        world.reconcile()
        assert [run.id for run in world.runs] == ["run-1"]

    def test_an_unanswered_submission_is_waited_for_before_another(self, world: PredictionWorld) -> None:
        world.down[SubmitPrediction] = Unavailable("KubeflowUnavailable", "no answer")
        world.reconcile()
        world.down.clear()
        world.pass_time(seconds=10)
        world.reconcile()
        assert world.created == []
        world.add_run(NAME)  # it was carried out after all
        world.pass_time(seconds=30)
        world.reconcile()
        assert world.created == [NAME]

    def test_a_submission_that_was_certainly_not_sent_is_sent_again_at_once(self, world: PredictionWorld) -> None:
        world.down[SubmitPrediction] = NotSent("KubeflowUnavailable", "cannot be reached")
        world.reconcile()
        assert world.condition().reason == "KubeflowUnavailable"
        assert world.status.stage is PredictionStage.SCORING
        world.down.clear()
        world.pass_time(seconds=10)
        world.reconcile()
        assert world.created == [NAME]

    def test_an_outage_is_told_once(self, world: PredictionWorld) -> None:
        world.down[SubmitPrediction] = Refused("KubeflowRefused", "no")
        for _ in range(5):
            world.reconcile()
            world.pass_time(seconds=10)
        assert [event.reason for event in world.told].count("KubeflowRefused") == 1

    @pytest.mark.parametrize("question", [Runs, Outcome, Pipeline, UsesOfOutput])
    def test_a_system_that_is_down_is_waited_for(self, world: PredictionWorld, question: type) -> None:
        if question is Outcome:
            world.reconcile()
            world.succeed()
        world.down[question] = Unavailable("MlflowUnavailable", "down")
        decision = world.reconcile()
        assert world.condition().reason == "MlflowUnavailable"
        assert decision.wake_at is not None
        world.down.clear()
        world.reconcile()
        if question is not Outcome:
            world.succeed()
            world.reconcile()
        assert world.status.stage is PredictionStage.SUCCEEDED


class TestTheResult:
    def test_is_waited_for_and_then_missed(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.move_run(RunState.SUCCEEDED)
        world.reconcile()
        assert world.condition().reason == reasons.RESULT_PENDING
        world.pass_time(minutes=1)
        world.reconcile()
        assert world.condition().reason == reasons.RESULT_NOT_RECORDED
        assert world.status.stage is PredictionStage.FAILED

    def test_is_not_believed_where_it_cannot_be(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.move_run(RunState.SUCCEEDED)
        world.records["run-1"] = PredictionRecords(refused="it lies")
        world.reconcile()
        assert world.condition().reason == reasons.RESULT_REFUSED
        assert world.condition().message.startswith("it lies")


class TestItsTime:
    @pytest.mark.parametrize("good", [True, False])
    def test_it_is_deleted_when_its_time_is_over_and_not_before(self, world: PredictionWorld, good: bool) -> None:
        world.change(ttlAfterFinished="1h")
        world.reconcile()
        world.succeed() if good else world.fail(permanent=True)
        decision = world.reconcile()
        assert decision.wake_at is not None
        world.pass_time(minutes=59)
        decision = world.reconcile()
        assert "DeleteResource" not in world.calls
        world.now = decision.wake_at  # type: ignore[assignment] # it is set
        world.reconcile()
        assert world.calls.count("DeleteResource") == 1
        if world.exists:
            world.reconcile()
        assert not world.exists

    def test_it_can_be_given_afterwards(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.pass_time(hours=2)
        world.change(ttlAfterFinished="3h")
        decision = world.reconcile()
        assert decision.wake_at is not None
        assert world.status.observed_generation == world.prediction.generation
        assert world.status.stage is PredictionStage.SUCCEEDED
        assert world.condition().status == "True"
        world.change(ttlAfterFinished="1h")
        world.reconcile()
        assert "DeleteResource" in world.calls

    def test_a_deletion_that_is_refused_leaves_the_result_as_it_was(self, world: PredictionWorld) -> None:
        world.change(ttlAfterFinished="0s")
        world.down[DeleteResource] = Refused("KubernetesRefused", "no rights")
        world.reconcile()
        world.succeed()
        decision = world.reconcile()
        assert world.status.stage is PredictionStage.SUCCEEDED
        assert world.condition().status == "True"
        assert decision.wake_at is not None


class TestDeletion:
    def test_in_flight_it_ends_the_run(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.delete()
        world.reconcile()
        assert not world.exists
        assert world.runs[0].state is RunState.CANCELING
        assert world.left_behind == ()

    def test_a_run_that_cannot_be_asked_to_end_is_removed(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.workflows_gone = True
        world.delete()
        world.reconcile()
        while world.exists:
            world.pass_time(seconds=10)
            world.reconcile()
        assert world.runs == []

    def test_it_waits_no_longer_than_it_must_and_names_what_it_leaves(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.down[TerminateRun] = NotSent("KubeflowUnavailable", "cannot be reached")
        world.delete()
        for _ in range(12):
            world.reconcile()
            assert world.exists
            world.pass_time(seconds=10)
        world.reconcile()
        assert not world.exists
        assert world.left_behind == ("its run (cannot be reached)",)

    def test_a_submission_in_doubt_is_waited_for(self, world: PredictionWorld) -> None:
        world.down[SubmitPrediction] = Unavailable("KubeflowUnavailable", "no answer")
        world.reconcile()
        world.delete()
        world.pass_time(seconds=5)
        world.reconcile()
        assert world.exists
        world.add_run(NAME)
        world.pass_time(seconds=30)
        world.reconcile()
        assert not world.exists
        assert world.runs[0].state is RunState.CANCELING

    def test_what_has_ended_asks_nobody(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.calls.clear()
        world.delete()
        world.reconcile()
        assert not world.exists
        assert "Runs" not in world.calls


def _settle(world: PredictionWorld) -> None:
    """Start the operator again after each crash, until nothing is left to do."""
    while True:
        try:
            world.reconcile()
        except Crash:
            continue
        return


def _through(world: PredictionWorld) -> None:
    """All the way, by a failure that passes, with time enough for what is in doubt."""
    _settle(world)
    world.pass_time(minutes=1)
    _settle(world)
    world.fail()
    _settle(world)
    world.pass_time(minutes=1)
    _settle(world)
    world.pass_time(minutes=1)
    _settle(world)
    world.succeed(rows=5)
    _settle(world)
    world.delete()
    _settle(world)


def test_a_crash_between_any_two_calls_changes_nothing_in_the_end() -> None:
    straight = PredictionWorld()
    _through(straight)
    for moment in range(2 * len(straight.calls)):
        world = PredictionWorld(crash_in=moment)
        _through(world)
        assert not world.exists, moment
        assert world.created == [NAME, f"{NAME}-2"], moment
        assert world.most_live == 1, moment
        assert set(world.scored_with.values()) == {CHAMPION}, moment
        assert replace_times(world) == replace_times(straight), moment


def replace_times(world: PredictionWorld) -> object:
    """What a status tells in the end, but for when."""
    return world.status.model_dump(include={"stage", "rows", "output", "model"})


def test_any_history_has_one_live_run_of_one_model() -> None:
    """Random outages, crashes, clocks and moves of runs: never two runs live, never another model, and an end that is one."""
    for seed in range(400):
        dice = random.Random(seed)
        world = PredictionWorld()
        ended: PredictionStage | None = None
        models = set()
        for _ in range(60):
            _shake(world, dice)
            try:
                world.reconcile()
            except Crash:
                continue
            live = [run for run in world.runs if run.live and run.state is not RunState.CANCELING]
            assert len(live) <= 1, f"seed {seed}: {world.calls}"
            models |= {world.status.model} if world.status.model else set()
            if ended is not None:
                assert world.status.stage is ended, f"seed {seed}: what has ended has moved"
            ended = world.status.stage if world.status.is_over else None
        assert len(models) <= 1, f"seed {seed}"


def _shake(world: PredictionWorld, dice: random.Random) -> None:
    """Something happens."""
    world.pass_time(seconds=dice.choice([0, 1, 10, 40, 700]))
    world.pipeline = PipelineView(exists=True, served=CHAMPION.with_(revision=dice.randint(1, 9), mlflow_run=f"m{dice.random()}"))
    error = dice.choice([NotSent, Unavailable, Refused])("KubeflowUnavailable", "down")
    kinds = (SubmitPrediction, TerminateRun, Runs, Outcome, Pipeline, UsesOfOutput)
    world.down = {dice.choice(kinds): error} if dice.random() < 0.3 else {}
    world.crash_in = dice.randint(0, 12) if dice.random() < 0.3 else None
    if world.runs and world.runs[-1].live:
        match dice.randint(0, 5):
            case 0:
                world.move_run(RunState.RUNNING)
            case 1:
                world.fail(dice.choice(["DataUnreachable", "TrackingUnavailable"]), permanent=dice.random() < 0.1)
            case 2:
                world.succeed()
            case 3 if dice.random() < 0.3:
                world.runs.clear()


def test_the_run_that_counts_is_the_one_that_the_status_names(world: PredictionWorld) -> None:
    world.reconcile()
    world.runs.insert(0, replace(world.runs[0], id="older", state=RunState.SUCCEEDED))
    world.reconcile()
    assert world.status.run is not None
    assert world.status.run.id == "run-1"
