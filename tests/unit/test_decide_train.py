"""From a run that is submitted to a model that is logged, and everything in the way."""

from dataclasses import replace

import pytest
from support.memory import START
from support.world import World, digest_of

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.actions import CreateRun, TerminateRun
from winepipelines.lifecycle.questions import Records, Runs, Steps, Stored
from winepipelines.resource.errors import NotSent, Refused, Unavailable
from winepipelines.resource.observed import LoggedModel, RunState, StepFailure, StoredModel, TrainingRecords
from winepipelines.resource.status import ConditionType, Outcome, Stage

READY, TRAINED, ANSWERING = ConditionType.READY, ConditionType.TRAINED, ConditionType.ANSWERING


@pytest.fixture
def world() -> World:
    return World()


class TestTrain:
    def test_a_passing_failure_is_tried_again_by_another_run(self, world: World) -> None:
        world.reconcile()
        world.fail()
        world.reconcile()
        assert world.condition(TRAINED).reason == "DataUnreachable"
        assert "attempt 1 of 3" in world.condition(TRAINED).message
        assert world.run().state is RunState.FAILED
        world.pass_time(seconds=31)
        world.reconcile()
        assert [run.state for run in world.runs] == [RunState.FAILED, RunState.PENDING]
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
        assert world.created == ["mlflow-01234567-1", "mlflow-01234567-1-2", "mlflow-01234567-1-3"]

    def test_an_outage_of_the_store_uses_up_no_attempt(self, world: World) -> None:
        world.reconcile()
        for _ in range(12):
            world.fail("TrackingUnavailable")
            world.reconcile()
            assert "does not count" in world.condition(TRAINED).message
            world.pass_time(minutes=10)
            world.reconcile()
            assert world.run().live
            world.pass_time(seconds=5)
        world.succeed()
        world.reconcile()
        assert world.status.stage is Stage.DEPLOYING
        assert world.created[-1] == "mlflow-01234567-1-13"

    def test_an_outage_of_the_store_is_not_waited_for_for_ever(self, world: World) -> None:
        world.reconcile()
        for _ in range(30):
            if world.status.stage is Stage.FAILED:
                break
            world.fail("StoreUnavailable")
            world.reconcile()
            world.pass_time(minutes=10)
            world.reconcile()
        assert len(world.created) == 21
        assert world.condition(ConditionType.STALLED).reason == "StoreUnavailable"
        assert "21 attempts in vain" in world.condition(READY).message

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
        world.down[Steps] = Refused("KubernetesRefused", "Workflows are not the operator's to see")
        world.pass_time(minutes=11)
        world.down[TerminateRun] = Unavailable("KubeflowUnavailable", "no Workflow")
        world.reconcile()
        assert world.condition(TRAINED).reason == "KubeflowUnavailable"
        world.pass_time(minutes=3)
        world.reconcile()
        assert world.runs == []
        assert world.status.stage is Stage.FAILED
        assert world.condition(TRAINED).reason == reasons.RUN_TIMED_OUT

    def test_a_timed_out_run_quotes_the_timeout_that_ended_it_when_the_spec_changes_meanwhile(self, world: World) -> None:
        world.change(training={"timeout": "10m", "attempts": 1})
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.pass_time(minutes=11)
        world.reconcile()
        world.change(training={"timeout": "2h", "attempts": 1})
        world.reconcile()
        assert "spec.training.timeout (10m): ending it" in world.condition(TRAINED).message
        world.move_run(RunState.FAILED)
        world.reconcile()
        assert "longer than spec.training.timeout (10m)" in world.condition(TRAINED).message
        world.ask(retrain="with the new timeout")
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.pass_time(minutes=60)
        world.reconcile()
        assert world.condition(TRAINED).reason == reasons.RUNNING

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


def test_a_next_attempt_that_was_decided_on_but_not_submitted_is_submitted_once(world: World) -> None:
    world.reconcile()
    world.fail()
    world.reconcile()
    world.pass_time(minutes=1)
    world.down[CreateRun] = Unavailable("KubeflowUnavailable", "died")
    world.reconcile()
    assert world.run().state is RunState.FAILED
    del world.down[CreateRun]
    world.pass_time(minutes=1)
    world.reconcile()
    assert world.created == ["mlflow-01234567-1", "mlflow-01234567-1-2"]
    assert world.run().live
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
    world.pass_time(minutes=1)
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
    model = LoggedModel("s3://mlflow/retry/model", "mlflow-retry", "2", {"r2": 0.2}, digest=digest_of(2))
    world.records[1] = replace(world.records[1], model=model)
    assert isinstance(world.records[1], TrainingRecords)
    world.reconcile()
    assert world.applied is not None
    assert world.applied.model.uri == "s3://mlflow/retry/model"


