"""A work queue that tenants share fairly.

An item is worked on by one task at a time, however often it is added, and once more if it was added meanwhile. Tenants take
turns. Three bounds keep one tenant's work from holding up another's:

- Slots: so many items are worked on at once. Each tenant is guaranteed a few. It may have more, up to an equal share among
  the tenants of the last seconds, but as many as are guaranteed to one tenant are kept free for those that have less than that.
- Patience: an item that takes longer gives its slot back and goes on beside the slots. It still counts as its tenant's. So work
  that hangs holds up its own tenant only, whatever it hangs on, and even where it cannot be canceled.
- Rates: how often one item, and how often all items of one tenant, are worked on.
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
PATIENCE_SECONDS = 2.0
RECENT_SECONDS = 10.0  # for which a tenant whose work has begun counts as one that shares the slots
GUARANTEED_SHARE = 5  # one slot of so many is guaranteed to each tenant
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rates:
    """How often, per second, work begins after a burst."""

    item_per_second: float = 2.0
    item_burst: int = 20
    tenant_per_second: float = 25.0
    tenant_burst: int = 100


@dataclass
class _Lane:
    """The work of a tenant."""

    tenant: str
    waiting: OrderedDict[Hashable, Work] = field(default_factory=OrderedDict)
    running: int = 0
    timer: asyncio.TimerHandle | None = None  # until its rate lets it begin again


@dataclass
class _Running:
    """An item that is worked on."""

    lane: _Lane
    task: asyncio.Task[None]
    began: float
    timer: asyncio.TimerHandle
    slow: bool = False
    again: Work | None = None


class FairQueue:
    """Works on items, in an event loop's thread."""

    def __init__(self, slots: int, *, patience: float = PATIENCE_SECONDS, rates: Rates | None = None) -> None:
        """`patience` is in seconds."""
        rates = rates or Rates()
        self._slots = slots
        self._guaranteed = max(1, slots // GUARANTEED_SHARE)
        self._most = max(self._guaranteed, slots - self._guaranteed)  # that one tenant may have, slow ones included
        self._patience = patience
        self._item_rate = Rate(rates.item_per_second, rates.item_burst)
        self._tenant_rate = Rate(rates.tenant_per_second, rates.tenant_burst)
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()  # those with work; the next one's turn first
        self._running: dict[Hashable, _Running] = {}
        self._delayed: dict[Hashable, asyncio.TimerHandle] = {}  # items, until their rate lets them wait for a turn
        self._in_slots = 0
        self._recent: OrderedDict[str, float] = OrderedDict()  # when work of a tenant began last, the longest ago first
        self._is_stopped = False

    def add(self, tenant: str, item: Hashable, work: Work) -> None:
        """Have an item worked on. One that waits already is left where it is; one that is worked on is so once more."""
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
        """Forget that an item waits. Work on it that has begun goes on to its end, and is not repeated."""
        if (timer := self._delayed.pop(item, None)) is not None:
            timer.cancel()
        if (running := self._running.get(item)) is not None:
            running.again = None
        if (lane := self._lanes.get(tenant)) is not None:
            lane.waiting.pop(item, None)
            self._drop_if_idle(lane)

    def is_active(self, item: Hashable) -> bool:
        """Tell whether an item is worked on."""
        return item in self._running

    def longest(self) -> float:
        """Return for how many seconds the oldest work under way has been so; 0.0 without any."""
        if not self._running:
            return 0.0
        return asyncio.get_running_loop().time() - min(running.began for running in self._running.values())

    async def stop(self) -> None:
        """Cancel all work, and begin no more."""
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
        """Give free slots to whoever may have them: first to those with fewer than are guaranteed to them."""
        while not self._is_stopped and self._in_slots < self._slots:
            lane = self._next_lane()
            if lane is None:
                return
            self._lanes.move_to_end(lane.tenant)
            self._start(lane)

    def _next_lane(self) -> _Lane | None:
        best: _Lane | None = None
        there_are_more, share = self._in_slots < self._most, self._share()
        for lane in list(self._lanes.values()):
            if not lane.waiting or lane.timer is not None or not self._may_begin_now(lane):
                continue
            if lane.running < self._guaranteed:
                return lane
            may_have_more = there_are_more and lane.running < share
            if may_have_more and (best is None or lane.running < best.running):
                best = lane
        return best

    def _share(self) -> int:
        """Say how many slots a tenant may have that has more than are guaranteed to it."""
        earliest = asyncio.get_running_loop().time() - RECENT_SECONDS
        while self._recent and next(iter(self._recent.values())) < earliest:
            self._recent.popitem(last=False)
        return min(self._most, max(self._guaranteed, self._slots // max(1, len(self._recent))))

    def _may_begin_now(self, lane: _Lane) -> bool:
        """Tell whether a tenant's rate lets it begin; see to it that it is its turn again when it does."""
        loop = asyncio.get_running_loop()
        delay = self._tenant_rate.delay(lane.tenant, loop.time())
        if not delay:
            return True

        def let() -> None:
            lane.timer = None
            self._begin()

        lane.timer = loop.call_later(delay, let)
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
        timer = loop.call_later(self._patience, self._set_aside, item)
        self._running[item] = _Running(lane, task, now, timer)
        task.add_done_callback(lambda _: self._ended(item))

    def _set_aside(self, item: Hashable) -> None:
        """Take the slot of work that is slow, which goes on without one."""
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
    """Do work. Nothing it raises may end the queue."""
    try:
        await work()
    except Exception:
        logger.exception("Work failed by a defect")
