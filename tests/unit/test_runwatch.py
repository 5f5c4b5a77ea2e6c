"""The run watch with lists only: one list per interval covers all active runs of a namespace."""

import asyncio
from dataclasses import replace

from support.clock import simulated_clock
from support.runwatch import INTERVAL, KEY, RUN, STATUS_RUN, intervals, watching

from winepipelines.api.observed import RunState
from winepipelines.api.status import Run


@simulated_clock
async def test_runs_are_not_listed_when_none_is_followed() -> None:
    async with watching() as (kubeflow, watch):
        await intervals(3)
        assert kubeflow.lists == []
        watch.follow(KEY, STATUS_RUN)
        await kubeflow.wait_for_lists()
        watch.follow(KEY, None)
        count = len(kubeflow.lists)
        await intervals(3)
        assert len(kubeflow.lists) == count


@simulated_clock
async def test_namespace_is_listed_once_per_interval_for_any_number_of_resources() -> None:
    for resources in (1, 50):
        async with watching() as (kubeflow, watch):
            for number in range(resources):
                watch.follow(("admin", f"wine-{number}"), Run(name=f"wine-{number}-1", id=f"{number}"))
            await intervals(4)
            assert 2 <= kubeflow.lists.count("admin") <= 4, f"{resources} resources"


@simulated_clock
async def test_each_namespace_is_listed_once_per_interval() -> None:
    async with watching() as (kubeflow, watch):
        for number in range(30):
            watch.follow((f"team-{number % 3}", f"wine-{number}"), Run(name=f"wine-{number}-1", id=f"{number}"))
        await intervals(3)
        counts = [kubeflow.lists.count(f"team-{number}") for number in range(3)]
        assert all(1 <= count <= 3 for count in counts), counts
        assert sum(counts) == len(kubeflow.lists)


@simulated_clock
async def test_hanging_list_of_a_namespace_does_not_delay_others() -> None:
    async with watching() as (kubeflow, watch):
        kubeflow.hanging = {"attacker"}
        watch.follow(("attacker", "wine"), Run(name="wine-1", id="9"))
        watch.follow(KEY, STATUS_RUN)
        await intervals(4)
        assert kubeflow.lists.count("admin") >= 2
        assert kubeflow.lists.count("attacker") == 1


@simulated_clock
async def test_one_list_covers_all_namespaces_in_single_user_mode() -> None:
    async with watching(shared=True) as (kubeflow, watch):
        for number in range(50):
            watch.follow((f"team-{number}", "wine"), Run(name=f"wine-{number}-1", id=f"{number}", state="RUNNING"))
        await intervals(4)
        assert 2 <= len(kubeflow.lists) <= 4
        assert len(kubeflow.enqueued) == 50, "the list has none of their runs"


@simulated_clock
async def test_lists_are_bounded_when_resources_come_and_go() -> None:
    async with watching() as (kubeflow, watch):
        for _ in range(200):
            watch.follow(KEY, STATUS_RUN)
            await asyncio.sleep(INTERVAL / 50)
            watch.follow(KEY, None)
        assert len(kubeflow.lists) <= 200 / 50


@simulated_clock
async def test_resource_is_enqueued_when_its_run_changes() -> None:
    async with watching() as (kubeflow, watch):
        watch.follow(KEY, STATUS_RUN)
        await kubeflow.wait_for_lists(3)
        assert kubeflow.enqueued == []
        kubeflow.runs = (replace(RUN, state=RunState.CANCELING),)
        await kubeflow.wait_for_lists(3)
        assert kubeflow.enqueued == [KEY]
        kubeflow.runs = ()
        await kubeflow.wait_for_lists(3)
        assert len(kubeflow.enqueued) == 2


@simulated_clock
async def test_resource_is_enqueued_when_its_run_ended_before_the_first_list() -> None:
    async with watching() as (kubeflow, watch):
        kubeflow.runs = ()
        watch.follow(KEY, STATUS_RUN)
        await kubeflow.wait_for_lists(2)
        assert kubeflow.enqueued == [KEY]


@simulated_clock
async def test_resource_is_enqueued_when_its_run_changed_before_the_first_list() -> None:
    async with watching() as (kubeflow, watch):
        watch.follow(KEY, STATUS_RUN.with_(state="PENDING"))
        await kubeflow.wait_for_lists(3)
        assert kubeflow.enqueued == [KEY]


@simulated_clock
async def test_resource_is_not_enqueued_again_when_its_status_is_unchanged() -> None:
    """Also while Kubeflow Pipelines is unavailable: the resource retries by itself."""
    async with watching() as (kubeflow, watch):
        kubeflow.runs = None
        watch.follow(KEY, STATUS_RUN)
        await kubeflow.wait_for_lists(2)
        watch.follow(KEY, STATUS_RUN)
        await kubeflow.wait_for_lists(3)
        assert len(kubeflow.enqueued) == 1


@simulated_clock
async def test_resource_is_enqueued_when_a_second_run_has_the_name() -> None:
    async with watching() as (kubeflow, watch):
        watch.follow(KEY, STATUS_RUN)
        await kubeflow.wait_for_lists(2)
        kubeflow.runs = (RUN, replace(RUN, id="2"))
        await kubeflow.wait_for_lists(3)
        assert kubeflow.enqueued == [KEY]


@simulated_clock
async def test_resource_is_enqueued_once_at_the_start_and_once_at_the_end_of_an_outage() -> None:
    async with watching() as (kubeflow, watch):
        watch.follow(KEY, STATUS_RUN)
        await kubeflow.wait_for_lists(2)
        kubeflow.runs = None
        await kubeflow.wait_for_lists(5)
        assert len(kubeflow.enqueued) == 1
        kubeflow.runs = (RUN,)
        await kubeflow.wait_for_lists(3)
        assert len(kubeflow.enqueued) == 2
