"""Enqueue the resources whose runs change.

The Kubeflow Pipelines API has no watch. One request lists the active runs of a namespace, however many resources it has; in
single-user mode one list has those of all namespaces. Nothing is listed while no run is followed. A run's Workflow can be
watched: while its phase agrees with the run's known state, the run is left to that watch and listed only rarely, or when the
Workflow changes without a new phase (a run that someone terminates is CANCELING for seconds only). A Workflow is only a hint: it
changes before its run does, and it may be missing. An enqueued resource gets the run's state from Kubeflow Pipelines.

A step whose pod cannot start changes neither the run's state nor the Workflow's phase. So while runs are followed, the step pods
that have not ended are listed every interval, and a resource is enqueued when the problems of its run's pods change.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Protocol

from winepipelines.api.errors import PlatformError
from winepipelines.api.observed import RunState, RunView
from winepipelines.api.status import Run
from winepipelines.engine.tenant import TENANT
from winepipelines.platform.workflows import Hint

Key = tuple[str, str]  # namespace and name of a resource
Hints = Callable[[], AsyncGenerator[Hint | None]]
PodProblems = Callable[[], Awaitable[Mapping[str, frozenset[str]]]]
NO_POD = frozenset({"no pod"})
LISTS_WITHOUT_POD = 2
"""Lists without a pod of a run before that is reported: between two steps there is none for some seconds."""
logger = logging.getLogger(__name__)

# The states of a run that agree with its Workflow's phase. Any other pair is about to change, so the run is listed often.
AGREES = {
    "": {RunState.PENDING},
    "Pending": {RunState.PENDING},
    "Running": {RunState.RUNNING, RunState.CANCELING, RunState.PAUSED},
}


class Lists(Protocol):
    """The part of Kubeflow Pipelines' API that is used."""

    def active_runs(self, namespace: str) -> Awaitable[tuple[RunView, ...]]:
        """List the runs of a namespace that have not ended."""

    def lists_are_shared(self) -> Awaitable[bool]:
        """Whether one list has the runs of all namespaces."""


