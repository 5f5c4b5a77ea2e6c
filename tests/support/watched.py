"""WinePipelines as a watch tells of them, and how soon the operator reacts to a change of one."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from support.cluster import ready
from support.fleet import PIPELINES

from sandbox.seldon.api import Api
from winepipelines.resource.pipeline import WinePipeline

Key = tuple[str, str]


class Watched:
    """The resources with some label, by namespace and name."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.pipelines: dict[Key, WinePipeline] = {}
        self.requests: list[float] = []  # how long the API server took for each of these changes, in seconds
        self._moved = asyncio.Condition()

    async def until(self, so: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until something is so."""
        try:
            async with self._moved, asyncio.timeout(seconds):
                await self._moved.wait_for(so)
        except TimeoutError:
            raise AssertionError(f"not within {seconds:g} s: {what}") from None

    async def until_ready(self, number: int, seconds: float) -> None:
        """Wait until so many are Ready."""
        await self.until(lambda: sum(map(ready, self.pipelines.values())) >= number, seconds, f"{number} are Ready")

    async def reaction(self, key: Key, seconds: float = 60.0) -> float:
        """Change a spec in a way that replaces nothing; return the seconds until the status tells of that generation."""
        limit = 11 if self.pipelines[key].spec.history_limit != 11 else 12
        began = time.perf_counter()
        changed = await self._api.merge(PIPELINES, *key, {"spec": {"historyLimit": limit}})
        self.requests.append(time.perf_counter() - began)
        wanted = changed["metadata"]["generation"]
        reacted = lambda: (self.pipelines[key].status.observed_generation or 0) >= wanted  # noqa: E731
        await self.until(reacted, seconds, f"the status of {key[0]}/{key[1]} tells of generation {wanted}")
        return time.perf_counter() - began

    async def follow(self, labels: str) -> None:
        """Follow them, for ever."""
        async with aclosing(self._api.follow(PIPELINES, labels)) as events:  # type: ignore[type-var]
            async for kind, item in events:
                for body in item["items"] if kind == "SYNCED" else [item]:
                    metadata = body["metadata"]
                    self.pipelines[metadata["namespace"], metadata["name"]] = WinePipeline.from_body(body)
                async with self._moved:
                    self._moved.notify_all()


@asynccontextmanager
async def watched(api: Api, labels: str) -> AsyncIterator[Watched]:
    """Follow the resources with these labels."""
    found = Watched(api)
    task = asyncio.create_task(found.follow(labels))
    try:
        yield found
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
