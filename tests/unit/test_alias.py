"""Aliases in the model registry follow the served model. Readiness does not depend on them."""

from support.memory import Crash
from support.world import World

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused, Unavailable
from winepipelines.api.observed import SecretState, TrainingRecords
from winepipelines.api.status import ConditionType
from winepipelines.pipelines.actions import SetAlias
from winepipelines.pipelines.queries import GetAlias


def alias_queries(world: World) -> int:
    return world.calls.count(GetAlias.__name__)


def reconcile_until_ready(world: World) -> None:
    world.reconcile()
    world.succeed()
    world.reconcile()
    world.rolled_out = True
    world.reconcile()
    assert world.ready()


def test_served_model_gets_the_alias_and_status_records_it() -> None:
    world = World()
    world.serve()
    assert world.alias == "1"
    assert world.status.served is not None
    assert world.status.served.alias == "champion"


def test_pipeline_is_ready_before_the_alias_is_set() -> None:
    world = World()
    reconcile_until_ready(world)
    assert alias_queries(world) == 0
    assert world.decision is not None
    assert world.decision.requeue_at == world.now, "the next reconcile is due now"


def test_settled_pipeline_sends_no_request_to_the_registry() -> None:
    world = World()
    world.serve()
    before, writes = alias_queries(world), world.writes
    for _ in range(3):
        world.pass_time(minutes=5)
        world.reconcile()
    assert alias_queries(world) == before
    assert world.writes == writes


def test_alias_moves_to_the_next_model_once_it_serves() -> None:
    world = World()
    world.serve()
    world.change(data={"url": "http://data/new.csv"})
    world.reconcile()
    world.succeed()
    world.reconcile()
    assert (world.alias, world.versions["challenger"]) == ("1", "2")
    world.roll_out()
    assert world.versions == {"champion": "2"}, "there is no challenger any more"


def test_rejected_model_never_gets_the_alias() -> None:
    world = World()
    world.serve()
    world.change(data={"url": "http://data/new.csv"})
    world.reconcile()
    world.succeed()
    world.wrong_answers = {2}
    world.reconcile()
    world.rolled_out = True
    world.reconcile()
    world.pass_time(minutes=1)
    world.reconcile()
    world.rolled_out = True
    world.reconcile()
    assert world.alias == "1"


def test_alias_is_set_at_a_later_reconcile_when_mlflow_fails() -> None:
    for down, error in (
        (GetAlias, Unavailable(Reason.MLFLOW_UNAVAILABLE, "down")),
        (SetAlias, Refused(Reason.MLFLOW_REQUEST_REJECTED, "no")),
    ):
        world = World()
        world.down[down] = error
        reconcile_until_ready(world)
        writes = world.writes
        for _ in range(3):
            world.reconcile()
            assert world.ready()
            assert world.decision is not None
            assert world.decision.requeue_at is not None
            assert world.decision.requeue_at > world.now
        assert (world.alias, world.writes) == ("", writes)
        del world.down[down]
        world.pass_time(minutes=5)
        world.reconcile()
        assert world.alias == "1"


def test_model_without_a_version_gets_no_alias() -> None:
    world = World()
    world.reconcile()
    world.succeed()
    model = world.records[1].model
    assert model is not None
    world.records[1] = TrainingRecords(model.with_(version=""))
    world.reconcile()
    world.rolled_out = True
    world.reconcile()
    world.reconcile()
    assert world.ready()
    assert alias_queries(world) == 0


def test_alias_is_set_after_a_crash_at_any_call() -> None:
    for call in range(6):
        world = World()
        reconcile_until_ready(world)
        world.crash_in = call
        try:
            world.reconcile()
        except Crash:
            world.reconcile()
        assert world.alias == "1", call
        assert world.status.served is not None
        assert world.status.served.alias == "champion", call


def test_alias_of_a_shared_registered_model_stays_with_the_last_promoted() -> None:
    """Two pipelines share a registered model: the first must not move the alias back at each reconcile."""
    world = World()
    world.serve()
    world.set_alias("2", "theirs")
    world.pass_time(minutes=5)
    world.reconcile()
    assert world.alias == "2"


def test_no_run_is_created_until_the_mlflow_secret_is_complete() -> None:
    world = World(mlflow_secret=SecretState("kubeflow", "mlflow-tracking-credentials", False))
    world.reconcile()
    prepared = world.condition(ConditionType.PREPARED)
    assert (prepared.status, prepared.reason) == ("False", Reason.MLFLOW_SECRET_MISSING)
    assert "Secret kubeflow/mlflow-tracking-credentials does not exist" in prepared.message
    assert world.created == []
    keys = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    world.mlflow_secret = SecretState("kubeflow", "mlflow-tracking-credentials", True, keys)
    world.reconcile()
    prepared = world.condition(ConditionType.PREPARED)
    assert prepared.reason == Reason.MLFLOW_SECRET_INCOMPLETE
    assert all(key in prepared.message for key in keys)
    world.mlflow_secret = SecretState("kubeflow", "mlflow-tracking-credentials", True)
    world.reconcile()
    assert len(world.created) == 1


def test_rejected_model_record_is_reported_and_not_deployed() -> None:
    world = World()
    world.reconcile()
    world.succeed()
    world.records[1] = TrainingRecords(refused="MLflow run x says that its model is at :http,url=…:")
    world.reconcile()
    assert world.condition(ConditionType.TRAINED).reason == Reason.MODEL_RECORD_REJECTED
    assert "MLflow run x" in world.condition(ConditionType.READY).message
    assert world.applied is None


def test_deletion_leaves_the_alias_of_another_pipelines_version_with_the_same_number() -> None:
    """Two pipelines share a registered model, and one of them had another before: each has a version 1."""
    world = World()
    world.serve()
    world.change(training={"registeredModel": "shared"})
    world.set_alias("1", "theirs")
    world.set_alias("1", "theirs", "challenger")
    world.delete()
    world.reconcile()
    assert world.versions == {"champion": "1", "challenger": "1"}
    assert ("admin.mlflow", "champion") not in world.aliases, "the alias in its former registered model is deleted"


def test_challenger_alias_moves_when_the_registered_model_changes() -> None:
    world = World()
    world.serve()
    world.change(data={"url": "http://data/new.csv"})
    world.reconcile()
    world.succeed()
    world.reconcile()
    assert ("admin.mlflow", "challenger") in world.aliases
    world.change(training={"registeredModel": "shared"})
    world.set_alias("2", "theirs", "challenger")
    world.reconcile()
    assert ("admin.mlflow", "challenger") not in world.aliases
    assert world.aliases["shared", "challenger"].mlflow_run == "theirs"


def test_alias_is_set_when_another_registered_model_has_the_same_version_number() -> None:
    world = World()
    reconcile_until_ready(world)
    world.set_alias("1", "theirs")
    world.reconcile()
    assert world.aliases["admin.mlflow", "champion"].mlflow_run == "mlflow-1"
