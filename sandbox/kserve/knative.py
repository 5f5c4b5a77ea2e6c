"""Knative Serving for KServe's Knative mode: its real controller, and stand-ins for its autoscaler and its ingress.

The controller makes revisions and their Deployments and decides how traffic is shared. `Knative` reports what the autoscaler
would of a revision, that its pods are ready, and what an ingress would, that it has the routes; it gives these to the gateway. A
revision has as many pods as its annotation demands at least: nothing is scaled by load here.
"""

import asyncio
import json
import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from sandbox import programs
from sandbox.gobuild import Report
from sandbox.programs import KNATIVE
from sandbox.seldon.api import DEPLOYMENT, Api, ApiError
from sandbox.seldon.gateway import Gateway, Route

Manifest = dict[str, Any]
log = logging.getLogger("kserve.knative")

NAMESPACE = "knative-serving"
AUTOSCALERS = "autoscaling.internal.knative.dev/v1alpha1/podautoscalers"
INGRESSES = "networking.internal.knative.dev/v1alpha1/ingresses"
MODULES = {
    "knative.dev/serving": ("config/core/300-resources/*.yaml", "config/core/configmaps/*.yaml"),
    "knative.dev/networking": ("config/*.yaml",),
    "knative.dev/caching": ("config/*.yaml",),
}
SETTINGS = {
    "config-deployment": {
        "queue-sidecar-image": "wine-sandbox/queue:1",  # nothing runs it: no pod of this machine has a second process
        "registries-skipping-tag-resolving": "index.docker.io,docker.io,kind.local,registry.invalid",
    },
    "config-network": {"ingress-class": "wine-sandbox"},
}
MINIMUM = "autoscaling.knative.dev/min-scale"
REVISION = "Knative-Serving-Revision"  # header that an ingress adds
LOCAL, PREDICTOR = ".svc.cluster.local", "-predictor"
RETRY = 0.5  # seconds


def released(controller: Path, report: Report) -> list[Manifest]:
    """Read what the release installs, as JSON beside the controller's program. Raises BuildError."""
    copy = controller.with_name("installation.json")
    if not copy.exists():
        report("copying Knative's CRDs and configuration from its modules")
        files = [
            file
            for module, patterns in MODULES.items()
            for pattern in patterns
            for file in sorted(programs.module_folder(KNATIVE, module).glob(pattern))
        ]
        documents = [document for file in files for document in yaml.load_all(file.read_bytes(), yaml.CSafeLoader)]
        kept = [document for document in documents if document and document["kind"] in ("CustomResourceDefinition", "ConfigMap")]
        with tempfile.NamedTemporaryFile("w", dir=copy.parent, delete=False) as part:
            json.dump(kept, part)
        Path(part.name).replace(copy)
    found: list[Manifest] = json.loads(copy.read_text())
    return found


def manifests(release: list[Manifest]) -> list[Manifest]:
    """Return the objects of an installation whose controller runs on this machine."""
    made: list[Manifest] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}]
    for item in release:
        metadata = item["metadata"]
        if item["kind"] == "ConfigMap":
            data = {name: value for name, value in (item.get("data") or {}).items() if not name.startswith("_")}
            data |= SETTINGS.get(metadata["name"], {})
            made.append(
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": metadata["name"], "namespace": NAMESPACE},
                    "data": data,
                }
            )
        else:
            item["metadata"] = {name: metadata[name] for name in ("name", "labels") if name in metadata}
            item.pop("status", None)
            made.append(item)
    return made


