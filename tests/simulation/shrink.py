"""Shrink a failing history to few of its steps that fail in the same way, by delta debugging.

Each step is replayed from the state that the generator of random numbers had before it. So a step draws the same numbers
whichever steps come before, and steps can be left out without changing the others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from simulation.history import History

KIND_LENGTH = 40  # characters of a message that tell failures apart: later ones name revisions and times


class End(Enum):
    """How a replayed history continues after its steps."""

    STEP = "its last step fails"
    RECOVER = "all faults are corrected"
    SETTLE = "it settles and is deleted"


class RecordedHistory(History):
    """A history that records the state of its random numbers before each step and before its end."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.seed = seed
        self.states: list[Any] = []
        self._is_settling = False

    @property
    def end(self) -> End:
        """The part that is running, or that has failed."""
        return End.RECOVER if self.recovery is not None else End.SETTLE if self._is_settling else End.STEP

    def step(self) -> None:
        """Record the state, and do a step."""
        self.states.append(self.random.getstate())
        super().step()

    def settle(self) -> None:
        """Record the state, and settle."""
        self.states.append(self.random.getstate())
        self._is_settling = True
        super().settle()


@dataclass(frozen=True)
class Shrunk:
    """The steps that are left of a failing history, its log with them, and the error."""

    steps: tuple[int, ...]
    log: tuple[str, ...]
    error: Exception


def shrink(failed: RecordedHistory, error: Exception) -> Shrunk | None:
    """Leave out as many steps as possible; return None where a replay of all steps does not fail in the same way."""
    states = failed.states
    steps = tuple(range(len(states) - (failed.end is End.SETTLE)))

    def attempt(kept: tuple[int, ...]) -> Shrunk | None:
        history, problem = _replay(failed.seed, states, kept, failed.end)
        same = problem is not None and _kind(problem) == _kind(error)
        return Shrunk(kept, tuple(history.log), problem) if problem is not None and same else None

    smallest = attempt(steps)
    return None if smallest is None else _minimize(smallest, attempt)


def _minimize(smallest: Shrunk, attempt: Callable[[tuple[int, ...]], Shrunk | None]) -> Shrunk:
    """Leave out ever smaller parts, until no single step can be left out."""
    size = max(1, len(smallest.steps) // 2)
    while True:
        position, reduced = 0, False
        while position < len(smallest.steps):
            steps = smallest.steps
            if (smaller := attempt(steps[:position] + steps[position + size :])) is not None:
                smallest, reduced = smaller, True
            else:
                position += size
        if size == 1 and not reduced:
            return smallest
        size = max(1, size // 2)


def _replay(seed: int, states: list[Any], steps: tuple[int, ...], end: End) -> tuple[History, Exception | None]:
    history = History(seed)
    try:
        for step in steps:
            history.random.setstate(states[step])
            history.step()
        if end is End.RECOVER:
            history.copy_for_recovery().recover()
        elif end is End.SETTLE:
            history.random.setstate(states[-1])
            history.settle()
            history.delete()
    except Exception as error:
        return history.recovery or history, error
    return history, None


def _kind(error: Exception) -> tuple[str, str]:
    return type(error).__name__, str(error).split(":")[0][:KIND_LENGTH]
