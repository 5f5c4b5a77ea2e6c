"""The work queue: fair among tenants, never two tasks for one item, and work that hangs holds up its own tenant only."""

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


class Workshop:
    """A queue, and what was worked on in it."""

    made: ClassVar[list["Workshop"]] = []

    def __init__(self, patience: float = 30.0, rates: Rates = FREE, slots: int = SLOTS) -> None:
        self.queue = FairQueue(slots, patience=patience, rates=rates)
        self.begun: list[Item] = []
        self.running: Counter[Item] = Counter()
        self.ended: list[Item] = []
        self.tenants: list[str] = []
        self.most: Counter[str] = Counter()
        self.release = asyncio.Event()
        self._moved = asyncio.Condition()
        self.made.append(self)

    def add(self, tenant: str, *numbers: int, until: Callable[[], Awaitable[object]] | None = None) -> None:
        for number in numbers:
            self.queue.add(tenant, (tenant, number), self.work((tenant, number), until or self.release.wait))

    def work(self, item: Item, until: Callable[[], Awaitable[object]]) -> Work:
        async def work() -> None:
            self.begun.append(item)
            self.tenants.append(TENANT.get())
            self.running[item] += 1
            here = Counter(tenant for tenant, _ in self.running.elements())
            self.most |= here
            assert self.running[item] == 1, "one task an item at a time"
            await self._tell()
            try:
                await until()
            finally:
                self.running -= Counter([item])
                self.ended.append(item)
                await self._tell()

        return work

    async def until(self, so: Callable[[], bool]) -> None:
        async with self._moved:
            await asyncio.wait_for(self._moved.wait_for(so), 5)

    async def _tell(self) -> None:
        async with self._moved:
            self._moved.notify_all()


async def quick() -> None:
    await asyncio.sleep(0)


@pytest.fixture(autouse=True)
async def _stopped() -> AsyncIterator[None]:
    yield
    while Workshop.made:
        await Workshop.made.pop().queue.stop()


@pytest.fixture
async def workshop() -> Workshop:
    return Workshop()


async def settle() -> None:
    """Let everything happen that needs no time."""
    for _ in range(20):
        await asyncio.sleep(0)


class TestFairness:
    async def test_a_tenant_alone_leaves_slots_free_for_others(self, workshop: Workshop) -> None:
        workshop.add("attacker", *range(500))
        await settle()
        assert workshop.running.total() == SLOTS - GUARANTEED

    async def test_another_tenant_begins_at_once(self, workshop: Workshop) -> None:
        workshop.add("attacker", *range(500))
        await settle()
        workshop.add("honest", 1, 2)
        await settle()
        assert Counter(tenant for tenant, _ in workshop.running) == {"attacker": SLOTS - GUARANTEED, "honest": 2}

    async def test_tenants_take_turns(self) -> None:
        workshop = Workshop(slots=1)
        workshop.add("first", *range(3), until=quick)
        workshop.add("second", *range(3), until=quick)
        workshop.add("third", 0, until=quick)
        await workshop.until(lambda: len(workshop.ended) == 7)
        assert [tenant for tenant, _ in workshop.begun] == ["first", "first", "second", "third", "first", "second", "second"]

    async def test_whoever_has_fewest_slots_gets_the_next_one(self, workshop: Workshop) -> None:
        workshop.add("first", *range(500))
        workshop.add("second", *range(500))
        workshop.add("third", *range(500))
        await settle()
        assert Counter(tenant for tenant, _ in workshop.running) == {"first": SLOTS - GUARANTEED, "second": GUARANTEED}
        for _ in range(GUARANTEED):
            first = next(item for item in workshop.running if item[0] == "first")
            workshop.queue._running[first].task.cancel()
            await settle()
        counts = Counter(tenant for tenant, _ in workshop.running)
        assert counts == {"first": SLOTS - 2 * GUARANTEED, "second": GUARANTEED, "third": GUARANTEED}

    async def test_a_tenant_has_an_equal_share_while_others_are_active(self, workshop: Workshop) -> None:
        for number in range(4):
            workshop.add(f"honest-{number}", 1, until=quick)
        await workshop.until(lambda: len(workshop.ended) == 4)
        workshop.add("attacker", *range(500))
        await settle()
        assert workshop.running.total() == SLOTS // 5

    async def test_none_starves_behind_many_busy_tenants(self) -> None:
        workshop = Workshop()
        for number in range(50):
            workshop.add(f"busy-{number}", *range(20), until=quick)
        workshop.add("honest", 1, until=quick)
        await workshop.until(lambda: ("honest", 1) in workshop.ended)
        assert len(workshop.begun) <= SLOTS + 50 * GUARANTEED

    async def test_everything_is_worked_on(self, workshop: Workshop) -> None:
        for tenant in range(20):
            workshop.add(str(tenant), *range(30), until=quick)
        await workshop.until(lambda: len(workshop.ended) == 600)
        assert len(set(workshop.ended)) == 600

    async def test_a_queue_of_one_slot_works(self) -> None:
        workshop = Workshop(slots=1)
        workshop.add("team", *range(10), until=quick)
        await workshop.until(lambda: len(workshop.ended) == 10)
        assert workshop.most["team"] == 1


