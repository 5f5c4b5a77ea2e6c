"""One task for all active runs: lists them together and wakes the resources whose run moved. Started by `handlers`.

Kubeflow's API has no watch. A list of a namespace's active runs is one request, whatever the number of resources; where no run
is followed there is none.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from winepipelines.resource.errors import PlatformError
from winepipelines.resource.observed import RunView
from winepipelines.resource.status import Run

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
        self._followed: dict[Key, Run] = {}
        self._seen: dict[Key, frozenset[tuple[str, str]] | None] = {}
        self._any = asyncio.Event()

    def follow(self, key: Key, run: Run | None) -> None:
        """Follow a resource's run from the state that its status tells; None ends it."""
        if run is None:
            self._followed.pop(key, None)
            self._seen.pop(key, None)
            return
        known = self._followed.get(key)
        if known is None or (known.name, known.id, known.state) != (run.name, run.id, run.state):
            # What the status tells is what was seen last: a move before the first look must not be missed.
            self._seen[key] = frozenset({(run.id, run.state)})
        self._followed[key] = run
        self._any.set()

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
        for key, followed in list(self._followed.items()):
            if key[0] != namespace:
                continue
            now = None if runs is None else frozenset((run.id, run.state.value) for run in runs if run.name == followed.name)
            if self._seen[key] != now:
                self._seen[key] = now
                self._wake(key)
