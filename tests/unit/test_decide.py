"""The story of a resource, told by the decisions: from apply to an answering model, and everything in the way."""

from collections.abc import Callable

import pytest
from support.memory import Crash
from support.world import World

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.actions import ApplyChildren
from winepipelines.resource.errors import Refused
from winepipelines.resource.observed import Presence, RunState, SecretState
from winepipelines.resource.status import ConditionType, Outcome, Stage

READY, TRAINED = ConditionType.READY, ConditionType.TRAINED


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

    def test_a_copy_whose_source_has_changed_is_no_drift(self, world: World) -> None:
        world.serve()
        writes, world.children = world.writes, Presence.OUTDATED
        world.reconcile()
        assert world.children is Presence.CURRENT
        assert world.ready()
        assert world.writes == writes
        assert world.mended == []
        [told] = world.updated
        assert "Secret seldon-init-container-secret" in told

    def test_a_secret_that_cannot_be_looked_at_hinders_nothing(self, world: World) -> None:
        world.artifacts = None
        world.reconcile()
        assert world.condition(ConditionType.PREPARED).status == "True"
        assert world.created

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
