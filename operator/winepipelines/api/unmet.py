"""The result of a check that does not hold, for resources of every kind and for runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from winecontract.reasons import PLATFORM_FAILURES
from winepipelines.api.errors import PlatformError, Refused
from winepipelines.api.status import Condition
from winepipelines.api.timeouts import Timeouts


@dataclass(frozen=True)
class Unmet:
    """Why a check does not hold, and what to do about it.

    `requeue_after` is the delay until the next reconcile; None waits for events. `stalled`: only a person can resolve it. `check`
    names the check inside of a nested chain that does not hold.
    """

    reason: str
    message: str
    actions: tuple[Any, ...] = ()
    requeue_after: timedelta | None = None
    stalled: bool = False
    check: str = ""

    @classmethod
    def from_error(cls, error: PlatformError, timeouts: Timeouts) -> Self:
        """Report that a system of the platform did not do what was requested. The request is repeated."""
        return cls(error.reason, error.message, requeue_after=timeouts.retry_interval, stalled=isinstance(error, Refused))

    def after_failures(self, failures: Mapping[Any, PlatformError], timeouts: Timeouts) -> Self:
        """Report the first of its actions that failed in this reconcile, instead of repeating it at once."""
        error = next((failures[action] for action in self.actions if action in failures), None)
        return self if error is None else self.from_error(error, timeouts)

    def is_retry_of(self, earlier: Condition | None) -> bool:
        """Tell whether its actions retry what an `earlier` condition reports as failed. That condition stays until they succeed.

        An outage is then one condition and one Event, however often the operator retries.
        """
        return bool(self.actions) and earlier is not None and earlier.status == "False" and earlier.reason in PLATFORM_FAILURES

    def decided_by(self, *chain: str) -> str:
        """Name the check that decides, such as `train/run_has_succeeded/run_is_in_time`, from the names of stage and check."""
        return "/".join(name for name in (*chain, self.check) if name)
