"""How a rollout progresses, and what the operator observes. If no pod runs, `support.seldon.Kubelet` writes their status."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from support.rollouts import one
from support.seldon import INITIALIZER, Operator, pods_run

from winepipelines.api.observed import DeploymentView
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.timeouts import Timeouts
from winepipelines.platform.records import Example

NAME = "mlflow"
MISSING = "s3://no-such-bucket/model"
REQUESTS = "seldon_api_executor_server_requests_seconds"
View = Callable[[], Awaitable[DeploymentView]]


@pytest.fixture
def models(operator: Operator) -> tuple[str, str]:
    """Return two models that pods can serve, or any two addresses if no pod runs."""
    if not operator.endpoint.runs:
        return "s3://mlflow/contract/2", "s3://mlflow/contract/3"
    if len(operator.endpoint.models) < 2:
        pytest.skip("pods run in this cluster, and CONTRACT_SELDON_MODELS does not name two models for them")
    return operator.endpoint.models[0], operator.endpoint.models[1]


async def _until(view: View, reached: Callable[[DeploymentView], object], seconds: float = 90) -> DeploymentView:
    """Observe as the operator does until the view meets a condition. There is no watch of it."""
    seen = await view()
    try:
        async with asyncio.timeout(seconds):
            while not reached(seen):
                await asyncio.sleep(0.2)
                seen = await view()
    except TimeoutError:
        raise AssertionError(f"not reached within {seconds} s; last view: {seen}") from None
    return seen


def _view(operator: Operator, resource: WinePipeline, revision: int, uri: str) -> View:
    return lambda: operator.seldon().observe(resource, one(revision, uri))


async def _serve(operator: Operator, revision: int, uri: str, **serving: object) -> WinePipeline:
    """Roll out a model, and wait until the rollout is complete."""
    resource = operator.resource(NAME, **serving)
    await operator.seldon().apply(resource, one(revision, uri))
    await _until(_view(operator, resource, revision, uri), lambda seen: seen.rolled_out)
    return resource


def _state(operator: Operator) -> str:
    live = operator.endpoint.get("seldondeployments", operator.namespace, NAME)
    assert live is not None
    assert "observedGeneration" not in (live.get("status") or {})
    return str((live.get("status") or {}).get("state", ""))


async def test_available_counts_for_the_requested_model_only(operator: Operator, models: tuple[str, str]) -> None:
    first, second = models
    with pods_run(operator.endpoint, operator.namespace, NAME):
        resource = await _serve(operator, 1, first)
        assert _state(operator) == "Available"
        await operator.seldon().apply(resource, one(2, second))
        assert not (await operator.seldon().observe(resource, one(2, second))).rolled_out
        await _until(_view(operator, resource, 2, second), lambda seen: seen.rolled_out)
        assert _state(operator) == "Available"
        [deployment] = operator.endpoint.made("deployments", operator.namespace, NAME)
        [initializer] = deployment["spec"]["template"]["spec"]["initContainers"]
        assert initializer["args"] == [second, "/mnt/models"]


async def test_missing_bucket_is_a_problem_of_the_new_pod_while_the_old_one_serves(
    operator: Operator, models: tuple[str, str]
) -> None:
    with pods_run(operator.endpoint, operator.namespace, NAME):
        resource = await _serve(operator, 1, models[0])
        await operator.seldon().apply(resource, one(2, MISSING))
        view = _view(operator, resource, 2, MISSING)
        seen = await _until(view, lambda seen: seen.reason)
        assert seen.reason == "CrashLoopBackOff"
        assert f"container {INITIALIZER} ended with exit code" in seen.message
        assert _state(operator) == "Creating"
        ready = [
            pod
            for pod in operator.endpoint.made("pods", operator.namespace, NAME)
            if any(item["type"] == "Ready" and item["status"] == "True" for item in pod["status"]["conditions"])
        ]
        assert [pod["spec"]["initContainers"][0]["args"][0] for pod in ready] == [models[0]]
        again = await view()
        assert (again.reason, again.message) == (seen.reason, seen.message)
        assert not again.rolled_out
        await _serve(operator, 1, models[0])  # what the operator does when the deadline has passed


async def test_exceeded_quota_is_reported_with_a_stable_message(operator: Operator) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "spec": {"hard": {"pods": "0"}}}
    operator.endpoint.apply({**quota, "metadata": {"name": "full", "namespace": operator.namespace}})
    operator.endpoint.run(
        *("-n", operator.namespace, "wait", "--for=jsonpath={.status.hard.pods}=0", "resourcequota/full", "--timeout=30s")
    )
    resource = operator.resource()
    await operator.seldon().apply(resource, one(1, MISSING))
    seen = await _until(_view(operator, resource, 1, MISSING), lambda seen: seen.reason)
    assert seen.reason == "FailedCreate"
    assert "exceeded quota: full" in seen.message
    [deployment] = operator.endpoint.made("deployments", operator.namespace, NAME)
    assert f'pods "{deployment["metadata"]["name"]}" is forbidden' in seen.message  # no random suffix


async def test_passed_progress_deadline_is_reported(operator: Operator) -> None:
    """The pod has no status here, or its image is not pulled: both are reported."""
    seldon = operator.seldon(timeouts=Timeouts(progress_deadline=timedelta(seconds=3)), server_image="localhost:1/no/such:image")
    resource = operator.resource()
    await seldon.apply(resource, one(1, MISSING))
    seen = await _until(lambda: seldon.observe(resource, one(1, MISSING)), lambda seen: seen.reason)
    assert seen.reason in ("ProgressDeadlineExceeded", "CrashLoopBackOff", "ErrImagePull", "Unschedulable")
    live = operator.endpoint.wait(
        "seldondeployments", operator.namespace, NAME, lambda item: item.get("status", {}).get("state") == "Failed"
    )
    assert live["status"]["description"].startswith("Deployment is no longer progressing")


async def test_rollout_stays_complete_while_an_autoscaler_adds_pods(operator: Operator, models: tuple[str, str]) -> None:
    autoscaling = {"minReplicas": 1, "maxReplicas": 4}
    with pods_run(operator.endpoint, operator.namespace, NAME):
        resource = await _serve(operator, 1, models[0], autoscaling=autoscaling)
    if operator.endpoint.runs:
        pytest.skip("only where pods become ready when the test says so")
    [deployment] = operator.endpoint.made("deployments", operator.namespace, NAME)
    patch = '{"spec": {"replicas": 3}}'
    options = ("--subresource=scale", "--type=merge", "-p", patch)
    operator.endpoint.run("-n", operator.namespace, "patch", "deployment", deployment["metadata"]["name"], *options)
    operator.endpoint.wait("deployments", operator.namespace, NAME, lambda item: item["status"].get("replicas") == 3)
    operator.endpoint.wait("seldondeployments", operator.namespace, NAME, lambda item: item["status"]["state"] == "Creating")
    assert (await operator.seldon().observe(resource, one(1, models[0]))).rolled_out


async def test_missing_prefix_is_copied_with_success(operator: Operator, models: tuple[str, str]) -> None:
    if not operator.endpoint.runs:
        pytest.skip("no pod runs in this cluster: nothing is copied")
    bucket = models[0].removeprefix("s3://").partition("/")[0]
    await operator.seldon().apply(operator.resource(), one(1, f"s3://{bucket}/no/such/model"))
    operator.endpoint.wait(
        "pods",
        operator.namespace,
        NAME,
        lambda pod: any(
            item["name"] == INITIALIZER and item["state"].get("terminated", {}).get("exitCode") == 0
            for item in (pod.get("status") or {}).get("initContainerStatuses") or []
        ),
    )


@pytest.mark.parametrize("protocol", ["seldon", "v2"])
async def test_model_answers_in_its_protocol_with_columns_by_name(
    operator: Operator, models: tuple[str, str], protocol: str
) -> None:
    if not operator.endpoint.runs or not operator.endpoint.endpoint_template:
        pytest.skip("no pod runs in this cluster, or CONTRACT_SELDON_ENDPOINT does not say where they answer")
    resource = await _serve(operator, 1, models[0], protocol=protocol)
    example = Example(["alcohol", "sulphates"], [[2.0, 1.0], [3.0, 1.0]], [4.0, 6.0])  # twice the alcohol; not the model's order
    async with asyncio.timeout(30):
        # The gateway follows a rollout with a short delay.
        while not (check := await operator.seldon().predict(resource, example)).passed:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    assert check.protocol == protocol
    assert check.value == pytest.approx(4.0)


async def test_answers_return_id_and_tags_of_the_request(operator: Operator, models: tuple[str, str]) -> None:
    """Answers contain the request's id and tags, as those of Seldon's servers. Column names may be those of the data's header."""
    if not operator.endpoint.runs or not (template := operator.endpoint.endpoint_template):
        pytest.skip("no pod runs in this cluster, or CONTRACT_SELDON_ENDPOINT does not say where they answer")
    await _serve(operator, 1, models[0])
    url = template.format(namespace=operator.namespace, name=NAME) + "/api/v1.0/predictions"
    meta = {"puid": "order-17", "tags": {"batch": "b", "line": 3}}
    message = {"meta": meta, "data": {"names": ["Alcohol", "SULPHATES "], "ndarray": [[2.0, 1.0]]}}
    async with aiohttp.ClientSession() as session, asyncio.timeout(30):

        async def ask(body: object, headers: dict[str, str]) -> tuple[int, str, dict[str, Any]]:
            async with session.post(url, json=body, headers=headers) as response:
                return response.status, response.headers.get("Seldon-Puid", ""), await response.json(content_type=None)

        # The gateway follows a rollout with a short delay.
        while (answer := await ask(message, {"Seldon-Puid": "caller-1"}))[0] == 503:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        status, puid, body = answer
        assert (status, puid) == (200, "caller-1")
        assert body["data"]["ndarray"] == pytest.approx([4.0])
        assert body["meta"].items() >= meta.items()
        status, puid, body = await ask({"data": {"ndarray": [[1.0, 2.0]]}}, {})
        assert (status, bool(puid)) == (200, True)
        assert body["meta"]["puid"] == puid
        status, _, body = await ask({"data": {"names": ["alcohol", "Alcohol"], "ndarray": [[2.0, 1.0]]}}, {})
        assert (status, "missing columns: sulphates" in json.dumps(body)) == (400, True)


