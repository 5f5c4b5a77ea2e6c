"""The kubelet's liveness probe, and what it saw."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

TIMEOUT = 5.0  # seconds that the kubelet gives an answer, as the chart says


@dataclass
class Liveness:
    """Answers so far. `slowest` is in seconds; `failures` counts those that were late, or not good."""

    answers: int = 0
    failures: int = 0
    slowest: float = 0.0


@asynccontextmanager
async def probed(url: str, interval: float = 0.25) -> AsyncIterator[Liveness]:
    """Probe `/healthz` of an address all the while, much more often than a kubelet."""
    seen = Liveness()

    async def probe(session: aiohttp.ClientSession) -> None:
        while True:
            began = time.perf_counter()
            try:
                async with session.get(f"{url}/healthz") as response:
                    await response.read()
                    seen.failures += response.status != 200
            except (aiohttp.ClientError, TimeoutError):
                seen.failures += 1
            seen.answers += 1
            seen.slowest = max(seen.slowest, time.perf_counter() - began)
            await asyncio.sleep(interval)

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as session:
        task = asyncio.create_task(probe(session))
        try:
            yield seen
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
