"""Which serving backend serves a resource, and how a served model moves from one to another."""

from dataclasses import replace
from datetime import timedelta

import pytest
from support.memory import Crash
from support.world import KSERVE, SELDON, World

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused, Unavailable
from winepipelines.api.observed import BackendsView, Presence
from winepipelines.api.spec import DeletionPolicy
from winepipelines.api.status import Condition, ConditionType
from winepipelines.pipelines.actions import ApplyDeployment, DeleteDeployment
from winepipelines.pipelines.queries import GetDeployment, ProbeEndpoint

GRACE = timedelta(minutes=10)


def move(world: World, backend: str = KSERVE) -> None:
    world.change(serving=world.pipeline.spec.serving.with_(backend=backend).model_dump(by_alias=True))


def migrated(world: World) -> Condition:
    return world.condition(ConditionType.MIGRATED)


def served_on(world: World) -> str:
    assert world.status.served is not None
    return world.status.served.backend


@pytest.fixture
def world() -> World:
    """A resource that is served on Seldon."""
    world = World()
    world.serve()
    assert served_on(world) == SELDON
    return world


@pytest.fixture
def moving(world: World) -> World:
    """A resource whose model is being rolled out on KServe."""
    move(world)
    world.reconcile()
    return world


class TestChoice:
    def test_default_serves_a_resource_that_names_no_backend(self) -> None:
        world = World(backends=BackendsView((SELDON, KSERVE), KSERVE, SELDON, (SELDON,)))
        world.serve()
        assert served_on(world) == KSERVE
        assert world.deployments[SELDON].applied is None

    def test_spec_names_the_backend(self) -> None:
        world = World()
        move(world)
        world.serve()
        assert served_on(world) == KSERVE

    def test_another_default_moves_no_served_model(self, world: World) -> None:
        writes = world.writes
        world.backends = replace(world.backends, default=KSERVE)
        world.reconcile()
        assert (served_on(world), world.writes, world.status.migration) == (SELDON, writes, None)

    def test_backend_that_is_not_enabled_is_reported_with_the_fix(self) -> None:
        world = World(backends=BackendsView((SELDON,), SELDON, SELDON))
        move(world)
        world.reconcile()
        ready = world.ready_condition()
        assert ready.reason == Reason.SERVING_BACKEND_DISABLED
        assert "Set spec.serving.backend to Seldon, or ask the platform administrator to add KServe" in ready.message
        assert world.condition(ConditionType.STALLED).status == "True"

    def test_kind_that_is_installed_later_is_used(self) -> None:
        world = World(backends=BackendsView((SELDON, KSERVE), SELDON, SELDON, (SELDON, KSERVE)))
        world.down[GetDeployment] = Unavailable(Reason.KUBERNETES_UNAVAILABLE, "no answer")
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.down.clear()
        world.backends = BackendsView((SELDON, KSERVE), KSERVE, SELDON, (SELDON,))
        world.roll_out()
        assert served_on(world) == KSERVE

    def test_record_without_a_backend_is_not_written_again(self, world: World) -> None:
        status = world.status
        assert status.served is not None
        assert status.candidate is not None
        earlier = status.with_(served=status.served.with_(backend=""), candidate=status.candidate.with_(backend=""))
        world.pipeline = world.pipeline.with_status(earlier)
        writes, calls = world.writes, len(world.calls)
        world.reconcile()
        assert world.writes == writes
        assert "ApplyDeployment" not in world.calls[calls:]

    def test_first_model_goes_to_the_backend_that_the_spec_names_last(self) -> None:
        world = World()
        world.reconcile()
        world.succeed()
        world.reconcile()
        assert world.deployments[SELDON].applied is not None
        move(world)
        world.roll_out()
        assert served_on(world) == KSERVE
        assert world.ready()
        assert world.deployments[SELDON].applied is None, "nobody needs what was half made"
        assert world.status.retiring is None

    def test_deployment_of_a_superseded_revision_on_another_backend_is_deleted(self) -> None:
        world = World()
        move(world)
        world.reconcile()
        world.succeed()
        world.reconcile()
        assert world.deployments[KSERVE].applied is not None
        world.change(data={"url": "http://data/better.csv"}, serving={})
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.roll_out()
        assert served_on(world) == SELDON
        assert world.deployments[KSERVE].applied is None