async def test_server_has_the_executors_other_paths_without_an_executor(operator: Operator, models: tuple[str, str]) -> None:
    if not operator.endpoint.runs or not (template := operator.endpoint.endpoint_template):
        pytest.skip("no pod runs in this cluster, or CONTRACT_SELDON_ENDPOINT does not say where they answer")
    await _serve(operator, 1, models[0])
    base = template.format(namespace=operator.namespace, name=NAME)
    async with aiohttp.ClientSession() as session, asyncio.timeout(30):

        async def ask(method: str, path: str, body: object = None) -> tuple[int, str]:
            async with session.request(method, base + path, json=body) as response:
                return response.status, await response.text()

        # The gateway follows a rollout with a short delay.
        while (await ask("GET", "/ready"))[0] == 503:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        status, text = await ask("GET", "/api/v1.0/metadata")
        graph = json.loads(text)
        assert (status, list(graph["models"])) == (200, ["classifier"])
        assert graph["graphinputs"][0]["schema"]["names"] == ["sulphates", "alcohol"]
        for path in ("/v2/models/classifier", "/api/v1.0/metadata/classifier", "/api/v1.0/health/status", "/v2/health/ready"):
            assert (await ask("GET", path))[0] == 200
        assert (await ask("POST", "/api/v1.0/feedback", {"reward": 1}))[0] == 200
        status, text = await ask("POST", "/api/v1.0/explain", {})
        assert (status, "no explainer" in text) == (404, True)
        assert (await ask("POST", "/api/v1.0/predictions", {"data": {"ndarray": [[1.0, 2.0]]}}))[0] == 200
        status, text = await ask("GET", "/prometheus")
        [line] = [line for line in text.splitlines() if line.startswith(f"{REQUESTS}_count") and 'service="predictions"' in line]
        assert all(label in line for label in (f'deployment_name="{NAME}"', 'code="200"', 'method="post"')), line
        assert 'predictor_name="wine-super-model"' in line
