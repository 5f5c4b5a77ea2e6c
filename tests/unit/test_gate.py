"""The gate: rules for metrics, comparison with the served model, and the status after a failed gate."""

import math

import pytest
from support.world import World

from winecontract.reasons import Reason
from winepipelines.api.observed import TrainingRecords
from winepipelines.api.status import ConditionType, RevisionOutcome, Stage, Trigger

READY, ACCEPTED, ENDPOINT_VERIFIED = ConditionType.READY, ConditionType.ACCEPTED, ConditionType.ENDPOINT_VERIFIED
AT_LEAST = [{"metric": "r2", "atLeast": 0.3}]
NO_WORSE = [{"metric": "r2", "noWorseThanServed": 0.01}, {"metric": "rmse", "noWorseThanServed": 0.0}]


def retrain(world: World, r2: float, **metrics: float) -> None:
    """Train the same spec again, by request."""
    world.annotate(retrain=f"at {world.now}, for r2 {r2}")
    world.reconcile()
    world.succeed(r2, **metrics)
    world.reconcile()


def test_accepted_is_absent_while_the_next_revision_trains(world: World) -> None:
    world.serve()
    assert world.condition(ACCEPTED).message.startswith("Revision 1 ")
    world.annotate(retrain="now")
    world.reconcile()
    assert world.ready()
    assert world.status.condition(ACCEPTED) is None
    world.succeed()
    world.reconcile()
    assert world.condition(ACCEPTED).message.startswith("Revision 2 ")
    world.change(data={"url": "http://data/other.csv"}, suspend=True)
    world.reconcile()
    assert world.status.condition(ACCEPTED) is None, "the gate accepted it for another spec"


def test_deployed_is_absent_while_the_revision_after_a_failed_one_trains(world: World) -> None:
    world.reconcile()
    world.succeed()
    world.reconcile()
    world.pass_time(minutes=16)
    world.reconcile()
    assert world.condition(ConditionType.DEPLOYED).status == "False"
    world.change(data={"url": "http://data/other.csv"})
    world.reconcile()
    assert world.status.revision == 2
    assert world.status.condition(ConditionType.DEPLOYED) is None


class TestGateFailed:
    def test_first_model_that_fails_the_gate_is_not_deployed(self, world: World) -> None:
        world.change(gate=AT_LEAST)
        world.reconcile()
        world.succeed(0.14)
        world.reconcile()
        assert world.applied is None
        assert world.condition(READY).reason == world.condition(ACCEPTED).reason == Reason.GATE_FAILED
        assert "r2 0.14 is below 0.3" in world.condition(READY).message
        assert world.status.stage is Stage.FAILED
        [entry] = world.status.history
        assert entry.model is not None
        assert (entry.outcome, entry.model.metrics) == (RevisionOutcome.GATE_FAILED, {"r2": 0.14})

    def test_pipeline_stays_ready_and_reports_the_failed_gate_after_a_retrain(self, world: World) -> None:
        world.change(gate=AT_LEAST)
        world.reconcile()
        world.succeed(0.5)
        world.reconcile()
        world.roll_out()
        retrain(world, 0.1)
        assert world.ready()
        assert world.condition(READY).message.startswith("Revision 1 serves at")
        assert "Revision 2 failed the gate: r2 0.1 is below 0.3." in world.condition(READY).message
        assert world.condition(ACCEPTED).status == "False"
        assert world.status.stage is Stage.SERVING
        assert world.status.condition(ConditionType.STALLED) is None
        assert world.applied is not None
        assert (world.applied.model.revision, world.applied.canary) == (1, None)
        assert [event.reason for event in world.events if event.warning] == [Reason.GATE_FAILED]

    def test_pipeline_is_not_ready_and_the_earlier_model_serves_when_a_new_spec_fails_the_gate(self, world: World) -> None:
        world.serve()
        world.change(gate=AT_LEAST, training={"seed": 7})
        world.reconcile()
        world.succeed(0.2)
        world.reconcile()
        assert world.condition(READY).reason == Reason.GATE_FAILED
        assert world.condition(ENDPOINT_VERIFIED).status == "True"
        assert world.status.condition(ConditionType.STALLED) is not None
        assert world.applied is not None
        assert world.applied.model.revision == 1

    def test_status_is_not_written_again_after_a_failed_gate(self, world: World) -> None:
        world.serve()
        world.change(gate=AT_LEAST)
        retrain(world, 0.1)
        writes = world.writes
        for _ in range(3):
            world.pass_time(minutes=20)
            world.reconcile()
        assert world.writes == writes

    def test_changed_gate_is_applied_to_the_same_model_without_a_run(self, world: World) -> None:
        world.change(gate=AT_LEAST)
        world.reconcile()
        world.succeed(0.2)
        world.reconcile()
        world.change(gate=[{"metric": "r2", "atLeast": 0.2}])
        world.reconcile()
        world.roll_out()
        assert world.ready()
        assert len(world.created) == 1
        assert [entry.outcome for entry in world.status.history] == [RevisionOutcome.SERVED]

    def test_stricter_gate_does_not_affect_the_served_model(self, world: World) -> None:
        world.serve()
        world.change(gate=[{"metric": "r2", "atLeast": 0.9}])
        world.reconcile()
        assert world.ready()


