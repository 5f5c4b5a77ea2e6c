"""A resource that KServe serves, and a cluster with KServe in memory, which makes Deployments and pods on request."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from winepipelines.api.errors import PlatformError
from winepipelines.api.naming import TEMPLATE_ANNOTATION
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.spec import Serving, Spec
from winepipelines.api.status import Status
from winepipelines.platform.kubernetes import DEPLOYMENTS, PODS, Kind
from winepipelines.serving.kserve.live import SERVICES
from winepipelines.serving.kserve.naming import OBJECT_LABEL, SOURCE_ANNOTATION
from winepipelines.settings import Settings

Object = dict[str, Any]
HASH = "7d9c5d6f8b"


SETTINGS = Settings(
    kfp_url="http://kfp", mlflow_url="http://mlflow", s3_endpoint_url="http://minio:9000", server_image="registry/server:1"
)
SPEC = Spec.model_validate({"data": {"url": "http://data/wine.csv"}})
PIPELINE = WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", SPEC, Status())


def serving(**fields: object) -> WinePipeline:
    """Return the resource with these fields in spec.serving."""
    return replace(PIPELINE, spec=SPEC.with_(serving=Serving.model_validate(fields)))


class Cluster:
    """Objects by kind and name, of one namespace."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.writes: list[str] = []
        self.pods: list[Object] = []
        self.webhook_down: PlatformError | None = None
        self.published: Any = None
        """What publishes OpenAPI documents; None publishes none, as for minimal CRDs."""

    def live(self, kind: Kind, name: str) -> Object:
        """Return the stored object itself."""
        return self.objects[kind.plural, name]

    async def get(self, kind: Kind, _: str, name: str) -> Object | None:
        return copy.deepcopy(self.objects.get((kind.plural, name)))

    async def list(self, kind: Kind, _: str, keep: Callable[[Object], Object], most: int, *, label_selector: str) -> list[Object]:
        assert kind == PODS, "only pods are listed"
        label, _, value = label_selector.partition("=")
        return [keep(copy.deepcopy(pod)) for pod in self.pods if pod["metadata"]["labels"].get(label) == value][: most + 1]

    async def ask(self, method: str, path: str) -> Object | None:
        return None if self.published is None else dict(await self.published.ask(method, path))

    async def open(self, path: str, accept: str) -> Any:
        return await self.published.open(path, accept)

    async def parsed(self, *arguments: Any) -> Any:
        return await self.published.parsed(*arguments)

    async def apply(self, kind: Kind, body: Object, manager: str, *, dry_run: bool = False) -> Object:
        del manager
        if dry_run:
            if self.webhook_down is not None:
                raise self.webhook_down
            return copy.deepcopy(body)
        body, name = json.loads(json.dumps(body)), body["metadata"]["name"]
        before = self.objects.get((kind.plural, name))
        self.writes.append(f"apply {kind.plural} {name}")
        owners = {owner["uid"]: owner for one in (before, body) if one for owner in one["metadata"].get("ownerReferences", [])}
        body["metadata"] |= {
            "uid": f"uid-of-{name}",
            "resourceVersion": str(len(self.writes)),
            "ownerReferences": [*owners.values()],
        }
        if kind == SERVICES:
            _add_what_kserve_adds(body)
        self.objects[kind.plural, name] = body
        return copy.deepcopy(body)

    async def merge(self, kind: Kind, _: str, name: str, patch: Object) -> Object:
        self.writes.append(f"merge {kind.plural} {name}")
        assert patch["metadata"].pop("resourceVersion") == self.live(kind, name)["metadata"]["resourceVersion"]
        self.live(kind, name)["metadata"] |= patch["metadata"]
        return copy.deepcopy(self.live(kind, name))

    async def delete(self, kind: Kind, _: str, name: str, uid: str) -> None:
        assert self.live(kind, name)["metadata"]["uid"] == uid
        self.writes.append(f"delete {kind.plural} {name}")
        del self.objects[kind.plural, name]

    def deploy(self, name: str, **status: object) -> Object:
        """Make the Deployment of an InferenceService, rolled out unless `status` says otherwise; return it."""
        service = self.live(SERVICES, name)
        predictor = service["spec"]["predictor"]
        replicas = predictor["minReplicas"]
        annotations = {
            TEMPLATE_ANNOTATION: service["metadata"]["annotations"][TEMPLATE_ANNOTATION],
            SOURCE_ANNOTATION: predictor["model"]["storageUri"],
        }
        counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), replicas)
        deployment = {
            "metadata": {
                "name": f"{name}-predictor",
                "namespace": "admin",
                "generation": 1,
                "ownerReferences": [{"uid": service["metadata"]["uid"], "controller": True}],
            },
            "spec": {"replicas": replicas, "template": {"metadata": {"annotations": annotations}}},
            "status": {"observedGeneration": 1, **counts, **status},
        }
        self.objects[DEPLOYMENTS.plural, f"{name}-predictor"] = deployment
        return deployment

    def pod(self, name: str, **status: object) -> None:
        """Make a pod of the Deployment of an InferenceService."""
        template = self.live(DEPLOYMENTS, f"{name}-predictor")["spec"]["template"]["metadata"]
        self.pods.append(
            {
                "metadata": {
                    "name": f"{name}-predictor-{HASH}-x7k2p",
                    "labels": {OBJECT_LABEL: name},
                    "annotations": dict(template["annotations"]),
                },
                "status": status,
            }
        )

    def remove(self, kind: Kind, name: str) -> None:
        """Delete an object, as somebody else does."""
        del self.objects[kind.plural, name]


def _add_what_kserve_adds(service: Object) -> None:
    """Add what the webhook and the controller of 0.20 add."""
    service["metadata"]["annotations"]["modelFormat"] = "winepipelines"
    service["metadata"]["finalizers"] = ["inferenceservice.finalizers"]
    model = service["spec"]["predictor"]["model"]
    model["name"] = ""
    model["resources"].setdefault("requests", {}).setdefault("cpu", "1")
