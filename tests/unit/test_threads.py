"""Threads for blocking calls: hanging calls of a tenant occupy its own threads only, even after they were canceled."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import pytest

from winepipelines.engine.tenant import TENANT
from winepipelines.engine.threads import Threads


@pytest.fixture
def end() -> Iterator[threading.Event]:
    end = threading.Event()
    yield end
    end.set()


def _start(tenant: str, threads: Threads, function: object, *arguments: object) -> "asyncio.Task[object]":
    async def run() -> object:
        TENANT.set(tenant)
        return await threads.run(function, *arguments)  # type: ignore[arg-type]

    return asyncio.create_task(run())


async def test_run_returns_or_raises_and_has_the_tenant_in_its_context() -> None:
    threads = Threads("test")
    assert await _start("team", threads, lambda: TENANT.get()) == "team"
    with pytest.raises(ZeroDivisionError):
        await _start("team", threads, lambda: 1 / 0)
    assert threading.current_thread().name != "test"
    assert await _start("team", threads, lambda: threading.current_thread().name) == "test"


async def test_hanging_calls_of_a_tenant_do_not_block_another(end: threading.Event) -> None:
    threads = Threads("test", threads=10, per_tenant=4)
    attack = [_start("attacker", threads, end.wait, 60) for _ in range(100)]
    assert await asyncio.wait_for(_start("honest", threads, lambda: "answer"), 5) == "answer"
    assert sum(thread.name == "test" for thread in threading.enumerate()) == 4
    end.set()
    await asyncio.gather(*attack)
    assert not threads._tenants


async def test_hanging_thread_counts_for_its_tenant_after_cancellation(end: threading.Event) -> None:
    threads = Threads("test", threads=10, per_tenant=2)
    for _ in range(5):
        attack = [_start("attacker", threads, end.wait, 60) for _ in range(2)]
        await asyncio.sleep(0.02)
        for task in attack:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*attack)
    assert sum(thread.name == "test" for thread in threading.enumerate()) == 2
    end.set()
    assert await asyncio.wait_for(_start("attacker", threads, lambda: "again"), 5) == "again"


async def test_threads_are_bounded_in_total(end: threading.Event) -> None:
    threads = Threads("test", threads=5, per_tenant=2)
    attack = [_start(f"team-{number}", threads, end.wait, 60) for number in range(20)]
    await asyncio.sleep(0.05)
    assert sum(thread.name == "test" for thread in threading.enumerate()) == 5
    end.set()
    await asyncio.gather(*attack)
