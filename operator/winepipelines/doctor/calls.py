"""Compare the outcome of the operator's own calls with the verdict on the platform. Fed by `monitored`.

The verdict may be minutes old. A call that begins to fail, or that succeeds again while the platform is not ready, asks for
a check now. One that goes on failing while the checks pass asks again, less and less often: it may be one resource's own trouble.
"""

import time
from collections.abc import Callable, Hashable

from winepipelines.resource.observed import PlatformVerdict

AGAIN_SECONDS = (20.0, 300.0)  # until a failure that the checks do not confirm asks again: first, and at most
REMEMBERED = 10_000  # calls that fail


class CallMonitor:
    """Asks for a check of the platform when calls contradict the last one."""

    def __init__(
        self,
        verdict: Callable[[], PlatformVerdict | None],
        recheck: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`verdict` is the last one, None before the first; `recheck` asks for another walk."""
        self._verdict = verdict
        self._recheck = recheck
        self._clock = clock
        self._failing: set[Hashable] = set()
        self._patience = AGAIN_SECONDS[0]
        self._again_at = 0.0

    def succeeded(self, call: Hashable) -> None:
        """Take note of a call that did what it was asked."""
        if call in self._failing:
            self._failing.discard(call)
            verdict = self._verdict()
            if verdict is not None and not verdict.ready:
                self._recheck()

    def failed(self, call: Hashable) -> None:
        """Take note of a call that a system of the platform did not carry out."""
        now = self._clock()
        if call not in self._failing:
            if len(self._failing) >= REMEMBERED:
                self._failing.clear()
            self._failing.add(call)
            self._patience, self._again_at = AGAIN_SECONDS[0], now + AGAIN_SECONDS[0]
            self._recheck()
            return
        verdict = self._verdict()
        if verdict is not None and verdict.ready and now >= self._again_at:
            self._patience = min(2 * self._patience, AGAIN_SECONDS[1])
            self._again_at = now + self._patience
            self._recheck()