class TestMove:
    def test_model_is_rolled_out_beside_the_one_that_serves(self, moving: World) -> None:
        assert moving.ready()
        assert served_on(moving) == SELDON
        assert {name: one.applied is not None for name, one in moving.deployments.items()} == {SELDON: True, KSERVE: True}
        assert (migrated(moving).status, migrated(moving).reason) == ("False", Reason.MIGRATION_IN_PROGRESS)
        assert not moving.drift_corrected

    def test_status_switches_when_the_model_answers_and_the_earlier_deployment_stays_for_the_grace(self, moving: World) -> None:
        runs = len(moving.created)
        moving.deployments[KSERVE].rolled_out = True
        moving.pass_time(seconds=5)
        moving.reconcile()
        assert served_on(moving) == KSERVE
        assert moving.ready()
        assert (migrated(moving).status, migrated(moving).reason) == ("True", Reason.MIGRATION_COMPLETE)
        assert moving.deployments[SELDON].applied is not None
        assert moving.status.retiring is not None
        assert len(moving.created) == runs, "nothing is trained again"

        moving.pass_time(minutes=11)
        moving.reconcile()
        assert moving.deployments[SELDON].applied is None
        assert moving.status.retiring is None
        assert migrated(moving).message == "The served model has moved to KServe."
        assert moving.ready()

    def test_nothing_is_written_after_a_move(self, moving: World) -> None:
        moving.roll_out()
        moving.pass_time(minutes=11)
        moving.reconcile()
        writes, applied = moving.writes, moving.calls.count("ApplyDeployment")
        for _ in range(4):
            moving.pass_time(minutes=20)
            moving.reconcile()
        assert (moving.writes, moving.calls.count("ApplyDeployment")) == (writes, applied)

    def test_grace_of_the_spec_is_kept(self, world: World) -> None:
        world.change(serving={"backend": KSERVE, "migrationGrace": "1h"})
        world.roll_out()
        world.pass_time(minutes=59)
        world.reconcile()
        assert world.deployments[SELDON].applied is not None
        world.pass_time(minutes=2)
        world.reconcile()
        assert world.deployments[SELDON].applied is None

    def test_model_with_a_wrong_answer_is_not_switched_to(self, moving: World) -> None:
        moving.wrong_answers = {1}
        moving.deployments[KSERVE].rolled_out = True
        moving.pass_time(minutes=20)
        moving.reconcile()
        assert served_on(moving) == SELDON
        assert migrated(moving).reason == "PredictionMismatch"
        assert "Revision 1 keeps serving on Seldon" in migrated(moving).message

    def test_move_that_fails_is_reported_after_the_deadline_and_succeeds_once_it_is_corrected(self, moving: World) -> None:
        moving.deployments[KSERVE].pods_fail = ("ErrImagePull", "no such image")
        moving.reconcile()
        moving.pass_time(minutes=16)
        moving.reconcile()
        condition = migrated(moving)
        assert (condition.status, condition.reason) == ("False", "ErrImagePull")
        assert condition.message.startswith("No such image. Revision 1 keeps serving on Seldon.")
        assert moving.ready()
        writes = moving.writes
        moving.pass_time(minutes=1)
        moving.reconcile()
        assert moving.writes == writes, "a failed move is written once"

        moving.deployments[KSERVE].pods_fail = ("", "")
        moving.deployments[KSERVE].rolled_out = True
        moving.reconcile()
        assert served_on(moving) == KSERVE

    def test_outage_of_the_other_backend_leaves_the_model_serving(self, world: World) -> None:
        world.down[ApplyDeployment] = Refused(Reason.DEPLOYMENT_REJECTED, "denied by a webhook")
        move(world)
        world.reconcile()
        assert world.ready()
        assert migrated(world).reason == Reason.DEPLOYMENT_REJECTED
        writes = world.writes
        world.pass_time(seconds=10)
        world.reconcile()
        assert world.writes == writes

    def test_object_of_somebody_else_is_not_overwritten(self, world: World) -> None:
        world.deployments[KSERVE].foreign = True
        move(world)
        world.reconcile()
        assert migrated(world).reason == Reason.NOT_MANAGED
        assert world.deployments[KSERVE].applied is None

    @pytest.mark.parametrize("reason", [Reason.NAME_UNSUPPORTED, Reason.RUNTIME_UNSUPPORTED])
    def test_move_to_a_backend_that_cannot_serve_the_resource_has_the_backends_reason(self, world: World, reason: Reason) -> None:
        world.servers[KSERVE] = replace(world.server, problem="It cannot serve this.", problem_reason=reason)
        move(world)
        world.reconcile()
        assert migrated(world).reason == reason
        assert migrated(world).message.startswith("It cannot serve this. Revision 1 keeps serving on Seldon.")
        assert world.ready()
        assert world.deployments[KSERVE].applied is None

    def test_move_without_an_input_example_fails(self, moving: World) -> None:
        moving.deployments[KSERVE].rolled_out = True
        moving.down[ProbeEndpoint] = Refused(Reason.INPUT_EXAMPLE_MISSING, "no usable input example")
        moving.reconcile()
        assert served_on(moving) == SELDON
        assert migrated(moving).reason == Reason.INPUT_EXAMPLE_MISSING

    def test_naming_the_earlier_backend_ends_the_move(self, moving: World) -> None:
        move(moving, SELDON)
        moving.reconcile()
        assert moving.status.migration is None
        assert moving.status.condition(ConditionType.MIGRATED) is None
        assert moving.deployments[KSERVE].applied is None
        moving.reconcile()
        assert moving.status.retiring is None
        assert moving.ready()

    def test_moving_back_during_the_grace_keeps_both_until_the_switch(self, moving: World) -> None:
        moving.roll_out()
        assert served_on(moving) == KSERVE
        move(moving, SELDON)
        moving.roll_out()
        assert served_on(moving) == SELDON
        moving.pass_time(minutes=11)
        moving.reconcile()
        moving.reconcile()
        assert moving.deployments[KSERVE].applied is None
        assert moving.deployments[SELDON].applied is not None
        assert moving.ready()

    def test_new_secret_of_a_move_is_not_called_drift(self, world: World) -> None:
        world.children = Presence.CURRENT
        move(world)
        world.reconcile()
        assert not world.drift_corrected

    @pytest.mark.parametrize("call", range(1, 14))
    def test_crash_at_any_call_of_a_move_is_recovered_from(self, world: World, call: int) -> None:
        move(world)
        world.crash_in = call
        for _ in range(4):
            try:
                world.roll_out()
            except Crash:
                world.crash_in = None
        world.pass_time(minutes=11)
        world.roll_out()
        assert served_on(world) == KSERVE
        assert world.deployments[SELDON].applied is None
        assert world.ready()