def test_a_cloned_runs_model_is_ignored_and_told(world: World) -> None:
    """Field case c16: the clone has this revision's tags, and another Kubeflow run."""
    world.reconcile()
    world.succeed()
    world.writers[1] = "clone"
    world.reconcile()
    assert world.condition(TRAINED).reason == reasons.MODEL_PENDING
    assert world.applied is None
    own = replace(world.records[1], foreign="MLflow run x was written by Kubeflow run clone")
    del world.writers[1]
    world.records[1] = own
    world.reconcile()
    assert "clone" in world.condition(TRAINED).message
    assert [event.reason for event in world.told].count("ForeignRunIgnored") == 1
    world.roll_out()
    assert world.ready()
    assert [event.reason for event in world.told].count("ForeignRunIgnored") == 1


def test_a_run_that_only_a_clone_recorded_a_model_for_says_so(world: World) -> None:
    world.reconcile()
    world.succeed()
    world.writers[1] = "clone"
    world.pass_time(minutes=2)
    world.reconcile()
    assert world.condition(TRAINED).reason == reasons.MODEL_NOT_LOGGED
    assert "Kubeflow run clone" in world.condition(TRAINED).message


IMAGE = StepFailure("download", "ErrImagePull", "the image steps:typo of container main is not pulled", False, START)


