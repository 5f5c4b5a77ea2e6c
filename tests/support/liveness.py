"""A liveness probe like the kubelet's, and its results."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

TIMEOUT = 5.0  # seconds; timeoutSeconds of the chart's probe


@dataclass
class Liveness:
    """Results of the probe. `slowest` is in seconds; `failures` counts timeouts and error responses."""

    answers: int = 0
    failures: int = 0
    slowest: float = 0.0


@asynccontextmanager
async def probed(url: str, interval: float = 0.25) -> AsyncIterator[Liveness]:
    """Probe `/healthz` of an address within the context, much more often than a kubelet."""
    results = Liveness()

    async def probe(session: aiohttp.ClientSession) -> None:
        while True:
            began = time.perf_counter()
            try:
                async with session.get(f"{url}/healthz") as response:
                    await response.read()
                    results.failures += response.status != 200
            except (aiohttp.ClientError, TimeoutError):
                results.failures += 1
            results.answers += 1
            results.slowest = max(results.slowest, time.perf_counter() - began)
            await asyncio.sleep(interval)

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as session:
        task = asyncio.create_task(probe(session))
        try:
            yield results
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
