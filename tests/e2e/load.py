"""The results of the client that continuously sends predictions: container `client` in visitors.yaml."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Load:
    """Durations of the answered requests in milliseconds, their values, and the log lines of the failed ones."""

    milliseconds: tuple[float, ...]
    values: tuple[float, ...]
    failures: tuple[str, ...]

    @classmethod
    def read(cls, lines: Iterable[str]) -> Self:
        """Read the client's log: each line has time, milliseconds and outcome."""
        milliseconds, values, failures = [], [], []
        for line in lines:
            _, took, outcome, detail = line.split(" ", 3)
            if outcome == "ok":
                milliseconds.append(float(took))
                values.append(float(detail))
            else:
                failures.append(line)
        return cls(tuple(milliseconds), tuple(values), tuple(failures))

    @property
    def count(self) -> int:
        """Return the number of requests, answered or failed."""
        return len(self.milliseconds) + len(self.failures)

    def percentile(self, percent: float) -> float:
        """Return the duration in milliseconds within which this share of the answers came, by nearest rank."""
        ordered = sorted(self.milliseconds)
        return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]

    def __str__(self) -> str:
        facts = [f"{self.count} requests, {len(self.failures)} failed"]
        if self.milliseconds:
            facts += [f"p{percent} {self.percentile(percent):.0f} ms" for percent in (50, 95, 99, 100)]
        return ", ".join(facts + list(self.failures[:5]))
