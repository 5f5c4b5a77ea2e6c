"""Reads that the resources of a namespace share, and when they are made anew. On virtual time (looptime): no test waits."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from winecontract.reasons import Reason
from winepipelines.api.errors import Unavailable
from winepipelines.platform.kubernetes import PODDEFAULTS, SECRETS, Body, Kind
from winepipelines.platform.sharedreads import LARGEST, MOST, SECONDS, SharedReads

pytestmark = pytest.mark.looptime(idle_timeout=1000)
BOTH = ("team", "wine")


class Server:
    """An API server that takes a second for each read and counts them."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Body] = {BOTH: {"data": {"key": "one"}}}
        self.reads: Counter[tuple[str, str]] = Counter()
        self.error: Exception | None = None

    async def get(self, kind: Kind, namespace: str, name: str) -> Body | None:
        """Read an object as it is when the request arrives."""
        self.reads[namespace, name] += 1
        found, error = self.objects.get((namespace, name)), self.error
        await asyncio.sleep(1)
        if error is not None:
            raise error
        return found

    async def list(self, kind: Kind, namespace: str, keep: Callable[[Body], Body], most: int, **selectors: str) -> list[Body]:
        """List the objects of a namespace."""
        self.reads[namespace, str(selectors)] += 1
        await asyncio.sleep(1)
        return [keep(found) for (where, _), found in self.objects.items() if where == namespace]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def reads(server: Server) -> SharedReads:
    return SharedReads(server)  # type: ignore[arg-type]


async def read(reads: SharedReads, name: str = "wine", namespace: str = "team") -> Any:
    return await reads.get(SECRETS, namespace, name)


async def test_reads_at_the_same_time_are_one_request(server: Server, reads: SharedReads) -> None:
    answers = await asyncio.gather(*(read(reads) for _ in range(5)))
    assert answers == [server.objects[BOTH]] * 5
    assert server.reads.total() == 1


async def test_answer_is_shared_for_some_seconds(server: Server, reads: SharedReads) -> None:
    for _ in range(3):
        await read(reads)
    assert server.reads.total() == 1
    await asyncio.sleep(SECONDS)
    await read(reads)
    assert server.reads.total() == 2


async def test_other_objects_namespaces_and_lists_are_read(server: Server, reads: SharedReads) -> None:
    await read(reads)
    await read(reads, "other")
    await read(reads, namespace="other")
    for selector in ("a", "b", "a"):
        assert await reads.list(PODDEFAULTS, "team", dict, 10, label_selector=selector) == [server.objects[BOTH]]
    assert server.reads.total() == 5


async def test_missing_object_is_read_each_time(server: Server, reads: SharedReads) -> None:
    assert await read(reads, "missing") is None
    server.objects["team", "missing"] = {"data": {}}
    assert await read(reads, "missing") == {"data": {}}


@pytest.mark.parametrize("namespace", ["team", ""], ids=["of its namespace", "of all namespaces"])
async def test_change_makes_the_next_read_anew(server: Server, reads: SharedReads, namespace: str) -> None:
    await read(reads)
    server.objects[BOTH] = {"data": {"key": "two"}}
    reads.forget(namespace)
    assert await read(reads) == {"data": {"key": "two"}}


async def test_change_of_another_namespace_changes_nothing(server: Server, reads: SharedReads) -> None:
    await read(reads)
    reads.forget("other")
    await read(reads)
    assert server.reads.total() == 1


async def test_read_that_began_before_a_change_is_neither_joined_nor_kept(server: Server, reads: SharedReads) -> None:
    before = asyncio.create_task(read(reads))
    await asyncio.sleep(0.5)
    server.objects[BOTH] = {"data": {"key": "two"}}
    reads.forget("team")
    assert await read(reads) == {"data": {"key": "two"}}
    assert await before == {"data": {"key": "one"}}
    assert await read(reads) == {"data": {"key": "two"}}
    assert server.reads.total() == 2


async def test_failure_reaches_all_who_wait_and_nobody_else(server: Server, reads: SharedReads) -> None:
    server.error = Unavailable(Reason.KUBERNETES_UNAVAILABLE, "down")
    answers = await asyncio.gather(read(reads), read(reads), return_exceptions=True)
    assert list(answers) == [server.error] * 2
    server.error = None
    assert await read(reads) == server.objects[BOTH]


async def test_canceled_caller_takes_the_answer_from_nobody(server: Server, reads: SharedReads) -> None:
    first, second = asyncio.create_task(read(reads)), asyncio.create_task(read(reads))
    await asyncio.sleep(0.5)
    first.cancel()
    assert await second == server.objects[BOTH]
    assert server.reads.total() == 1


async def test_large_objects_are_not_kept(server: Server, reads: SharedReads) -> None:
    server.objects[BOTH] = {"data": {"key": "x" * LARGEST}}
    await read(reads)
    await read(reads)
    assert server.reads.total() == 2


async def test_all_together_are_bounded(server: Server, reads: SharedReads) -> None:
    names = [f"wine-{number}" for number in range(2 * MOST // LARGEST)]
    for name in names:
        server.objects["team", name] = {"data": {"key": "x" * (LARGEST - 100)}}
    await asyncio.gather(*(read(reads, name) for name in names))
    await asyncio.gather(*(read(reads, name) for name in names))
    kept = [name for name in names if server.reads["team", name] == 1]
    assert 0 < len(kept) * LARGEST <= MOST * 1.1
    await asyncio.sleep(SECONDS)
    await read(reads)
    await read(reads)
    assert server.reads[BOTH] == 1, "there is room again"
