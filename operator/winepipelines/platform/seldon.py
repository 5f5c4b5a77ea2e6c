"""Seldon Core 1: the one module, with its template, that knows its words. Called by `observe` and `act`.

Seldon never sets `observedGeneration`, so `Available` may be about the previous model. It is believed only when the Deployment's
init container copies the model that was asked for, and no other pod is left.
"""

import json
import math
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import aiohttp

from winepipelines.platform.kubernetes import DEPLOYMENTS, PODS, Body, Kind, KindMissing, Kubernetes
from winepipelines.platform.manifests import Manifest, Manifests, covers, digest
from winepipelines.platform.mlflow import Example
from winepipelines.resource.naming import (
    GRAPH,
    HASH_ANNOTATION,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    PIPELINE_LABEL,
    field_manager,
    owner_reference,
)
from winepipelines.resource.observed import DeploymentView, PredictionCheck, Presence
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.settings import Settings

SELDONDEPLOYMENTS = Kind("machinelearning.seldon.io/v1", "seldondeployments")
DEPLOYMENT_LABEL = "seldon-deployment-id"
TOLERANCE = 1e-6  # relative: the same packages compute the same numbers, JSON writes them in decimal
ANSWER_LIMIT = 1 << 20  # bytes of an answer that are read


class Seldon:
    """Seldon Core 1 in this cluster."""

    def __init__(self, kubernetes: Kubernetes, manifests: Manifests, settings: Settings, session: aiohttp.ClientSession) -> None:
        """Use these adapters; `session` asks for predictions."""
        self._kubernetes = kubernetes
        self._manifests = manifests
        self._settings = settings
        self._session = session

    def endpoint(self, pipeline: WinePipeline) -> str:
        """Say where predictions are asked."""
        return self._settings.endpoint_template.format(namespace=pipeline.namespace, name=pipeline.name)

    def manifest(self, pipeline: WinePipeline, revision: int, uri: str) -> Manifest:
        """Build the SeldonDeployment that serves a model."""
        [manifest] = self._manifests.render(
            "seldondeployment.yaml.j2",
            name=pipeline.name,
            namespace=pipeline.namespace,
            owner=owner_reference(pipeline),
            revision=revision,
            uri=uri,
            image=self._settings.server_image,
            replicas=pipeline.spec.serving.replicas,
            resources=pipeline.spec.serving.resources.model_dump(),
        )
        manifest["metadata"]["annotations"][HASH_ANNOTATION] = digest(manifest)
        return manifest

    async def view(self, pipeline: WinePipeline, revision: int, uri: str) -> DeploymentView:
        """See what serves, compared with what shall."""
        presence, live = await self._find(pipeline)
        if live is None or presence is not Presence.CURRENT:
            return DeploymentView(presence)
        wanted = self.manifest(pipeline, revision, uri)
        if not _is_applied(live, wanted):
            return DeploymentView(Presence.DIFFERS, owned=True)
        rolled_out, reason, message = await self._rollout(pipeline, live, uri)
        return DeploymentView(Presence.CURRENT, rolled_out=rolled_out, owned=True, reason=reason, message=message)

    async def presence(self, pipeline: WinePipeline) -> DeploymentView:
        """See whether anything serves, and whether it is owned by the resource."""
        presence, live = await self._find(pipeline)
        return DeploymentView(presence, owned=live is not None and pipeline.uid in _owners(live))

    async def apply(self, pipeline: WinePipeline, revision: int, uri: str) -> None:
        """Have a model served."""
        await self._kubernetes.apply(SELDONDEPLOYMENTS, self.manifest(pipeline, revision, uri), field_manager(pipeline))

    async def delete(self, pipeline: WinePipeline) -> None:
        """Have nothing served any more, if what serves is the resource's."""
        presence, live = await self._find(pipeline)
        if live is not None and presence is Presence.CURRENT:
            await self._kubernetes.delete(SELDONDEPLOYMENTS, pipeline.namespace, pipeline.name, live["metadata"]["uid"])

    async def release(self, pipeline: WinePipeline) -> Body | None:
        """Give up the ownership of what serves; return it."""
        presence, live = await self._find(pipeline)
        if live is None or presence is not Presence.CURRENT:
            return None
        others = [owner for owner in live["metadata"].get("ownerReferences", []) if owner["uid"] != pipeline.uid]
        patch = {"metadata": {"ownerReferences": others, "resourceVersion": live["metadata"]["resourceVersion"]}}
        return await self._kubernetes.merge(SELDONDEPLOYMENTS, pipeline.namespace, pipeline.name, patch)

    async def predict(self, pipeline: WinePipeline, example: Example) -> PredictionCheck:
        """Ask for a prediction and compare it with what the model itself said."""
        url = self.endpoint(pipeline)
        request = {"data": {"names": example.names, "ndarray": example.rows}}
        at, begun = datetime.now(UTC), time.perf_counter()
        try:
            async with self._session.post(url, json=request, allow_redirects=False) as response:
                text = await response.content.read(ANSWER_LIMIT)
                status = response.status
        except (aiohttp.ClientError, TimeoutError):
            return PredictionCheck(at, False, reason="EndpointUnreachable", message=f"{url} does not answer", url=url)
        milliseconds = round((time.perf_counter() - begun) * 1000)
        if status != 200:
            message = f"{url} answered {status} to the model's own example"
            return PredictionCheck(at, False, milliseconds=milliseconds, reason="PredictionRefused", message=message, url=url)
        values = _predictions(text)
        if values is None or not _agree(values, example.predictions):
            got = "something that is no prediction" if values is None else json.dumps(values[:3])
            message = (
                f"{url} answered {got} to the model's own example; the model itself says {json.dumps(example.predictions[:3])}"
            )
            return PredictionCheck(at, False, milliseconds=milliseconds, reason="PredictionDiffers", message=message, url=url)
        return PredictionCheck(at, True, values[0], milliseconds, url=url)

    async def _find(self, pipeline: WinePipeline) -> tuple[Presence, Body | None]:
        try:
            live = await self._kubernetes.get(SELDONDEPLOYMENTS, pipeline.namespace, pipeline.name)
        except KindMissing:
            return Presence.KIND_MISSING, None
        if live is None:
            return Presence.ABSENT, None
        labels = live["metadata"].get("labels") or {}
        ours = labels.get(MANAGED_BY_LABEL) == MANAGED_BY and labels.get(PIPELINE_LABEL) == pipeline.name
        if not ours or (_owners(live) and pipeline.uid not in _owners(live)):
            return Presence.FOREIGN, live
        return Presence.CURRENT, live

    async def _rollout(self, pipeline: WinePipeline, live: Body, uri: str) -> tuple[bool, str, str]:
        """Tell whether the model is rolled out, and if not, why not: reason and message."""
        selector = f"{DEPLOYMENT_LABEL}={pipeline.name}"
        deployments = await self._kubernetes.list(DEPLOYMENTS, pipeline.namespace, selector)
        serving = [deployment for deployment in deployments if _copied_model(deployment) == uri]
        status = live.get("status") or {}
        if serving and status.get("state") == "Available" and all(_is_complete(deployment) for deployment in deployments):
            return True, "", ""
        pods = await self._kubernetes.list(PODS, pipeline.namespace, selector)
        trouble = next((found for pod in pods if (found := _pod_trouble(pod))), None)
        if trouble is not None:
            return False, *trouble
        description = str(status.get("description") or "").strip()
        return False, "RollingOut", "Seldon is rolling the model out" + (f": {description}" if description else "")


