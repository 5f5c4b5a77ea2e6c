"""What begins a revision, beside another spec: a person, a schedule, other data; never two at a time."""

from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest
from support.memory import START
from support.world import World

from winepipelines.lifecycle import reasons, schedule
from winepipelines.lifecycle.schedule import ScheduleError
from winepipelines.resource.observed import DataCheck, RunState, StepFailure
from winepipelines.resource.status import Clock, ConditionType, Outcome, Trigger

READY, TRAINED = ConditionType.READY, ConditionType.TRAINED
NIGHTLY = {"schedule": "0 3 * * *", "timeZone": "Europe/Berlin"}


@pytest.fixture
def world() -> World:
    return World()


def served(world: World, **spec: object) -> World:
    world.change(**spec)
    world.serve()
    return world


class TestARequest:
    def test_each_new_value_trains_the_same_spec_once(self, world: World) -> None:
        world.serve()
        world.ask(retrain="monday")
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.roll_out()
        for _ in range(3):
            world.pass_time(minutes=20)
            world.reconcile()
        assert len(world.created) == 2
        assert world.status.history[0].trigger == Trigger.REQUEST
        world.ask(retrain="tuesday")
        world.reconcile()
        assert len(world.created) == 3

    def test_ready_stays_true_all_the_while(self, world: World) -> None:
        world.serve()
        world.ask(retrain="now")
        world.reconcile()
        assert world.ready()
        assert "revision 1 answers" in world.condition(READY).message
        assert "revision 2: the run waits" in world.condition(READY).message
        assert world.condition(TRAINED).status == "False"
        world.succeed()
        world.reconcile()
        assert world.ready(), "on trial"
        world.rolled_out = True
        world.reconcile()
        assert world.ready(), "taking over"
        world.roll_out()
        assert world.condition(READY).message.startswith("revision 2 answers")

    def test_one_that_is_there_from_the_start_is_met_by_the_first_run(self, world: World) -> None:
        world.ask(retrain="from a manifest")
        world.serve()
        world.reconcile()
        assert len(world.created) == 1

    def test_it_waits_for_the_revision_that_is_under_way(self, world: World) -> None:
        world.serve()
        world.ask(retrain="one")
        world.reconcile()
        world.ask(retrain="two")
        world.reconcile()
        assert len(world.created) == 2
        world.succeed()
        world.reconcile()
        world.roll_out()
        assert len(world.created) == 3

    def test_it_starts_what_failed_for_good_anew(self, world: World) -> None:
        world.reconcile()
        world.fail("DataNotCsv", permanent=True)
        world.reconcile()
        assert world.condition(ConditionType.STALLED).reason == "DataNotCsv"
        world.ask(retrain="the file is mended")
        world.serve()

    def test_suspend_holds_it_back(self, world: World) -> None:
        world.serve()
        world.change(suspend=True)
        world.ask(retrain="now")
        world.reconcile()
        assert len(world.created) == 1
        assert world.ready()
        world.change(suspend=False)
        world.reconcile()
        assert len(world.created) == 2