class Knative:
    """The stand-ins, by watches."""

    def __init__(self, api: Api, gateway: Gateway) -> None:
        self._api, self._gateway = api, gateway
        self._deployments: dict[tuple[str, str], Manifest] = {}
        self._autoscalers: dict[tuple[str, str], Manifest] = {}
        self._routes: dict[tuple[str, str], set[tuple[str, str]]] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(DEPLOYMENT, self._deployment, labels="serving.knative.dev/revision"))
            tasks.create_task(self._follow(AUTOSCALERS, self._autoscaler))
            tasks.create_task(self._follow(INGRESSES, self._ingress))

    async def _follow(self, resource: str, handle: Any, labels: str = "") -> None:
        async for kind, item in self._api.follow(resource, labels):
            for one in item["items"] if kind == "SYNCED" else [item]:
                while True:
                    try:
                        await handle(one, gone=kind == "DELETED")
                        break
                    except ApiError as error:
                        if error.code in (404, 409, 422):  # it is gone, or a later event comes
                            break
                        log.warning("%s %s: %s", resource, one["metadata"]["name"], error)
                        await asyncio.sleep(RETRY)

    async def _deployment(self, item: Manifest, *, gone: bool) -> None:
        key = _key(item)
        self._deployments[key] = item
        if gone:
            del self._deployments[key]
        for autoscaler in [one for one in self._autoscalers.values() if _target(one) == key]:
            await self._scale(autoscaler)

    async def _autoscaler(self, item: Manifest, *, gone: bool) -> None:
        self._autoscalers[_key(item)] = item
        if gone:
            del self._autoscalers[_key(item)]
        else:
            await self._scale(item)

    async def _scale(self, item: Manifest) -> None:
        """Give a revision its least number of pods, and say whether they are ready."""
        namespace, name = target = _target(item)
        deployment = self._deployments.get(target)
        if deployment is None:
            return
        wanted = max(1, int((item["metadata"].get("annotations") or {}).get(MINIMUM, "1")))
        if deployment["spec"].get("replicas") != wanted:
            await self._api.merge(DEPLOYMENT, namespace, name, {"spec": {"replicas": wanted}})
        available = int((deployment.get("status") or {}).get("availableReplicas", 0))
        earlier = {one["type"]: one["status"] for one in (item.get("status") or {}).get("conditions") or []}
        initialized = available > 0 or earlier.get("ScaleTargetInitialized") == "True"
        ready = {"status": "True"} if available else {"status": "Unknown", "reason": "Queued", "message": "no pod is ready"}
        conditions = [{"type": kind, **ready} for kind in ("Active", "Ready", "SKSReady")]
        conditions.append({"type": "ScaleTargetInitialized", "status": "True" if initialized else "Unknown"})
        status = {
            "observedGeneration": item["metadata"]["generation"],
            "serviceName": item["metadata"]["name"],
            "metricsServiceName": f"{item['metadata']['name']}-private",
            "desiredScale": wanted,
            "actualScale": available,
            "conditions": conditions,
        }
        if (item.get("status") or {}) != status:
            stored = await self._api.set_status(AUTOSCALERS, item, status)
            self._autoscalers[_key(item)] = stored

    async def _ingress(self, item: Manifest, *, gone: bool) -> None:
        """Route to the revisions that an Ingress names, and report that it is done."""
        made = {} if gone else dict(_routes(item))
        before = self._routes.pop(_key(item), set())
        for key in before - made.keys():
            self._gateway.set_routes(key, [])
        for key, routes in made.items():
            self._gateway.set_routes(key, routes)
        if gone:
            return
        self._routes[_key(item)] = set(made)
        balancer = {"ingress": [{"domainInternal": "gateway.wine-sandbox.svc.cluster.local"}]}
        status = {
            "observedGeneration": item["metadata"]["generation"],
            "publicLoadBalancer": balancer,
            "privateLoadBalancer": balancer,
            "conditions": [{"type": kind, "status": "True"} for kind in ("LoadBalancerReady", "NetworkConfigured", "Ready")],
        }
        if (item.get("status") or {}) != status:
            await self._api.set_status(INGRESSES, item, status)


def _routes(ingress: Manifest) -> Iterable[tuple[tuple[str, str], list[Route]]]:
    """List the routes of an Ingress: by namespace and name of an InferenceService, or of a tag of it."""
    for rule in ingress["spec"].get("rules") or []:
        for host in rule["hosts"]:
            labels = host.removesuffix(LOCAL).split(".")
            if not host.endswith(LOCAL) or len(labels) != 2 or not labels[0].endswith(PREDICTOR):
                continue
            key = labels[1], labels[0].removesuffix(PREDICTOR)
            yield key, [_route(split) for path in rule["http"]["paths"][:1] for split in path["splits"]]


def _route(split: Manifest) -> Route:
    revision = split.get("appendHeaders", {}).get(REVISION) or split["serviceName"]
    deployment = split["serviceNamespace"], f"{revision}-deployment"
    return Route(revision, "v2", int(split.get("percent", 100)), deployment, executor=False)


def _key(item: Manifest) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _target(autoscaler: Manifest) -> tuple[str, str]:
    return autoscaler["metadata"]["namespace"], autoscaler["spec"]["scaleTargetRef"]["name"]
