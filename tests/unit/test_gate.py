"""A model earns its place: what it must show, what becomes of one that does not, and how what serves is told."""

import math
from dataclasses import replace

import pytest
from support.world import World

from winepipelines.lifecycle import reasons
from winepipelines.resource.observed import TrainingRecords
from winepipelines.resource.status import ConditionType, Outcome, Stage, Trigger

READY, ACCEPTED, ANSWERING = ConditionType.READY, ConditionType.ACCEPTED, ConditionType.ANSWERING
AT_LEAST = [{"metric": "r2", "atLeast": 0.3}]
NO_WORSE = [{"metric": "r2", "noWorseThanServed": 0.01}, {"metric": "rmse", "noWorseThanServed": 0.0}]


@pytest.fixture
def world() -> World:
    return World()


def retrained(world: World, r2: float, **metrics: float) -> None:
    """The same spec is trained anew, by request."""
    world.ask(retrain=f"at {world.now}, for r2 {r2}")
    world.reconcile()
    world.succeed(r2, **metrics)
    world.reconcile()


def test_accepted_says_nothing_of_an_earlier_revision_while_the_next_one_trains(world: World) -> None:
    world.serve()
    assert world.condition(ACCEPTED).message.startswith("revision 1 ")
    world.ask(retrain="now")
    world.reconcile()
    assert world.ready()
    assert world.status.condition(ACCEPTED) is None
    world.succeed()
    world.reconcile()
    assert world.condition(ACCEPTED).message.startswith("revision 2 ")
    world.change(data={"url": "http://data/other.csv"}, suspend=True)
    world.reconcile()
    assert world.status.condition(ACCEPTED) is None, "it was accepted by another spec"


def test_nothing_is_said_of_a_first_model_that_failed_while_the_next_one_trains(world: World) -> None:
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


class TestRefused:
    def test_a_first_model_that_shows_too_little_is_not_deployed(self, world: World) -> None:
        world.change(gate=AT_LEAST)
        world.reconcile()
        world.succeed(0.14)
        world.reconcile()
        assert world.applied is None
        assert world.condition(READY).reason == world.condition(ACCEPTED).reason == reasons.GATE_REFUSED
        assert "r2 0.14 is below 0.3" in world.condition(READY).message
        assert world.status.stage is Stage.FAILED
        [entry] = world.status.history
        assert (entry.outcome, entry.metrics) == (Outcome.REFUSED, {"r2": 0.14})

    def test_after_a_retrain_of_the_same_spec_ready_stays_and_names_the_refused(self, world: World) -> None:
        world.change(gate=AT_LEAST)
        world.reconcile()
        world.succeed(0.5)
        world.reconcile()
        world.roll_out()
        retrained(world, 0.1)
        assert world.ready()
        assert world.condition(READY).message.startswith("revision 1 answers")
        assert "revision 2 is refused: r2 0.1 is below 0.3" in world.condition(READY).message
        assert world.condition(ACCEPTED).status == "False"
        assert world.status.stage is Stage.SERVING
        assert world.status.condition(ConditionType.STALLED) is None
        assert world.applied is not None
        assert (world.applied.model.revision, world.applied.trial) == (1, None)
        assert [event.reason for event in world.told if event.warning] == [reasons.GATE_REFUSED]

    def test_after_a_change_of_the_spec_ready_is_false_and_the_earlier_model_answers(self, world: World) -> None:
        world.serve()
        world.change(gate=AT_LEAST, training={"seed": 7})
        world.reconcile()
        world.succeed(0.2)
        world.reconcile()
        assert world.condition(READY).reason == reasons.GATE_REFUSED
        assert world.condition(ANSWERING).status == "True"
        assert world.status.condition(ConditionType.STALLED) is not None
        assert world.applied is not None
        assert world.applied.model.revision == 1

    def test_a_refused_model_costs_no_write_when_nothing_happens(self, world: World) -> None:
        world.serve()
        world.change(gate=AT_LEAST)
        retrained(world, 0.1)
        writes = world.writes
        for _ in range(3):
            world.pass_time(minutes=20)
            world.reconcile()
        assert world.writes == writes

    def test_another_gate_judges_the_same_model_anew_without_a_run(self, world: World) -> None:
        world.change(gate=AT_LEAST)
        world.reconcile()
        world.succeed(0.2)
        world.reconcile()
        world.change(gate=[{"metric": "r2", "atLeast": 0.2}])
        world.reconcile()
        world.roll_out()
        assert world.ready()
        assert len(world.created) == 1
        assert [entry.outcome for entry in world.status.history] == [Outcome.SERVED]

    def test_a_stricter_gate_takes_nothing_away_that_serves(self, world: World) -> None:
        world.serve()
        world.change(gate=[{"metric": "r2", "atLeast": 0.9}])
        world.reconcile()
        assert world.ready()


