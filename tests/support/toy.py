"""A toy kind for the engine's own tests: a Lamp that is set to a brightness, in an API server and a house in memory.

A Lamp is set in three steps: read the brightness, set it if it differs, and write what was read to status.
"""

import asyncio
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from winepipelines.engine.controller import Controller, Key
from winepipelines.engine.decision import Answers, Decision, Event, Query
from winepipelines.engine.errors import Conflict, InvalidResource, PlatformError
from winepipelines.engine.queue import FairQueue
from winepipelines.engine.spec import Body, CacheRule, ControllerSpec

SECONDS = 60.0
"""Deadline of one reconcile."""
RETRY_SECONDS = 10.0
EPOCH = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class LampKind:
    """The kind, as the engine takes it."""

    api_version: str = "toys.example/v1"


@dataclass(frozen=True)
class LampCondition:
    """A condition."""

    type: str
    status: str
    reason: str
    message: str = ""


@dataclass(frozen=True)
class LampStatus:
    """The status: the brightness that was last read, or why it was not."""

    brightness: int | None = None
    problem: str = ""

    @property
    def stage(self) -> str | None:
        """The lifecycle stage."""
        return "Failed" if self.problem else "Lit"

    @property
    def conditions(self) -> tuple[LampCondition, ...]:
        """The conditions."""
        return (LampCondition("Ready", "False", self.problem) if self.problem else LampCondition("Ready", "True", "Lit"),)

    def to_body(self) -> dict[str, object]:
        """Return the status as the API has it."""
        return {"brightness": self.brightness, "problem": self.problem}


@dataclass(frozen=True)
class Lamp:
    """A Lamp; `brightness` is the desired one."""

    namespace: str
    name: str
    brightness: int
    status: LampStatus


@dataclass(frozen=True)
class ReadBrightness(Query[int]):
    """Read a lamp's brightness."""


@dataclass(frozen=True)
class SetBrightness:
    """Set a lamp's brightness."""

    brightness: int


def read(body: Body) -> Lamp:
    """Read a body. Raises InvalidResource."""
    if not isinstance(body["spec"].get("brightness"), int):
        raise InvalidResource("spec.brightness must be a number")
    metadata, status = body["metadata"], body.get("status") or {}
    return Lamp(metadata["namespace"], metadata["name"], body["spec"]["brightness"], LampStatus(**status))


def decide(
    lamp: Lamp, answers: Answers, failures: Mapping[Any, PlatformError], now: datetime, timeouts: timedelta | None
) -> Decision[LampStatus, SetBrightness]:
    """Decide on a lamp. `timeouts` is the time between two checks; None waits for an event."""
    requeue_at = None if timeouts is None else now + timeouts
    if ReadBrightness() not in answers:
        return Decision(lamp.status, query=ReadBrightness())
    found = answers[ReadBrightness()]
    action = SetBrightness(lamp.brightness)
    problem = found if isinstance(found, PlatformError) else failures.get(action)
    if problem is not None:
        return Decision(LampStatus(lamp.status.brightness, problem.reason), requeue_at=requeue_at, decided_by="lamp/is_reachable")
    if found != lamp.brightness:
        return Decision(lamp.status, actions=(action,), decided_by="lamp/is_set")
    return Decision(LampStatus(lamp.brightness), requeue_at=requeue_at, follow=lamp.brightness, decided_by="lamp/is_lit")


def events(before: LampStatus, after: LampStatus) -> tuple[Event, ...]:
    """List the Events of a transition."""
    return (Event("Failed" if after.problem else "Lit", f"{before.brightness} to {after.brightness}", bool(after.problem)),)


def refuse(body: Body, message: str, now: datetime) -> LampStatus | None:
    """Return the status of a body that cannot be read."""
    refused = LampStatus(None, f"Invalid: {message}")
    return None if (body.get("status") or {}) == refused.to_body() else refused


LAMPS = ControllerSpec(
    kind=LampKind(),
    name="Lamp",
    read=read,
    decide=decide,
    events=events,
    refuse=refuse,
    action_events=lambda action: (Event("Set", f"{action.brightness}"),),
)


def caching(seconds: float) -> CacheRule:
    """Keep the brightness that was read for some time, until it is set."""
    read_at: dict[str, datetime] = {}

    def fresh(answer: int, status: LampStatus, timeouts: object, now: datetime) -> bool:
        return now - read_at.setdefault("first", now) < timedelta(seconds=seconds)

    return CacheRule(ReadBrightness, lambda answer: answer > 0, fresh, invalidated_by=(SetBrightness,))


