"""Observers and actors whose outcomes are compared with the verdict on the platform. Used by `handlers`."""

from collections.abc import Awaitable
from typing import Any, TypeVar

from winepipelines.doctor.calls import CallMonitor
from winepipelines.lifecycle.questions import Question
from winepipelines.platform.kubernetes import Body
from winepipelines.resource.errors import PlatformError
from winepipelines.subject import Acting, Observing

T = TypeVar("T")


class MonitoredObserver:
    """Passes questions on, and notes which fail."""

    def __init__(self, observer: Observing, monitor: CallMonitor) -> None:
        """Ask this observer."""
        self._observer = observer
        self._monitor = monitor

    async def answer(self, question: Question[object], resource: Any, /) -> object:
        """Answer a question about a resource."""
        return await _noted(self._observer.answer(question, resource), self._monitor, question, resource)


class MonitoredActor:
    """Passes actions on, and notes which fail."""

    def __init__(self, actor: Acting, monitor: CallMonitor) -> None:
        """Have this actor act."""
        self._actor = actor
        self._monitor = monitor

    async def perform(self, action: Any, resource: Any, /) -> Body | None:
        """Carry an action out; return the resource's new body where it changed."""
        return await _noted(self._actor.perform(action, resource), self._monitor, action, resource)


async def _noted(call: Awaitable[T], monitor: CallMonitor, what: object, resource: Any) -> T:
    """Wait for a call; one is known by what kind of thing it does for which resource."""
    name = (type(resource).__name__, resource.namespace, resource.name, type(what).__name__)
    try:
        result = await call
    except PlatformError:
        monitor.failed(name)
        raise
    monitor.succeeded(name)
    return result
