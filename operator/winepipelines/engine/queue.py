"""A work queue that tenants share fairly.

One task at a time processes an item, however often it is added, and once more if it was added meanwhile. Tenants take turns.
Three limits keep one tenant's work from delaying another's:

- Slots: the number of items processed at once. Each tenant is guaranteed a few. It may have more, up to an equal share among
  the tenants of the last seconds, but as many as are guaranteed to one tenant stay free for those that have fewer.
- Slot time: an item that takes longer returns its slot and continues without one. It still counts towards its tenant's share.
  So work that hangs delays its own tenant only, whatever it hangs on, even if it cannot be canceled.
- Rates: how often one item, and how often all items of one tenant, are processed.
"""

import asyncio
import contextvars
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field

from winepipelines.engine.rate import Rate
from winepipelines.engine.tenant import TENANT

Work = Callable[[], Awaitable[None]]
SLOT_SECONDS = 2.0
RECENT_SECONDS = 10.0  # for which a tenant counts among those that share the slots, after its work began
GUARANTEED_SHARE = 5  # one slot of so many is guaranteed to each tenant
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rates:
    """How often work may begin: a burst at once, then so often per second."""

    item_per_second: float = 2.0
    item_burst: int = 20
    tenant_per_second: float = 25.0
    tenant_burst: int = 100


@dataclass
class _Lane:
    """A tenant's work."""

    tenant: str
    waiting: OrderedDict[Hashable, Work] = field(default_factory=OrderedDict)
    running: int = 0
    timer: asyncio.TimerHandle | None = None  # until its rate allows it to begin again


@dataclass
class _Running:
    """An item that is being processed."""

    lane: _Lane
    task: asyncio.Task[None]
    began: float
    timer: asyncio.TimerHandle
    slow: bool = False
    again: Work | None = None


