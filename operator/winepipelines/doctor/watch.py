"""The walk, slowly repeated: one verdict on the platform for all resources. Started by `handlers`.

Resources read the verdict from memory at their own next look; a walk that finds what the last one found wakes nobody. A change is
told once, in one Event and one line of the log. Where the operator's own calls say otherwise than the verdict, the platform is
checked at once: `recheck`.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable

from winepipelines.doctor.finding import Report
from winepipelines.lifecycle.reasons import CHECKS_PASSED
from winepipelines.resource.errors import PlatformError
from winepipelines.resource.observed import PlatformVerdict

SECOND_LOOK_SECONDS = 5.0
RECHECK_SECONDS = 10.0  # at least this long between the end of a walk and one that a call has asked for
UNREADY_SECONDS = 60.0  # at most this long between two walks while a check fails
Tell = Callable[[str, str, bool], Awaitable[None]]  # reason, message, whether it is a warning
logger = logging.getLogger(__name__)


class PlatformWatch:
    """Remembers the last verdict. `verdict` is None before the first walk."""

    def __init__(
        self,
        walk: Callable[[], Awaitable[Report]],
        checked: Callable[[Report], None],
        changed: Callable[[], None],
        tell: Tell,
        interval: float,
        second_look: float = SECOND_LOOK_SECONDS,
        recheck_gap: float = RECHECK_SECONDS,
    ) -> None:
        """Walk every `interval` seconds; `checked` gets each report, `changed` is called when the words of the verdict change.

        `tell` writes an Event where whether it is well, or why it is not, has changed.

        What fails is looked at again after `second_look` seconds: one lost answer is no outage. `recheck_gap` is the least time
        between a walk and one that was asked for.
        """
        self._walk = walk
        self._checked = checked
        self._changed = changed
        self._tell = tell
        self._interval = interval
        self._second_look = second_look
        self._recheck_gap = recheck_gap
        self._asked_for = asyncio.Event()
        self._failing: tuple[str, ...] = ()
        self.verdict: PlatformVerdict | None = None

    def recheck(self) -> None:
        """Check the platform now, or as soon as the last walk is `recheck_gap` seconds old."""
        self._asked_for.set()

    async def run(self) -> None:
        """Walk again and again, for ever."""
        while True:
            confirmed = self._asked_for.is_set()
            self._asked_for.clear()
            try:
                await self.look(confirmed=confirmed)
            except Exception:
                # As in the reconciler: a defect here must not end the walks.
                logger.exception("Platform check failed by a defect")
            await self._rest()

    async def _rest(self) -> None:
        """Wait for the next walk that is due, or asked for."""
        ready = self.verdict is None or self.verdict.ready
        interval = self._interval if ready else min(self._interval, UNREADY_SECONDS)
        interval *= random.uniform(1.0, 1.1)  # noqa: S311 - so that operators do not move in step
        gap = min(interval, self._recheck_gap)
        await asyncio.sleep(gap)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._asked_for.wait(), interval - gap)

    async def look(self, *, confirmed: bool = False) -> None:
        """Walk once, and judge. `confirmed`: a call of the operator's has failed too, so that no second look is needed."""
        report = await self._walk()
        if report.failures and not confirmed and (self.verdict is None or self.verdict.ready):
            await asyncio.sleep(self._second_look)
            report = await self._walk()
        self._checked(report)
        failing = tuple(finding.check for finding in report.failures)
        if self.verdict is not None and failing == self._failing:
            return  # the same words go on: how exactly a system is away may differ from walk to walk
        before, self._failing = self.verdict, failing
        reason = report.failures[0].reason if report.failures else CHECKS_PASSED
        self.verdict = PlatformVerdict(not failing, reason, report.message())
        self._changed()
        if before is None or (before.ready, before.reason) != (self.verdict.ready, reason):
            await self._say(self.verdict, first=before is None)

    async def _say(self, verdict: PlatformVerdict, *, first: bool) -> None:
        level = logging.INFO if verdict.ready else logging.WARNING
        logger.log(level, "Checked the platform", extra={"fields": {"reason": verdict.reason, "details": verdict.message}})
        if first and verdict.ready:
            return
        try:
            await self._tell("PlatformReady" if verdict.ready else verdict.reason, verdict.message, not verdict.ready)
        except PlatformError as error:  # an Event is a courtesy: its loss changes nothing
            logger.warning("Cannot create an Event", extra={"fields": {"object": "platform", "error": error}})