class RunWatch:
    """Follows runs by name, which identifies a resource and a revision; see `api.naming`."""

    def __init__(
        self,
        kubeflow: Lists,
        enqueue: Callable[[Key], None],
        interval: float,
        fallback: float = 0.0,
        hints: Hints | None = None,
        pod_problems: PodProblems | None = None,
    ) -> None:
        """List runs every `interval` seconds, those left to the watch of `hints` every `fallback` seconds.

        `pod_problems` returns, for each run with active step pods, why they cannot start.
        """
        self._kubeflow = kubeflow
        self._enqueue = enqueue
        self._interval = interval
        self._fallback = max(interval, fallback)
        self._hints = hints
        self._followed: dict[Key, Run] = {}
        self._keys: dict[str, Key] = {}  # of the followed runs, by id
        self._seen: dict[Key, frozenset[tuple[str, str]] | None] = {}
        self._phases: dict[str, str] = {}  # of the Workflows of all active runs, by run id
        self._changed: set[str] = set()  # ids of followed runs whose Workflow has changed since they were listed
        self._watching = False
        self._listed: dict[str, float] = {}  # when a namespace's runs were listed, or first followed
        self._listing: set[str] = set()  # namespaces whose runs are being listed
        self._next_list = 0.0
        self._replan = asyncio.Event()
        self._list_pod_problems = pod_problems
        self._pod_problems: dict[str, frozenset[str]] = {}  # of followed runs, by run id
        self._without: dict[str, int] = {}  # consecutive lists without a pod of a followed run
        self._following = asyncio.Event()

    def follow(self, key: Key, run: Run | None) -> None:
        """Follow a resource's run from the state in its status; None stops following."""
        known = self._followed.get(key)
        if known is not None and (run is None or run.id != known.id):
            self._keys.pop(known.id, None)
            self._changed.discard(known.id)
        if run is None:
            self._followed.pop(key, None)
            self._seen.pop(key, None)
            return
        changed = known is None or (known.name, known.id, known.state) != (run.name, run.id, run.state)
        if changed:
            # The status has the last known state: a change before the first list must not be missed.
            self._seen[key] = frozenset({(run.id, run.state)})
        self._followed[key] = run
        if run.id:
            self._keys[run.id] = key
        self._following.set()
        if changed and self._watching and run.id in self._phases and not self._is_left_to_the_watch(run):
            self._enqueue(key)  # its Workflow has changed during the reconcile
        self._plan(key)

    async def watch(self) -> None:
        """Watch and list, until canceled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._list_periodically(tasks))
            if self._hints is not None:
                tasks.create_task(self._watch_workflows(self._hints))
            if self._list_pod_problems is not None:
                tasks.create_task(self._watch_step_pods(self._list_pod_problems))

    async def _watch_step_pods(self, list_problems: PodProblems) -> None:
        """Enqueue the resources whose runs' pods have new problems, or no problem any more."""
        while True:
            if not self._followed:
                self._following.clear()
                await self._following.wait()
            await asyncio.sleep(self._interval)
            try:
                found = await list_problems()
            except PlatformError as error:
                logger.debug("Cannot list step pods", extra={"fields": {"error": error}})
                continue
            followed = {run.id: key for key, run in self._followed.items() if run.id}
            self._without = {run: 0 if run in found else self._without.get(run, 0) + 1 for run in followed}
            for run, key in followed.items():
                problems = NO_POD if self._without[run] >= LISTS_WITHOUT_POD else found.get(run, frozenset())
                if problems != self._pod_problems.get(run, frozenset()):
                    self._enqueue(key)
                self._pod_problems[run] = problems
            self._pod_problems = {run: problems for run, problems in self._pod_problems.items() if run in followed}

    async def _watch_workflows(self, hints: Hints) -> None:
        async with contextlib.aclosing(hints()) as watch:
            async for hint in watch:
                self._watching = hint is not None
                if hint is None:
                    self._replan.set()
                    continue
                gone = self._phases.keys() - hint.phases.keys() if hint.complete else set()
                moved = gone | {run for run, phase in hint.phases.items() if self._phases.get(run) != phase}
                changed = set() if hint.complete else (hint.phases.keys() - moved) & self._keys.keys()
                for run in moved:
                    phase = hint.phases.get(run)
                    if phase is None:
                        self._phases.pop(run, None)
                    else:
                        self._phases[run] = phase
                for key in [self._keys[run] for run in moved if run in self._keys]:
                    if not self._is_left_to_the_watch(self._followed[key]):
                        self._enqueue(key)
                        self._plan(key)
                self._changed |= changed
                for run in changed:
                    self._plan(self._keys[run])

    def _is_left_to_the_watch(self, run: Run) -> bool:
        quiet = self._watching and run.id not in self._changed
        return quiet and run.state in AGREES.get(self._phases.get(run.id, "gone"), ())

    def _due(self, key: Key, now: float) -> float:
        interval = self._fallback if self._is_left_to_the_watch(self._followed[key]) else self._interval
        return self._listed.setdefault(key[0], now) + interval

    def _plan(self, key: Key) -> None:
        """List earlier if this resource needs it."""
        if self._due(key, asyncio.get_running_loop().time()) < self._next_list:
            self._replan.set()

    async def _list_periodically(self, tasks: asyncio.TaskGroup) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._replan.clear()
            followed = {namespace for namespace, _ in self._followed}
            self._listed = {namespace: at for namespace, at in self._listed.items() if namespace in followed}
            due = {key: self._due(key, clock()) for key in self._followed if key[0] not in self._listing}
            self._next_list = min(due.values(), default=float("inf"))
            if self._next_list > clock():
                wait = None if self._next_list == float("inf") else self._next_list - clock()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._replan.wait(), wait)
                continue
            await self._list_due({namespace for (namespace, _), at in due.items() if at <= clock()}, tasks)

    async def _list_due(self, namespaces: set[str], tasks: asyncio.TaskGroup) -> None:
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
            tasks.create_task(self._list_namespace(namespace))

    async def _list_namespace(self, namespace: str) -> None:
        """List a namespace's runs. Other namespaces do not wait for the answer."""
        TENANT.set(namespace)
        self._compare({namespace}, await self._list(namespace))
        self._listing.discard(namespace)
        self._replan.set()

    async def _list(self, namespace: str) -> tuple[RunView, ...] | PlatformError:
        try:
            return await self._kubeflow.active_runs(namespace)
        except PlatformError as error:
            return error

    def _compare(self, namespaces: set[str], found: tuple[RunView, ...] | PlatformError) -> None:
        """Enqueue the resources of these namespaces whose runs have changed."""
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
            self._changed.discard(followed.id)
            now = None if isinstance(found, PlatformError) else frozenset(by_name.get(followed.name, ()))
            if self._seen[key] != now:
                self._seen[key] = now
                self._enqueue(key)
