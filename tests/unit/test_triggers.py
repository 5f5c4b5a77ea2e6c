"""The triggers of a revision beside a changed spec: a request, a schedule, changed data. Only one revision runs at a time."""

from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest
from support.memory import START
from support.world import World

from winecontract.reasons import Reason
from winepipelines.api.observed import DataCheckResult, RunState, StepFailure
from winepipelines.api.status import ConditionType, RevisionOutcome, Schedule, Trigger
from winepipelines.pipelines import schedule
from winepipelines.pipelines.schedule import ScheduleError

READY, TRAINED = ConditionType.READY, ConditionType.TRAINED
NIGHTLY = {"schedule": "0 3 * * *", "timeZone": "Europe/Berlin"}


def served(world: World, **spec: object) -> World:
    world.change(**spec)
    world.serve()
    return world


class TestRequest:
    def test_each_new_value_of_retrain_starts_one_revision(self, world: World) -> None:
        world.serve()
        world.annotate(retrain="monday")
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.roll_out()
        for _ in range(3):
            world.pass_time(minutes=20)
            world.reconcile()
        assert len(world.created) == 2
        assert world.status.history[0].trigger == Trigger.REQUEST
        world.annotate(retrain="tuesday")
        world.reconcile()
        assert len(world.created) == 3

    def test_ready_stays_true_during_a_retraining(self, world: World) -> None:
        world.serve()
        world.annotate(retrain="now")
        world.reconcile()
        assert world.ready()
        assert "Revision 1 serves at" in world.condition(READY).message
        assert "Revision 2: The run waits" in world.condition(READY).message
        assert world.condition(TRAINED).status == "False"
        world.succeed()
        world.reconcile()
        assert world.ready(), "while the canary runs"
        world.rolled_out = True
        world.reconcile()
        assert world.ready(), "while the canary is promoted"
        world.roll_out()
        assert world.condition(READY).message.startswith("Revision 2 serves at")

    def test_retrain_that_exists_from_the_start_is_handled_by_the_first_run(self, world: World) -> None:
        world.annotate(retrain="from a manifest")
        world.serve()
        world.reconcile()
        assert len(world.created) == 1

    def test_retrain_waits_for_the_current_revision(self, world: World) -> None:
        world.serve()
        world.annotate(retrain="one")
        world.reconcile()
        world.annotate(retrain="two")
        world.reconcile()
        assert len(world.created) == 2
        world.succeed()
        world.reconcile()
        world.roll_out()
        assert len(world.created) == 3

    def test_retrain_starts_a_revision_after_a_permanent_failure(self, world: World) -> None:
        world.reconcile()
        world.fail("DataNotCsv", permanent=True)
        world.reconcile()
        assert world.condition(ConditionType.STALLED).reason == "DataNotCsv"
        world.annotate(retrain="the file is fixed")
        world.serve()

    def test_retrain_waits_while_suspended(self, world: World) -> None:
        world.serve()
        world.change(suspend=True)
        world.annotate(retrain="now")
        world.reconcile()
        assert len(world.created) == 1
        assert world.ready()
        world.change(suspend=False)
        world.reconcile()
        assert len(world.created) == 2