class TestSlowWork:
    async def test_a_tenant_whose_work_hangs_gives_its_slots_back_and_gets_no_others(self) -> None:
        workshop = Workshop(patience=0.05)
        workshop.add("attacker", *range(500))
        await asyncio.sleep(0.2)
        assert len(workshop.begun) == SLOTS - GUARANTEED, "no more than the first wave"
        workshop.add("honest", *range(100), until=quick)
        began = time.monotonic()
        await workshop.until(lambda: sum(tenant == "honest" for tenant, _ in workshop.ended) == 100)
        assert time.monotonic() - began < 0.5
        assert workshop.most["attacker"] == SLOTS - GUARANTEED

    async def test_a_tenant_that_works_slowly_and_alone_is_not_slowed_down(self) -> None:
        workshop = Workshop(patience=0.05)
        workshop.add("team", *range(24), until=lambda: asyncio.sleep(0.2))
        await workshop.until(lambda: len(workshop.ended) == 24)
        assert workshop.most["team"] == SLOTS - GUARANTEED

    async def test_hanging_work_of_many_tenants_holds_another_up_for_a_few_times_the_patience_at_most(self) -> None:
        patience = 0.1
        workshop = Workshop(patience=patience)
        for number in range(20):
            workshop.add(f"attacker-{number}", *range(20))
        began = time.monotonic()
        workshop.add("honest", 1, until=quick)
        await workshop.until(lambda: ("honest", 1) in workshop.ended)
        assert time.monotonic() - began < 20 * GUARANTEED / SLOTS * patience + patience

    async def test_work_that_cannot_be_canceled_holds_up_its_own_tenant_only(self) -> None:
        workshop, forever = Workshop(patience=0.05, slots=2), asyncio.Event()

        async def stubborn() -> None:
            while not forever.is_set():
                try:
                    await forever.wait()
                except asyncio.CancelledError:
                    continue

        try:
            workshop.add("attacker", *range(5), until=stubborn)
            await settle()
            for running in list(workshop.queue._running.values()):
                running.task.cancel()
            workshop.add("honest", *range(5), until=quick)
            await workshop.until(lambda: sum(tenant == "honest" for tenant, _ in workshop.ended) == 5)
            assert len(workshop.begun) == 1 + 5
        finally:
            forever.set()
            await workshop.queue.stop()

    async def test_the_longest_is_told(self, workshop: Workshop) -> None:
        assert workshop.queue.longest() == 0.0
        workshop.add("team", 1)
        await asyncio.sleep(0.05)
        assert 0.05 <= workshop.queue.longest() < 1


