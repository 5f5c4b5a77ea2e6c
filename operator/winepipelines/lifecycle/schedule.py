"""When something is due that a schedule asks for. Pure; called by `triggers` and `datacheck`.

A tick that was missed, in an outage or under `suspend`, is made up for once, however many were missed.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from winecontract.text import clean
from winepipelines.resource.status import Clock

NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}  # as in crontab and in a CronJob
SKEW = timedelta(minutes=10)  # a clock that is further ahead was wrong and has been set back


class ScheduleError(Exception):
    """A schedule or its time zone cannot be read; the message names it."""


def next_tick(schedule: str, time_zone: str, after: datetime) -> datetime:
    """Tell when a schedule is due next after a moment; at a change of summer time as cron does.

    Raises ScheduleError.
    """
    try:
        zone = ZoneInfo(time_zone)
    except (ValueError, OSError, KeyError):
        raise ScheduleError(f"{time_zone!r} is no time zone; give one such as Europe/Berlin or Etc/UTC") from None
    try:
        tick: datetime = next(CronSim(NAMED.get(schedule, schedule), after.astimezone(zone)))
    except (CronSimError, StopIteration):
        raise ScheduleError(f"{schedule!r} is no schedule that is ever due; give one such as 0 3 * * 1 (Mondays at 3)") from None
    return tick.astimezone(UTC)


def name(schedule: str, time_zone: str) -> str:
    """Tell schedules apart."""
    return clean(f"{schedule} {time_zone}")  # as a status keeps it


def current(clock: Clock | None, schedule: str, time_zone: str, now: datetime) -> Clock | None:
    """Keep the clock of a schedule: begun where the schedule is new, corrected where the system's own was set back.

    Raises ScheduleError.
    """
    if not schedule:
        return None
    text = name(schedule, time_zone)
    if clock is None or clock.schedule != text:
        return Clock(schedule=text, due=next_tick(schedule, time_zone, now))
    last = clock.last if clock.last is not None and clock.last <= now + SKEW else None
    soonest = next_tick(schedule, time_zone, max(now, last) if last else now)
    return clock if clock.due <= soonest else clock.with_(due=soonest)


def rung(clock: Clock, schedule: str, time_zone: str, now: datetime) -> Clock:
    """Count everything that was due until now as done.

    Raises ScheduleError.
    """
    return clock.with_(last=now, due=next_tick(schedule, time_zone, now))