class TestNumbers:
    @pytest.mark.parametrize("metrics", [{}, {"rmse": math.nan}, {"rmse": math.inf}])
    def test_a_metric_that_is_missing_or_no_number_fails_and_is_named(self, world: World, metrics: dict[str, float]) -> None:
        world.change(gate=[{"metric": "rmse", "atMost": 5}])
        world.reconcile()
        world.succeed(0.5, **metrics)
        world.reconcile()
        assert "it logged no finite metric 'rmse'" in world.condition(READY).message

    @pytest.mark.parametrize(("value", "passes"), [(0.8, True), (0.81, False)])
    def test_at_most_is_a_bound_that_may_be_reached(self, world: World, value: float, passes: bool) -> None:
        world.change(gate=[{"metric": "rmse", "atMost": 0.8}])
        world.reconcile()
        world.succeed(0.5, rmse=value)
        world.reconcile()
        assert (world.applied is not None) is passes

    def test_every_rule_that_fails_is_told(self, world: World) -> None:
        world.change(gate=[*AT_LEAST, {"metric": "rmse", "atMost": 0.5}, {"metric": "r2", "atLeast": 0.1}])
        world.reconcile()
        world.succeed(0.2, rmse=0.8)
        world.reconcile()
        message = world.condition(READY).message
        assert "r2 0.2 is below 0.3" in message
        assert "rmse 0.8 is above 0.5" in message
        assert "0.1" not in message


class TestNoWorseThanServed:
    def test_where_nothing_serves_it_asks_for_nothing(self, world: World) -> None:
        world.change(gate=NO_WORSE)
        world.reconcile()
        world.succeed(0.1, rmse=0.9)
        world.reconcile()
        world.roll_out()
        assert world.ready()

    def test_both_are_compared_on_the_new_rows_not_with_what_was_measured_once(self, world: World) -> None:
        world.change(gate=NO_WORSE)
        world.reconcile()
        world.succeed(0.5, rmse=0.6)
        world.reconcile()
        world.roll_out()
        retrained(world, 0.3, rmse=0.7, served_r2=0.29, served_rmse=0.7)
        world.roll_out()
        assert world.status.served is not None
        assert world.status.served.revision == 2, "r2 0.3 is less than the 0.5 of once, and better than the 0.29 of now"

    @pytest.mark.parametrize(
        ("metrics", "said"),
        [
            ({"served_r2": 0.4, "served_rmse": 0.9}, "r2 0.3 is worse than the 0.4 of revision 1"),
            ({"served_r2": 0.3, "served_rmse": 0.6}, "rmse 0.7 is worse than the 0.6 of revision 1"),
        ],
    )
    def test_less_is_better_of_errors_and_more_of_r2(self, world: World, metrics: dict[str, float], said: str) -> None:
        world.serve()
        world.change(gate=NO_WORSE)
        retrained(world, 0.3, rmse=0.7, **metrics)
        assert said in world.condition(ACCEPTED).message
        assert world.ready()

    def test_a_served_model_that_cannot_be_measured_fails_it_with_the_steps_words(self, world: World) -> None:
        world.serve()
        world.change(gate=NO_WORSE)
        world.ask(retrain="now")
        world.reconcile()
        world.succeed(0.9, rmse=0.1)
        model = world.records[2].model
        assert model is not None
        world.records[2] = TrainingRecords(replace(model, served_problem="the data have no column alcohol"))
        world.reconcile()
        assert "could not be measured on the same rows: the data have no column alcohol" in world.condition(ACCEPTED).message


def test_an_unchanged_model_is_not_rolled_out_again(world: World) -> None:
    world.serve()
    model, applied = world.records[1].model, world.applied
    world.ask(retrain="now")
    world.reconcile()
    world.succeed()
    world.records[2] = TrainingRecords(model)
    world.reconcile()
    world.reconcile()
    assert world.ready()
    assert applied is not None
    assert world.applied is not None
    assert (world.applied.model.uri, world.applied.trial, world.rolled_out) == (applied.model.uri, None, True)
    assert [(entry.revision, entry.outcome) for entry in world.status.history] == [(2, Outcome.UNCHANGED), (1, Outcome.SERVED)]
    assert world.status.history[0].trigger == Trigger.REQUEST