class TestOneItem:
    async def test_is_never_worked_on_twice_at_once_and_once_more_where_it_was_added_meanwhile(self, workshop: Workshop) -> None:
        workshop.add("team", 1)
        await settle()
        for _ in range(100):
            workshop.add("team", 1)
        await settle()
        assert workshop.begun == [("team", 1)]
        workshop.release.set()
        await workshop.until(lambda: len(workshop.ended) == 2)
        await settle()
        assert workshop.begun == [("team", 1)] * 2

    async def test_that_waits_is_worked_on_once(self) -> None:
        workshop = Workshop(slots=1)
        workshop.add("team", 1)
        await settle()
        for _ in range(100):
            workshop.add("team", 2)
        workshop.release.set()
        await workshop.until(lambda: len(workshop.ended) == 2)
        await settle()
        assert workshop.begun == [("team", 1), ("team", 2)]

    async def test_that_is_discarded_does_not_begin(self) -> None:
        workshop = Workshop(slots=1)
        workshop.add("team", 1, 2)
        await settle()
        workshop.add("team", 1)
        workshop.queue.discard("team", ("team", 1))
        workshop.queue.discard("team", ("team", 2))
        workshop.release.set()
        await workshop.until(lambda: len(workshop.ended) == 1)
        await settle()
        assert workshop.begun == [("team", 1)]
        assert not workshop.queue._lanes, "nothing is left of a tenant without work"

    async def test_knows_whom_it_is_worked_on_for(self, workshop: Workshop) -> None:
        workshop.add("team", 1, until=quick)
        workshop.add("other", 1, until=quick)
        await workshop.until(lambda: len(workshop.ended) == 2)
        assert sorted(workshop.tenants) == ["other", "team"]
        assert TENANT.get() == ""

    async def test_that_raises_does_not_end_the_queue(self, workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
        async def fail() -> None:
            raise ValueError("a defect")

        workshop.add("team", 1, until=fail)
        workshop.add("team", 2, until=quick)
        await workshop.until(lambda: len(workshop.ended) == 2)
        await settle()
        assert "Work failed by a defect" in caplog.text
        assert workshop.queue._in_slots == 0

    async def test_that_is_canceled_gives_its_slot_back(self) -> None:
        workshop = Workshop(slots=1)
        workshop.add("team", 1, 2)
        await settle()
        workshop.queue._running["team", 1].task.cancel()
        await workshop.until(lambda: workshop.begun == [("team", 1), ("team", 2)])


class TestRates:
    async def test_an_item_that_is_added_again_and_again_is_worked_on_at_its_rate(self) -> None:
        workshop = Workshop(rates=Rates(20, 5, 1e6, 1_000_000))
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            workshop.add("attacker", 1, until=quick)
            await asyncio.sleep(0.001)
        assert 5 <= len(workshop.begun) <= 5 + 0.6 * 20

    async def test_a_change_that_comes_too_soon_is_not_lost(self) -> None:
        workshop = Workshop(rates=Rates(20, 1, 1e6, 1_000_000))
        workshop.add("team", 1, until=quick)
        await workshop.until(lambda: len(workshop.ended) == 1)
        workshop.add("team", 1, until=quick)
        await workshop.until(lambda: len(workshop.ended) == 2)

    async def test_a_tenant_with_many_busy_items_is_held_to_its_rate_and_no_other_is(self) -> None:
        workshop = Workshop(rates=Rates(1e6, 1_000_000, 20, 10))
        workshop.add("attacker", *range(500), until=quick)
        workshop.add("honest", *range(8), until=quick)
        await asyncio.sleep(0.5)
        counts = Counter(tenant for tenant, _ in workshop.ended)
        assert counts["honest"] == 8
        assert 10 <= counts["attacker"] <= 10 + 0.7 * 20
        workshop.add("honest", 8, until=quick)
        await workshop.until(lambda: ("honest", 8) in workshop.ended)

    async def test_one_that_was_held_to_its_rate_is_worked_on_to_the_end(self) -> None:
        workshop = Workshop(rates=Rates(1e6, 1_000_000, 100, 5))
        workshop.add("team", *range(30), until=quick)
        await workshop.until(lambda: len(workshop.ended) == 30)
        await settle()
        assert not workshop.queue._lanes

    def test_a_rate_forgets_whom_it_need_not_remember(self) -> None:
        rate = Rate(10, 1)
        for number in range(10_000):
            rate.take(number, number)
        assert len(rate._due) < 5_000


async def test_a_stopped_queue_cancels_its_work_and_begins_no_more() -> None:
    workshop = Workshop(slots=2)
    workshop.add("team", *range(5))
    await settle()
    await workshop.queue.stop()
    workshop.add("team", 9)
    await settle()
    assert (len(workshop.begun), len(workshop.ended)) == (1, 1)
