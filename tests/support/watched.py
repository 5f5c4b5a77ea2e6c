"""A watch of WinePipelines, and the operator's reaction time to a change."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from support.cluster import ready
from support.fleet import PIPELINES

from sandbox.seldon.api import Api
from winepipelines.api.pipeline import WinePipeline

Key = tuple[str, str]


class Watched:
    """The watched WinePipelines, by namespace and name."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.pipelines: dict[Key, WinePipeline] = {}
        self.requests: list[float] = []  # seconds that the API server took for each change
        self._changed = asyncio.Condition()

    async def until(self, holds: Callable[[], bool], seconds: float, expected: str) -> None:
        """Wait until a condition holds. Raises AssertionError after `seconds`."""
        try:
            async with self._changed, asyncio.timeout(seconds):
                await self._changed.wait_for(holds)
        except TimeoutError:
            raise AssertionError(f"not within {seconds:g} s: {expected}") from None

    async def until_ready(self, number: int, seconds: float) -> None:
        """Wait until `number` resources are Ready."""
        await self.until(lambda: sum(map(ready, self.pipelines.values())) >= number, seconds, f"{number} are Ready")

    async def reaction(self, key: Key, seconds: float = 60.0) -> float:
        """Change a spec without effect on runs or pods; return the seconds until the status has the new generation."""
        limit = 11 if self.pipelines[key].spec.history_limit != 11 else 12
        began = time.perf_counter()
        changed = await self._api.merge(PIPELINES, *key, {"spec": {"historyLimit": limit}})
        self.requests.append(time.perf_counter() - began)
        generation = changed["metadata"]["generation"]
        reacted = lambda: (self.pipelines[key].status.observed_generation or 0) >= generation  # noqa: E731
        await self.until(reacted, seconds, f"the status of {key[0]}/{key[1]} has generation {generation}")
        return time.perf_counter() - began

    async def follow(self, labels: str) -> None:
        """Follow the resources with these labels until canceled."""
        async with aclosing(self._api.follow(PIPELINES, labels)) as events:  # type: ignore[type-var]
            async for kind, item in events:
                for body in item["items"] if kind == "SYNCED" else [item]:
                    metadata = body["metadata"]
                    self.pipelines[metadata["namespace"], metadata["name"]] = WinePipeline.from_body(body)
                async with self._changed:
                    self._changed.notify_all()


@asynccontextmanager
async def watched(api: Api, labels: str) -> AsyncIterator[Watched]:
    """Follow the resources with these labels within the context."""
    found = Watched(api)
    task = asyncio.create_task(found.follow(labels))
    try:
        yield found
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
