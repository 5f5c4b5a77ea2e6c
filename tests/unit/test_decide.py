"""Decisions over the lifecycle of a WinePipeline: from apply to a verified endpoint, with drift and crashes."""

from collections.abc import Callable

import pytest
from support.memory import Crash
from support.world import World

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused
from winepipelines.api.observed import Child, Presence, Rival, RunState, SecretState
from winepipelines.api.status import ConditionType, RevisionOutcome, Stage
from winepipelines.pipelines.actions import ApplyChildren

READY, TRAINED = ConditionType.READY, ConditionType.TRAINED


class TestLifecycle:
    def test_pipeline_goes_from_apply_to_ready(self, world: World) -> None:
        world.reconcile()
        assert world.status.stage is Stage.TRAINING
        assert world.created == ["mlflow-01234567-1"]
        assert world.condition(TRAINED).reason == Reason.RUN_PENDING

        world.move_run(RunState.RUNNING)
        world.reconcile()
        assert world.condition(READY).reason == Reason.RUN_IN_PROGRESS

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
        assert world.status.served.model.metrics == {"r2": 0.14}
        assert world.status.last_prediction is not None
        assert world.status.last_prediction.value == 5.7
        assert [entry.outcome for entry in world.status.history] == [RevisionOutcome.SERVED]
        assert {condition.type for condition in world.status.conditions if condition.status == "True"} == {
            "Ready",
            "Prepared",
            "Trained",
            "Accepted",
            "Deployed",
            "EndpointVerified",
        }

    def test_settled_pipeline_costs_no_write_and_no_request_to_kubeflow(self, world: World) -> None:
        world.serve()
        before = world.writes
        world.calls.clear()
        decision = world.reconcile()
        assert world.writes == before
        assert "Runs" not in world.calls
        assert decision.requeue_at == world.now + world.timeouts.check_interval
        assert decision.follow is None

    def test_conditions_conform_to_kstatus(self, world: World) -> None:
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

    def test_each_transition_has_one_event(self, world: World) -> None:
        world.serve()
        reasons = [event.reason for event in world.events]
        assert reasons.count("RevisionStarted") == 1
        assert reasons.count(Reason.SERVING) == 1
        assert len(reasons) == len(set(reasons))