class TestNumbers:
    @pytest.mark.parametrize("metrics", [{}, {"rmse": math.nan}, {"rmse": math.inf}])
    def test_gate_fails_when_a_metric_is_missing_or_not_finite(self, world: World, metrics: dict[str, float]) -> None:
        world.change(gate=[{"metric": "rmse", "atMost": 5}])
        world.reconcile()
        world.succeed(0.5, **metrics)
        world.reconcile()
        assert "metric 'rmse' is missing or not finite" in world.condition(READY).message

    @pytest.mark.parametrize(("value", "passes"), [(0.8, True), (0.81, False)])
    def test_at_most_includes_its_bound(self, world: World, value: float, passes: bool) -> None:
        world.change(gate=[{"metric": "rmse", "atMost": 0.8}])
        world.reconcile()
        world.succeed(0.5, rmse=value)
        world.reconcile()
        assert (world.applied is not None) is passes

    def test_gate_reports_every_failed_rule(self, world: World) -> None:
        world.change(gate=[*AT_LEAST, {"metric": "rmse", "atMost": 0.5}, {"metric": "r2", "atLeast": 0.1}])
        world.reconcile()
        world.succeed(0.2, rmse=0.8)
        world.reconcile()
        message = world.condition(READY).message
        assert "r2 0.2 is below 0.3" in message
        assert "rmse 0.8 is above 0.5" in message
        assert "0.1" not in message


class TestNoWorseThanServed:
    def test_no_worse_than_served_passes_when_no_model_is_served(self, world: World) -> None:
        world.change(gate=NO_WORSE)
        world.reconcile()
        world.succeed(0.1, rmse=0.9)
        world.reconcile()
        world.roll_out()
        assert world.ready()

    def test_gate_compares_both_models_on_the_new_rows(self, world: World) -> None:
        world.change(gate=NO_WORSE)
        world.reconcile()
        world.succeed(0.5, rmse=0.6)
        world.reconcile()
        world.roll_out()
        retrain(world, 0.3, rmse=0.7, served_r2=0.29, served_rmse=0.7)
        world.roll_out()
        assert world.status.served is not None
        assert world.status.served.revision == 2, "r2 0.3 is below the recorded 0.5, and above 0.29 on the new rows"

    @pytest.mark.parametrize(
        ("metrics", "rule"),
        [
            ({"served_r2": 0.4, "served_rmse": 0.9}, "r2 0.3 is worse than 0.4 of the served revision 1"),
            ({"served_r2": 0.3, "served_rmse": 0.6}, "rmse 0.7 is worse than 0.6 of the served revision 1"),
        ],
    )
    def test_gate_compares_errors_downwards_and_r2_upwards(self, world: World, metrics: dict[str, float], rule: str) -> None:
        world.serve()
        world.change(gate=NO_WORSE)
        retrain(world, 0.3, rmse=0.7, **metrics)
        assert rule in world.condition(ACCEPTED).message
        assert world.ready()

    def test_gate_fails_with_the_steps_message_when_the_served_model_cannot_be_evaluated(self, world: World) -> None:
        world.serve()
        world.change(gate=NO_WORSE)
        world.annotate(retrain="now")
        world.reconcile()
        world.succeed(0.9, rmse=0.1)
        model = world.records[2].model
        assert model is not None
        world.records[2] = TrainingRecords(model, comparison_failure="the data have no column alcohol")
        world.reconcile()
        assert "could not be measured on the same rows: the data have no column alcohol" in world.condition(ACCEPTED).message


def test_unchanged_model_is_not_rolled_out_again(world: World) -> None:
    world.serve()
    model, applied = world.records[1].model, world.applied
    world.annotate(retrain="now")
    world.reconcile()
    world.succeed()
    world.records[2] = TrainingRecords(model)
    world.reconcile()
    world.reconcile()
    assert world.ready()
    assert applied is not None
    assert world.applied is not None
    assert (world.applied.model.uri, world.applied.canary, world.rolled_out) == (applied.model.uri, None, True)
    assert [(entry.revision, entry.outcome) for entry in world.status.history] == [
        (2, RevisionOutcome.UNCHANGED),
        (1, RevisionOutcome.SERVED),
    ]
    assert world.status.history[0].trigger == Trigger.REQUEST
