"""The controller: keeps the resources of one kind, decides when each is reconciled, and makes the calls of a reconcile.

Every event reconciles the whole resource. `queue` decides how many are reconciled at a time. A reconcile has a deadline: calls
that would exceed it are canceled, which is an answer like any other failure of a system.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from winepipelines.engine.decision import Decision, Event
from winepipelines.engine.errors import (
    DEADLINE_EXCEEDED,
    UNEXPECTED,
    Conflict,
    InvalidResource,
    PlatformError,
    Unavailable,
)
from winepipelines.engine.queue import FairQueue
from winepipelines.engine.reconcile import AnswerCache, Call, Observe, Perform, RecordEvent, WriteStatus, reconcile
from winepipelines.engine.spec import Acting, ApiClient, Body, ControllerSpec, Observing, ResourceLike, StatusLike

Key = tuple[str, str]
"""Namespace and name of a resource."""
BACKOFF_SECONDS = (1, 300)
CONFLICT_SECONDS = 1.0
SPREAD_SECONDS, RECONCILES_PER_SECOND = 10.0, 50.0
JITTER = 1.1
CALLS_SHARE, CALL_SHARE = 0.75, 0.5
"""Shares of a reconcile's deadline: for all its calls together, and for one of them."""
T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass
class _Entry:
    """What the controller keeps of a resource."""

    body: Body  # the newest that is known
    decided_on: Body = field(default_factory=dict)  # what the current reconcile has read or written itself
    written: str = ""  # the resource version of the controller's own last write, whose event is no news
    cache: AnswerCache = field(default_factory=AnswerCache)
    timer: asyncio.TimerHandle | None = None
    failures: int = 0
    unexpected: tuple[str, str] = ("", "")  # the last call that failed unexpectedly, and the type of its error
    calls_end: float = 0.0  # deadline of the calls of the current reconcile, by the loop's clock