def watching(duration: timedelta) -> CacheRule:
    """Keep the brightness while the lamp is watched and lit."""
    return CacheRule(
        ReadBrightness,
        lambda answer: answer > 0,
        lambda _a, status, _t, _n: not status.problem,
        invalidated_by=(SetBrightness,),
        watched_for=duration,
    )


@dataclass
class House:
    """An API server with Lamps, and the lamps themselves. Both can fail, and call back while a call is under way.

    The `on_` functions run before a call takes effect, `after_write` before a write is answered: they change a resource, wait,
    or return the error to raise. Watch events are delivered by `deliver` only.
    """

    lamps: dict[Key, int] = field(default_factory=dict)
    stored: dict[Key, Body] = field(default_factory=dict)
    reads: list[tuple[Key, float]] = field(default_factory=list)
    written: list[tuple[Key, dict[str, object]]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    followed: list[tuple[Key, Any]] = field(default_factory=list)
    on_read: Callable[[Key], object] = lambda _key: None
    on_set: Callable[[Key], object] = lambda _key: None
    on_write: Callable[[Key], object] = lambda _key: None
    after_write: Callable[[Key], object] = lambda _key: None
    on_event: Callable[[], object] = lambda: None
    version: int = 100

    # -- a user -------------------------------------------------------------------------------------------------------

    def apply(self, key: Key, brightness: object = 5, uid: str = "") -> Body:
        """Create or change a Lamp; return a copy of its body as a watch delivers it."""
        before = self.stored.get(key)
        metadata = {"namespace": key[0], "name": key[1], "uid": uid or f"uid-{key}", "resourceVersion": self._next()}
        self.stored[key] = {"metadata": metadata, "spec": {"brightness": brightness}, "status": (before or {}).get("status")}
        return deepcopy(self.stored[key])

    # -- the engine's adapters ----------------------------------------------------------------------------------------

    async def answer(self, query: object, lamp: Lamp) -> int:
        """Read a lamp."""
        key = lamp.namespace, lamp.name
        self.reads.append((key, asyncio.get_running_loop().time()))
        self.calls.append("read")
        await _run(self.on_read(key))
        return self.lamps.get(key, 0)

    async def perform(self, action: SetBrightness, lamp: Lamp) -> Body | None:
        """Set a lamp."""
        key = lamp.namespace, lamp.name
        self.calls.append("set")
        await _run(self.on_set(key))
        self.lamps[key] = action.brightness
        return None

    async def replace_status(self, kind: LampKind, body: Body, status: dict[str, object]) -> Body:
        """Write a status. Raises Conflict where the resource has changed or is gone."""
        key = body["metadata"]["namespace"], body["metadata"]["name"]
        await _run(self.on_write(key))
        stored = self.stored.get(key)
        if stored is None or stored["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise Conflict
        stored["metadata"] = {**stored["metadata"], "resourceVersion": self._next()}
        stored["status"] = status
        self.calls.append("write")
        self.written.append((key, status))
        answer = deepcopy(stored)
        await _run(self.after_write(key))
        return answer

    async def create_event(self, regarding: Body, reason: str, message: str, *, warning: bool) -> None:
        """Create an Event."""
        await _run(self.on_event())
        self.calls.append("event")
        self.events.append(f"{'Warning' if warning else 'Normal'} {reason} {regarding['name']}: {message}")

    def _next(self) -> str:
        self.version += 1
        return str(self.version)


async def _run(result: object) -> None:
    if isinstance(result, Exception):
        raise result
    if asyncio.iscoroutine(result):
        await result


def controller(
    house: House, spec: ControllerSpec = LAMPS, *, check: timedelta | None = None, queue: FairQueue | None = None
) -> Controller:
    """Make a controller of Lamps on the loop's clock; `check` is the time between two checks of a settled Lamp."""
    loop = asyncio.get_running_loop()
    return Controller(
        spec,
        house,
        house,
        house,
        lambda key, followed: house.followed.append((key, followed)),
        check,
        queue or FairQueue(10),
        SECONDS,
        retry_interval=timedelta(seconds=RETRY_SECONDS),
        now=lambda: EPOCH + timedelta(seconds=loop.time()),
    )


async def settle(seconds: float = 0.5) -> None:
    """Let time pass, by default less than any retry takes."""
    await asyncio.sleep(seconds)


def starts(house: House) -> list[float]:
    """Return when lamps were read, by the loop's clock."""
    return [at for _, at in house.reads]