class TestCancel:
    def test_the_named_revisions_run_is_ended_and_what_serves_stays_ready(self, world: World) -> None:
        world.serve()
        world.ask(retrain="now")
        world.reconcile()
        world.ask(retrain="now", cancel="2")
        world.reconcile()
        assert world.run().state is RunState.CANCELING
        world.move_run(RunState.FAILED)
        world.reconcile()
        assert world.status.history[0].outcome is Outcome.CANCELED
        assert world.condition(TRAINED).reason == reasons.RUN_CANCELED
        assert world.ready()

    @pytest.mark.parametrize(
        ("wanted", "said"), [("1", "the revision has ended"), ("rubbish", "name the number"), ("2", "its run has ended")]
    )
    def test_one_that_cannot_be_is_told_once(self, world: World, wanted: str, said: str) -> None:
        world.serve()
        world.ask(retrain="now")
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.ask(retrain="now", cancel=wanted)
        for _ in range(3):
            world.reconcile()
        [event] = [event for event in world.told if event.reason == "RequestRefused"]
        assert event.message.startswith("cancel ")
        assert said in event.message
        world.roll_out()
        assert said in world.condition(READY).message

    def test_one_that_was_carried_out_is_not_told_as_refused(self, world: World) -> None:
        world.reconcile()
        world.ask(cancel="1")
        world.reconcile()
        world.move_run(RunState.FAILED)
        for _ in range(3):
            world.reconcile()
        world.ask(cancel="1", retrain="go on")
        world.serve()
        assert "RequestRefused" not in [event.reason for event in world.told]

    def test_another_revisions_number_ends_nothing(self, world: World) -> None:
        world.reconcile()
        world.ask(cancel="7")
        world.reconcile()
        assert world.run().live

    def test_a_next_revision_is_not_ended_by_the_old_word(self, world: World) -> None:
        world.ask(cancel="1")
        world.reconcile()
        assert world.created == []
        assert world.status.history[0].outcome is Outcome.CANCELED
        world.ask(cancel="1", retrain="go on")
        world.serve()


class TestASchedule:
    def test_it_is_due_in_its_own_time_zone_and_the_status_says_when(self, world: World) -> None:
        served(world, training=NIGHTLY)
        assert world.status.next_run == datetime(2026, 1, 6, 2, 0, tzinfo=UTC)
        assert world.decision is not None
        world.pass_time(hours=13, minutes=59)
        world.reconcile()
        assert len(world.created) == 1
        assert world.decision.wake_at == world.status.next_run
        world.pass_time(minutes=1)
        world.reconcile()
        assert len(world.created) == 2
        assert world.status.trigger is Trigger.SCHEDULE
        assert world.status.next_run == datetime(2026, 1, 7, 2, 0, tzinfo=UTC)

    def test_ticks_that_were_missed_run_once(self, world: World) -> None:
        served(world, training=NIGHTLY)
        world.pass_time(days=9)
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.roll_out()
        assert len(world.created) == 2

    def test_a_tick_waits_for_the_run_under_way_and_is_not_lost(self, world: World) -> None:
        served(world, training={**NIGHTLY, "timeout": "40h"})
        world.ask(retrain="now")
        world.reconcile()
        world.pass_time(hours=15)
        world.reconcile()
        assert len(world.created) == 2
        world.succeed()
        world.reconcile()
        world.roll_out()
        assert len(world.created) == 3

    def test_what_was_missed_under_suspend_runs_once_afterwards(self, world: World) -> None:
        served(world, training=NIGHTLY)
        world.change(suspend=True)
        world.pass_time(days=3)
        world.reconcile()
        assert len(world.created) == 1
        world.change(suspend=False)
        world.reconcile()
        assert len(world.created) == 2

    def test_another_schedule_does_not_train_but_is_due_by_itself(self, world: World) -> None:
        served(world, training=NIGHTLY)
        world.change(training={"schedule": "30 12 * * *"})
        world.reconcile()
        assert len(world.created) == 1
        assert world.status.next_run == datetime(2026, 1, 5, 12, 30, tzinfo=UTC)

    @pytest.mark.parametrize(
        "wrong", [{"schedule": "61 * * * *"}, {"schedule": "0 0 30 2 *"}, {**NIGHTLY, "timeZone": "Mars/Base"}]
    )
    def test_one_that_means_nothing_is_told_and_nothing_begins(self, world: World, wrong: dict[str, str]) -> None:
        world.change(training=wrong)
        world.reconcile()
        assert world.condition(READY).reason == reasons.SCHEDULE_INVALID
        assert world.created == []


