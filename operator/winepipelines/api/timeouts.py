"""The operator's timeouts and intervals."""

import math
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from winepipelines.api.spec import Runtime

LONGEST = timedelta(days=3650)


def duration(value: object) -> object:
    """Read a number of seconds, or its text; return any other value unchanged.

    Raises ValueError.
    """
    if not isinstance(value, str | int | float):
        return value
    try:
        seconds = float(value)
    except ValueError:
        raise ValueError(f"{str(value)[:100]!r} is not a number") from None
    if not math.isfinite(seconds) or seconds > LONGEST.total_seconds():
        raise ValueError(f"{seconds:g} is not a number of seconds up to {LONGEST.total_seconds():.0f}")
    if seconds < 0:
        raise ValueError(f"{seconds:g} is negative")
    return timedelta(seconds=seconds)


Grace = Annotated[timedelta, BeforeValidator(duration), Field(ge=timedelta(0), le=LONGEST)]
"""A time to wait at most. Zero does not wait."""
Interval = Annotated[timedelta, BeforeValidator(duration), Field(gt=timedelta(0), le=LONGEST)]
"""A time between two attempts, or the time that one may take."""


class Timeouts(BaseModel):
    """Timeouts and intervals, as durations. `settings` reads them from the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    submit_grace: Grace = timedelta(seconds=30)  # a submission without an answer may still be carried out
    attempt_backoff: Grace = timedelta(seconds=30)  # before the second attempt; twice that before the third, ...
    attempt_backoff_limit: Grace = timedelta(minutes=10)  # the longest backoff
    start_backoff_limit: Interval = timedelta(hours=1)  # the longest backoff if no step could start: only a person can fix that
    terminate_grace: Grace = timedelta(minutes=2)  # 17 s were measured from the request to the end
    explain_grace: Grace = timedelta(seconds=15)  # until the step that failed a run is known
    records_grace: Grace = timedelta(minutes=1)  # until a run that succeeded has logged its model
    progress_deadline: Grace = timedelta(minutes=15)  # image pull, model copy, start
    slow_progress_deadline: Grace = timedelta(minutes=30)  # the same, with a runtime that installs packages when it starts
    rollout_interval: Interval = timedelta(seconds=2)  # while pods start: the operator does not watch pods
    verify_window: Grace = timedelta(seconds=30)  # from a new model's first wrong answer to its last check
    probation: Grace = timedelta(minutes=10)  # after a promotion: a model that stops answering is rolled back
    probation_interval: Interval = timedelta(seconds=30)  # between two prediction checks during probation
    canary_interval: Interval = timedelta(seconds=10)  # between two checks of a candidate that has a share of the traffic
    data_check_timeout: Interval = timedelta(minutes=30)
    check_interval: Interval = timedelta(minutes=5)  # between two prediction checks of a settled model
    retry_interval: Interval = timedelta(seconds=10)  # between two reconciles while a check does not hold
    delete_bound: Grace = timedelta(minutes=2)  # the longest that a deletion waits for an unreachable platform

    def progress_deadline_of(self, runtime: Runtime) -> timedelta:
        """Return the deadline of a rollout: the server of any runtime but the bundled one installs packages when it starts."""
        return self.progress_deadline if runtime is Runtime.BUNDLED else self.slow_progress_deadline