class FairQueue:
    """Processes items in the event loop's thread."""

    def __init__(self, slots: int, *, slot_seconds: float = SLOT_SECONDS, rates: Rates | None = None) -> None:
        """Create a queue with so many slots, each held for `slot_seconds` at most."""
        rates = rates or Rates()
        self._slots = slots
        self._guaranteed = max(1, slots // GUARANTEED_SHARE)
        self._most = max(self._guaranteed, slots - self._guaranteed)  # that one tenant may have, slow ones included
        self._slot_seconds = slot_seconds
        self._item_rate = Rate(rates.item_per_second, rates.item_burst)
        self._tenant_rate = Rate(rates.tenant_per_second, rates.tenant_burst)
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()  # those with work, the next in turn first
        self._running: dict[Hashable, _Running] = {}
        self._delayed: dict[Hashable, asyncio.TimerHandle] = {}  # items, until their rate allows them to wait for a turn
        self._in_slots = 0
        self._recent: OrderedDict[str, float] = OrderedDict()  # when each tenant's work began last, the oldest first
        self._is_stopped = False

    def add(self, tenant: str, item: Hashable, work: Work) -> None:
        """Add an item. It keeps its place if it already waits, and is processed once more if it is being processed."""
        if self._is_stopped:
            return
        if (running := self._running.get(item)) is not None:
            running.again = work
            return
        if item in self._delayed:
            return
        loop = asyncio.get_running_loop()
        if delay := self._item_rate.delay(item, loop.time()):
            self._delayed[item] = loop.call_later(delay, self._enqueue, tenant, item, work)
        else:
            self._enqueue(tenant, item, work)

    def discard(self, tenant: str, item: Hashable) -> None:
        """Remove an item that waits. If it is being processed, that continues to its end and is not repeated."""
        if (timer := self._delayed.pop(item, None)) is not None:
            timer.cancel()
        if (running := self._running.get(item)) is not None:
            running.again = None
        if (lane := self._lanes.get(tenant)) is not None:
            lane.waiting.pop(item, None)
            self._drop_if_idle(lane)

    def is_active(self, item: Hashable) -> bool:
        """Whether an item is being processed."""
        return item in self._running

    def longest(self) -> float:
        """Return for how many seconds the oldest item has been processed; 0.0 if there is none."""
        if not self._running:
            return 0.0
        return asyncio.get_running_loop().time() - min(running.began for running in self._running.values())

    async def stop(self) -> None:
        """Cancel all work and begin no more."""
        self._is_stopped = True
        for timer in self._delayed.values():
            timer.cancel()
        for lane in self._lanes.values():
            if lane.timer is not None:
                lane.timer.cancel()
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _enqueue(self, tenant: str, item: Hashable, work: Work) -> None:
        self._delayed.pop(item, None)
        lane = self._lanes.get(tenant)
        if lane is None:
            lane = self._lanes[tenant] = _Lane(tenant)
        lane.waiting.setdefault(item, work)
        self._begin()

    def _begin(self) -> None:
        """Give free slots to waiting items, first to those of tenants with fewer slots than are guaranteed."""
        while not self._is_stopped and self._in_slots < self._slots:
            lane = self._next_lane()
            if lane is None:
                return
            self._lanes.move_to_end(lane.tenant)
            self._start(lane)

    def _next_lane(self) -> _Lane | None:
        best: _Lane | None = None
        has_free, share = self._in_slots < self._most, self._share()
        for lane in list(self._lanes.values()):
            if not lane.waiting or lane.timer is not None or not self._may_begin_now(lane):
                continue
            if lane.running < self._guaranteed:
                return lane
            may_have_more = has_free and lane.running < share
            if may_have_more and (best is None or lane.running < best.running):
                best = lane
        return best

    def _share(self) -> int:
        """Return the most slots of a tenant that has more than are guaranteed."""
        earliest = asyncio.get_running_loop().time() - RECENT_SECONDS
        while self._recent and next(iter(self._recent.values())) < earliest:
            self._recent.popitem(last=False)
        return min(self._most, max(self._guaranteed, self._slots // max(1, len(self._recent))))

    def _may_begin_now(self, lane: _Lane) -> bool:
        """Whether a tenant's rate allows it to begin now; if not, a timer begins its work later."""
        loop = asyncio.get_running_loop()
        delay = self._tenant_rate.delay(lane.tenant, loop.time())
        if not delay:
            return True

        def resume() -> None:
            lane.timer = None
            self._begin()

        lane.timer = loop.call_later(delay, resume)
        return False

    def _start(self, lane: _Lane) -> None:
        item, work = lane.waiting.popitem(last=False)
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._item_rate.take(item, now)
        self._tenant_rate.take(lane.tenant, now)
        self._recent[lane.tenant] = now
        self._recent.move_to_end(lane.tenant)
        lane.running += 1
        self._in_slots += 1
        context = contextvars.copy_context()
        context.run(TENANT.set, lane.tenant)
        task = loop.create_task(_guarded(work), context=context)
        timer = loop.call_later(self._slot_seconds, self._set_aside, item)
        self._running[item] = _Running(lane, task, now, timer)
        task.add_done_callback(lambda _: self._ended(item))

    def _set_aside(self, item: Hashable) -> None:
        """Free the slot of slow work, which continues without one."""
        running = self._running[item]
        running.slow = True
        self._in_slots -= 1
        self._begin()

    def _ended(self, item: Hashable) -> None:
        running = self._running.pop(item)
        running.timer.cancel()
        lane = running.lane
        lane.running -= 1
        if not running.slow:
            self._in_slots -= 1
        if running.again is not None:
            self.add(lane.tenant, item, running.again)
        self._drop_if_idle(lane)
        self._begin()

    def _drop_if_idle(self, lane: _Lane) -> None:
        if not lane.waiting and not lane.running:
            if lane.timer is not None:
                lane.timer.cancel()
            self._lanes.pop(lane.tenant, None)


async def _guarded(work: Work) -> None:
    """Process an item. Nothing it raises may end the queue."""
    try:
        await work()
    except Exception:
        logger.exception("Processing failed unexpectedly")
