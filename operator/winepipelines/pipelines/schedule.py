"""Times of cron schedules. Pure.

Times that were missed, in an outage or while `spec.suspend` was true, are made up for once, however many they are.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from winecontract.text import clean
from winepipelines.api.status import Schedule

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
    """A schedule or its time zone is invalid. The message names it."""


def next_tick(schedule: str, time_zone: str, after: datetime) -> datetime:
    """Return the next time of a schedule after a moment. Daylight saving time is handled as cron does.

    Raises ScheduleError.
    """
    try:
        zone = ZoneInfo(time_zone)
    except (ValueError, OSError, KeyError):
        raise ScheduleError(f"{time_zone!r} is not a time zone. Use one such as Europe/Berlin or Etc/UTC.") from None
    try:
        tick: datetime = next(CronSim(NAMED.get(schedule, schedule), after.astimezone(zone)))
    except (CronSimError, StopIteration):
        raise ScheduleError(f"{schedule!r} is not a valid schedule. Use one such as 0 3 * * 1 (Mondays at 03:00).") from None
    return tick.astimezone(UTC)


def is_of(known: Schedule, expression: str, time_zone: str) -> bool:
    """Tell whether a recorded schedule is that of an expression and a time zone."""
    return (known.expression, known.time_zone) == (clean(expression), clean(time_zone))  # as a status keeps them


def current(known: Schedule | None, expression: str, time_zone: str, now: datetime) -> Schedule | None:
    """Keep a recorded schedule: started where the expression is new, corrected where the system's clock was set back.

    Raises ScheduleError.
    """
    if not expression:
        return None
    if known is None or not is_of(known, expression, time_zone):
        return Schedule(expression=expression, time_zone=time_zone, next_time=next_tick(expression, time_zone, now))
    last = known.last_time if known.last_time is not None and known.last_time <= now + SKEW else None
    soonest = next_tick(expression, time_zone, max(now, last) if last else now)
    return known if known.next_time <= soonest else known.with_(next_time=soonest)


def advance(known: Schedule, now: datetime) -> Schedule:
    """Count everything that was due until now as done.

    Raises ScheduleError.
    """
    return known.with_(last_time=now, next_time=next_tick(known.expression, known.time_zone, now))
