"""Reads that the resources of a namespace share: many are reconciled at nearly the same time, and compare the same objects.

An answer is shared for some seconds, and only until a change of the namespace is known. Missing objects and large ones are not
shared: the first are awaited, and users decide how large their objects are.
"""

import asyncio
import functools
import itertools
from collections.abc import Awaitable, Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from winepipelines.platform.kubernetes import Body, Kind, Kubernetes

SECONDS = 10.0
LARGEST = 64 << 10  # characters of an object, or of the objects of a list
MOST = 4 << 20  # characters of all together
EVERYWHERE = ""
_Key = tuple[str, Hashable, str]
"""Namespace, kind or list, and name."""


class Reads(Protocol):
    """Reads objects; as `Kubernetes` does."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Body | None:
        """Read an object; None if it does not exist. Raises KindMissing."""

    async def list(self, kind: Kind, namespace: str, keep: Callable[[Body], Body], most: int, **selectors: str) -> list[Body]:
        """List objects. Raises NotFoundError if the kind does not exist."""


@dataclass(frozen=True)
class _Answer:
    """What was read, until when it is shared, by the loop's clock, and its size."""

    value: Any
    end: float
    size: int


class SharedReads:
    """Reads through the API server, or shares what was read seconds ago. Callers must not change what they get."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        """Read with this adapter."""
        self._kubernetes = kubernetes
        self._pending: dict[_Key, asyncio.Task[Any]] = {}
        self._answers: dict[_Key, _Answer] = {}  # the oldest first
        self._size = 0

    async def get(self, kind: Kind, namespace: str, name: str) -> Body | None:
        """Read an object; None if it does not exist. Raises KindMissing."""
        found: Body | None = await self._shared((namespace, kind, name), lambda: self._kubernetes.get(kind, namespace, name))
        return found

    async def list(self, kind: Kind, namespace: str, keep: Callable[[Body], Body], most: int, **selectors: str) -> list[Body]:
        """List objects. Raises NotFoundError if the kind does not exist."""
        listed = self._kubernetes.list
        what = (kind, keep, most, *sorted(selectors.items()))
        found: list[Body] = await self._shared((namespace, what, ""), lambda: listed(kind, namespace, keep, most, **selectors))
        return found

    def forget(self, namespace: str = EVERYWHERE) -> None:
        """Share nothing that was read, or is being read, of a namespace or of all: it may have changed."""
        for key in [key for key in self._answers if namespace in (EVERYWHERE, key[0])]:
            self._drop(key)
        for key in [key for key in self._pending if namespace in (EVERYWHERE, key[0])]:
            del self._pending[key]

    async def _shared(self, key: _Key, read: Callable[[], Awaitable[Any]]) -> Any:
        now = asyncio.get_running_loop().time()
        while self._answers and next(iter(self._answers.values())).end <= now:
            self._drop(next(iter(self._answers)))
        if (known := self._answers.get(key)) is not None:
            return known.value
        task = self._pending.get(key)
        if task is None:
            task = self._pending[key] = asyncio.ensure_future(read())
            task.add_done_callback(functools.partial(self._ended, key))
        return await asyncio.shield(task)  # a caller that is canceled does not take the answer from the others

    def _ended(self, key: _Key, task: asyncio.Task[Any]) -> None:
        is_current = self._pending.get(key) is task
        if is_current:
            del self._pending[key]
        if task.cancelled() or task.exception() is not None or task.result() is None or not is_current:
            return
        size = sum(itertools.islice(_sizes(task.result()), LARGEST))
        if size <= LARGEST and self._size + size <= MOST:
            self._answers[key] = _Answer(task.result(), asyncio.get_running_loop().time() + SECONDS, size)
            self._size += size

    def _drop(self, key: _Key) -> None:
        self._size -= self._answers.pop(key).size


def _sizes(value: object) -> Iterator[int]:
    """Yield sizes whose sum is about the number of characters of a value."""
    yield 16
    if isinstance(value, str):
        yield len(value)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield len(name)
            yield from _sizes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _sizes(item)
