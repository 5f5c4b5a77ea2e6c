"""Wakes the resources whose runs move. Started by `handlers`.

Kubeflow's API has no watch. A list of a namespace's active runs is one request, whatever the number of resources; in single-user
mode one list has them all; where no run is followed there is none. A run's Workflow does have a watch: as long as it agrees with
what is known of the run, the run is left to that watch, and listed only now and then, or where the Workflow has changed without
saying how: one that someone ends is CANCELING for seconds only. A Workflow is but a hint: it moves before its run does, and is
not always there. What is true of a run, a resource that is woken asks Kubeflow Pipelines itself.

A step whose pod cannot start moves neither run nor Workflow's phase. So while runs are followed, one list of the step pods that
have not ended is read every interval; a resource is woken when what it says of its run's pods has changed, or there are none.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Protocol

from winepipelines.engine.tenant import TENANT
from winepipelines.platform.workflows import Hint
from winepipelines.resource.errors import PlatformError
from winepipelines.resource.observed import RunState, RunView
from winepipelines.resource.status import Run

Key = tuple[str, str]  # namespace and name of a resource
Hints = Callable[[], AsyncGenerator[Hint | None]]
Moods = Callable[[], Awaitable[Mapping[str, frozenset[str]]]]
NO_POD = frozenset({"no pod"})
PATIENCE = 2  # lists without any pod of a run: from one step to the next there is none for some seconds
logger = logging.getLogger(__name__)

# What a run may be while its Workflow is in a phase. Any other pair is about to change: then the run is looked at often.
AGREES = {
    "": {RunState.PENDING},
    "Pending": {RunState.PENDING},
    "Running": {RunState.RUNNING, RunState.CANCELING, RunState.PAUSED},
}


class Lists(Protocol):
    """What is asked of Kubeflow Pipelines."""

    def active_runs(self, namespace: str) -> Awaitable[tuple[RunView, ...]]:
        """List the runs of a namespace that have not ended."""

    def lists_are_shared(self) -> Awaitable[bool]:
        """Whether one list has the runs of all namespaces."""


class RunWatch:
    """Follows runs by name. A name is a resource's and a revision's, see `resource.naming`."""

    def __init__(
        self,
        kubeflow: Lists,
        wake: Callable[[Key], None],
        interval: float,
        fallback: float = 0.0,
        hints: Hints | None = None,
        moods: Moods | None = None,
    ) -> None:
        """List runs every `interval` seconds, those left to the watch behind `hints` every `fallback` seconds.

        `moods` tells for each run with active step pods what keeps these from starting.
        """
        self._kubeflow = kubeflow
        self._wake = wake
        self._interval = interval
        self._fallback = max(interval, fallback)
        self._hints = hints
        self._followed: dict[Key, Run] = {}
        self._keys: dict[str, Key] = {}  # of the followed runs, by id
        self._seen: dict[Key, frozenset[tuple[str, str]] | None] = {}
        self._phases: dict[str, str] = {}  # of the Workflows of all runs that have not ended, by run id
        self._stirred: set[str] = set()  # ids of followed runs whose Workflow has changed since they were listed
        self._hearing = False
        self._listed: dict[str, float] = {}  # when a namespace's runs were listed, or first followed
        self._listing: set[str] = set()  # namespaces whose runs are being listed
        self._next_list = 0.0
        self._sooner = asyncio.Event()
        self._steps = moods
        self._moods: dict[str, frozenset[str]] = {}  # of the step pods of followed runs, by run id
        self._without: dict[str, int] = {}  # how often a followed run had no pod, one list after another
        self._following = asyncio.Event()

    def follow(self, key: Key, run: Run | None) -> None:
        """Follow a resource's run from the state that its status tells; None ends it."""
        known = self._followed.get(key)
        if known is not None and (run is None or run.id != known.id):
            self._keys.pop(known.id, None)
            self._stirred.discard(known.id)
        if run is None:
            self._followed.pop(key, None)
            self._seen.pop(key, None)
            return
        moved = known is None or (known.name, known.id, known.state) != (run.name, run.id, run.state)
        if moved:
            # What the status tells is what was seen last: a move before the first look must not be missed.
            self._seen[key] = frozenset({(run.id, run.state)})
        self._followed[key] = run
        if run.id:
            self._keys[run.id] = key
        self._following.set()
        if moved and self._hearing and run.id in self._phases and not self._is_left_to_the_watch(run):
            self._wake(key)  # its Workflow has moved while the resource was looked at
        self._plan(key)

    async def watch(self) -> None:
        """Listen and look, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_again_and_again(tasks))
            if self._hints is not None:
                tasks.create_task(self._hear(self._hints))
            if self._steps is not None:
                tasks.create_task(self._look_at_steps(self._steps))

    async def _look_at_steps(self, moods: Moods) -> None:
        """Wake the resources whose runs' pods have come into trouble, or out of it."""
        while True:
            if not self._followed:
                self._following.clear()
                await self._following.wait()
            await asyncio.sleep(self._interval)
            try:
                found = await moods()
            except PlatformError as error:
                logger.debug("step pods: %s", error)
                continue
            followed = {run.id: key for key, run in self._followed.items() if run.id}
            self._without = {run: 0 if run in found else self._without.get(run, 0) + 1 for run in followed}
            for run, key in followed.items():
                mood = NO_POD if self._without[run] >= PATIENCE else found.get(run, frozenset())
                if mood != self._moods.get(run, frozenset()):
                    self._wake(key)
                self._moods[run] = mood
            self._moods = {run: mood for run, mood in self._moods.items() if run in followed}

    async def _hear(self, hints: Hints) -> None:
        async with contextlib.aclosing(hints()) as heard:
            async for hint in heard:
                self._hearing = hint is not None
                if hint is None:
                    self._sooner.set()
                    continue
                gone = self._phases.keys() - hint.phases.keys() if hint.complete else set()
                moved = gone | {run for run, phase in hint.phases.items() if self._phases.get(run) != phase}
                stirred = set() if hint.complete else (hint.phases.keys() - moved) & self._keys.keys()
                for run in moved:
                    phase = hint.phases.get(run)
                    if phase is None:
                        self._phases.pop(run, None)
                    else:
                        self._phases[run] = phase
                for key in [self._keys[run] for run in moved if run in self._keys]:
                    if not self._is_left_to_the_watch(self._followed[key]):
                        self._wake(key)
                        self._plan(key)
                self._stirred |= stirred
                for run in stirred:
                    self._plan(self._keys[run])

    def _is_left_to_the_watch(self, run: Run) -> bool:
        quiet = self._hearing and run.id not in self._stirred
        return quiet and run.state in AGREES.get(self._phases.get(run.id, "gone"), ())

    def _due(self, key: Key, now: float) -> float:
        interval = self._fallback if self._is_left_to_the_watch(self._followed[key]) else self._interval
        return self._listed.setdefault(key[0], now) + interval

    def _plan(self, key: Key) -> None:
        """See to it that the next list is not later than this resource needs it."""
        if self._due(key, asyncio.get_running_loop().time()) < self._next_list:
            self._sooner.set()

    async def _look_again_and_again(self, tasks: asyncio.TaskGroup) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._sooner.clear()
            followed = {namespace for namespace, _ in self._followed}
            self._listed = {namespace: at for namespace, at in self._listed.items() if namespace in followed}
            due = {key: self._due(key, clock()) for key in self._followed if key[0] not in self._listing}
            self._next_list = min(due.values(), default=float("inf"))
            if self._next_list > clock():
                wait = None if self._next_list == float("inf") else self._next_list - clock()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._sooner.wait(), wait)
                continue
            await self._look({namespace for (namespace, _), at in due.items() if at <= clock()}, tasks)

    async def _look(self, namespaces: set[str], tasks: asyncio.TaskGroup) -> None:
        try:
            shared = await self._kubeflow.lists_are_shared()
        except PlatformError as error:
            self._compare(namespaces, error)
            return
        if shared:
            every = {namespace for namespace, _ in self._followed}
            self._compare(every, await self._list(next(iter(every), "")))
            return
        for namespace in namespaces:
            self._listing.add(namespace)
            tasks.create_task(self._look_at_namespace(namespace))

    async def _look_at_namespace(self, namespace: str) -> None:
        """Look at a namespace's runs. However long that takes, the others are looked at meanwhile."""
        TENANT.set(namespace)
        self._compare({namespace}, await self._list(namespace))
        self._listing.discard(namespace)
        self._sooner.set()

    async def _list(self, namespace: str) -> tuple[RunView, ...] | PlatformError:
        try:
            return await self._kubeflow.active_runs(namespace)
        except PlatformError as error:
            return error

    def _compare(self, namespaces: set[str], found: tuple[RunView, ...] | PlatformError) -> None:
        """Wake the resources of these namespaces whose runs are not as they were."""
        if isinstance(found, PlatformError):
            fields = {"namespaces": ",".join(sorted(namespaces)), "error": found}
            logger.debug("Cannot list runs", extra={"fields": fields})
        self._listed |= dict.fromkeys(namespaces, asyncio.get_running_loop().time())
        by_name: dict[str, set[tuple[str, str]]] = {}
        for run in () if isinstance(found, PlatformError) else found:
            by_name.setdefault(run.name, set()).add((run.id, run.state.value))
        for key, followed in list(self._followed.items()):
            if key[0] not in namespaces:
                continue
            self._stirred.discard(followed.id)
            now = None if isinstance(found, PlatformError) else frozenset(by_name.get(followed.name, ()))
            if self._seen[key] != now:
                self._seen[key] = now
                self._wake(key)