class TestSteps:
    """Workflow and pods of the run, which Kubeflow Pipelines says nothing of."""

    def test_a_step_that_cannot_start_is_told_at_once(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.step_problem = IMAGE
        world.reconcile()
        condition = world.condition(TRAINED)
        assert condition.reason == "ErrImagePull"
        assert "step download cannot start: the image steps:typo" in condition.message
        assert world.status.run is not None
        assert world.status.run.problem == "ErrImagePull"
        assert world.condition(ConditionType.STALLED).reason == "ErrImagePull"
        writes = world.writes
        world.pass_time(minutes=5)
        world.reconcile()
        assert world.writes == writes
        world.step_problem = None
        world.reconcile()
        assert world.condition(TRAINED).reason == reasons.RUNNING
        assert world.status.run is not None
        assert (world.status.run.problem, world.status.run.problem_since) == ("", None)

    def test_the_time_that_a_step_could_not_start_is_not_the_runs(self, world: World) -> None:
        world.change(training={"timeout": "10m", "attempts": 1})
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.step_problem = IMAGE
        world.reconcile()
        world.pass_time(minutes=8)
        world.step_problem = None
        world.reconcile()
        world.pass_time(minutes=8)
        world.reconcile()
        assert world.condition(TRAINED).reason == reasons.RUNNING

    def test_a_step_that_never_starts_ends_the_attempt_and_waits_for_a_person(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.step_problem = IMAGE
        world.reconcile()
        world.pass_time(minutes=16)
        world.reconcile()
        assert world.run().state is RunState.CANCELING
        world.pass_time(seconds=20)
        world.reconcile()
        assert "steps:typo" in world.condition(TRAINED).message
        assert "took longer" not in world.condition(TRAINED).message
        world.move_run(RunState.FAILED)
        world.reconcile()
        assert world.condition(ConditionType.STALLED).reason == "ErrImagePull"
        assert "does not count as an attempt" in world.condition(READY).message
        assert "steps:typo" in world.condition(READY).message
        assert len(world.created) == 1

    def test_a_corrected_chart_leads_on_without_a_persons_help(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.step_problem = IMAGE
        world.reconcile()
        world.settings = "with the right image"  # the operator has been started anew with it
        world.reconcile()
        assert world.run().state is RunState.CANCELING
        world.move_run(RunState.FAILED)
        world.step_problem = None
        world.reconcile()
        assert world.created == ["mlflow-01234567-1", "mlflow-01234567-1-2"]
        world.succeed()
        world.reconcile()
        world.roll_out()
        assert world.ready()

    def test_a_chart_that_is_corrected_later_does_too(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.step_problem = IMAGE
        world.reconcile()
        world.pass_time(minutes=16)
        world.reconcile()
        world.move_run(RunState.FAILED)
        world.reconcile()
        world.settings, world.step_problem = "with the right image", None
        world.reconcile()
        assert len(world.created) == 2
        world.succeed()
        world.reconcile()
        world.roll_out()
        assert world.ready()

    def test_a_secret_that_is_corrected_later_is_found_within_the_hour(self, world: World) -> None:
        world.reconcile()
        for _ in range(8):
            world.move_run(RunState.RUNNING)
            world.step_problem = IMAGE
            world.reconcile()
            world.pass_time(minutes=16)
            world.reconcile()
            world.move_run(RunState.FAILED)
            world.reconcile()
            assert world.status.stage is not Stage.FAILED
            world.step_problem = None
            world.pass_time(minutes=61)
            world.reconcile()
            assert world.run().live
        world.succeed()
        world.reconcile()
        world.roll_out()
        assert world.ready()

    def test_a_step_that_waits_for_room_is_not_stalled(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.step_problem = StepFailure("train", "Unschedulable", "0/1 nodes are available", False, START)
        world.reconcile()
        assert world.condition(TRAINED).reason == "Unschedulable"
        assert world.status.condition(ConditionType.STALLED) is None

    def test_retrain_begins_another_revision_where_a_step_cannot_start(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.step_problem = IMAGE
        world.reconcile()
        world.ask(retrain="now")
        world.step_problem = None
        world.reconcile()
        world.move_run(RunState.FAILED)
        world.reconcile()
        assert world.created == ["mlflow-01234567-1", "mlflow-01234567-2"]

    def test_changed_settings_leave_a_run_alone_that_goes_well(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.settings = "others"
        world.reconcile()
        assert world.run().state is RunState.RUNNING

    def test_a_deleted_workflow_is_acted_on_at_once(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.reconcile()
        world.workflows_gone = True
        world.reconcile()
        assert world.runs == [], "it would be RUNNING for ever"
        assert world.condition(TRAINED).reason == reasons.WORKFLOW_DELETED
        assert "workflow-run-1" in world.condition(TRAINED).message
        world.workflows_gone = False
        world.pass_time(minutes=1)
        world.reconcile()
        assert world.created == ["mlflow-01234567-1", "mlflow-01234567-1-2"]

    def test_a_workflow_that_was_never_seen_is_not_missed(self, world: World) -> None:
        """Where Kubeflow Pipelines is in another cluster there is none to be seen."""
        world.workflows_gone = True
        world.reconcile()
        world.move_run(RunState.RUNNING)
        world.pass_time(minutes=5)
        world.reconcile()
        assert world.condition(TRAINED).reason == reasons.RUNNING

    def test_a_pod_explains_what_mlflow_cannot(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.FAILED, failed_step="train")
        world.pod_failed = world.run().id
        world.pod_failure = StepFailure("train", "ExperimentDeleted", "it is deleted", True, world.now)
        world.down[Records] = Unavailable("MlflowUnavailable", "down")
        world.reconcile()
        assert world.condition(TRAINED).reason == "ExperimentDeleted"
        assert world.condition(TRAINED).message == "step train: it is deleted"
        assert world.status.stage is Stage.FAILED

    def test_what_the_node_did_to_a_pod_does_not_count(self, world: World) -> None:
        world.reconcile()
        world.move_run(RunState.FAILED, failed_step="train")
        world.pod_failed = world.run().id
        world.pod_failure = StepFailure("train", "Evicted", "The node was low on resource: memory", False, world.now)
        world.reconcile()
        assert world.condition(TRAINED).reason == "Evicted"
        assert "does not count" in world.condition(TRAINED).message


def test_a_later_run_of_the_same_name_is_someone_elses(world: World) -> None:
    """Whoever clones a run may give the clone its name."""
    world.reconcile()
    own = world.run()
    world.pass_time(minutes=2)
    world.add_run(own.name)
    clone = world.run().id
    world.reconcile()
    assert [run.id for run in world.runs] == [own.id, clone], "it is not a submission carried out twice"
    assert world.status.run is not None
    assert world.status.run.id == own.id
    world.ask(cancel="1")
    world.reconcile()
    assert {run.id: run.state for run in world.runs} == {own.id: RunState.CANCELING, clone: RunState.PENDING}


def test_a_clone_does_not_take_the_place_of_a_run_that_was_deleted(world: World) -> None:
    world.reconcile()
    world.pass_time(minutes=2)
    world.add_run(world.run().name)
    world.runs.pop(0)
    world.reconcile()
    assert world.created[-1] == "mlflow-01234567-1-2"
    assert world.status.run is not None
    assert world.status.run.attempt == 2


def test_a_failure_without_a_word_while_the_store_is_away_does_not_count(world: World) -> None:
    """Kubeflow's launcher, not the step, fails to fetch or to keep its files."""
    world.change(training={"attempts": 1})
    world.reconcile()
    world.move_run(RunState.FAILED, failed_step="train")
    world.down[Stored] = Unavailable("StoreUnavailable", "the object store at http://minio does not answer")
    world.reconcile()
    assert world.condition(TRAINED).reason == "StoreUnavailable"
    assert "does not count as an attempt" in world.condition(TRAINED).message
    assert "http://minio" in world.condition(TRAINED).message
    del world.down[Stored]
    world.reconcile()
    assert world.condition(TRAINED).reason == "StoreUnavailable", "it is judged by how the store was then"
    world.pass_time(minutes=1)
    world.reconcile()
    assert world.status.run is not None
    assert (world.status.run.attempt, world.status.run.spared, world.status.run.problem) == (2, 1, "")
    world.move_run(RunState.FAILED, failed_step="train")
    world.reconcile()
    assert world.status.stage is Stage.FAILED
