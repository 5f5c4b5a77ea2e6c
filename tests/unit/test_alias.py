"""The registry's alias follows what serves, and nothing depends on it; MLflow's Secret is asked for where one is named."""

from dataclasses import replace

from support.memory import Crash
from support.world import World

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.actions import SetAlias
from winepipelines.lifecycle.questions import Aliased
from winepipelines.resource.errors import Refused, Unavailable
from winepipelines.resource.observed import SecretState, TrainingRecords
from winepipelines.resource.status import ConditionType


def asked(world: World) -> int:
    return world.calls.count(Aliased.__name__)


def served_to_ready(world: World) -> None:
    world.reconcile()
    world.succeed()
    world.reconcile()
    world.rolled_out = True
    world.reconcile()
    assert world.ready()


def test_what_serves_gets_the_alias_and_the_status_says_so() -> None:
    world = World()
    world.serve()
    assert world.alias == "1"
    assert world.status.served is not None
    assert world.status.served.alias == "champion"


def test_ready_does_not_wait_for_it() -> None:
    world = World()
    served_to_ready(world)
    assert asked(world) == 0
    assert world.decision is not None
    assert world.decision.wake_at == world.now, "it is looked at again at once"


def test_a_settled_resource_asks_nothing_of_the_registry() -> None:
    world = World()
    world.serve()
    before, writes = asked(world), world.writes
    for _ in range(3):
        world.pass_time(minutes=5)
        world.reconcile()
    assert asked(world) == before
    assert world.writes == writes


def test_the_next_model_gets_it_when_it_serves_and_not_before() -> None:
    world = World()
    world.serve()
    world.change(data={"url": "http://data/new.csv"})
    world.reconcile()
    world.succeed()
    world.reconcile()
    assert (world.alias, world.versions["challenger"]) == ("1", "2")
    world.roll_out()
    assert world.versions == {"champion": "2"}, "nothing challenges it any more"


def test_a_model_that_is_taken_back_never_had_it() -> None:
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


def test_mlflow_down_leaves_it_ready_and_is_asked_at_the_next_look() -> None:
    for down, error in ((Aliased, Unavailable("MlflowUnavailable", "down")), (SetAlias, Refused("MlflowRefused", "no"))):
        world = World()
        world.down[down] = error
        served_to_ready(world)
        writes = world.writes
        for _ in range(3):
            world.reconcile()
            assert world.ready()
            assert world.decision is not None
            assert world.decision.wake_at is not None
            assert world.decision.wake_at > world.now
        assert (world.alias, world.writes) == ("", writes)
        del world.down[down]
        world.pass_time(minutes=5)
        world.reconcile()
        assert world.alias == "1"


def test_a_version_that_is_none_gets_no_alias() -> None:
    world = World()
    world.reconcile()
    world.succeed()
    model = world.records[1].model
    assert model is not None
    world.records[1] = TrainingRecords(replace(model, version=""))
    world.reconcile()
    world.rolled_out = True
    world.reconcile()
    world.reconcile()
    assert world.ready()
    assert asked(world) == 0


def test_a_crash_around_it_changes_nothing_in_the_end() -> None:
    for moment in range(6):
        world = World()
        served_to_ready(world)
        world.crash_in = moment
        try:
            world.reconcile()
        except Crash:
            world.reconcile()
        assert world.alias == "1", moment
        assert world.status.served is not None
        assert world.status.served.alias == "champion", moment


def test_the_last_served_of_two_keeps_it() -> None:
    """Two resources of one registered model: the first does not take it back at every look."""
    world = World()
    world.serve()
    world.give_alias("2", "theirs")
    world.pass_time(minutes=5)
    world.reconcile()
    assert world.alias == "2"


def test_a_named_secret_for_mlflow_must_be_there_before_anything_runs() -> None:
    world = World(mlflow_secret=SecretState("kubeflow", "mlflow-tracking-credentials", False))
    world.reconcile()
    prepared = world.condition(ConditionType.PREPARED)
    assert (prepared.status, prepared.reason) == ("False", reasons.MLFLOW_SECRET_MISSING)
    assert "mlflow-tracking-credentials in namespace kubeflow" in prepared.message
    assert world.created == []
    keys = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    world.mlflow_secret = SecretState("kubeflow", "mlflow-tracking-credentials", True, keys)
    world.reconcile()
    prepared = world.condition(ConditionType.PREPARED)
    assert prepared.reason == reasons.MLFLOW_SECRET_INCOMPLETE
    assert all(key in prepared.message for key in keys)
    world.mlflow_secret = SecretState("kubeflow", "mlflow-tracking-credentials", True)
    world.reconcile()
    assert len(world.created) == 1


def test_a_record_that_is_not_believed_is_told_and_nothing_is_deployed() -> None:
    world = World()
    world.reconcile()
    world.succeed()
    world.records[1] = TrainingRecords(refused="MLflow run x says that its model is at :http,url=…:")
    world.reconcile()
    assert world.condition(ConditionType.TRAINED).reason == reasons.MODEL_RECORD_REFUSED
    assert "MLflow run x" in world.condition(ConditionType.READY).message
    assert world.applied is None


def test_deletion_leaves_the_alias_of_another_resources_version_with_the_same_number() -> None:
    """Two resources of one registered model, of which one had another before: both have a version 1."""
    world = World()
    world.serve()
    world.change(training={"registeredModel": "shared"})
    world.give_alias("1", "theirs")
    world.give_alias("1", "theirs", "challenger")
    world.delete()
    world.reconcile()
    assert world.versions == {"champion": "1", "challenger": "1"}
    assert ("admin.mlflow", "champion") not in world.aliases, "its own is gone, in the registered model that it was of"


def test_a_challenger_moves_with_the_registered_model() -> None:
    world = World()
    world.serve()
    world.change(data={"url": "http://data/new.csv"})
    world.reconcile()
    world.succeed()
    world.reconcile()
    assert ("admin.mlflow", "challenger") in world.aliases
    world.change(training={"registeredModel": "shared"})
    world.give_alias("2", "theirs", "challenger")
    world.reconcile()
    assert ("admin.mlflow", "challenger") not in world.aliases
    assert world.aliases["shared", "challenger"].mlflow_run == "theirs"


def test_the_alias_of_the_same_number_in_another_registered_model_is_not_taken_for_its_own() -> None:
    world = World()
    served_to_ready(world)
    world.give_alias("1", "theirs")
    world.reconcile()
    assert world.aliases["admin.mlflow", "champion"].mlflow_run == "mlflow-1"