class TestCancel:
    def test_cancel_terminates_the_run_and_the_served_model_stays_ready(self, world: World) -> None:
        world.serve()
        world.annotate(retrain="now")
        world.reconcile()
        world.annotate(retrain="now", cancel="2")
        world.reconcile()
        assert world.run().state is RunState.CANCELING
        world.move_run(RunState.FAILED)
        world.reconcile()
        assert world.status.history[0].outcome is RevisionOutcome.CANCELED
        assert world.condition(TRAINED).reason == Reason.RUN_CANCELED
        assert world.ready()

    @pytest.mark.parametrize(
        ("revision", "problem"),
        [("1", "it has ended."), ("rubbish", "set the annotation to the number"), ("2", "its run has succeeded")],
    )
    def test_impossible_cancellation_is_reported_once(self, world: World, revision: str, problem: str) -> None:
        world.serve()
        world.annotate(retrain="now")
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.annotate(retrain="now", cancel=revision)
        for _ in range(3):
            world.reconcile()
        [event] = [event for event in world.events if event.reason == "RequestRejected"]
        assert event.message.startswith("Cannot cancel ")
        assert problem in event.message
        world.roll_out()
        assert problem in world.condition(READY).message

    def test_completed_cancellation_is_not_reported_as_rejected(self, world: World) -> None:
        world.reconcile()
        world.annotate(cancel="1")
        world.reconcile()
        world.move_run(RunState.FAILED)
        for _ in range(3):
            world.reconcile()
        world.annotate(cancel="1", retrain="go on")
        world.serve()
        assert "RequestRejected" not in [event.reason for event in world.events]

    def test_cancel_of_another_revision_terminates_nothing(self, world: World) -> None:
        world.reconcile()
        world.annotate(cancel="7")
        world.reconcile()
        assert world.run().live

    def test_next_revision_is_not_canceled_by_an_earlier_annotation(self, world: World) -> None:
        world.annotate(cancel="1")
        world.reconcile()
        assert world.created == []
        assert world.status.history[0].outcome is RevisionOutcome.CANCELED
        world.annotate(cancel="1", retrain="go on")
        world.serve()


class TestSchedule:
    def test_schedule_uses_its_time_zone_and_the_status_has_the_next_time(self, world: World) -> None:
        served(world, training=NIGHTLY)
        assert world.status.schedule is not None
        assert world.status.schedule.next_time == datetime(2026, 1, 6, 2, 0, tzinfo=UTC)
        assert world.decision is not None
        world.pass_time(hours=13, minutes=59)
        world.reconcile()
        assert len(world.created) == 1
        assert world.decision.requeue_at == world.status.schedule.next_time
        world.pass_time(minutes=1)
        world.reconcile()
        assert len(world.created) == 2
        assert world.status.trigger is Trigger.SCHEDULE
        assert world.status.schedule is not None
        assert world.status.schedule.next_time == datetime(2026, 1, 7, 2, 0, tzinfo=UTC)

    def test_missed_times_start_one_revision(self, world: World) -> None:
        served(world, training=NIGHTLY)
        world.pass_time(days=9)
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.roll_out()
        assert len(world.created) == 2

    def test_due_schedule_waits_for_the_current_run(self, world: World) -> None:
        served(world, training={**NIGHTLY, "timeout": "40h"})
        world.annotate(retrain="now")
        world.reconcile()
        world.pass_time(hours=15)
        world.reconcile()
        assert len(world.created) == 2
        world.succeed()
        world.reconcile()
        world.roll_out()
        assert len(world.created) == 3

    def test_times_missed_while_suspended_start_one_revision(self, world: World) -> None:
        served(world, training=NIGHTLY)
        world.change(suspend=True)
        world.pass_time(days=3)
        world.reconcile()
        assert len(world.created) == 1
        world.change(suspend=False)
        world.reconcile()
        assert len(world.created) == 2

    def test_changed_schedule_does_not_start_a_revision(self, world: World) -> None:
        served(world, training=NIGHTLY)
        world.change(training={"schedule": "30 12 * * *"})
        world.reconcile()
        assert len(world.created) == 1
        assert world.status.schedule is not None
        assert world.status.schedule.next_time == datetime(2026, 1, 5, 12, 30, tzinfo=UTC)

    @pytest.mark.parametrize(
        "invalid", [{"schedule": "61 * * * *"}, {"schedule": "0 0 30 2 *"}, {**NIGHTLY, "timeZone": "Mars/Base"}]
    )
    def test_invalid_schedule_is_reported_and_starts_nothing(self, world: World, invalid: dict[str, str]) -> None:
        world.change(training=invalid)
        world.reconcile()
        assert world.condition(READY).reason == Reason.SCHEDULE_INVALID
        assert world.created == []


