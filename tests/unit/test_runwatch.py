"""One list for all active runs of a namespace, none where nothing runs, few where Workflows are watched.

Time passes as `support.clock` has it: however busy the machine is, no interval ends before what is due in it is done.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from support.clock import at_once
from support.memory import START

from winepipelines.platform.workflows import Hint
from winepipelines.resource.errors import Unavailable
from winepipelines.resource.observed import RunState, RunView
from winepipelines.resource.status import Run
from winepipelines.runwatch import Key, RunWatch

RUN = RunView("1", "mlflow-1", RunState.RUNNING, START)
KNOWN = Run(name="mlflow-1", id="1", state="RUNNING")
KEY = ("admin", "mlflow")
INTERVAL, FALLBACK = 0.02, 30.0  # seconds


class Kubeflow:
    """Counts its lists, and whom they wake."""

    def __init__(self, shared: bool) -> None:
        self.runs: tuple[RunView, ...] | None = (RUN,)
        self.shared = shared
        self.hanging: set[str] = set()
        self.lists: list[str] = []
        self.listed = asyncio.Event()
        self.woken: list[Key] = []
        self.hints: asyncio.Queue[Hint | None] = asyncio.Queue()
        self.pods: dict[str, frozenset[str]] | None = {"1": frozenset()}  # of followed runs: what keeps them from starting

    async def moods(self) -> dict[str, frozenset[str]]:
        if self.pods is None:
            raise Unavailable("KubernetesUnavailable", "down")
        return self.pods

    async def active_runs(self, namespace: str) -> tuple[RunView, ...]:
        self.lists.append(namespace)
        self.listed.set()
        if namespace in self.hanging:
            await asyncio.Event().wait()
        if self.runs is None:
            raise Unavailable("KubeflowUnavailable", "down")
        return self.runs

    async def lists_are_shared(self) -> bool:
        if self.runs is None:
            self.listed.set()
            raise Unavailable("KubeflowUnavailable", "down")
        return self.shared

    async def look(self, times: int = 1) -> None:
        """Wait until runs have been listed so many times more, and compared."""
        for _ in range(times):
            self.listed.clear()
            await asyncio.wait_for(self.listed.wait(), 5)
        await settle()

    async def tell(self, *hints: Hint | None) -> None:
        """Let the watch say something, and wait until it was heard."""
        for hint in hints:
            await self.hints.put(hint)
        await settle()

    async def watched(self) -> AsyncGenerator[Hint | None]:
        while True:
            yield await self.hints.get()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def intervals(count: int) -> None:
    """So much time passes, and a little more."""
    await asyncio.sleep((count + 0.5) * INTERVAL)


@asynccontextmanager
async def watching(*, shared: bool = False) -> AsyncIterator[tuple[Kubeflow, RunWatch]]:
    kubeflow = Kubeflow(shared)
    watch = RunWatch(kubeflow, kubeflow.woken.append, INTERVAL, FALLBACK, kubeflow.watched)
    task = asyncio.create_task(watch.watch())
    yield kubeflow, watch
    assert not task.done(), "the watch goes on for ever"
    task.cancel()


def everything(**phases: str) -> Hint:
    return Hint({run.removeprefix("_"): phase for run, phase in phases.items()}, complete=True)


# ---- lists alone


@at_once
async def test_nothing_is_listed_while_nothing_runs() -> None:
    async with watching() as (kubeflow, watch):
        await intervals(3)
        assert kubeflow.lists == []
        watch.follow(KEY, KNOWN)
        await kubeflow.look()
        watch.follow(KEY, None)
        count = len(kubeflow.lists)
        await intervals(3)
        assert len(kubeflow.lists) == count


@at_once
async def test_one_list_an_interval_serves_every_resource_of_a_namespace() -> None:
    for resources in (1, 50):
        async with watching() as (kubeflow, watch):
            for number in range(resources):
                watch.follow(("admin", f"wine-{number}"), Run(name=f"wine-{number}-1", id=f"{number}"))
            await intervals(4)
            assert 2 <= kubeflow.lists.count("admin") <= 4, f"{resources} resources"


@at_once
async def test_each_namespace_has_its_list() -> None:
    async with watching() as (kubeflow, watch):
        for number in range(30):
            watch.follow((f"team-{number % 3}", f"wine-{number}"), Run(name=f"wine-{number}-1", id=f"{number}"))
        await intervals(3)
        counts = [kubeflow.lists.count(f"team-{number}") for number in range(3)]
        assert all(1 <= count <= 3 for count in counts), counts
        assert sum(counts) == len(kubeflow.lists)


@at_once
async def test_a_namespace_whose_list_hangs_holds_up_no_other_ones() -> None:
    async with watching() as (kubeflow, watch):
        kubeflow.hanging = {"attacker"}
        watch.follow(("attacker", "wine"), Run(name="wine-1", id="9"))
        watch.follow(KEY, KNOWN)
        await intervals(4)
        assert kubeflow.lists.count("admin") >= 2
        assert kubeflow.lists.count("attacker") == 1


@at_once
async def test_in_single_user_mode_one_list_serves_every_namespace() -> None:
    async with watching(shared=True) as (kubeflow, watch):
        for number in range(50):
            watch.follow((f"team-{number}", "wine"), Run(name=f"wine-{number}-1", id=f"{number}", state="RUNNING"))
        await intervals(4)
        assert 2 <= len(kubeflow.lists) <= 4
        assert len(kubeflow.woken) == 50, "all of their runs are gone"


@at_once
async def test_resources_that_come_and_go_cost_no_more_lists() -> None:
    async with watching() as (kubeflow, watch):
        for _ in range(200):
            watch.follow(KEY, KNOWN)
            await asyncio.sleep(INTERVAL / 50)
            watch.follow(KEY, None)
        assert len(kubeflow.lists) <= 200 / 50


@at_once
async def test_only_a_run_that_moved_wakes() -> None:
    async with watching() as (kubeflow, watch):
        watch.follow(KEY, KNOWN)
        await kubeflow.look(3)
        assert kubeflow.woken == []
        kubeflow.runs = (replace(RUN, state=RunState.CANCELING),)
        await kubeflow.look(3)
        assert kubeflow.woken == [KEY]
        kubeflow.runs = ()
        await kubeflow.look(3)
        assert len(kubeflow.woken) == 2


@at_once
async def test_a_run_that_has_ended_before_the_first_look_wakes() -> None:
    async with watching() as (kubeflow, watch):
        kubeflow.runs = ()
        watch.follow(KEY, KNOWN)
        await kubeflow.look(2)
        assert kubeflow.woken == [KEY]


@at_once
async def test_a_run_that_moved_before_the_first_look_wakes() -> None:
    async with watching() as (kubeflow, watch):
        watch.follow(KEY, KNOWN.with_(state="PENDING"))
        await kubeflow.look(3)
        assert kubeflow.woken == [KEY]


@at_once
async def test_a_reconcile_that_saw_nothing_new_wakes_nothing() -> None:
    """Not even while Kubeflow Pipelines is away: the resource is looked at again by itself."""
    async with watching() as (kubeflow, watch):
        kubeflow.runs = None
        watch.follow(KEY, KNOWN)
        await kubeflow.look(2)
        watch.follow(KEY, KNOWN)
        await kubeflow.look(3)
        assert len(kubeflow.woken) == 1


@at_once
async def test_a_second_run_of_the_name_wakes() -> None:
    async with watching() as (kubeflow, watch):
        watch.follow(KEY, KNOWN)
        await kubeflow.look(2)
        kubeflow.runs = (RUN, replace(RUN, id="2"))
        await kubeflow.look(3)
        assert kubeflow.woken == [KEY]


@at_once
async def test_an_outage_wakes_once_and_so_does_its_end() -> None:
    async with watching() as (kubeflow, watch):
        watch.follow(KEY, KNOWN)
        await kubeflow.look(2)
        kubeflow.runs = None
        await kubeflow.look(5)
        assert len(kubeflow.woken) == 1
        kubeflow.runs = (RUN,)
        await kubeflow.look(3)
        assert len(kubeflow.woken) == 2


# ---- with a watch of Workflows


@at_once
async def test_a_run_whose_workflow_is_watched_is_not_listed() -> None:
    async with watching() as (kubeflow, watch):
        await kubeflow.tell(everything(_1="Running"))
        watch.follow(KEY, KNOWN)
        await intervals(4)
        assert kubeflow.lists == []
        assert kubeflow.woken == []


@at_once
async def test_a_watched_run_is_listed_now_and_then_all_the_same() -> None:
    kubeflow = Kubeflow(shared=False)
    watch = RunWatch(kubeflow, kubeflow.woken.append, INTERVAL / 4, INTERVAL, kubeflow.watched)
    task = asyncio.create_task(watch.watch())
    await kubeflow.tell(everything(_1="Running"))
    kubeflow.runs = ()
    watch.follow(KEY, KNOWN)
    await intervals(3)
    assert 1 <= len(kubeflow.lists) <= 3
    assert kubeflow.woken == [KEY]
    task.cancel()


@at_once
async def test_a_workflow_that_moves_wakes_its_resource_once_a_phase() -> None:
    async with watching() as (kubeflow, watch):
        await kubeflow.tell(everything())
        watch.follow(KEY, KNOWN.with_(state="PENDING"))
        await kubeflow.tell(Hint({"1": ""}), Hint({"1": "Pending"}))
        assert kubeflow.woken == [], "as the status says"
        await kubeflow.tell(Hint({"1": "Running"}), Hint({"other": "Failed"}))
        assert kubeflow.woken == [KEY]
        watch.follow(KEY, KNOWN)
        await kubeflow.tell(Hint({"1": "Succeeded"}))
        assert kubeflow.woken == [KEY] * 2
        await kubeflow.tell(Hint({"1": None}))
        assert kubeflow.woken == [KEY] * 3, "the run's end is recorded"
        assert kubeflow.lists == [], "and no run was listed"


@at_once
async def test_a_run_that_lags_behind_its_workflow_is_looked_at_often_until_it_follows() -> None:
    async with watching() as (kubeflow, watch):
        await kubeflow.tell(everything(_1="Running"))
        watch.follow(KEY, KNOWN)
        await kubeflow.tell(Hint({"1": "Failed"}))
        assert kubeflow.woken == [KEY]
        watch.follow(KEY, KNOWN)  # the woken resource has found it running still
        await kubeflow.look(2)
        assert kubeflow.woken == [KEY]
        kubeflow.runs = ()
        await kubeflow.look(2)
        assert kubeflow.woken == [KEY] * 2
        watch.follow(KEY, None)
        count = len(kubeflow.lists)
        await intervals(3)
        assert len(kubeflow.lists) == count


@at_once
async def test_a_run_without_a_workflow_is_listed_as_ever() -> None:
    async with watching() as (kubeflow, watch):
        await kubeflow.tell(everything(_2="Running"))
        watch.follow(KEY, KNOWN)
        watch.follow(("other", "wine"), Run(name="wine-1", id="2", state="RUNNING"))
        await kubeflow.look(3)
        assert set(kubeflow.lists) == {"admin"}


@at_once
async def test_without_the_watch_runs_are_listed_as_ever_until_it_is_back() -> None:
    async with watching() as (kubeflow, watch):
        await kubeflow.tell(everything(_1="Running"))
        watch.follow(KEY, KNOWN)
        await kubeflow.tell(None)
        await kubeflow.look(3)
        await kubeflow.tell(everything(_1="Running"))
        count = len(kubeflow.lists)
        await intervals(3)
        assert len(kubeflow.lists) <= count + 1
        assert kubeflow.woken == []


@at_once
async def test_what_moved_while_the_watch_was_away_wakes_when_it_is_back() -> None:
    async with watching() as (kubeflow, watch):
        await kubeflow.tell(everything(_1="Running", _2="Running"))
        watch.follow(KEY, KNOWN)
        watch.follow(("other", "wine"), Run(name="wine-1", id="2", state="RUNNING"))
        await kubeflow.tell(None, everything(_2="Running"))
        assert kubeflow.woken == [KEY]


@at_once
async def test_a_workflow_that_changes_within_its_phase_has_its_run_listed_once() -> None:
    """A run that someone ends is CANCELING for seconds only, and its Workflow runs on meanwhile."""
    async with watching() as (kubeflow, watch):
        watch.follow(KEY, KNOWN)
        await kubeflow.tell(everything(_1="Running"))
        await intervals(2)
        kubeflow.woken.clear()
        before = len(kubeflow.lists)
        kubeflow.runs = (replace(RUN, state=RunState.CANCELING),)
        await kubeflow.tell(Hint({"1": "Running"}))
        await intervals(2)
        assert kubeflow.woken == [KEY]
        assert len(kubeflow.lists) == before + 1
        await kubeflow.tell(Hint({"2": "Running"}))
        await intervals(2)
        assert len(kubeflow.lists) == before + 1, "nobody follows that one"


# ---- the pods of steps


@asynccontextmanager
async def watching_pods() -> AsyncIterator[Kubeflow]:
    """A run is followed, and left to the watch."""
    kubeflow = Kubeflow(shared=False)
    watch = RunWatch(kubeflow, kubeflow.woken.append, INTERVAL, FALLBACK, kubeflow.watched, kubeflow.moods)
    task = asyncio.create_task(watch.watch())
    await kubeflow.tell(everything(_1="Running"))
    watch.follow(KEY, KNOWN)
    await intervals(2)
    kubeflow.woken.clear()
    yield kubeflow
    assert not task.done(), "the watch goes on for ever"
    task.cancel()


@at_once
async def test_pods_in_trouble_wake_their_resource_once_and_again_when_it_is_over() -> None:
    async with watching_pods() as kubeflow:
        kubeflow.pods = {"1": frozenset({"ImagePullBackOff"}), "other": frozenset({"Pending"})}
        await intervals(3)
        assert kubeflow.woken == [KEY]
        kubeflow.pods = {"1": frozenset()}
        await intervals(3)
        assert kubeflow.woken == [KEY, KEY]


@at_once
async def test_a_run_without_any_pod_wakes_its_resource_after_a_while() -> None:
    """A quota does not admit its pods, for example."""
    async with watching_pods() as kubeflow:
        kubeflow.pods = {}
        await intervals(6)
        assert kubeflow.woken == [KEY]


@at_once
async def test_pods_that_cannot_be_listed_wake_nobody() -> None:
    async with watching_pods() as kubeflow:
        kubeflow.pods = None
        await intervals(6)
        assert kubeflow.woken == []


@at_once
async def test_a_workflow_that_moved_before_its_run_was_followed_wakes_its_resource_once() -> None:
    async with watching() as (kubeflow, watch):
        await kubeflow.tell(everything(_1="Running"))
        watch.follow(KEY, Run(name="mlflow-1", id="1", state="PENDING"))
        assert kubeflow.woken == [KEY]
        watch.follow(KEY, Run(name="mlflow-1", id="1", state="PENDING"))
        assert kubeflow.woken == [KEY]
        watch.follow(KEY, KNOWN)
        assert kubeflow.woken == [KEY], "they agree"
