"""A Kubeflow Pipelines stand-in for tests of the run watch, and the watch on it.

Tests run on the simulated clock of `support.clock`, so that no interval depends on the speed of the machine.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from support.memory import START

from winecontract.reasons import Reason
from winepipelines.api.errors import Unavailable
from winepipelines.api.observed import RunState, RunView
from winepipelines.api.status import Run
from winepipelines.platform.workflows import Hint
from winepipelines.runs.watch import Key, RunWatch

RUN = RunView("1", "mlflow-1", RunState.RUNNING, START)
STATUS_RUN = Run(name="mlflow-1", id="1", state="RUNNING")
KEY = ("admin", "mlflow")
INTERVAL, FALLBACK = 0.02, 30.0  # seconds


class FakeKubeflow:
    """Kubeflow Pipelines with its Workflows and step pods. It records lists, and the resources that are enqueued."""

    def __init__(self, *, shared: bool = False) -> None:
        """With `shared`, one list has the runs of all namespaces."""
        self.runs: tuple[RunView, ...] | None = (RUN,)  # None: Kubeflow Pipelines is unavailable
        self.shared = shared
        self.hanging: set[str] = set()  # namespaces whose list never ends
        self.lists: list[str] = []
        self.enqueued: list[Key] = []
        self.pods: dict[str, frozenset[str]] | None = {"1": frozenset()}  # problems of step pods by run id; None: unavailable
        self._listed = asyncio.Event()
        self._hints: asyncio.Queue[Hint | None] = asyncio.Queue()

    async def pod_problems(self) -> dict[str, frozenset[str]]:
        if self.pods is None:
            raise Unavailable(Reason.KUBERNETES_UNAVAILABLE, "down")
        return self.pods

    async def active_runs(self, namespace: str) -> tuple[RunView, ...]:
        self.lists.append(namespace)
        self._listed.set()
        if namespace in self.hanging:
            await asyncio.Event().wait()
        if self.runs is None:
            raise Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "down")
        return self.runs

    async def lists_are_shared(self) -> bool:
        if self.runs is None:
            self._listed.set()
            raise Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "down")
        return self.shared

    async def hints(self) -> AsyncGenerator[Hint | None]:
        while True:
            yield await self._hints.get()

    async def wait_for_lists(self, count: int = 1) -> None:
        """Wait until runs have been listed `count` more times, and the last list has been processed."""
        for _ in range(count):
            self._listed.clear()
            await asyncio.wait_for(self._listed.wait(), 5)
        await _settle()

    async def send(self, *hints: Hint | None) -> None:
        """Send hints of the watch of Workflows, and wait until they have been processed. None is a failure of that watch."""
        for hint in hints:
            await self._hints.put(hint)
        await _settle()


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def intervals(count: int) -> None:
    """Let a number of intervals pass, and half of the next one."""
    await asyncio.sleep((count + 0.5) * INTERVAL)


def complete(**phases: str) -> Hint:
    """Build the hint with the phases of all Workflows, by `_` and the run id."""
    return Hint({run.removeprefix("_"): phase for run, phase in phases.items()}, complete=True)


@asynccontextmanager
async def watching(
    *, shared: bool = False, interval: float = INTERVAL, fallback: float = FALLBACK
) -> AsyncIterator[tuple[FakeKubeflow, RunWatch]]:
    """Run a watch without step pods."""
    kubeflow = FakeKubeflow(shared=shared)
    watch = RunWatch(kubeflow, kubeflow.enqueued.append, interval, fallback, kubeflow.hints)
    async with _running(watch):
        yield kubeflow, watch


@asynccontextmanager
async def watching_pods() -> AsyncIterator[FakeKubeflow]:
    """Run a watch that follows a run whose Workflow is watched, with the step pods of the run."""
    kubeflow = FakeKubeflow()
    watch = RunWatch(kubeflow, kubeflow.enqueued.append, INTERVAL, FALLBACK, kubeflow.hints, kubeflow.pod_problems)
    async with _running(watch):
        await kubeflow.send(complete(_1="Running"))
        watch.follow(KEY, STATUS_RUN)
        await intervals(2)
        kubeflow.enqueued.clear()
        yield kubeflow


@asynccontextmanager
async def _running(watch: RunWatch) -> AsyncIterator[None]:
    task = asyncio.create_task(watch.watch())
    yield
    assert not task.done(), "the watch has ended"
    task.cancel()
