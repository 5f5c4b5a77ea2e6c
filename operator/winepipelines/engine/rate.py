"""Rates: how often something may happen, for each of many keys."""

from collections.abc import Hashable

PRUNED_AT = 4096  # keys; those that may do all again need not be remembered


class Rate:
    """Allows each key `burst` events at once, and `per_second` from then on (the generic cell rate algorithm)."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._interval = 1 / per_second
        self._tolerance = (burst - 1) / per_second
        self._due: dict[Hashable, float] = {}  # when the key's events so far will all have been paid for

    def delay(self, key: Hashable, now: float) -> float:
        """Return the seconds until the key's next event; 0.0 if it may happen now."""
        return max(0.0, self._due.get(key, now) - self._tolerance - now)

    def take(self, key: Hashable, now: float) -> None:
        """Count an event of the key."""
        if len(self._due) >= PRUNED_AT and key not in self._due:
            self._due = {known: due for known, due in self._due.items() if due > now}
        self._due[key] = max(self._due.get(key, now), now) + self._interval
