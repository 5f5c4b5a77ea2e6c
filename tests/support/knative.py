"""Knative Serving in memory: revisions of an InferenceService in Knative mode, as KServe and Knative report them."""

from support.kserve import Cluster, Object

from winepipelines.api.naming import TEMPLATE_ANNOTATION
from winepipelines.platform.kubernetes import DEPLOYMENTS, Kind
from winepipelines.serving.kserve.knative import API, deployment_name
from winepipelines.serving.kserve.live import SERVICES
from winepipelines.serving.kserve.naming import OBJECT_LABEL, SOURCE_ANNOTATION


class KnativeCluster(Cluster):
    """A cluster with KServe and Knative; each step of theirs is a call."""

    def __init__(self, *, installed: bool = True) -> None:
        super().__init__()
        self.installed = installed
        self._number = 0

    async def ask(self, method: str, path: str) -> Object | None:
        if path == API:
            return {"kind": "APIGroup"} if self.installed else None
        return await super().ask(method, path)

    async def apply(self, kind: Kind, body: Object, manager: str, *, dry_run: bool = False) -> Object:
        if dry_run:
            return await super().apply(kind, body, manager, dry_run=True)
        status = self.objects.get((kind.plural, body["metadata"]["name"]), {}).get("status")
        await super().apply(kind, body, manager)
        if status is not None:
            self.live(kind, body["metadata"]["name"])["status"] = status
        return await self.get(kind, "", body["metadata"]["name"]) or {}

    def revise(self, name: str = "mlflow", *, ready: bool = True, replicas: int = 1) -> str:
        """Make a revision of the InferenceService as it is now; return the revision's name."""
        self._number += 1
        revision = f"{name}-predictor-{self._number:05}"
        service = self.live(SERVICES, name)
        annotations = {
            TEMPLATE_ANNOTATION: service["metadata"]["annotations"][TEMPLATE_ANNOTATION],
            SOURCE_ANNOTATION: service["spec"]["predictor"]["model"]["storageUri"],
        }
        available = replicas if ready else 0
        counts = {"replicas": replicas, "updatedReplicas": replicas, "availableReplicas": available}
        self.objects[DEPLOYMENTS.plural, deployment_name(revision)] = {
            "metadata": {
                "name": deployment_name(revision),
                "namespace": "admin",
                "generation": 1,
                "labels": {OBJECT_LABEL: name},
                "ownerReferences": [{"kind": "Revision", "name": revision, "uid": f"uid-of-{revision}", "controller": True}],
            },
            "spec": {"replicas": replicas, "template": {"metadata": {"annotations": annotations}}},
            "status": {"observedGeneration": 1, **counts},
        }
        self._status(name)["latestCreatedRevision"] = revision
        if ready:
            self.make_ready(revision, name)
        return revision

    def scale(self, revision: str, replicas: int, available: int | None = None) -> None:
        """Scale a revision, as Knative's autoscaler does; by default, all its pods are available."""
        deployment = self.live(DEPLOYMENTS, deployment_name(revision))
        deployment["spec"]["replicas"] = replicas
        counts = {"replicas": replicas, "updatedReplicas": replicas}
        deployment["status"] |= {**counts, "availableReplicas": replicas if available is None else available}

    def make_ready(self, revision: str, name: str = "mlflow") -> None:
        """Report a revision as ready, and share the traffic as the InferenceService says."""
        status = self._status(name)
        status["latestReadyRevision"] = revision
        deployment = self.live(DEPLOYMENTS, deployment_name(revision))
        deployment["status"]["availableReplicas"] = deployment["spec"]["replicas"]
        self.route(name)

    def route(self, name: str = "mlflow") -> None:
        """Share the traffic between the newest ready revision and the last one that had all of it."""
        status = self._status(name)
        share = self.live(SERVICES, name)["spec"]["predictor"].get("canaryTrafficPercent")
        latest = {"latestRevision": True, "revisionName": status["latestReadyRevision"], "tag": "latest"}
        if share is None:
            status["latestRolledoutRevision"] = status["latestReadyRevision"]
            status["traffic"] = [{**latest, "percent": 100}]
            return
        pinned = {"latestRevision": False, "revisionName": status["latestRolledoutRevision"], "tag": "prev"}
        status["traffic"] = [{**latest, "percent": share} if share else latest, {**pinned, "percent": 100 - share}]

    def _status(self, name: str) -> Object:
        status = self.live(SERVICES, name).setdefault("status", {"deploymentMode": "Knative"})
        predictor: Object = status.setdefault("components", {}).setdefault("predictor", {})
        return predictor