class TestClocks:
    def test_daylight_saving_time_neither_repeats_nor_skips_a_time(self) -> None:
        ticks, now = [], datetime(2026, 3, 27, 12, tzinfo=UTC)
        for _ in range(4):
            now = schedule.next_tick("30 2 * * *", "Europe/Berlin", now)
            ticks.append(now)
        assert [tick.date().day for tick in ticks] == [28, 29, 30, 31]

    def test_clock_set_back_does_not_repeat_a_time(self) -> None:
        first = schedule.current(None, "0 3 * * *", "Etc/UTC", START)
        assert first is not None
        advanced = schedule.advance(first, first.next_time)
        assert schedule.current(advanced, "0 3 * * *", "Etc/UTC", first.next_time - timedelta(seconds=30)) == advanced

    def test_time_recorded_far_in_the_future_is_corrected(self) -> None:
        ahead = {"next_time": START + timedelta(days=400), "last_time": START + timedelta(days=399)}
        wrong = Schedule(expression="0 3 * * *", time_zone="Etc/UTC", **ahead)
        corrected = schedule.current(wrong, "0 3 * * *", "Etc/UTC", START)
        assert corrected is not None
        assert corrected.next_time == datetime(2026, 1, 6, 3, 0, tzinfo=UTC)

    def test_schedule_without_a_next_time_is_invalid(self) -> None:
        with pytest.raises(ScheduleError, match="30 2"):
            schedule.next_tick("0 0 30 2 *", "Etc/UTC", START)


class TestDataChange:
    CHECKED: ClassVar[dict[str, str]] = {"url": "http://data/wine.csv", "checkSchedule": "0 * * * *"}

    def run_data_check(self, world: World) -> None:
        """Let an hour pass, and reconcile, which starts a data check."""
        world.pass_time(hours=1)
        world.reconcile()

    def test_changed_data_start_a_revision(self, world: World) -> None:
        served(world, data=self.CHECKED)
        self.run_data_check(world)
        assert world.created[-1] == "mlflow-01234567-data-1"
        assert world.checked_data == ("a" * 64, "")
        assert world.decision is not None
        assert world.ready()
        world.data_checks[1] = DataCheckResult(True, "b" * 64)
        world.move_run(RunState.SUCCEEDED)
        assert world.reconcile().requeue_at == world.now
        world.reconcile()
        assert world.created[-1] == "mlflow-01234567-2"
        assert world.status.trigger is Trigger.DATA_CHANGE

    def test_unchanged_data_start_nothing_and_are_checked_again(self, world: World) -> None:
        served(world, data=self.CHECKED)
        self.run_data_check(world)
        world.data_checks[1] = DataCheckResult(False, "a" * 64, '"etag"')
        world.move_run(RunState.SUCCEEDED)
        world.reconcile()
        assert world.status.revision == 1
        assert world.status.data_check is not None
        assert world.status.data_check.checked_at == world.now
        self.run_data_check(world)
        assert world.created[-1] == "mlflow-01234567-data-2"
        assert world.checked_data == ("a" * 64, '"etag"')

    def test_failed_data_check_is_reported_and_changes_nothing(self, world: World) -> None:
        served(world, data=self.CHECKED)
        self.run_data_check(world)
        world.data_checks[1] = DataCheckResult(failure=StepFailure("check", "DataUnreachable", "no such host", False, world.now))
        world.move_run(RunState.SUCCEEDED)
        world.reconcile()
        assert world.ready()
        assert world.events[-1].message == "DataUnreachable: no such host"
        assert world.status.revision == 1

    def test_data_check_is_terminated_at_its_timeout(self, world: World) -> None:
        served(world, data=self.CHECKED)
        self.run_data_check(world)
        world.pass_time(minutes=31)
        world.reconcile()
        assert world.run().state is RunState.CANCELING
        world.move_run(RunState.FAILED)
        world.reconcile()
        assert world.status.data_check is not None
        assert world.status.data_check.run is None
        assert "exceeded its timeout" in world.status.data_check.failure_message

    def test_changed_spec_ends_the_data_check(self, world: World) -> None:
        served(world, data=self.CHECKED)
        self.run_data_check(world)
        world.change(data={"url": "http://data/other.csv"})
        world.reconcile()
        assert [run.state for run in world.runs if "-data-" in run.name] == [RunState.CANCELING]

    def test_deletion_ends_the_data_check(self, world: World) -> None:
        served(world, data=self.CHECKED)
        self.run_data_check(world)
        world.delete()
        world.reconcile()
        assert not world.exists
        assert not [run for run in world.runs if run.live]
