"""The operator's watch of Workflows, on the API server below the endpoint."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from contract.kubeflow.endpoint import GIVEN, PATIENCE, Endpoint, Runs, eventually, pipeline
from kubernetes.aio import client, config

from winepipelines.platform import steppods
from winepipelines.platform.kubernetes import Kubernetes
from winepipelines.platform.workflows import Hint, Workflows


@asynccontextmanager
async def hints(kfp: Endpoint) -> AsyncIterator[AsyncGenerator[Hint | None]]:
    configuration = client.Configuration()
    await config.load_kube_config(kfp.below().kubeconfig, client_configuration=configuration)
    kubernetes = Kubernetes(client.ApiClient(configuration))
    async with aclosing(Workflows(kubernetes).hints()) as heard:
        yield heard
    await kubernetes.close()


async def phases(heard: AsyncGenerator[Hint | None], run_id: str, last: str | None) -> list[str | None]:
    """What is heard of a run, until it is this."""
    said: list[str | None] = []
    async with asyncio.timeout(PATIENCE):
        async for hint in heard:
            assert hint is not None
            if run_id in hint.phases:
                said.append(hint.phases[run_id])
            if said and said[-1] == last:
                return said
    raise AssertionError(f"the watch has ended after {said}")


async def test_a_run_is_heard_of_until_its_end_is_recorded(kfp: Endpoint) -> None:
    async with hints(kfp) as heard:
        first = await anext(heard)
        assert first is not None
        assert first.complete
        run_id = await asyncio.to_thread(kfp.ended, "FAILED")
        said = await phases(heard, run_id, None)
        assert said[-1] is None
        assert "Failed" in said
        assert kfp.run(run_id)["state"] == "FAILED", "by then Kubeflow says so too"


async def test_a_run_underway_is_in_the_list_and_one_that_is_over_is_not(kfp: Endpoint) -> None:
    running = await asyncio.to_thread(kfp.underway)
    over = await asyncio.to_thread(kfp.ended, "SUCCEEDED")
    async with hints(kfp) as heard:
        first = await anext(heard)
        assert first is not None
        assert first.phases[running] == "Running"
        if over in first.phases:  # Kubeflow has recorded the end, and marks the Workflow a moment later
            assert await phases(heard, over, None) == [None]


async def test_a_deleted_workflow_is_heard_of(kfp: Endpoint) -> None:
    run_id = await asyncio.to_thread(kfp.underway)
    async with hints(kfp) as heard:
        await anext(heard)
        await asyncio.to_thread(kfp.below().delete_workflow, run_id)
        assert (await phases(heard, run_id, None))[-1] is None


def test_a_step_that_cannot_start_is_seen_in_its_pod_alone(kfp: Endpoint) -> None:
    """The run goes on and on; the pod has the run's id as a label, and the name of its node says which step it is."""
    if kfp.runs is not Runs.EXECUTED:
        pytest.skip("nothing executes runs at this endpoint (CONTRACT_KFP_EXECUTES)")
    run_id = kfp.create(pipeline_spec=pipeline("registry.invalid/steps:1"), runtime_config={"parameters": GIVEN})["run_id"]
    cluster = kfp.below()

    def seen() -> tuple[str, str]:
        problem = steppods.view("", cluster.pods(run_id)).problem
        return (problem.step, problem.reason) if problem is not None else ("", "")

    eventually(lambda: seen() == ("wait", "ErrImagePull"), "the pod says why it does not start")
    assert kfp.run(run_id)["state"] in ("", "PENDING", "RUNNING")