class TestClocks:
    def test_summer_time_neither_doubles_nor_drops_a_night(self) -> None:
        ticks, now = [], datetime(2026, 3, 27, 12, tzinfo=UTC)
        for _ in range(4):
            now = schedule.next_tick("30 2 * * *", "Europe/Berlin", now)
            ticks.append(now)
        assert [tick.date().day for tick in ticks] == [28, 29, 30, 31]

    def test_a_clock_that_is_set_back_rings_no_second_time(self) -> None:
        clock = schedule.current(None, "0 3 * * *", "Etc/UTC", START)
        assert clock is not None
        rang = schedule.rung(clock, "0 3 * * *", "Etc/UTC", clock.due)
        back = schedule.current(rang, "0 3 * * *", "Etc/UTC", clock.due - timedelta(seconds=30))
        assert back == rang

    def test_a_clock_that_was_far_ahead_is_forgotten(self) -> None:
        wrong = Clock(schedule="0 3 * * * Etc/UTC", due=START + timedelta(days=400), last=START + timedelta(days=399))
        mended = schedule.current(wrong, "0 3 * * *", "Etc/UTC", START)
        assert mended is not None
        assert mended.due == datetime(2026, 1, 6, 3, 0, tzinfo=UTC)

    def test_what_is_never_due_is_no_schedule(self) -> None:
        with pytest.raises(ScheduleError, match="30 2"):
            schedule.next_tick("0 0 30 2 *", "Etc/UTC", START)


class TestOtherData:
    CHECKED: ClassVar[dict[str, str]] = {"url": "http://data/wine.csv", "checkSchedule": "0 * * * *"}

    def looked(self, world: World) -> None:
        """An hour passes, and a run looks at the data."""
        world.pass_time(hours=1)
        world.reconcile()

    def test_other_bytes_begin_a_revision(self, world: World) -> None:
        served(world, data=self.CHECKED)
        self.looked(world)
        assert world.created[-1] == "mlflow-01234567-data-1"
        assert world.known_data == ("a" * 64, "")
        assert world.decision is not None
        assert world.ready()
        world.data_checks[1] = DataCheck(True, "b" * 64)
        world.move_run(RunState.SUCCEEDED)
        assert world.reconcile().wake_at == world.now
        world.reconcile()
        assert world.created[-1] == "mlflow-01234567-2"
        assert world.status.trigger is Trigger.DATA_CHANGE

    def test_the_same_bytes_begin_nothing_and_are_looked_at_again_an_hour_later(self, world: World) -> None:
        served(world, data=self.CHECKED)
        self.looked(world)
        world.data_checks[1] = DataCheck(False, "a" * 64, '"etag"')
        world.move_run(RunState.SUCCEEDED)
        world.reconcile()
        assert world.status.revision == 1
        assert world.status.data_check is not None
        assert world.status.data_check.checked_at == world.now
        self.looked(world)
        assert world.created[-1] == "mlflow-01234567-data-2"
        assert world.known_data == ("a" * 64, '"etag"')

    def test_a_look_that_fails_changes_nothing_and_is_told(self, world: World) -> None:
        served(world, data=self.CHECKED)
        self.looked(world)
        world.data_checks[1] = DataCheck(failure=StepFailure("check", "DataUnreachable", "no such host", False, world.now))
        world.move_run(RunState.SUCCEEDED)
        world.reconcile()
        assert world.ready()
        assert world.told[-1].message == "DataUnreachable: no such host"
        assert world.status.revision == 1

    def test_a_look_that_never_ends_is_ended(self, world: World) -> None:
        served(world, data=self.CHECKED)
        self.looked(world)
        world.pass_time(minutes=31)
        world.reconcile()
        assert world.run().state is RunState.CANCELING
        world.move_run(RunState.FAILED)
        world.reconcile()
        assert world.status.data_check is not None
        assert world.status.data_check.name == ""
        assert "did not end in time" in world.status.data_check.problem

    def test_another_spec_ends_the_look_at_the_old_ones_data(self, world: World) -> None:
        served(world, data=self.CHECKED)
        self.looked(world)
        world.change(data={"url": "http://data/other.csv"})
        world.reconcile()
        assert [run.state for run in world.runs if "-data-" in run.name] == [RunState.CANCELING]

    def test_a_deleted_resource_leaves_no_look_running(self, world: World) -> None:
        served(world, data=self.CHECKED)
        self.looked(world)
        world.delete()
        world.reconcile()
        assert not world.exists
        assert not [run for run in world.runs if run.live]
