"""A candidate beside the served model: what the operator relies on during a canary, and after it."""

import asyncio

import pytest
from support.rollouts import one
from support.seldon import Operator, pods_run

from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.rollout import Rollout

NAME = "mlflow"
MISSING = "s3://no-such-bucket/model"


@pytest.fixture
def models(operator: Operator) -> tuple[str, str]:
    """Return two models that pods can serve, or any two addresses if no pod runs."""
    if not operator.endpoint.runs:
        return "s3://mlflow/contract/2", "s3://mlflow/contract/3"
    if len(operator.endpoint.models) < 2:
        pytest.skip("pods run in this cluster, and CONTRACT_SELDON_MODELS does not name two models for them")
    return operator.endpoint.models[0], operator.endpoint.models[1]


async def test_candidate_is_rolled_out_beside_a_model_whose_pods_do_not_start(
    operator: Operator, models: tuple[str, str]
) -> None:
    rollout = Rollout(1, one(1, MISSING).model, one(2, models[1]).model, 0)
    with pods_run(operator.endpoint, operator.namespace, NAME):
        resource = operator.resource(NAME)
        await operator.seldon().apply(resource, rollout)
        async with asyncio.timeout(90):
            seen = await operator.seldon().observe(resource, rollout)
            while not (seen.canary_rolled_out and seen.reason):
                await asyncio.sleep(0.2)
                seen = await operator.seldon().observe(resource, rollout)
        assert (seen.rolled_out, seen.reason) == (False, "CrashLoopBackOff")


async def _rolled_out(operator: Operator, resource: WinePipeline, rollout: Rollout) -> None:
    """Apply a rollout, and observe until it is complete."""
    await operator.seldon().apply(resource, rollout)
    async with asyncio.timeout(90):
        while not (await operator.seldon().observe(resource, rollout)).rolled_out:  # noqa: ASYNC110 - there is no watch for it
            await asyncio.sleep(0.2)


def _made(operator: Operator) -> dict[str, tuple[int, str]]:
    """The Deployments: for each predictor the generation, and the model that is copied."""
    found = {}
    for deployment in operator.endpoint.made("deployments", operator.namespace, NAME):
        template = deployment["spec"]["template"]
        model = template["spec"]["initContainers"][0]["args"][0]
        predictor = next(name for name in ("wine-super-model", "candidate") if f"-{name}-" in deployment["metadata"]["name"])
        found[predictor] = (deployment["metadata"]["generation"], model)
    return found


async def test_candidate_has_its_own_pods_and_service_and_shares_start_no_pod(
    operator: Operator, models: tuple[str, str]
) -> None:
    first, second = one(1, models[0]).model, one(2, models[1]).model
    with pods_run(operator.endpoint, operator.namespace, NAME):
        resource = operator.resource(NAME)
        await _rolled_out(operator, resource, Rollout(1, first))
        alone = _made(operator)
        await _rolled_out(operator, resource, Rollout(1, first, second, 0))
        both = _made(operator)
        assert both["wine-super-model"] == alone["wine-super-model"], "the served model does not change"
        assert both["candidate"][1] == models[1]
        services = {item["metadata"]["name"] for item in operator.endpoint.made("services", operator.namespace, NAME)}
        assert {f"{NAME}-wine-super-model", f"{NAME}-candidate"} <= services
        await _rolled_out(operator, resource, Rollout(1, first, second, 25))
        assert _made(operator) == both
        await _rolled_out(operator, resource, Rollout(2, second))
        assert _made(operator)["wine-super-model"][1] == models[1]
        async with asyncio.timeout(60):
            while "candidate" in _made(operator):  # noqa: ASYNC110 - Seldon removes it when all is ready
                await asyncio.sleep(0.2)
