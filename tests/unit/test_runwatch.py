"""One list for all active runs of a namespace, none where nothing runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from support.world import START

from winepipelines.resource.errors import Unavailable
from winepipelines.resource.observed import RunState, RunView
from winepipelines.resource.status import Run
from winepipelines.runwatch import Key, RunWatch

RUN = RunView("1", "mlflow-1", RunState.RUNNING, START)
KNOWN = Run(name="mlflow-1", id="1", state="RUNNING")


class Kubeflow:
    """Counts its lists; each one waits for the test to let it go."""

    def __init__(self) -> None:
        self.runs: tuple[RunView, ...] | None = (RUN,)
        self.lists: list[str] = []
        self.listed = asyncio.Event()
        self.woken: list[Key] = []

    async def list_active(self, namespace: str) -> tuple[RunView, ...]:
        self.lists.append(namespace)
        self.listed.set()
        if self.runs is None:
            raise Unavailable("KubeflowUnavailable", "down")
        return self.runs

    async def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.listed.clear()
            await asyncio.wait_for(self.listed.wait(), 5)
        await asyncio.sleep(0)


@asynccontextmanager
async def watching() -> AsyncIterator[tuple[Kubeflow, RunWatch]]:
    kubeflow = Kubeflow()
    watch = RunWatch(kubeflow.list_active, kubeflow.woken.append, 0.001)
    task = asyncio.create_task(watch.watch())
    yield kubeflow, watch
    task.cancel()


async def test_nothing_is_listed_while_nothing_runs() -> None:
    async with watching() as (kubeflow, watch):
        for _ in range(100):
            await asyncio.sleep(0)
        assert kubeflow.lists == []
        watch.follow(("admin", "mlflow"), KNOWN)
        await kubeflow.look()
        watch.follow(("admin", "mlflow"), None)
        await asyncio.sleep(0.01)
        count = len(kubeflow.lists)
        await asyncio.sleep(0.02)
        assert len(kubeflow.lists) == count


async def test_one_list_serves_every_resource_of_a_namespace() -> None:
    async with watching() as (kubeflow, watch):
        for number in range(200):
            watch.follow(("admin", f"wine-{number}"), Run(name=f"wine-{number}-1", id="1"))
        watch.follow(("other", "wine"), Run(name="wine-1", id="2"))
        await kubeflow.look()
        assert sorted(kubeflow.lists[:2]) == ["admin", "other"]


async def test_only_a_run_that_moved_wakes() -> None:
    async with watching() as (kubeflow, watch):
        watch.follow(("admin", "mlflow"), KNOWN)
        await kubeflow.look(3)
        assert kubeflow.woken == []
        kubeflow.runs = (replace(RUN, state=RunState.CANCELING),)
        await kubeflow.look(3)
        assert kubeflow.woken == [("admin", "mlflow")]
        kubeflow.runs = ()
        await kubeflow.look(3)
        assert len(kubeflow.woken) == 2


async def test_a_run_that_has_ended_before_the_first_look_wakes() -> None:
    async with watching() as (kubeflow, watch):
        kubeflow.runs = ()
        watch.follow(("admin", "mlflow"), KNOWN)
        await kubeflow.look(2)
        assert kubeflow.woken == [("admin", "mlflow")]


async def test_a_run_that_moved_before_the_first_look_wakes() -> None:
    async with watching() as (kubeflow, watch):
        watch.follow(("admin", "mlflow"), KNOWN.with_(state="PENDING"))
        await kubeflow.look(3)
        assert kubeflow.woken == [("admin", "mlflow")]


async def test_a_reconcile_that_saw_nothing_new_wakes_nothing() -> None:
    """Not even while Kubeflow Pipelines is away: the resource is looked at again by itself."""
    async with watching() as (kubeflow, watch):
        kubeflow.runs = None
        watch.follow(("admin", "mlflow"), KNOWN)
        await kubeflow.look(2)
        watch.follow(("admin", "mlflow"), KNOWN)
        await kubeflow.look(3)
        assert len(kubeflow.woken) == 1


async def test_a_second_run_of_the_name_wakes() -> None:
    async with watching() as (kubeflow, watch):
        watch.follow(("admin", "mlflow"), KNOWN)
        await kubeflow.look(2)
        kubeflow.runs = (RUN, replace(RUN, id="2"))
        await kubeflow.look(3)
        assert kubeflow.woken == [("admin", "mlflow")]


async def test_an_outage_wakes_once_and_so_does_its_end() -> None:
    async with watching() as (kubeflow, watch):
        watch.follow(("admin", "mlflow"), KNOWN)
        await kubeflow.look(2)
        kubeflow.runs = None
        await kubeflow.look(5)
        assert len(kubeflow.woken) == 1
        kubeflow.runs = (RUN,)
        await kubeflow.look(3)
        assert len(kubeflow.woken) == 2
