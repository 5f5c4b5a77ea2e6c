"""Observers and actors whose failed calls request a platform check."""

from collections.abc import Awaitable
from typing import Any, TypeVar

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError
from winepipelines.doctor.calls import CallMonitor
from winepipelines.engine.decision import Query
from winepipelines.engine.spec import Acting, Observing
from winepipelines.platform.kubernetes import Body, KindMissing

T = TypeVar("T")


class MonitoredObserver:
    """Passes queries on, and reports which fail."""

    def __init__(self, observer: Observing, monitor: CallMonitor) -> None:
        """Pass queries on to this observer."""
        self._observer = observer
        self._monitor = monitor

    async def answer(self, query: Query[object], resource: Any, /) -> object:
        """Answer a query about a resource."""
        return await _monitored(self._observer.answer(query, resource), self._monitor, query, resource)


class MonitoredActor:
    """Passes actions on, and reports which fail."""

    def __init__(self, actor: Acting, monitor: CallMonitor) -> None:
        """Pass actions on to this actor."""
        self._actor = actor
        self._monitor = monitor

    async def perform(self, action: Any, resource: Any, /) -> Body | None:
        """Carry out an action; return the resource's new body if it changed."""
        return await _monitored(self._actor.perform(action, resource), self._monitor, action, resource)


async def _monitored(call: Awaitable[T], monitor: CallMonitor, request: object, resource: Any) -> T:
    """Wait for a call, identified by the type of its request and its resource. A kind that is not served is no failed call.

    Raises PlatformError.
    """
    name = (type(resource).__name__, resource.namespace, resource.name, type(request).__name__)
    try:
        result = await call
    except PlatformError:
        monitor.failed(name)
        raise
    except KindMissing as error:
        raise PlatformError(Reason.CRD_MISSING, f"the API server does not serve {error}") from None
    monitor.succeeded(name)
    return result
