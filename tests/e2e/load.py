"""What the client that asks the model without pause has seen: `asks` in visitors.yaml."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Load:
    """Answered requests in milliseconds, and what went wrong with the others."""

    milliseconds: tuple[float, ...]
    values: tuple[float, ...]
    failures: tuple[str, ...]

    @classmethod
    def read(cls, lines: Iterable[str]) -> Self:
        """Read the client's log: each line has time, milliseconds and outcome."""
        milliseconds, values, failures = [], [], []
        for line in lines:
            _, took, outcome, said = line.split(" ", 3)
            if outcome == "ok":
                milliseconds.append(float(took))
                values.append(float(said))
            else:
                failures.append(line)
        return cls(tuple(milliseconds), tuple(values), tuple(failures))

    @property
    def count(self) -> int:
        """All requests."""
        return len(self.milliseconds) + len(self.failures)

    def percentile(self, percent: float) -> float:
        """Give the time within which this share of the answers came, by nearest rank."""
        ordered = sorted(self.milliseconds)
        return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]

    def __str__(self) -> str:
        told = [f"{self.count} requests, {len(self.failures)} failed"]
        if self.milliseconds:
            told += [f"p{percent} {self.percentile(percent):.0f} ms" for percent in (50, 95, 99, 100)]
        return ", ".join(told + list(self.failures[:5]))
