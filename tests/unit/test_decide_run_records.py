"""Stage train: which run counts, and how the operator finds its failure or its model."""

from dataclasses import replace

from support.world import World, digest_of

from winecontract.reasons import Reason
from winepipelines.api.errors import Unavailable
from winepipelines.api.modelrecord import ModelRecord
from winepipelines.api.observed import RunState, TrainingRecords
from winepipelines.api.status import ConditionType, Stage
from winepipelines.pipelines.actions import CreateRun
from winepipelines.pipelines.queries import CheckArtifact, GetRecords

READY, TRAINED, ENDPOINT_VERIFIED = ConditionType.READY, ConditionType.TRAINED, ConditionType.ENDPOINT_VERIFIED


def test_next_attempt_is_submitted_once_after_a_crash(world: World) -> None:
    world.reconcile()
    world.fail()
    world.reconcile()
    world.pass_time(minutes=1)
    world.down[CreateRun] = Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "died")
    world.reconcile()
    assert world.run().state is RunState.FAILED
    del world.down[CreateRun]
    world.pass_time(minutes=1)
    world.reconcile()
    assert world.created == ["mlflow-01234567-1", "mlflow-01234567-1-2"]
    assert world.run().live
    assert world.status.run is not None
    assert world.status.run.attempt == 2


def test_failure_of_an_earlier_attempt_is_not_reported_for_a_later_one(world: World) -> None:
    world.change(training={"attempts": 2})
    world.reconcile()
    world.fail("DataUnreachable")
    world.reconcile()
    world.pass_time(minutes=1)
    world.reconcile()
    world.pass_time(minutes=1)
    world.move_run(RunState.FAILED, failed_step="train")  # it recorded no reason
    world.pass_time(minutes=1)
    world.reconcile()
    assert world.condition(TRAINED).reason == Reason.RUN_FAILED
    assert "Step train failed" in world.condition(TRAINED).message


def test_failure_waits_shortly_for_its_reason(world: World) -> None:
    world.change(training={"attempts": 1})
    world.reconcile()
    world.move_run(RunState.FAILED)  # and Kubeflow Pipelines does not report the failed task yet
    world.reconcile()
    assert world.condition(TRAINED).reason == Reason.RUN_TERMINATING
    world.pass_time(seconds=1)
    world.fail("ColumnMissing", permanent=True)
    world.reconcile()
    assert world.condition(TRAINED).reason == "ColumnMissing"


def test_failure_without_a_reason_is_reported_as_such(world: World) -> None:
    world.change(training={"attempts": 1})
    world.reconcile()
    world.move_run(RunState.FAILED)
    world.pass_time(seconds=16)
    world.reconcile()
    assert world.condition(TRAINED).reason == Reason.RUN_FAILED
    assert "before any of its steps" in world.condition(TRAINED).message


def test_mlflow_outage_after_the_run_is_waited_for(world: World) -> None:
    world.reconcile()
    world.succeed()
    world.down[GetRecords] = Unavailable(Reason.MLFLOW_UNAVAILABLE, "down")
    world.reconcile()
    world.pass_time(hours=5)
    world.reconcile()
    assert world.condition(TRAINED).reason == "MlflowUnavailable"
    assert world.status.condition(ConditionType.STALLED) is None
    del world.down[GetRecords]
    world.reconcile()
    assert world.applied is not None


def test_newest_of_two_models_of_a_revision_counts(world: World) -> None:
    world.reconcile()
    world.succeed()
    model = ModelRecord(uri="s3://mlflow/retry/model", mlflow_run="mlflow-retry", version="2", digest=digest_of(2))
    world.records[1] = replace(world.records[1], model=model)
    assert isinstance(world.records[1], TrainingRecords)
    world.reconcile()
    assert world.applied is not None
    assert world.applied.model.uri == "s3://mlflow/retry/model"


def test_model_of_a_cloned_run_is_ignored_and_reported(world: World) -> None:
    """Field case c16: the clone has this revision's tags, and another Kubeflow run."""
    world.reconcile()
    world.succeed()
    world.writers[1] = "clone"
    world.reconcile()
    assert world.condition(TRAINED).reason == Reason.MODEL_PENDING
    assert world.applied is None
    own = replace(world.records[1], foreign="MLflow run x was written by Kubeflow run clone")
    del world.writers[1]
    world.records[1] = own
    world.reconcile()
    assert "clone" in world.condition(TRAINED).message
    assert [event.reason for event in world.events].count("CopiedRunIgnored") == 1
    world.roll_out()
    assert world.ready()
    assert [event.reason for event in world.events].count("CopiedRunIgnored") == 1


def test_run_reports_a_model_that_only_a_clone_recorded(world: World) -> None:
    world.reconcile()
    world.succeed()
    world.writers[1] = "clone"
    world.pass_time(minutes=2)
    world.reconcile()
    assert world.condition(TRAINED).reason == Reason.MODEL_NOT_LOGGED
    assert "Kubeflow run clone" in world.condition(TRAINED).message


def test_later_run_of_the_same_name_is_ignored(world: World) -> None:
    """Users can give a clone the name of the original."""
    world.reconcile()
    own = world.run()
    world.pass_time(minutes=2)
    world.add_run(own.name)
    clone = world.run().id
    world.reconcile()
    assert [run.id for run in world.runs] == [own.id, clone], "the clone is not a duplicate submission"
    assert world.status.run is not None
    assert world.status.run.id == own.id
    world.annotate(cancel="1")
    world.reconcile()
    assert {run.id: run.state for run in world.runs} == {own.id: RunState.CANCELING, clone: RunState.PENDING}


def test_clone_does_not_replace_a_deleted_run(world: World) -> None:
    world.reconcile()
    world.pass_time(minutes=2)
    world.add_run(world.run().name)
    world.runs.pop(0)
    world.reconcile()
    assert world.created[-1] == "mlflow-01234567-1-2"
    assert world.status.run is not None
    assert world.status.run.attempt == 2


def test_failure_without_a_reason_does_not_count_during_a_store_outage(world: World) -> None:
    """The launcher of Kubeflow Pipelines, not the step, fails to download or upload artifacts."""
    world.change(training={"attempts": 1})
    world.reconcile()
    world.move_run(RunState.FAILED, failed_step="train")
    world.down[CheckArtifact] = Unavailable(Reason.OBJECT_STORE_UNAVAILABLE, "the object store at http://minio does not answer")
    world.reconcile()
    assert world.condition(TRAINED).reason == "ObjectStoreUnavailable"
    assert "This attempt does not count." in world.condition(TRAINED).message
    assert "http://minio" in world.condition(TRAINED).message
    del world.down[CheckArtifact]
    world.reconcile()
    assert world.condition(TRAINED).reason == "ObjectStoreUnavailable", "the store was down when the run failed"
    world.pass_time(minutes=1)
    world.reconcile()
    assert world.status.run is not None
    assert (world.status.run.attempt, world.status.run.uncounted_attempts, world.status.run.problem) == (2, 1, None)
    world.move_run(RunState.FAILED, failed_step="train")
    world.reconcile()
    assert world.status.stage is Stage.FAILED
