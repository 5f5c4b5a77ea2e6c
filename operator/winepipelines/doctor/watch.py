"""Repeat the checks of the platform: one verdict for all resources.

Resources read the verdict from memory in their next reconcile. A check that confirms the verdict wakes no resource; a change is
reported once, in one Event and one log line. Where the operator's own calls contradict the verdict, the platform is checked at
once: `recheck`.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError
from winepipelines.api.observed import PlatformVerdict
from winepipelines.doctor.finding import Report

CONFIRM_SECONDS = 5.0
RECHECK_SECONDS = 10.0  # shortest time from the end of a check to one that a call requests
UNREADY_SECONDS = 60.0  # longest time between two checks while the platform is not ready
RecordEvent = Callable[[str, str, bool], Awaitable[None]]  # reason, message, whether it is a warning
logger = logging.getLogger(__name__)


class PlatformWatch:
    """Holds the last verdict. `verdict` is None before the first check."""

    def __init__(
        self,
        run_checks: Callable[[], Awaitable[Report]],
        checked: Callable[[Report], None],
        changed: Callable[[], None],
        record_event: RecordEvent,
        interval: float,
        confirm_after: float = CONFIRM_SECONDS,
        recheck_gap: float = RECHECK_SECONDS,
    ) -> None:
        """Check every `interval` seconds; `checked` gets each report, `changed` is called when the verdict changes.

        `record_event` writes an Event when the platform becomes ready or not, or the reason changes. A failure must persist for
        `confirm_after` seconds: one lost answer is no outage. `recheck_gap` is the shortest time to a requested check.
        """
        self._run_checks = run_checks
        self._checked = checked
        self._changed = changed
        self._record_event = record_event
        self._interval = interval
        self._confirm_after = confirm_after
        self._recheck_gap = recheck_gap
        self._requested = asyncio.Event()
        self._failing: tuple[str, ...] = ()
        self.verdict: PlatformVerdict | None = None

    def recheck(self) -> None:
        """Check the platform now, or as soon as the last check is `recheck_gap` seconds old."""
        self._requested.set()

    async def run(self) -> None:
        """Check for ever."""
        while True:
            confirmed = self._requested.is_set()
            self._requested.clear()
            try:
                await self.check(confirmed=confirmed)
            except Exception:
                # As in the reconciler: an unexpected error must not end the checks.
                logger.exception("Platform check failed unexpectedly")
            await self._rest()

    async def _rest(self) -> None:
        """Wait for the next check that is due or requested."""
        ready = self.verdict is None or self.verdict.ready
        interval = self._interval if ready else min(self._interval, UNREADY_SECONDS)
        interval *= random.uniform(1.0, 1.1)  # noqa: S311 - spreads the checks of several operators
        gap = min(interval, self._recheck_gap)
        await asyncio.sleep(gap)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._requested.wait(), interval - gap)

    async def check(self, *, confirmed: bool = False) -> None:
        """Check once, and update the verdict. `confirmed`: a call of the operator has failed too, which confirms a failure."""
        report = await self._run_checks()
        if report.failures and not confirmed and (self.verdict is None or self.verdict.ready):
            await asyncio.sleep(self._confirm_after)
            report = await self._run_checks()
        self._checked(report)
        failing = tuple(finding.check for finding in report.failures)
        if self.verdict is not None and failing == self._failing:
            return  # keep the message: the details of an outage may differ from check to check
        before, self._failing = self.verdict, failing
        reason = report.failures[0].reason if report.failures else Reason.CHECKS_PASSED
        self.verdict = PlatformVerdict(not failing, reason, report.message())
        self._changed()
        if before is None or (before.ready, before.reason) != (self.verdict.ready, reason):
            await self._report(self.verdict, first=before is None)

    async def _report(self, verdict: PlatformVerdict, *, first: bool) -> None:
        level = logging.INFO if verdict.ready else logging.WARNING
        logger.log(level, "Checked the platform", extra={"fields": {"reason": verdict.reason, "details": verdict.message}})
        if first and verdict.ready:
            return
        try:
            await self._record_event("PlatformReady" if verdict.ready else verdict.reason, verdict.message, not verdict.ready)
        except PlatformError as error:  # the operator does not depend on Events
            logger.warning("Cannot create an Event", extra={"fields": {"object": "platform", "error": error}})
