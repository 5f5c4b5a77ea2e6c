"""One task for all active runs: lists them together and wakes the resources whose run moved. Started by `handlers`.

Kubeflow's API has no watch. A list of a namespace's active runs is one request, whatever the number of resources; where no run
is followed there is none.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from winepipelines.resource.errors import PlatformError
from winepipelines.resource.observed import RunView

Key = tuple[str, str]  # namespace and name of a resource
ListActive = Callable[[str], Awaitable[tuple[RunView, ...]]]
logger = logging.getLogger(__name__)


class RunWatch:
    """Follows runs by name. A name is a resource's and a revision's, see `resource.naming`."""

    def __init__(self, list_active: ListActive, wake: Callable[[Key], None], interval: float) -> None:
        """Ask `list_active` for a namespace's runs every `interval` seconds while any of them is followed."""
        self._list_active = list_active
        self._wake = wake
        self._interval = interval
        self._followed: dict[Key, str] = {}
        self._seen: dict[Key, frozenset[tuple[str, str]] | None] = {}
        self._any = asyncio.Event()

    def follow(self, key: Key, name: str) -> None:
        """Follow the run of a resource; an empty name ends it."""
        if self._followed.get(key, "") == name:
            return
        self._seen.pop(key, None)
        if name:
            self._followed[key] = name
            self._any.set()
        else:
            del self._followed[key]

    async def watch(self) -> None:
        """Look again and again, for ever."""
        while True:
            if not self._followed:
                self._any.clear()
                await self._any.wait()
            namespaces = {namespace for namespace, _ in self._followed}
            await asyncio.gather(*(self._look(namespace) for namespace in namespaces))
            await asyncio.sleep(self._interval)

    async def _look(self, namespace: str) -> None:
        try:
            runs = await self._list_active(namespace)
        except PlatformError as error:
            logger.debug("runs of namespace %s: %s", namespace, error)
            runs = None
        for key, name in list(self._followed.items()):
            if key[0] != namespace:
                continue
            now = None if runs is None else frozenset((run.id, run.state.value) for run in runs if run.name == name)
            if key not in self._seen or self._seen[key] != now:
                known = key in self._seen
                self._seen[key] = now
                if known or not now:  # the first sight of a live run tells nothing new; that it is gone does
                    self._wake(key)
