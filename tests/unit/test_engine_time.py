"""The engine with a toy kind: when the next reconcile comes, and how long an answer is reused.

The tests run on virtual time (looptime): no test waits.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from support.toy import LAMPS, House, caching, controller, settle, starts, watching

from winecontract.reasons import Reason
from winepipelines.engine.controller import JITTER, Controller, Key
from winepipelines.engine.errors import PlatformError
from winepipelines.engine.queue import FairQueue

pytestmark = pytest.mark.looptime(idle_timeout=100_000)
HALL = ("home", "hall")


class TestTime:
    async def test_resource_is_reconciled_again_when_decided(self, house: House, queue: FairQueue) -> None:
        lamps = controller(house, check=timedelta(seconds=30), queue=queue)
        house.lamps[HALL] = 5
        lamps.on_update(house.apply(HALL, 5))
        await settle(100.0)
        gaps = [later - earlier for earlier, later in pairwise(starts(house))]
        assert len(gaps) == 3
        assert all(30 <= gap <= JITTER * 30 for gap in gaps)
        await lamps.stop()

    async def test_event_comes_before_the_timer_and_replaces_it(self, house: House, queue: FairQueue) -> None:
        lamps = controller(house, check=timedelta(seconds=30), queue=queue)
        house.lamps[HALL] = 5
        lamps.on_update(house.apply(HALL, 5))
        await settle(20.0)
        lamps.enqueue(HALL)
        await settle(20.0)
        assert len(house.reads) == 2
        await lamps.stop()

    async def test_resource_waits_for_events_where_no_time_is_decided(self, house: House, lamps: Controller) -> None:
        house.lamps[HALL] = 5
        lamps.on_update(house.apply(HALL, 5))
        await settle(10_000.0)
        assert len(house.reads) == 1


class TestEnqueueAll:
    """`enqueue_all_within` also reconciles resources that are not due."""

    KEYS = tuple(("home", str(number)) for number in range(50))

    async def _enqueue_all_within_100_seconds(self, house: House, lamps: Controller) -> list[float]:
        """Settle 50 lamps, then enqueue all; return how many seconds later each reconcile started."""
        for key in self.KEYS:
            house.lamps[key] = 5
            lamps.on_update(house.apply(key, 5))
        await settle()
        house.reads.clear()
        now = asyncio.get_running_loop().time()
        lamps.enqueue_all_within(timedelta(seconds=100))
        await settle(100.0)
        assert {key for key, _ in house.reads} == set(self.KEYS)
        assert len(house.reads) == len(self.KEYS)
        return [start - now for start in starts(house)]

    async def test_resources_that_wait_for_events_are_spread_over_the_time(self, house: House, lamps: Controller) -> None:
        delays = await self._enqueue_all_within_100_seconds(house, lamps)
        assert sum(delay < 50 for delay in delays) in range(10, 41)

    async def test_resources_that_are_due_later_are_spread_over_the_time(self, house: House, queue: FairQueue) -> None:
        lamps = controller(house, check=timedelta(hours=1), queue=queue)
        delays = await self._enqueue_all_within_100_seconds(house, lamps)
        assert sum(delay < 50 for delay in delays) in range(10, 41)
        await lamps.stop()

    async def test_resources_that_are_due_sooner_keep_their_time(self, house: House, queue: FairQueue) -> None:
        lamps = controller(house, check=timedelta(seconds=80), queue=queue)
        delays = await self._enqueue_all_within_100_seconds(house, lamps)
        assert all(79 <= delay <= JITTER * 80 for delay in delays)
        await lamps.stop()


class TestCache:
    async def test_fresh_answer_is_not_requested_again(self, house: House, queue: FairQueue) -> None:
        lamps = controller(house, replace(LAMPS, cache=(caching(seconds=100),)), queue=queue)
        house.lamps[HALL] = 5
        lamps.on_update(house.apply(HALL, 5))
        await settle()
        for _ in range(3):
            lamps.enqueue(HALL)
            await settle(10.0)
        assert len(house.reads) == 1
        await settle(100.0)
        lamps.enqueue(HALL)
        await settle()
        assert len(house.reads) == 2
        await lamps.stop()

    async def test_answer_is_dropped_after_an_action_that_invalidates_it(self, house: House, queue: FairQueue) -> None:
        lamps = controller(house, replace(LAMPS, cache=(caching(seconds=1000),)), queue=queue)
        house.lamps[HALL] = 5
        lamps.on_update(house.apply(HALL, 5))
        await settle()
        lamps.on_update(house.apply(HALL, 6))
        await settle()
        assert house.calls.count("set") == 1
        assert len(house.reads) == 2, "read again after it was set, not before"
        await lamps.stop()

    async def test_answer_is_kept_only_if_the_rule_says_so(self, house: House, queue: FairQueue) -> None:
        lamps = controller(house, replace(LAMPS, cache=(caching(seconds=1000),)), queue=queue)
        lamps.on_update(house.apply(HALL, 0))  # the rule keeps no 0
        await settle()
        lamps.enqueue(HALL)
        await settle()
        assert len(house.reads) == 2
        await lamps.stop()


class TestWatchedAnswers:
    """Answers about watched objects: a periodic reconcile reuses them, a reconcile after an event does not."""

    @staticmethod
    async def _lit(house: House, queue: FairQueue, *keys: Key) -> Controller:
        """Light Lamps that may be watched for an hour and are reconciled every 10 s, for some minutes: each is read once."""
        spec = replace(LAMPS, cache=(watching(timedelta(hours=1)),))
        lamps = controller(house, spec, check=timedelta(seconds=10), queue=queue)
        for key in keys or (HALL,):
            house.lamps[key] = 5
            lamps.on_update(house.apply(key, 5))
        await settle(300.0)
        assert len(house.reads) == len(keys or (HALL,))
        return lamps

    async def test_change_that_a_watch_reports_is_read_at_once(self, house: House, queue: FairQueue) -> None:
        lamps = await self._lit(house, queue)
        house.lamps[HALL] = 3
        lamps.enqueue(HALL)
        await settle()
        assert house.lamps[HALL] == 5
        await lamps.stop()

    async def test_change_of_the_spec_is_decided_on_what_is(self, house: House, queue: FairQueue) -> None:
        lamps = await self._lit(house, queue)
        lamps.on_update(house.apply(HALL, 6))
        await settle()
        assert house.calls.count("read") == 3, "before the action and after it"
        assert house.lamps[HALL] == 6
        await lamps.stop()

    async def test_lost_watch_makes_the_next_periodic_reconcile_read(self, house: House, queue: FairQueue) -> None:
        lamps = await self._lit(house, queue)
        house.lamps[HALL] = 3
        lamps.forget()
        await settle()
        assert house.lamps[HALL] == 3
        await settle(10 * JITTER)
        assert house.lamps[HALL] == 5
        await lamps.stop()

    async def test_change_during_a_read_is_read_again(self, house: House, queue: FairQueue) -> None:
        lamps = controller(house, replace(LAMPS, cache=(watching(timedelta(hours=1)),)), queue=queue)
        house.lamps[HALL] = 5

        async def change_behind(_key: object) -> None:
            if len(house.reads) == 1:  # the answer is in progress
                lamps.enqueue(HALL)

        house.on_read = change_behind
        lamps.on_update(house.apply(HALL, 5))
        await settle()
        assert len(house.reads) == 2
        await lamps.stop()

    async def test_unreported_change_is_found_within_the_time(self, house: House, queue: FairQueue) -> None:
        lamps = await self._lit(house, queue)
        house.lamps[HALL] = 3
        await settle(3600.0 + 10 * JITTER)
        assert house.lamps[HALL] == 5
        await lamps.stop()

    async def test_resources_are_read_again_at_different_times(self, house: House, queue: FairQueue) -> None:
        lamps = await self._lit(house, queue, *(("home", f"lamp-{number}") for number in range(20)))
        await settle(3400.0)
        later = sorted(starts(house))[20:]
        assert len(later) >= 20
        assert later[19] - later[0] > 600
        await lamps.stop()

    async def test_problem_is_read_at_each_reconcile(self, house: House, queue: FairQueue) -> None:
        spec = replace(LAMPS, cache=(watching(timedelta(hours=1)),))
        lamps = controller(house, spec, check=timedelta(seconds=10), queue=queue)
        house.on_set = lambda _key: PlatformError(Reason.UNEXPECTED_ERROR, "the switch is stuck")
        lamps.on_update(house.apply(HALL, 5))
        await settle(35.0)
        assert len(house.reads) >= 4
        await lamps.stop()
