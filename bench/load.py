"""Prediction requests at a constant rate, and what became of them, for the benchmarks of availability.

Each request has its own scheduled time: a slow answer delays no other request, and a delay of the generator counts as part of the
response time. Every answer except 200 with a finite number is a failure.
"""

import asyncio
import json
import math
import statistics
import time
from dataclasses import dataclass, field

import aiohttp
from support.cluster import EXAMPLE_ROW


@dataclass
class Phase:
    """The requests of one phase: their times, response times and failures."""

    name: str
    seconds: float = 0.0
    sent: int = 0
    values: set[float] = field(default_factory=set)
    milliseconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Return the requests sent per second."""
        return self.sent / self.seconds

    def row(self) -> str:
        """Format a row of the table."""
        shares = statistics.quantiles(self.milliseconds, n=100)
        counted = f"{self.name:16} {self.seconds:8.1f} {self.sent:9,} {self.rate:7.1f} {len(self.failures):7}"
        return f"{counted} {shares[49]:8.1f} {shares[98]:8.1f}"


class Load:
    """Requests to `url` at a constant rate, on one event loop. `phase` records the requests that are sent now.

    With `new_connections` each request opens a connection of its own, as clients behind a Service's address may.
    """

    def __init__(self, url: str, rate: float, *, new_connections: bool = False) -> None:
        self.url, self._rate, self._new_connections = url, rate, new_connections
        self._asked: set[asyncio.Task[None]] = set()
        self.phase: Phase | None = None

    async def run(self) -> None:
        """Send requests until canceled, and wait for those in flight."""
        timeout = aiohttp.ClientTimeout(total=20)
        connector = aiohttp.TCPConnector(limit=0, force_close=self._new_connections)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            began, number = time.perf_counter(), 0
            try:
                while True:
                    due = began + number / self._rate
                    await asyncio.sleep(due - time.perf_counter())
                    number += 1
                    if self.phase:
                        self.phase.sent += 1
                        task = asyncio.create_task(self._ask(session, self.phase, due))
                        self._asked.add(task)
                        task.add_done_callback(self._asked.discard)
            finally:
                await asyncio.gather(*self._asked)

    async def _ask(self, session: aiohttp.ClientSession, phase: Phase, due: float) -> None:
        try:
            async with session.post(self.url, json={"data": {"ndarray": [EXAMPLE_ROW]}}) as response:
                text = await response.text()
                if response.status == 200 and math.isfinite(value := _value(text)):
                    phase.values.add(round(value, 9))
                else:
                    phase.failures.append(f"{response.status} {text[:200]}")
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError, IndexError) as error:
            phase.failures.append(f"{type(error).__name__}: {error}")
        phase.milliseconds.append(1000 * (time.perf_counter() - due))


def _value(text: str) -> float:
    [value] = json.loads(text)["data"]["ndarray"]
    return float(value)
