"""The operator's watch of Workflows, on the API server below the endpoint."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from contract.kubeflow.endpoint import GIVEN, TIMEOUT, Endpoint, Runs, eventually, pipeline
from kubernetes.aio import client, config

from winepipelines.platform import steppods
from winepipelines.platform.kubernetes import Kubernetes
from winepipelines.platform.workflows import Hint, Workflows


@asynccontextmanager
async def hints(kfp: Endpoint) -> AsyncIterator[AsyncGenerator[Hint | None]]:
    configuration = client.Configuration()
    await config.load_kube_config(kfp.below().kubeconfig, client_configuration=configuration)
    kubernetes = Kubernetes(client.ApiClient(configuration))
    async with aclosing(Workflows(kubernetes).hints()) as stream:
        yield stream
    await kubernetes.close()


async def phases(stream: AsyncGenerator[Hint | None], run_id: str, last: str | None) -> list[str | None]:
    """Collect the phases that the watch reports of a run, up to `last`. None is the end of the run."""
    reported: list[str | None] = []
    async with asyncio.timeout(TIMEOUT):
        async for hint in stream:
            assert hint is not None
            if run_id in hint.phases:
                reported.append(hint.phases[run_id])
            if reported and reported[-1] == last:
                return reported
    raise AssertionError(f"the watch has ended after {reported}")


async def test_watch_reports_a_run_until_its_end_is_recorded(kfp: Endpoint) -> None:
    async with hints(kfp) as stream:
        first = await anext(stream)
        assert first is not None
        assert first.complete
        run_id = await asyncio.to_thread(kfp.ended, "FAILED")
        reported = await phases(stream, run_id, None)
        assert reported[-1] is None
        assert "Failed" in reported
        assert kfp.run(run_id)["state"] == "FAILED", "Kubeflow reports the same state by then"


async def test_first_list_contains_running_runs_only(kfp: Endpoint) -> None:
    running = await asyncio.to_thread(kfp.underway)
    over = await asyncio.to_thread(kfp.ended, "SUCCEEDED")
    async with hints(kfp) as stream:
        first = await anext(stream)
        assert first is not None
        assert first.phases[running] == "Running"
        if over in first.phases:  # Kubeflow has recorded the end, but not labelled the Workflow yet
            assert await phases(stream, over, None) == [None]


async def test_watch_reports_a_deleted_workflow(kfp: Endpoint) -> None:
    run_id = await asyncio.to_thread(kfp.underway)
    async with hints(kfp) as stream:
        await anext(stream)
        await asyncio.to_thread(kfp.below().delete_workflow, run_id)
        assert (await phases(stream, run_id, None))[-1] is None


def test_step_that_cannot_start_is_reported_by_its_pod_only(kfp: Endpoint) -> None:
    """The run keeps running. The pod's label has the run's id, and its annotation the node's name, which contains the step."""
    if kfp.runs is not Runs.EXECUTED:
        pytest.skip("nothing executes runs at this endpoint (CONTRACT_KFP_EXECUTES)")
    run_id = kfp.create(pipeline_spec=pipeline("registry.invalid/steps:1"), runtime_config={"parameters": GIVEN})["run_id"]
    cluster = kfp.below()

    def seen() -> tuple[str, str]:
        problem = steppods.view("", cluster.pods(run_id)).problem
        return (problem.step, problem.reason) if problem is not None else ("", "")

    eventually(lambda: seen() == ("wait", "ErrImagePull"), "the pod reports why it does not start")
    assert kfp.run(run_id)["state"] in ("", "PENDING", "RUNNING")
