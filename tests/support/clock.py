"""An event loop whose time passes at once: only while everything waits, and exactly as long as the first one waits."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine

TICK = 1e-7  # seconds that anything takes: a timer that is due by a rounding error only must become due


class _Waiting(selectors.DefaultSelector):
    """Waits no real time for a timer, and counts what it should have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.waited += TICK
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        found = super().select(0)
        if not found:
            self.waited += timeout
        return found


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._waiting = _Waiting()
        super().__init__(self._waiting)

    def time(self) -> float:
        return self._waiting.waited


def at_once(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    """Have a test's time pass so: no machine is too slow for what it says of a time."""

    @functools.wraps(test)
    def run() -> None:
        with asyncio.Runner(loop_factory=_Loop) as runner:
            runner.run(test())

    return run