class Controller:
    """Reconciles every resource of one kind."""

    def __init__(
        self,
        spec: ControllerSpec,
        api: ApiClient,
        observer: Observing,
        actor: Acting,
        follow: Callable[[Key, Any], None],
        timeouts: Any,
        queue: FairQueue,
        seconds: float,
        *,
        retry_interval: timedelta,
        trim: Callable[[Body], Body] = lambda metadata: metadata,
        measure: Callable[[float, bool], None] = lambda _seconds, _failed: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Create the controller. It reconciles from the first `on_update` on; background tasks run from `start` on.

        Args:
            spec: the kind.
            api: writes statuses and creates Events.
            observer: answers queries.
            actor: carries out actions.
            follow: is called with `Decision.follow` after each reconcile, and with None when a resource is gone.
            timeouts: passed on to `decide`.
            queue: may be shared between kinds.
            seconds: deadline of one reconcile.
            retry_interval: until the next attempt while the API server is unavailable.
            trim: drops metadata that is not needed, when a body arrives.
            measure: is called with the duration of each reconcile in seconds, and whether it failed.
            now: the clock.

        """
        self._spec = spec
        self._api = api
        self._observer = observer
        self._actor = actor
        self._follow = follow
        self._timeouts = timeouts
        self._queue = queue
        self._seconds = seconds
        self._retry_interval = retry_interval
        self._trim = trim
        self._measure = measure
        self._now = now
        self._entries: dict[Key, _Entry] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, adapters: Any) -> None:
        """Start the kind's background tasks; `adapters` is passed on to `ControllerSpec.background`."""
        for background in self._spec.background(adapters):
            task = asyncio.create_task(background.run(self), name=background.name)
            task.add_done_callback(_log_unexpected_end)
            self._tasks.append(task)

    async def stop(self) -> None:
        """End the background tasks and start no other reconcile. The next start finds whatever is left to do."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for entry in self._entries.values():
            if entry.timer is not None:
                entry.timer.cancel()

    # -- events ---------------------------------------------------------------------------------------------------

    def on_update(self, body: Body) -> None:
        """Take a body from the watch and enqueue the resource, unless the body is outdated or the controller's own write."""
        body = self._trimmed(body)
        metadata = body["metadata"]
        key = (metadata["namespace"], metadata["name"])
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = _Entry(body)
        elif entry.written == metadata["resourceVersion"] or _is_older(body, entry.body):
            return
        else:
            entry.body = body
        self.enqueue(key)

    def on_delete(self, key: Key) -> None:
        """Forget a resource that no longer exists."""
        entry = self._entries.pop(key, None)
        if entry is not None and entry.timer is not None:
            entry.timer.cancel()
        self._queue.discard(key[0], self._item(key))
        self._follow(key, None)

    # -- the queue ------------------------------------------------------------------------------------------------

    def enqueue(self, key: Key) -> None:
        """Reconcile a resource now: something may have changed."""
        if (entry := self._entries.get(key)) is not None:
            entry.cache.changed()
            self._enqueue(key)

    def forget(self) -> None:
        """Use no earlier answer in the next reconciles: a watch may have missed a change."""
        for entry in self._entries.values():
            entry.cache.changed()

    def enqueue_all(self) -> None:
        """Reconcile every resource now."""
        for key in list(self._entries):
            self.enqueue(key)

    def enqueue_namespace(self, namespace: str, where: Callable[[Body], bool] = lambda _body: True) -> None:
        """Reconcile now the resources of a namespace whose body matches."""
        for key, entry in list(self._entries.items()):
            if key[0] == namespace and where(entry.body):
                self.enqueue(key)

    def enqueue_all_within(self, duration: timedelta) -> None:
        """Reconcile every resource within some time, spread evenly: something changed that all of them report."""
        loop, seconds = asyncio.get_running_loop(), duration.total_seconds()
        for key, entry in self._entries.items():
            if self._queue.is_active(self._item(key)):
                self.enqueue(key)
            elif entry.timer is None or entry.timer.when() > loop.time() + seconds * JITTER:
                if entry.timer is not None:
                    entry.timer.cancel()
                entry.timer = loop.call_later(random.uniform(0, seconds), self._enqueue, key)  # noqa: S311 - spreads load

    def spread(self) -> timedelta:
        """Return the time in which every resource can be reconciled without a burst of load."""
        return timedelta(seconds=max(SPREAD_SECONDS, len(self._entries) / RECONCILES_PER_SECOND))

    def stages(self) -> Counter[str]:
        """Count the resources by the stage in their status. May be called from any thread."""
        return Counter(str((entry.body.get("status") or {}).get("stage") or "New") for entry in list(self._entries.values()))

    def _enqueue(self, key: Key) -> None:
        if key in self._entries:
            self._queue.add(key[0], self._item(key), lambda: self._work(key))

    def _item(self, key: Key) -> tuple[str, ...]:
        return self._spec.name, *key

    # -- one reconcile --------------------------------------------------------------------------------------------

    async def _work(self, key: Key) -> None:
        """Reconcile a resource and schedule its next reconcile. The queue never runs this twice at once for a resource."""
        entry = self._entries.get(key)
        if entry is None:
            return
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        loop = asyncio.get_running_loop()
        began = loop.time()
        entry.calls_end = began + CALLS_SHARE * self._seconds
        try:
            requeue_after = await self._attempt(key, entry)
        finally:
            self._measure(loop.time() - began, entry.failures > 0)
        if self._entries.get(key) is entry and requeue_after is not None and entry.timer is None:
            jittered = requeue_after * random.uniform(1.0, JITTER)  # noqa: S311 - so that resources do not move in step
            entry.timer = loop.call_later(jittered, self._enqueue, key)

    async def _attempt(self, key: Key, entry: _Entry) -> float | None:
        """Reconcile within the deadline; return the seconds until the next reconcile, whatever goes wrong."""
        try:
            async with asyncio.timeout(self._seconds):
                requeue_after = await self._reconcile(key, entry)
        except Conflict:  # the change comes through the watch, and enqueues the resource
            return CONFLICT_SECONDS
        except Unavailable as error:
            # Nothing can be written without the API server. Retry at a steady pace: it may be back at any time.
            level = logging.DEBUG if entry.failures else logging.WARNING
            logger.log(level, "Cannot reconcile", extra=self._fields(key, error=error))
            entry.failures += 1
            return self._retry_interval.total_seconds()
        except TimeoutError:
            logger.warning("Canceled a reconcile at its deadline", extra=self._fields(key, seconds=self._seconds))
            return self._backoff(entry)
        except Exception:
            # Nothing may escape here: an unexpected error of one resource must not stop the others.
            logger.exception("Reconcile failed unexpectedly", extra=self._fields(key))
            return self._backoff(entry)
        entry.failures = 0
        return requeue_after

    def _backoff(self, entry: _Entry) -> float:
        """Return the seconds until the next attempt, more of them after each failure."""
        entry.failures += 1
        return min(BACKOFF_SECONDS[0] * 2.0 ** min(entry.failures - 1, 16), BACKOFF_SECONDS[1])

    async def _reconcile(self, key: Key, entry: _Entry) -> float | None:
        """Reconcile once; return the seconds until the next reconcile, None to wait for an event."""
        entry.decided_on = entry.body
        try:
            resource = self._spec.read(entry.body)
        except InvalidResource as error:
            await self._refuse(entry, str(error))
            return None
        decision = await self._drive(key, entry, resource)
        self._follow(key, decision.follow)
        if decision.requeue_at is None:
            return None
        return max(0.0, (decision.requeue_at - self._now()).total_seconds())

    async def _drive(self, key: Key, entry: _Entry, resource: ResourceLike) -> Decision[StatusLike, Any]:
        """Make the calls of a reconcile; return its last decision."""
        calls = reconcile(self._spec, resource, entry.cache, self._now, self._timeouts)
        result: object = None
        while True:
            try:
                call = calls.send(result)
            except StopIteration as end:
                decision: Decision[StatusLike, Any] = end.value
                logger.debug("Decided", extra=self._fields(key, check=decision.decided_by))
                return decision
            result = await self._make(call, key, entry)

    async def _make(self, call: Call, key: Key, entry: _Entry) -> object:
        """Make one call; return what `reconcile` expects of it. Raises Conflict, Unavailable where a status is not written."""
        match call:
            case Observe(query, resource):
                try:
                    return await self._bounded(self._observer.answer(query, resource), query, entry)
                except PlatformError as error:
                    return error
            case Perform(action, resource):
                try:
                    body = await self._bounded(self._actor.perform(action, resource), action, entry)
                except PlatformError as error:
                    logger.warning("Action failed", extra=self._fields(key, action=type(action).__name__, error=error))
                    return error
                if body is None:
                    return None
                self._keep(entry, body)
                return self._spec.read(body)
            case WriteStatus(_, status):
                # At the version that was decided on: a change that came meanwhile is decided on first.
                self._keep(entry, await self._api.replace_status(self._spec.kind, entry.decided_on, status.to_body()))
                logger.info("Wrote status", extra=self._fields(key, **_headline(status)))
                return self._spec.read(entry.decided_on)
            case RecordEvent(event):
                await self._record_event(entry, event)
        return None

    async def _bounded(self, call: Awaitable[T], what: object, entry: _Entry) -> T:
        """Wait for a call within its deadline: a system that hangs is one that does not answer.

        Raises Unavailable at the deadline. An unexpected error becomes a PlatformError: it is most often about what a system
        has sent, and the status must report it.
        """
        seconds = CALL_SHARE * self._seconds
        try:
            async with asyncio.timeout_at(min(asyncio.get_running_loop().time() + seconds, entry.calls_end)):
                return await call
        except TimeoutError:
            message = (
                f"{type(what).__name__} was canceled because the platform had not answered within {seconds:g} s. The operator "
                "retries; find the system that is slow with `python -m winepipelines doctor`"
            )
            raise Unavailable(DEADLINE_EXCEEDED, message) from None
        except (PlatformError, Conflict):
            raise
        except Exception as error:
            place = entry.body["metadata"]
            name, kind = type(what).__name__, type(error).__name__
            if entry.unexpected != (name, kind):  # once: each retry would log another traceback
                logger.exception("Call failed unexpectedly", extra=self._fields((place["namespace"], place["name"]), call=name))
            entry.unexpected = name, kind
            message = f"{name} failed unexpectedly ({kind}). The operator retries; its log has the details"
            raise PlatformError(UNEXPECTED, message) from None

    async def _refuse(self, entry: _Entry, message: str) -> None:
        """Report that a resource was stored under an older schema."""
        refused = self._spec.refuse(entry.body, message, self._now())
        if refused is not None:
            self._keep(entry, await self._api.replace_status(self._spec.kind, entry.decided_on, refused.to_body()))

    async def _record_event(self, entry: _Entry, event: Event) -> None:
        reference = {name: entry.body["metadata"][name] for name in ("namespace", "name", "uid")}
        regarding = {"apiVersion": self._spec.kind.api_version, "kind": self._spec.name, **reference}
        try:
            await self._api.create_event(regarding, event.reason, event.message, warning=event.warning)
        except PlatformError as error:  # an Event is informational: losing it changes nothing
            key = regarding["namespace"], regarding["name"]
            logger.warning("Cannot create an Event", extra=self._fields(key, reason=event.reason, error=error))

    def _fields(self, key: Key, **more: object) -> dict[str, object]:
        """Return the fields of a log line about a resource."""
        return {"fields": {"kind": self._spec.name, "namespace": key[0], "name": key[1], **more}}

    def _keep(self, entry: _Entry, body: Body) -> None:
        """Keep the result of an own write, unless the watch has already delivered a later change."""
        entry.decided_on = self._trimmed(body)
        entry.written = body["metadata"]["resourceVersion"]
        if not _is_older(body, entry.body):
            entry.body = entry.decided_on

    def _trimmed(self, body: Body) -> Body:
        return {**body, "metadata": self._trim(body["metadata"])}


def _is_older(body: Body, known: Body) -> bool:
    """Whether an event is late. Resource versions of one kind are ordered numbers (KEP-5504)."""
    versions: list[Any] = [item["metadata"]["resourceVersion"] for item in (body, known)]
    same = body["metadata"]["uid"] == known["metadata"]["uid"]
    return same and all(version.isdigit() for version in versions) and int(versions[0]) < int(versions[1])


def _headline(status: StatusLike) -> dict[str, object]:
    """Return the stage, and the reason and message of Ready, as fields of a log line."""
    ready = next((condition for condition in status.conditions if condition.type == "Ready"), None)
    fields: dict[str, object] = {"ready": ready.status, "reason": ready.reason, "details": ready.message} if ready else {}
    return {"stage": status.stage, **fields}


def _log_unexpected_end(task: asyncio.Task[None]) -> None:
    """Log that a background task has ended, though none does: this is a defect, which must not go unnoticed."""
    if not task.cancelled():
        fields = {"fields": {"task": task.get_name()}}
        logger.critical("Background task ended unexpectedly", extra=fields, exc_info=task.exception())
