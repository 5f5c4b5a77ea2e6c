"""The run watch with a watch of Workflows and lists of step pods: it lists runs at the fallback interval only."""

from dataclasses import replace

from support.clock import simulated_clock
from support.runwatch import INTERVAL, KEY, RUN, STATUS_RUN, complete, intervals, watching, watching_pods

from winepipelines.api.observed import RunState
from winepipelines.api.status import Run
from winepipelines.platform.workflows import Hint


@simulated_clock
async def test_run_is_not_listed_when_its_workflow_is_watched() -> None:
    async with watching() as (kubeflow, watch):
        await kubeflow.send(complete(_1="Running"))
        watch.follow(KEY, STATUS_RUN)
        await intervals(4)
        assert kubeflow.lists == []
        assert kubeflow.enqueued == []


@simulated_clock
async def test_run_with_a_watched_workflow_is_listed_at_the_fallback_interval() -> None:
    async with watching(interval=INTERVAL / 4, fallback=INTERVAL) as (kubeflow, watch):
        await kubeflow.send(complete(_1="Running"))
        kubeflow.runs = ()
        watch.follow(KEY, STATUS_RUN)
        await intervals(3)
        assert 1 <= len(kubeflow.lists) <= 3
        assert kubeflow.enqueued == [KEY]


@simulated_clock
async def test_resource_is_enqueued_once_per_phase_of_its_workflow() -> None:
    async with watching() as (kubeflow, watch):
        await kubeflow.send(complete())
        watch.follow(KEY, STATUS_RUN.with_(state="PENDING"))
        await kubeflow.send(Hint({"1": ""}), Hint({"1": "Pending"}))
        assert kubeflow.enqueued == [], "the status has this state"
        await kubeflow.send(Hint({"1": "Running"}), Hint({"other": "Failed"}))
        assert kubeflow.enqueued == [KEY]
        watch.follow(KEY, STATUS_RUN)
        await kubeflow.send(Hint({"1": "Succeeded"}))
        assert kubeflow.enqueued == [KEY] * 2
        await kubeflow.send(Hint({"1": None}))
        assert kubeflow.enqueued == [KEY] * 3, "a deleted Workflow may mean that the run has ended"
        assert kubeflow.lists == [], "the watch of Workflows needs no list"


@simulated_clock
async def test_run_is_listed_every_interval_while_it_lags_behind_its_workflow() -> None:
    async with watching() as (kubeflow, watch):
        await kubeflow.send(complete(_1="Running"))
        watch.follow(KEY, STATUS_RUN)
        await kubeflow.send(Hint({"1": "Failed"}))
        assert kubeflow.enqueued == [KEY]
        watch.follow(KEY, STATUS_RUN)  # the reconcile has found the run still running
        await kubeflow.wait_for_lists(2)
        assert kubeflow.enqueued == [KEY]
        kubeflow.runs = ()
        await kubeflow.wait_for_lists(2)
        assert kubeflow.enqueued == [KEY] * 2
        watch.follow(KEY, None)
        count = len(kubeflow.lists)
        await intervals(3)
        assert len(kubeflow.lists) == count


@simulated_clock
async def test_run_is_listed_every_interval_when_it_has_no_workflow() -> None:
    async with watching() as (kubeflow, watch):
        await kubeflow.send(complete(_2="Running"))
        watch.follow(KEY, STATUS_RUN)
        watch.follow(("other", "wine"), Run(name="wine-1", id="2", state="RUNNING"))
        await kubeflow.wait_for_lists(3)
        assert set(kubeflow.lists) == {"admin"}


@simulated_clock
async def test_run_is_listed_every_interval_until_a_failed_watch_is_back() -> None:
    async with watching() as (kubeflow, watch):
        await kubeflow.send(complete(_1="Running"))
        watch.follow(KEY, STATUS_RUN)
        await kubeflow.send(None)
        await kubeflow.wait_for_lists(3)
        await kubeflow.send(complete(_1="Running"))
        count = len(kubeflow.lists)
        await intervals(3)
        assert len(kubeflow.lists) <= count + 1
        assert kubeflow.enqueued == []


@simulated_clock
async def test_resource_is_enqueued_when_the_watch_is_back_and_its_workflow_is_gone() -> None:
    async with watching() as (kubeflow, watch):
        await kubeflow.send(complete(_1="Running", _2="Running"))
        watch.follow(KEY, STATUS_RUN)
        watch.follow(("other", "wine"), Run(name="wine-1", id="2", state="RUNNING"))
        await kubeflow.send(None, complete(_2="Running"))
        assert kubeflow.enqueued == [KEY]


@simulated_clock
async def test_run_is_listed_once_when_its_workflow_changes_within_a_phase() -> None:
    """A terminated run is CANCELING for a few seconds only, while its Workflow is still Running."""
    async with watching() as (kubeflow, watch):
        watch.follow(KEY, STATUS_RUN)
        await kubeflow.send(complete(_1="Running"))
        await intervals(2)
        kubeflow.enqueued.clear()
        before = len(kubeflow.lists)
        kubeflow.runs = (replace(RUN, state=RunState.CANCELING),)
        await kubeflow.send(Hint({"1": "Running"}))
        await intervals(2)
        assert kubeflow.enqueued == [KEY]
        assert len(kubeflow.lists) == before + 1
        await kubeflow.send(Hint({"2": "Running"}))
        await intervals(2)
        assert len(kubeflow.lists) == before + 1, "no resource follows this run"


@simulated_clock
async def test_resource_is_enqueued_once_when_its_workflow_changed_before_its_run_was_followed() -> None:
    async with watching() as (kubeflow, watch):
        await kubeflow.send(complete(_1="Running"))
        watch.follow(KEY, Run(name="mlflow-1", id="1", state="PENDING"))
        assert kubeflow.enqueued == [KEY]
        watch.follow(KEY, Run(name="mlflow-1", id="1", state="PENDING"))
        assert kubeflow.enqueued == [KEY]
        watch.follow(KEY, STATUS_RUN)
        assert kubeflow.enqueued == [KEY], "run and Workflow agree"


@simulated_clock
async def test_resource_is_enqueued_once_when_its_pods_have_a_problem_and_once_when_it_is_solved() -> None:
    async with watching_pods() as kubeflow:
        kubeflow.pods = {"1": frozenset({"ImagePullBackOff"}), "other": frozenset({"Pending"})}
        await intervals(3)
        assert kubeflow.enqueued == [KEY]
        kubeflow.pods = {"1": frozenset()}
        await intervals(3)
        assert kubeflow.enqueued == [KEY, KEY]


@simulated_clock
async def test_resource_is_enqueued_when_its_run_has_no_pod_for_some_time() -> None:
    """For example, a quota rejects its pods."""
    async with watching_pods() as kubeflow:
        kubeflow.pods = {}
        await intervals(6)
        assert kubeflow.enqueued == [KEY]


@simulated_clock
async def test_resource_is_not_enqueued_when_pods_cannot_be_listed() -> None:
    async with watching_pods() as kubeflow:
        kubeflow.pods = None
        await intervals(6)
        assert kubeflow.enqueued == []
