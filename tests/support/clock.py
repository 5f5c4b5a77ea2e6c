"""An event loop on a simulated clock: when every task waits, the clock advances to the next timer at once."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine

TICK = 1e-7  # seconds per iteration of the loop, so that a timer becomes due in spite of rounding errors


class _SimulatedSelector(selectors.DefaultSelector):
    """Advances the simulated time by each timeout instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += TICK
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        found = super().select(0)
        if not found:
            self.now += timeout
        return found


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._simulated = _SimulatedSelector()
        super().__init__(self._simulated)

    def time(self) -> float:
        return self._simulated.now


def simulated_clock(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    """Run a test on the simulated clock, so that its times do not depend on the speed of the machine."""

    @functools.wraps(test)
    def run() -> None:
        with asyncio.Runner(loop_factory=_Loop) as runner:
            runner.run(test())

    return run