def _owners(live: Body) -> set[str]:
    return {owner["uid"] for owner in live["metadata"].get("ownerReferences") or []}


def _is_applied(live: Body, wanted: Manifest) -> bool:
    """Tell whether a manifest is what was applied last, and whether what matters of it still stands.

    Not more: Seldon's webhook fills in what was left out.
    """
    annotations = live["metadata"].get("annotations") or {}
    if annotations.get(HASH_ANNOTATION) != wanted["metadata"]["annotations"][HASH_ANNOTATION]:
        return False
    [mine] = wanted["spec"]["predictors"]
    container = mine["componentSpecs"][0]["spec"]["containers"][0]
    essential = {
        "name": mine["name"],
        "replicas": mine["replicas"],
        "graph": mine["graph"],
        "componentSpecs": [{"spec": {"containers": [{"name": container["name"], "image": container["image"]}]}}],
    }
    owners = {"ownerReferences": wanted["metadata"]["ownerReferences"]}
    return covers(live["spec"]["predictors"], [essential]) and covers(live["metadata"], owners)


def _copied_model(deployment: Body) -> str:
    """Say which model a Deployment's init container copies."""
    for container in deployment["spec"]["template"]["spec"].get("initContainers") or []:
        if container["name"] == f"{GRAPH}-model-initializer":
            return str((container.get("args") or [""])[0])
    return ""


def _is_complete(deployment: Body) -> bool:
    """Tell whether every pod is of the newest template, and available."""
    status, wanted = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    counts = [status.get(count, 0) for count in ("replicas", "updatedReplicas", "availableReplicas")]
    return status.get("observedGeneration", 0) >= deployment["metadata"]["generation"] and counts == [wanted] * 3


def _pod_trouble(pod: Body) -> tuple[str, str] | None:
    """Read from a pod's own words what keeps it from starting."""
    status = pod.get("status") or {}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason in ("", "PodInitializing", "ContainerCreating"):
            continue
        last = (container.get("lastState") or {}).get("terminated") or {}
        detail = last.get("message") or waiting.get("message") or ""
        return reason, f"container {container['name']} of pod {pod['metadata']['name']}: {reason}. {detail}".strip()[:1000]
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("reason", "Unschedulable"), f"pod {pod['metadata']['name']}: {condition.get('message', '')}"
    return None


def _predictions(text: bytes) -> list[float] | None:
    """Read the numbers of a Seldon message."""
    try:
        data: dict[str, Any] = json.loads(text)["data"]
        values = data["tensor"]["values"] if "tensor" in data else data["ndarray"]
        return [float(value[0]) if isinstance(value, list) else float(value) for value in values]
    except (ValueError, KeyError, TypeError, IndexError):
        return None


def _agree(values: Iterable[float], expected: list[float]) -> bool:
    values = list(values)
    return len(values) == len(expected) and all(
        math.isclose(value, want, rel_tol=TOLERANCE, abs_tol=TOLERANCE) for value, want in zip(values, expected, strict=True)
    )
