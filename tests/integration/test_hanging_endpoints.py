"""Endpoints of one namespace accept connections and never answer: other namespaces do not wait, and the operator stays alive."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import pytest
from support.cluster import Cluster
from support.endpoints import Endpoints, predictions_of
from support.fleet import make_trained, rolled_out_at_once, running_operator
from support.liveness import probed
from support.watched import watched

from sandbox.platform import Sandbox
from sandbox.seldon.api import Api
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import ConditionType
from winepipelines.serving.probing import COMPARISON_SECONDS

ATTACKER, HONEST, FIRST = "attacker", "honest", "first"
REACTION = 5.0  # seconds
UNREACHABLE = "EndpointUnreachable"


@pytest.fixture(scope="module")
def platform() -> Iterator[Cluster]:
    """Run a platform without Seldon. The test creates the Deployments, rolled out at once."""
    with Sandbox(f"hanging-{os.getpid()}", without={"operator", "seldon"}) as sandbox:
        sandbox.add_namespace(FIRST, HONEST, ATTACKER)
        yield Cluster(sandbox)


@pytest.fixture(scope="module")
def trained(platform: Cluster) -> WinePipeline:
    """Create a resource whose model is trained."""
    with running_operator(platform.sandbox, {}):
        platform.apply(platform.resource(FIRST))
        pipeline = platform.wait(FIRST, lambda pipeline: pipeline.status.candidate is not None, seconds=180)
    platform.sandbox.stop("controller-manager")  # it would write the status of the Deployments
    return pipeline


@pytest.fixture
async def api(platform: Cluster) -> AsyncIterator[Api]:
    api = Api.connect(platform.info.kubeconfig)
    yield api
    await api.close()


async def test_hanging_endpoints_do_not_delay_other_namespaces(platform: Cluster, trained: WinePipeline, api: Api) -> None:
    """Five resources are being verified; for five, a served model and a candidate are compared. All of these endpoints hang."""
    keys = [(HONEST, f"wine-{number}") for number in range(5)]
    await make_trained(platform, api, trained, keys, metadata={"labels": {"who": HONEST}})
    endpoints = Endpoints(predictions_of(platform, trained), {ATTACKER})
    async with endpoints.serve():
        with running_operator(platform.sandbox, endpoints.variables) as operator:
            async with (
                rolled_out_at_once(api),
                watched(api, f"who={HONEST}") as honest,
                watched(api, f"who={ATTACKER}") as attacker,
                probed(operator.probes) as liveness,
            ):
                await honest.until_ready(len(keys), 60)
                label = {"labels": {"who": ATTACKER}}
                await make_trained(platform, api, trained, [(ATTACKER, f"new-{number}") for number in range(5)], metadata=label)
                canaries = [(ATTACKER, f"canary-{number}") for number in range(5)]
                await make_trained(platform, api, trained, canaries, canary_in_progress=True, metadata=label)
                await attacker.until(lambda: endpoints.requests[ATTACKER] >= 4, 60, "the operator waits for hanging endpoints")
                slowest = 0.0
                loop = asyncio.get_running_loop()
                end = loop.time() + 2 * COMPARISON_SECONDS
                while loop.time() < end:
                    for key in keys:
                        slowest = max(slowest, await honest.reaction(key))
                    await asyncio.sleep(0.5)
                await attacker.until(
                    lambda: all(_reports_the_endpoint(pipeline) for pipeline in attacker.pipelines.values()),
                    240,
                    "each of the attacker's resources reports that its endpoint does not answer",
                )
            assert operator.is_alive
    assert slowest < REACTION
    assert liveness.failures == 0
    assert liveness.slowest < REACTION


def _reports_the_endpoint(pipeline: WinePipeline) -> bool:
    rejection = pipeline.status.candidate.rejection if pipeline.status.candidate is not None else None
    rejected = rejection is not None and rejection.reason == UNREACHABLE
    answering = pipeline.status.condition(ConditionType.ENDPOINT_VERIFIED)
    return rejected or (answering is not None and answering.reason == UNREACHABLE)
