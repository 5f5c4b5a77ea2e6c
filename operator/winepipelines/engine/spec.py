"""What the engine needs to know of a kind: a `ControllerSpec` holds everything that differs between kinds."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from winepipelines.engine.decision import Answers, Decision, Event, Query
from winepipelines.engine.errors import PlatformError

Body = dict[str, Any]


class ConditionLike(Protocol):
    """A condition, as far as log lines need it."""

    @property
    def type(self) -> str:
        """Its type, such as Ready."""

    @property
    def status(self) -> str:
        """True, False or Unknown."""

    @property
    def reason(self) -> str:
        """Its reason."""

    @property
    def message(self) -> str:
        """Its message."""


class StatusLike(Protocol):
    """A typed status."""

    @property
    def stage(self) -> str | None:
        """The lifecycle stage."""

    @property
    def conditions(self) -> tuple[ConditionLike, ...]:
        """The conditions."""

    def to_body(self) -> dict[str, object]:
        """Return the status as the API has it."""


class ResourceLike(Protocol):
    """A typed resource."""

    @property
    def namespace(self) -> str:
        """Its namespace."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def status(self) -> StatusLike:
        """The status that was last written."""


class KindLike(Protocol):
    """A kind of the Kubernetes API."""

    @property
    def api_version(self) -> str:
        """Group and version, such as `winepipelines.io/v1alpha1`."""


class Observing(Protocol):
    """Answers the queries of a kind."""

    async def answer(self, query: Query[object], resource: Any, /) -> object:
        """Answer a query about a resource. Raises PlatformError."""


class Acting(Protocol):
    """Carries out the actions of a kind."""

    async def perform(self, action: Any, resource: Any, /) -> Body | None:
        """Carry out an action; return the resource's new body if that changed. Raises PlatformError, Conflict."""


class ApiClient(Protocol):
    """The Kubernetes API, as far as the engine needs it."""

    async def replace_status(self, kind: Any, body: Body, status: dict[str, object], /) -> Body:
        """Write a status at the version of `body`; return the new body. Raises Conflict, PlatformError."""

    async def create_event(self, regarding: Body, reason: str, message: str, *, warning: bool) -> None:
        """Create an Event. Raises PlatformError."""


@dataclass(frozen=True)
class CacheRule:
    """Which answers to one type of query may be used again by later reconciles.

    Args:
        query: the type of query.
        keep: whether an answer may be kept at all.
        fresh: whether a kept answer is still fresh, given the status, the timeouts and the time. By default it is.
        invalidated_by: types of actions after which nothing that was kept is true any more.
        watched_for: for how long an answer about watched objects may be reused. Every event of the resource drops it. The time
            bounds how late a change is noticed that no watch reports; each resource uses between half of it and all.

    """

    query: type[Query[Any]]
    keep: Callable[[Any], bool]
    fresh: Callable[[Any, Any, Any, datetime], bool] = lambda *_: True
    invalidated_by: tuple[type, ...] = ()
    watched_for: timedelta | None = None


class Enqueuing(Protocol):
    """Enqueues the resources of a kind, as far as its background tasks need it."""

    def enqueue(self, key: tuple[str, str], /) -> None:
        """Reconcile a resource now, by namespace and name."""

    def enqueue_all(self) -> None:
        """Reconcile every resource now."""

    def enqueue_namespace(self, namespace: str, /) -> None:
        """Reconcile the resources of a namespace now."""

    def forget(self) -> None:
        """Use no earlier answer in the next reconciles: a watch may have missed a change."""


@dataclass(frozen=True)
class BackgroundTask:
    """What runs beside a kind's reconciles for as long as its controller does, such as a watch that enqueues resources.

    `run` does not return. If it raises, that is logged as critical, and the other tasks go on.
    """

    name: str
    run: Callable[[Enqueuing], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class ControllerSpec:
    """A kind: how its resources are read, decided on, refused and reported.

    Args:
        kind: the kind, as the API client takes it.
        name: the kind's name, such as WinePipeline.
        read: parses a body. Raises InvalidResource.
        decide: the pure decision: resource, answers, failed actions of this reconcile, time, timeouts.
        events: the Events of a transition between two statuses.
        action_events: the Events of an action that was carried out.
        refuse: the status of a body that cannot be read, from the body, a message and the time; None if it is already written.
        cache: which answers may be used again.
        background: the kind's background tasks, made from the clients of the systems that they watch.

    """

    kind: KindLike
    name: str
    read: Callable[[Body], ResourceLike]
    decide: Callable[[Any, Answers, Mapping[Any, PlatformError], datetime, Any], Decision[StatusLike, Any]]
    events: Callable[[Any, Any], tuple[Event, ...]]
    refuse: Callable[[Body, str, datetime], StatusLike | None]
    action_events: Callable[[Any], tuple[Event, ...]] = lambda _action: ()
    cache: tuple[CacheRule, ...] = ()
    background: Callable[[Any], Sequence[BackgroundTask]] = lambda _adapters: ()
