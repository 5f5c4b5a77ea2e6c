"""The work queue: it is fair among tenants, runs one task per item, and hanging work delays its own tenant only."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import ClassVar

import pytest

from winepipelines.engine.queue import FairQueue, Rates, Work
from winepipelines.engine.rate import Rate
from winepipelines.engine.tenant import TENANT

SLOTS, GUARANTEED = 10, 2
FREE = Rates(item_per_second=1e6, item_burst=1_000_000, tenant_per_second=1e6, tenant_burst=1_000_000)
Item = tuple[str, int]


class Worker:
    """A queue, and a record of its work."""

    instances: ClassVar[list["Worker"]] = []

    def __init__(self, slot_seconds: float = 30.0, rates: Rates = FREE, slots: int = SLOTS) -> None:
        self.queue = FairQueue(slots, slot_seconds=slot_seconds, rates=rates)
        self.begun: list[Item] = []
        self.running: Counter[Item] = Counter()
        self.ended: list[Item] = []
        self.tenants: list[str] = []
        self.most: Counter[str] = Counter()
        self.release = asyncio.Event()
        self._changed = asyncio.Condition()
        self.instances.append(self)

    def add(self, tenant: str, *numbers: int, until: Callable[[], Awaitable[object]] | None = None) -> None:
        for number in numbers:
            self.queue.add(tenant, (tenant, number), self.work((tenant, number), until or self.release.wait))

    def work(self, item: Item, until: Callable[[], Awaitable[object]]) -> Work:
        async def work() -> None:
            self.begun.append(item)
            self.tenants.append(TENANT.get())
            self.running[item] += 1
            now = Counter(tenant for tenant, _ in self.running.elements())
            self.most |= now
            assert self.running[item] == 1, "two tasks of one item at a time"
            await self._notify()
            try:
                await until()
            finally:
                self.running -= Counter([item])
                self.ended.append(item)
                await self._notify()

        return work

    async def until(self, holds: Callable[[], bool]) -> None:
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(holds), 5)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def quick() -> None:
    await asyncio.sleep(0)


@pytest.fixture(autouse=True)
async def _stopped() -> AsyncIterator[None]:
    yield
    while Worker.instances:
        await Worker.instances.pop().queue.stop()


@pytest.fixture
async def worker() -> Worker:
    return Worker()


async def settle() -> None:
    """Run the event loop until tasks that need no time are done."""
    for _ in range(20):
        await asyncio.sleep(0)


class TestFairness:
    async def test_single_tenant_leaves_slots_free(self, worker: Worker) -> None:
        worker.add("attacker", *range(500))
        await settle()
        assert worker.running.total() == SLOTS - GUARANTEED

    async def test_second_tenant_starts_at_once(self, worker: Worker) -> None:
        worker.add("attacker", *range(500))
        await settle()
        worker.add("honest", 1, 2)
        await settle()
        assert Counter(tenant for tenant, _ in worker.running) == {"attacker": SLOTS - GUARANTEED, "honest": 2}

    async def test_tenants_take_turns(self) -> None:
        worker = Worker(slots=1)
        worker.add("first", *range(3), until=quick)
        worker.add("second", *range(3), until=quick)
        worker.add("third", 0, until=quick)
        await worker.until(lambda: len(worker.ended) == 7)
        assert [tenant for tenant, _ in worker.begun] == ["first", "first", "second", "third", "first", "second", "second"]

    async def test_free_slot_goes_to_the_tenant_with_the_fewest(self, worker: Worker) -> None:
        worker.add("first", *range(500))
        worker.add("second", *range(500))
        worker.add("third", *range(500))
        await settle()
        assert Counter(tenant for tenant, _ in worker.running) == {"first": SLOTS - GUARANTEED, "second": GUARANTEED}
        for _ in range(GUARANTEED):
            first = next(item for item in worker.running if item[0] == "first")
            worker.queue._running[first].task.cancel()
            await settle()
        counts = Counter(tenant for tenant, _ in worker.running)
        assert counts == {"first": SLOTS - 2 * GUARANTEED, "second": GUARANTEED, "third": GUARANTEED}

    async def test_tenant_gets_an_equal_share_when_others_are_active(self, worker: Worker) -> None:
        for number in range(4):
            worker.add(f"honest-{number}", 1, until=quick)
        await worker.until(lambda: len(worker.ended) == 4)
        worker.add("attacker", *range(500))
        await settle()
        assert worker.running.total() == SLOTS // 5

    async def test_tenant_does_not_starve_behind_many_busy_ones(self) -> None:
        worker = Worker()
        for number in range(50):
            worker.add(f"busy-{number}", *range(20), until=quick)
        worker.add("honest", 1, until=quick)
        await worker.until(lambda: ("honest", 1) in worker.ended)
        assert len(worker.begun) <= SLOTS + 50 * GUARANTEED

    async def test_queue_runs_all_work(self, worker: Worker) -> None:
        for tenant in range(20):
            worker.add(str(tenant), *range(30), until=quick)
        await worker.until(lambda: len(worker.ended) == 600)
        assert len(set(worker.ended)) == 600

    async def test_queue_with_one_slot_runs_one_task_at_a_time(self) -> None:
        worker = Worker(slots=1)
        worker.add("team", *range(10), until=quick)
        await worker.until(lambda: len(worker.ended) == 10)
        assert worker.most["team"] == 1


class TestSlowWork:
    async def test_tenant_with_hanging_work_loses_its_slots_and_gets_no_others(self) -> None:
        worker = Worker(slot_seconds=0.05)
        worker.add("attacker", *range(500))
        await asyncio.sleep(0.2)
        assert len(worker.begun) == SLOTS - GUARANTEED, "only the first tasks have started"
        worker.add("honest", *range(100), until=quick)
        began = time.monotonic()
        await worker.until(lambda: sum(tenant == "honest" for tenant, _ in worker.ended) == 100)
        assert time.monotonic() - began < 0.5
        assert worker.most["attacker"] == SLOTS - GUARANTEED

    async def test_single_tenant_with_slow_work_keeps_its_slots(self) -> None:
        worker = Worker(slot_seconds=0.05)
        worker.add("team", *range(24), until=lambda: asyncio.sleep(0.2))
        await worker.until(lambda: len(worker.ended) == 24)
        assert worker.most["team"] == SLOTS - GUARANTEED

    async def test_hanging_work_of_many_tenants_delays_another_for_a_bounded_time(self) -> None:
        slot_seconds = 0.1
        worker = Worker(slot_seconds=slot_seconds)
        for number in range(20):
            worker.add(f"attacker-{number}", *range(20))
        began = time.monotonic()
        worker.add("honest", 1, until=quick)
        await worker.until(lambda: ("honest", 1) in worker.ended)
        assert time.monotonic() - began < 20 * GUARANTEED / SLOTS * slot_seconds + slot_seconds

    async def test_work_that_ignores_cancellation_delays_its_own_tenant_only(self) -> None:
        worker, forever = Worker(slot_seconds=0.05, slots=2), asyncio.Event()

        async def ignore_cancellation() -> None:
            while not forever.is_set():
                try:
                    await forever.wait()
                except asyncio.CancelledError:
                    continue

        try:
            worker.add("attacker", *range(5), until=ignore_cancellation)
            await settle()
            for running in list(worker.queue._running.values()):
                running.task.cancel()
            worker.add("honest", *range(5), until=quick)
            await worker.until(lambda: sum(tenant == "honest" for tenant, _ in worker.ended) == 5)
            assert len(worker.begun) == 1 + 5
        finally:
            forever.set()
            await worker.queue.stop()

    async def test_longest_is_the_age_of_the_oldest_work(self, worker: Worker) -> None:
        assert worker.queue.longest() == 0.0
        worker.add("team", 1)
        await asyncio.sleep(0.05)
        assert 0.05 <= worker.queue.longest() < 1


class TestItem:
    async def test_item_added_while_it_is_processed_runs_once_more_afterwards(self, worker: Worker) -> None:
        worker.add("team", 1)
        await settle()
        for _ in range(100):
            worker.add("team", 1)
        await settle()
        assert worker.begun == [("team", 1)]
        worker.release.set()
        await worker.until(lambda: len(worker.ended) == 2)
        await settle()
        assert worker.begun == [("team", 1)] * 2

    async def test_waiting_item_runs_once_when_it_is_added_again(self) -> None:
        worker = Worker(slots=1)
        worker.add("team", 1)
        await settle()
        for _ in range(100):
            worker.add("team", 2)
        worker.release.set()
        await worker.until(lambda: len(worker.ended) == 2)
        await settle()
        assert worker.begun == [("team", 1), ("team", 2)]

    async def test_discarded_item_does_not_run(self) -> None:
        worker = Worker(slots=1)
        worker.add("team", 1, 2)
        await settle()
        worker.add("team", 1)
        worker.queue.discard("team", ("team", 1))
        worker.queue.discard("team", ("team", 2))
        worker.release.set()
        await worker.until(lambda: len(worker.ended) == 1)
        await settle()
        assert worker.begun == [("team", 1)]
        assert not worker.queue._lanes, "a tenant without work must leave no lane"

    async def test_work_runs_with_its_tenant_in_the_context(self, worker: Worker) -> None:
        worker.add("team", 1, until=quick)
        worker.add("other", 1, until=quick)
        await worker.until(lambda: len(worker.ended) == 2)
        assert sorted(worker.tenants) == ["other", "team"]
        assert TENANT.get() == ""

    async def test_queue_goes_on_when_work_raises(self, worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
        async def fail() -> None:
            raise ValueError("unexpected")

        worker.add("team", 1, until=fail)
        worker.add("team", 2, until=quick)
        await worker.until(lambda: len(worker.ended) == 2)
        await settle()
        assert "Processing failed unexpectedly" in caplog.text
        assert worker.queue._in_slots == 0

    async def test_canceled_item_frees_its_slot(self) -> None:
        worker = Worker(slots=1)
        worker.add("team", 1, 2)
        await settle()
        worker.queue._running["team", 1].task.cancel()
        await worker.until(lambda: worker.begun == [("team", 1), ("team", 2)])


class TestRates:
    async def test_item_runs_at_its_rate_when_it_is_added_repeatedly(self) -> None:
        worker = Worker(rates=Rates(20, 5, 1e6, 1_000_000))
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            worker.add("attacker", 1, until=quick)
            await asyncio.sleep(0.001)
        assert 5 <= len(worker.begun) <= 5 + 0.6 * 20

    async def test_item_runs_later_when_it_is_added_before_its_rate_allows(self) -> None:
        worker = Worker(rates=Rates(20, 1, 1e6, 1_000_000))
        worker.add("team", 1, until=quick)
        await worker.until(lambda: len(worker.ended) == 1)
        worker.add("team", 1, until=quick)
        await worker.until(lambda: len(worker.ended) == 2)

    async def test_rate_limits_the_busy_tenant_only(self) -> None:
        worker = Worker(rates=Rates(1e6, 1_000_000, 20, 10))
        worker.add("attacker", *range(500), until=quick)
        worker.add("honest", *range(8), until=quick)
        await asyncio.sleep(0.5)
        counts = Counter(tenant for tenant, _ in worker.ended)
        assert counts["honest"] == 8
        assert 10 <= counts["attacker"] <= 10 + 0.7 * 20
        worker.add("honest", 8, until=quick)
        await worker.until(lambda: ("honest", 8) in worker.ended)

    async def test_rate_limited_tenant_finishes_all_work(self) -> None:
        worker = Worker(rates=Rates(1e6, 1_000_000, 100, 5))
        worker.add("team", *range(30), until=quick)
        await worker.until(lambda: len(worker.ended) == 30)
        await settle()
        assert not worker.queue._lanes

    def test_rate_drops_keys_that_are_not_limited(self) -> None:
        rate = Rate(10, 1)
        for number in range(10_000):
            rate.take(number, number)
        assert len(rate._due) < 5_000


async def test_stopped_queue_cancels_its_work_and_starts_none() -> None:
    worker = Worker(slots=2)
    worker.add("team", *range(5))
    await settle()
    await worker.queue.stop()
    worker.add("team", 9)
    await settle()
    assert (len(worker.begun), len(worker.ended)) == (1, 1)