class TestRevisions:
    def test_revision_goes_to_the_present_backend_while_the_move_waits(self, moving: World) -> None:
        moving.change(data={"url": "http://data/better.csv"})
        moving.reconcile()
        moving.succeed()
        moving.reconcile()
        assert moving.deployments[SELDON].applied is not None
        for deployment in moving.deployments.values():
            deployment.rolled_out = True
        for _ in range(6):
            moving.roll_out()
        assert moving.status.served is not None
        assert (moving.status.served.revision, served_on(moving)) == (2, KSERVE)
        assert moving.ready()

    def test_rollback_after_a_move_comes_up_on_the_backend_of_the_spec(self, world: World) -> None:
        world.change(data={"url": "http://data/better.csv"})
        world.serve()
        move(world)
        world.roll_out()
        assert served_on(world) == KSERVE
        world.annotate(rollback="1")
        world.reconcile()
        world.roll_out()
        served = world.status.served
        assert served is not None
        assert (served.model.revision, served.backend) == (1, KSERVE)
        assert world.deployments[KSERVE].applied is not None

    def test_automatic_rollback_stays_on_the_present_backend(self, world: World) -> None:
        world.change(data={"url": "http://data/better.csv"})
        world.serve()
        move(world)
        world.roll_out()
        world.wrong_answers = {2}
        world.pass_time(seconds=31)
        world.reconcile()
        world.pass_time(minutes=1)
        world.roll_out()
        served = world.status.served
        assert served is not None
        assert (served.revision, served.backend) == (1, KSERVE)


class TestDeletion:
    def test_deletion_during_a_move_deletes_both_deployments(self, moving: World) -> None:
        moving.delete()
        moving.reconcile()
        assert [one.applied for one in moving.deployments.values()] == [None, None]
        assert not moving.exists

    def test_retain_keeps_the_deployment_that_serves(self, moving: World) -> None:
        moving.change(deletionPolicy=DeletionPolicy.RETAIN)
        moving.delete()
        moving.reconcile()
        assert moving.deployments[KSERVE].applied is None
        assert moving.deployments[SELDON].applied is not None
        assert not moving.deployments[SELDON].owned

    def test_deletion_that_waits_for_a_finalizer_is_not_repeated(self, moving: World) -> None:
        moving.roll_out()
        moving.deployments[SELDON].held = True
        moving.pass_time(minutes=11)
        moving.reconcile()
        moving.reconcile()
        assert moving.calls.count("DeleteDeployment") == 1
        moving.deployments[KSERVE].held = True
        moving.delete()
        moving.reconcile()
        assert moving.calls.count("DeleteDeployment") == 2
        for deployment in moving.deployments.values():
            deployment.applied, deployment.deleting = None, False
        moving.reconcile()
        assert not moving.exists

    def test_deployment_that_cannot_be_observed_is_not_deleted(self, moving: World) -> None:
        moving.roll_out()
        moving.down[GetDeployment] = Unavailable(Reason.KUBERNETES_UNAVAILABLE, "no answer")
        moving.pass_time(minutes=11)
        moving.reconcile()
        assert "DeleteDeployment" not in moving.calls

    def test_failed_deletion_of_the_earlier_deployment_is_repeated(self, moving: World) -> None:
        moving.roll_out()
        moving.down[DeleteDeployment] = Unavailable(Reason.KUBERNETES_UNAVAILABLE, "no answer")
        moving.pass_time(minutes=11)
        moving.reconcile()
        assert moving.status.retiring is not None
        assert moving.ready()
        moving.down.clear()
        moving.pass_time(seconds=10)
        moving.reconcile()
        assert moving.status.retiring is None
        assert moving.deployments[SELDON].applied is None
