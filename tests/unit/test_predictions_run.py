"""Decisions about the run of a WinePrediction, its deletion, and crashes between calls."""

import random
from dataclasses import replace

import pytest
from support.memory import Crash
from support.prediction_world import MODEL, PredictionWorld, serving

from winecontract.reasons import Reason
from winepipelines.api.errors import NotSent, Refused, Unavailable
from winepipelines.api.observed import RunState, StepFailure
from winepipelines.api.prediction import PredictionStage
from winepipelines.api.status import ConditionType
from winepipelines.pipelines.queries import GetSteps, ListRuns
from winepipelines.predictions.actions import SubmitPrediction
from winepipelines.predictions.queries import GetPipeline, GetScoringResult, ListOutputUses
from winepipelines.runs.actions import TerminateRun

NAME = "scores-89abcdef-batch"


@pytest.fixture
def world() -> PredictionWorld:
    return PredictionWorld()


class TestRun:
    def test_run_is_attempted_again_after_a_passing_failure(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.fail()
        world.reconcile()
        assert "This was attempt 1 of 3. The next attempt starts at 12:00:30 UTC." in world.condition().message
        world.pass_time(seconds=30)
        world.reconcile()
        world.succeed()
        world.reconcile()
        assert world.status.stage is PredictionStage.SUCCEEDED
        assert world.created == [NAME, f"{NAME}-2"]

    def test_prediction_ends_after_a_permanent_failure(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.fail("ColumnMissing", permanent=True)
        world.reconcile()
        assert world.status.stage is PredictionStage.FAILED
        assert world.condition(ConditionType.STALLED).reason == "ColumnMissing"
        assert "create another WinePrediction" in world.condition().message
        assert world.created == [NAME]

    def test_prediction_ends_after_its_last_attempt(self, world: PredictionWorld) -> None:
        world.reconcile()
        for _ in range(3):
            world.fail()
            world.reconcile()
            world.pass_time(minutes=10)
            world.reconcile()
        assert world.status.stage is PredictionStage.FAILED
        assert "This was attempt 3 of 3." in world.condition().message
        assert world.created == [NAME, f"{NAME}-2", f"{NAME}-3"]

    def test_platform_failure_does_not_count_as_an_attempt(self, world: PredictionWorld) -> None:
        world.reconcile()
        for _ in range(5):
            world.fail("TrackingUnavailable")
            world.reconcile()
            world.pass_time(minutes=10)
            world.reconcile()
        world.succeed()
        world.reconcile()
        assert world.status.stage is PredictionStage.SUCCEEDED

    def test_run_is_deleted_after_its_timeout_when_the_workflow_is_gone(self, world: PredictionWorld) -> None:
        world.change(attempts=1)
        world.reconcile()
        world.workflows_gone = True
        world.down[GetSteps] = Refused(Reason.KUBERNETES_REQUEST_REJECTED, "the operator may not read Workflows")
        world.pass_time(hours=1)
        world.reconcile()
        assert world.runs[0].state is RunState.CANCELING
        world.pass_time(minutes=3)
        world.reconcile()
        assert world.runs == []
        assert world.condition().reason == Reason.RUN_TIMED_OUT
        assert world.status.stage is PredictionStage.FAILED

    def test_deleted_workflow_is_handled_at_once(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.reconcile()
        world.workflows_gone = True
        world.reconcile()
        assert world.runs == []
        assert world.condition().reason == Reason.WORKFLOW_DELETED

    def test_step_that_cannot_start_is_reported_at_once(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.move_run(RunState.RUNNING)
        message = 'secret "mlpipeline-minio-artifact" not found'
        world.step_problem = StepFailure("predict", "CreateContainerConfigError", message, False, world.now)
        world.reconcile()
        assert world.condition().reason == "CreateContainerConfigError"
        assert message in world.condition().message

    def test_pod_gives_the_reason_when_mlflow_has_none(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.move_run(RunState.FAILED, failed_step="predict")
        world.pod_failed = world.runs[-1].id
        world.pod_failure = StepFailure("predict", "ColumnMissing", "no alcohol", True, world.now)
        world.down[GetScoringResult] = Unavailable(Reason.MLFLOW_UNAVAILABLE, "down")
        world.reconcile()
        assert world.condition().reason == "ColumnMissing"

    def test_prediction_fails_when_a_user_terminates_the_run(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.move_run(RunState.CANCELING)
        world.reconcile()
        world.move_run(RunState.FAILED)
        world.reconcile()
        assert world.condition().reason == Reason.RUN_TERMINATED
        assert world.status.stage is PredictionStage.FAILED

    def test_run_is_attempted_again_when_a_user_deletes_it(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.runs.clear()
        world.pass_time(minutes=1)
        world.reconcile()
        assert world.created == [NAME, f"{NAME}-2"]
        assert world.status.run is not None
        assert world.status.run.attempt == 2

    def test_second_run_of_the_same_name_is_deleted(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.add_run(NAME)
        world.reconcile()
        assert [run.id for run in world.runs] == ["run-1"]

    def test_run_is_not_submitted_again_until_the_grace_period_ends(self, world: PredictionWorld) -> None:
        world.down[SubmitPrediction] = Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "no answer")
        world.reconcile()
        world.down.clear()
        world.pass_time(seconds=10)
        world.reconcile()
        assert world.created == []
        world.add_run(NAME)  # the first submission has succeeded after all
        world.pass_time(seconds=30)
        world.reconcile()
        assert world.created == [NAME]

    def test_run_is_submitted_again_at_once_when_the_request_was_not_sent(self, world: PredictionWorld) -> None:
        world.down[SubmitPrediction] = NotSent(Reason.KUBEFLOW_UNAVAILABLE, "cannot be reached")
        world.reconcile()
        assert world.condition().reason == "KubeflowUnavailable"
        assert world.status.stage is PredictionStage.SCORING
        world.down.clear()
        world.pass_time(seconds=10)
        world.reconcile()
        assert world.created == [NAME]

    def test_outage_records_one_event(self, world: PredictionWorld) -> None:
        world.down[SubmitPrediction] = Refused(Reason.KUBEFLOW_REQUEST_REJECTED, "no")
        for _ in range(5):
            world.reconcile()
            world.pass_time(seconds=10)
        assert [event.reason for event in world.events].count("KubeflowRequestRejected") == 1

    @pytest.mark.parametrize("query", [ListRuns, GetScoringResult, GetPipeline, ListOutputUses])
    def test_prediction_succeeds_after_an_outage(self, world: PredictionWorld, query: type) -> None:
        if query is GetScoringResult:
            world.reconcile()
            world.succeed()
        world.down[query] = Unavailable(Reason.MLFLOW_UNAVAILABLE, "down")
        decision = world.reconcile()
        assert world.condition().reason == "MlflowUnavailable"
        assert decision.requeue_at is not None
        world.down.clear()
        world.reconcile()
        if query is not GetScoringResult:
            world.succeed()
            world.reconcile()
        assert world.status.stage is PredictionStage.SUCCEEDED


class TestDeletion:
    def test_deletion_terminates_a_live_run(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.delete()
        world.reconcile()
        assert not world.exists
        assert world.runs[0].state is RunState.CANCELING
        assert world.left_behind == ()

    def test_deletion_deletes_a_run_that_cannot_be_terminated(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.workflows_gone = True
        world.delete()
        world.reconcile()
        while world.exists:
            world.pass_time(seconds=10)
            world.reconcile()
        assert world.runs == []

    def test_deletion_ends_after_its_bound_and_reports_the_run_left_behind(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.down[TerminateRun] = NotSent(Reason.KUBEFLOW_UNAVAILABLE, "cannot be reached")
        world.delete()
        for _ in range(12):
            world.reconcile()
            assert world.exists
            world.pass_time(seconds=10)
        world.reconcile()
        assert not world.exists
        assert world.left_behind == ("its run (cannot be reached)",)

    def test_deletion_waits_for_an_unconfirmed_submission(self, world: PredictionWorld) -> None:
        world.down[SubmitPrediction] = Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "no answer")
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

    def test_deletion_sends_no_query_when_the_prediction_has_finished(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.calls.clear()
        world.delete()
        world.reconcile()
        assert not world.exists
        assert "ListRuns" not in world.calls


def _settle(world: PredictionWorld) -> None:
    """Reconcile, and restart the operator after each crash, until a reconcile completes."""
    while True:
        try:
            world.reconcile()
        except Crash:
            continue
        return


def _run_lifecycle(world: PredictionWorld) -> None:
    """Run from submission to deletion, with one failed attempt, and with the grace periods of unconfirmed requests."""
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


def test_crash_at_any_call_does_not_change_the_result() -> None:
    expected = PredictionWorld()
    _run_lifecycle(expected)
    for crash_in in range(2 * len(expected.calls)):
        world = PredictionWorld(crash_in=crash_in)
        _run_lifecycle(world)
        assert not world.exists, crash_in
        assert world.created == [NAME, f"{NAME}-2"], crash_in
        assert world.most_live == 1, crash_in
        assert set(world.scored_with.values()) == {MODEL}, crash_in
        assert _result(world) == _result(expected), crash_in


def _result(world: PredictionWorld) -> object:
    """The result in the status, without times."""
    return world.status.model_dump(include={"stage", "rows", "output", "model"})


def test_random_history_has_at_most_one_live_run_and_one_model() -> None:
    """Random outages, crashes, times and run states: at most one live run, one model only, and a final stage never changes."""
    for seed in range(400):
        chance = random.Random(seed)
        world = PredictionWorld()
        final: PredictionStage | None = None
        models = set()
        for _ in range(60):
            _disturb(world, chance)
            try:
                world.reconcile()
            except Crash:
                continue
            live = [run for run in world.runs if run.live and run.state is not RunState.CANCELING]
            assert len(live) <= 1, f"seed {seed}: {world.calls}"
            models |= {world.status.model} if world.status.model else set()
            if final is not None:
                assert world.status.stage is final, f"seed {seed}: the final stage has changed"
            final = world.status.stage if world.status.is_over else None
        assert len(models) <= 1, f"seed {seed}"


def _disturb(world: PredictionWorld, chance: random.Random) -> None:
    """Change time, platform and run at random."""
    world.pass_time(seconds=chance.choice([0, 1, 10, 40, 700]))
    world.pipeline = serving(chance.randint(1, 9), f"m{chance.random()}")
    error = chance.choice([NotSent, Unavailable, Refused])(Reason.KUBEFLOW_UNAVAILABLE, "down")
    failing = (SubmitPrediction, TerminateRun, ListRuns, GetScoringResult, GetPipeline, ListOutputUses)
    world.down = {chance.choice(failing): error} if chance.random() < 0.3 else {}
    world.crash_in = chance.randint(0, 12) if chance.random() < 0.3 else None
    if world.runs and world.runs[-1].live:
        match chance.randint(0, 5):
            case 0:
                world.move_run(RunState.RUNNING)
            case 1:
                world.fail(chance.choice(["DataUnreachable", "TrackingUnavailable"]), permanent=chance.random() < 0.1)
            case 2:
                world.succeed()
            case 3 if chance.random() < 0.3:
                world.runs.clear()


def test_run_in_the_status_is_kept_when_another_has_its_name(world: PredictionWorld) -> None:
    world.reconcile()
    world.runs.insert(0, replace(world.runs[0], id="older", state=RunState.SUCCEEDED))
    world.reconcile()
    assert world.status.run is not None
    assert world.status.run.id == "run-1"
