"""Request a check of the platform when the operator's own calls contradict the last verdict. Fed by `monitored`.

The verdict may be minutes old. A call that begins to fail, or that succeeds again while the platform is not ready, requests a
check now. A call that keeps failing while the checks pass requests one again with backoff: the cause may be one resource.
"""

import time
from collections.abc import Callable, Hashable

from winepipelines.api.observed import PlatformVerdict

BACKOFF_SECONDS = (20.0, 300.0)  # first and longest, between checks for a failure that the checks do not confirm
MAX_FAILING = 10_000  # calls that are remembered


class CallMonitor:
    """Requests a check of the platform when a call contradicts the last verdict."""

    def __init__(
        self,
        verdict: Callable[[], PlatformVerdict | None],
        recheck: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`verdict` returns the last one, None before the first; `recheck` requests a check."""
        self._verdict = verdict
        self._recheck = recheck
        self._clock = clock
        self._failing: set[Hashable] = set()
        self._backoff = BACKOFF_SECONDS[0]
        self._next_at = 0.0

    def succeeded(self, call: Hashable) -> None:
        """Record a call that succeeded."""
        if call in self._failing:
            self._failing.discard(call)
            verdict = self._verdict()
            if verdict is not None and not verdict.ready:
                self._recheck()

    def failed(self, call: Hashable) -> None:
        """Record a call that a system of the platform failed."""
        now = self._clock()
        if call not in self._failing:
            if len(self._failing) >= MAX_FAILING:
                self._failing.clear()
            self._failing.add(call)
            self._backoff, self._next_at = BACKOFF_SECONDS[0], now + BACKOFF_SECONDS[0]
            self._recheck()
            return
        verdict = self._verdict()
        if verdict is not None and verdict.ready and now >= self._next_at:
            self._backoff = min(2 * self._backoff, BACKOFF_SECONDS[1])
            self._next_at = now + self._backoff
            self._recheck()