class TestPrepare:
    def test_missing_source_secret_is_named(self, world: World) -> None:
        world.source = SecretState("kubeflow", "source", exists=False)
        world.reconcile()
        assert world.condition(READY).reason == Reason.SOURCE_SECRET_MISSING
        assert "Secret kubeflow/source does not exist" in world.condition(READY).message
        assert world.created == []
        world.source = SecretState("kubeflow", "source", exists=True)
        world.reconcile()
        assert world.created

    def test_keys_of_the_profile_are_named(self, world: World) -> None:
        world.source = SecretState("admin", "mlpipeline-minio-artifact", exists=True)
        world.reconcile()
        message = world.condition(ConditionType.PREPARED).message
        assert message.endswith("Models are copied with the keys of Secret mlpipeline-minio-artifact of this namespace.")

    def test_missing_keys_are_named(self, world: World) -> None:
        world.artifacts = SecretState("admin", "artifacts", True, ("secretkey",))
        world.reconcile()
        assert world.condition(READY).reason == Reason.ARTIFACT_SECRET_INCOMPLETE
        assert "secretkey" in world.condition(READY).message

    def test_poddefaults_are_skipped_without_their_kind(self, world: World) -> None:
        world.children = Presence.KIND_MISSING
        world.reconcile()
        assert world.condition(ConditionType.PREPARED).status == "True"
        assert world.condition(ConditionType.PREPARED).reason == Reason.POD_DEFAULTS_SKIPPED
        assert world.created

    def test_unmanaged_secret_is_reported_and_not_changed(self, world: World) -> None:
        world.children = Presence.NOT_MANAGED
        world.reconcile()
        assert world.condition(READY).reason == Reason.NOT_MANAGED
        assert "kubectl -n admin delete secret" in world.condition(READY).message
        assert world.children is Presence.NOT_MANAGED

    def test_unmanaged_poddefault_does_not_block_and_is_reported(self, world: World) -> None:
        world.unmanaged_kinds = {"PodDefault"}
        world.reconcile()
        assert world.condition(ConditionType.PREPARED).status == "True"
        assert world.condition(ConditionType.PREPARED).reason == Reason.NOT_MANAGED
        assert "kubectl -n admin delete poddefault access-minio" in world.condition(ConditionType.PREPARED).message
        assert world.created

    def test_platforms_poddefault_is_used_and_ours_is_deleted(self, world: World) -> None:
        world.serve()
        rival = Rival("mlflow-server-access-minio", ("AWS_ACCESS_KEY_ID",))
        world.withheld = Child("PodDefault", "access-minio", Presence.SUPERFLUOUS, rival=rival)
        world.reconcile()
        assert world.ready()
        assert world.withheld.presence is Presence.WITHHELD
        assert world.updated == [
            "Deleted PodDefault access-minio: PodDefault mlflow-server-access-minio of the platform gives the same variables."
        ]
        world.reconcile()
        prepared = world.condition(ConditionType.PREPARED)
        assert (prepared.status, prepared.reason) == ("True", Reason.PREPARED)
        assert "Uses PodDefault mlflow-server-access-minio of the platform instead of access-minio. Secret" in prepared.message

    def test_conflicting_poddefault_is_reported_and_ours_is_not_created(self, world: World) -> None:
        rival = Rival("team-minio", ("AWS_ACCESS_KEY_ID",), ("AWS_SECRET_ACCESS_KEY", "MINIO_ENDPOINT_URL"))
        world.withheld = Child("PodDefault", "access-minio", Presence.WITHHELD, rival=rival)
        world.reconcile()
        prepared = world.condition(ConditionType.PREPARED)
        assert (prepared.status, prepared.reason) == ("True", Reason.POD_DEFAULT_CONFLICT)
        for part in ("access-minio is not created", "team-minio", "sets AWS_ACCESS_KEY_ID", "Add AWS_SECRET_ACCESS_KEY, MINIO"):
            assert part in prepared.message
        assert world.created, "runs do not need PodDefaults"
        world.withheld, world.children = None, Presence.ABSENT
        world.reconcile()
        assert world.children is Presence.CURRENT
        assert world.condition(ConditionType.PREPARED).reason == Reason.PREPARED

    def test_poddefault_that_has_the_pods_of_steps_refused_blocks_runs_until_it_is_gone(self, world: World) -> None:
        world.refusal = Rival("all-pods", ("AWS_ACCESS_KEY_ID",))
        world.reconcile()
        assert world.condition(READY).reason == Reason.POD_DEFAULT_CONFLICT
        assert "kubectl -n admin edit poddefault all-pods" in world.condition(READY).message
        assert not world.created
        world.refusal = None
        world.reconcile()
        assert world.created

    @pytest.mark.parametrize(("found", "change"), [(Presence.ABSENT, "was deleted"), (Presence.DIFFERS, "was changed")])
    def test_drift_is_corrected_and_reported(self, world: World, found: Presence, change: str) -> None:
        world.serve()
        writes, world.children = world.writes, found
        world.reconcile()
        assert world.children is Presence.CURRENT
        assert world.ready()
        assert world.writes == writes, "the model keeps serving"
        [message] = world.drift_corrected
        assert f"Secret seldon-init-container-secret {change}" in message

    def test_changed_source_is_not_reported_as_drift(self, world: World) -> None:
        world.serve()
        writes, world.children = world.writes, Presence.OUTDATED
        world.reconcile()
        assert world.children is Presence.CURRENT
        assert world.ready()
        assert world.writes == writes
        assert world.drift_corrected == []
        [message] = world.updated
        assert "Secret seldon-init-container-secret" in message

    def test_unreadable_secret_does_not_block(self, world: World) -> None:
        world.artifacts = None
        world.reconcile()
        assert world.condition(ConditionType.PREPARED).status == "True"
        assert world.created

    def test_drift_that_cannot_be_corrected_is_reported_once(self, world: World) -> None:
        world.serve()
        world.children = Presence.ABSENT
        world.down[ApplyChildren] = Refused(Reason.KUBERNETES_REQUEST_REJECTED, "no rights")
        world.reconcile()
        assert world.condition(ConditionType.PREPARED).reason == "KubernetesRequestRejected"
        assert world.condition(READY).status == "False"
        events = len(world.events)
        world.pass_time(seconds=10)
        world.reconcile()
        assert len(world.events) == events
        del world.down[ApplyChildren]
        world.reconcile()
        assert world.ready()


def _run_lifecycle(world: World) -> None:
    """Serve two revisions. The first run fails once."""
    stages: list[Callable[[], None]] = [
        lambda: world.fail() if world.run().live else None,
        lambda: world.pass_time(minutes=1),
        lambda: world.succeed() if world.runs and world.run().live else None,
        lambda: setattr(world, "rolled_out", True),
        lambda: world.change(data={"url": "http://data/second.csv"}),
        lambda: world.succeed() if world.run().live else None,
        lambda: setattr(world, "rolled_out", True),  # as the canary
        lambda: setattr(world, "rolled_out", True),  # as the served model
    ]
    _settle(world)
    for stage in stages:
        stage()
        _settle(world)


def _settle(world: World) -> None:
    """Reconcile. After a crash, reconcile again half a minute later."""
    while True:
        try:
            world.reconcile()
        except Crash:
            world.pass_time(seconds=31)
        else:
            return


def test_lifecycle_ends_the_same_after_a_crash_at_any_call() -> None:
    uninterrupted = World()
    _run_lifecycle(uninterrupted)
    assert uninterrupted.ready()
    for call in range(len(uninterrupted.calls) * 2):
        world = World(crash_in=call)
        _run_lifecycle(world)
        assert world.ready(), call
        assert world.created == uninterrupted.created, call
        assert max(world.most_live.values()) == 1, call
        assert world.status.served is not None
        assert world.status.served.revision == 2
        assert [entry.outcome for entry in world.status.history] == [RevisionOutcome.SERVED, RevisionOutcome.SERVED], call
