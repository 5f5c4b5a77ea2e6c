"""An API server with Seldon's own CRD and the chart's guard, asked with the operator's token; and what the operator applies."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from support.cluster import Cluster
from support.earlier import SETTINGS, Earlier, earlier_manifests
from support.writes import Writes

from dev import helm
from sandbox.kubeconfigs import Access
from sandbox.platform import Sandbox
from winepipelines.platform.manifests import Manifests
from winepipelines.platform.namespace import Namespace
from winepipelines.platform.seldon import Seldon

Object = dict[str, Any]
NOBODY: Any = None  # building asks no server
NAMESPACE = "admin"
CRD = Path(__file__).with_name("crds") / "seldondeployments-1.17.1.json"
RIGHTS = Path(__file__).parents[2] / "deploy/operator/rbac.yaml"
# The images of these tests, beside the chart's own.
VALUES: Object = {"mlflow": {"url": SETTINGS.mlflow_url}, "objectStore": {"url": SETTINGS.s3_endpoint_url}}
GUARD: Object = {"serverRepositories": ["s"]}
POLICY = "ValidatingAdmissionPolicy 'wine-operator.kubeflow."  # what a refusal of the guard's says
FOREIGN = {"minio", "mlflow", "data", "kubeflow", "seldon", "operator"}
RCLONE = {
    "RCLONE_CONFIG_S3_TYPE": "czM=",
    "RCLONE_CONFIG_S3_ENDPOINT": "aHR0cDovL21pbmlv",
    "RCLONE_CONFIG_S3_PROVIDER": "TWluaW8=",
}
MLFLOW = {"MLFLOW_TRACKING_USERNAME": "YQ==", "MLFLOW_TRACKING_PASSWORD": "Yg=="}


@dataclass(frozen=True)
class Guarded:
    """The API server, its administrator and the operator's token."""

    cluster: Cluster
    operator: Writes

    def install(self, **guard: object) -> None:
        """Put the chart's policies in force."""
        install(self.cluster.sandbox, {**VALUES, "guard": {**GUARD, **guard}})

    @contextmanager
    def existing(self, manifest: Object) -> Iterator[None]:
        """Have an object be there, and nobody's to collect."""
        metadata = {key: value for key, value in manifest["metadata"].items() if key != "ownerReferences"}
        sandbox, where = self.cluster.sandbox, ("-n", metadata["namespace"])
        sandbox.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps({**manifest, "metadata": metadata}))
        try:
            yield
        finally:
            sandbox.kubectl(*where, "delete", manifest["kind"], metadata["name"], "--ignore-not-found")


def install(sandbox: Sandbox, values: Object) -> None:
    """Put the policies of the chart in force, as they are with these values."""
    policies = [one for one in helm.template(values) if one["kind"].startswith("ValidatingAdmissionPolicy")]
    options = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    sandbox.kubectl(*options, stdin=yaml.safe_dump_all(policies))


@contextmanager
def guarded() -> Iterator[Guarded]:
    """Start it. Seldon's webhook is not there, and what stands in for it refuses nothing here."""
    with Sandbox(f"guard-{os.getpid()}", without=FOREIGN) as sandbox:
        cluster = Cluster(sandbox)
        sandbox.kubectl("delete", "validatingadmissionpolicybinding", "seldondeployments.machinelearning.seldon.io")
        sandbox.kubectl("replace", "-f", str(CRD))
        sandbox.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(RIGHTS))
        cluster.namespace(NAMESPACE)
        token = sandbox.kubectl("-n", "kubeflow", "create", "token", "wine-operator", "--duration=2h").strip()
        guard = Guarded(cluster, Writes(Access.read(cluster.info.kubeconfig), token))
        guard.install()
        yield guard


def _seldon(**settings: object) -> Seldon:
    changed = replace(SETTINGS, **settings)  # type: ignore[arg-type]
    return Seldon(NOBODY, Manifests(changed.templates), changed, NOBODY)


def applied(earlier: Earlier, live: Object | None = None) -> Object:
    """Build what the operator applies today for the resource of a case."""
    manifest: Object = json.loads(json.dumps(_seldon().manifest(earlier.pipeline, earlier.rollout, live)))
    return manifest


def shared() -> Mapping[str, Object]:
    """Build the PodDefaults and Secrets that the operator applies, by name."""
    settings = replace(SETTINGS, mlflow_secret="mlflow-tracking-credentials")
    pipeline = earlier_manifests()[0].pipeline
    namespace = Namespace(NOBODY, Manifests(settings.templates), settings)
    wanted = namespace.wanted(pipeline, {"data": RCLONE}, {"data": MLFLOW})
    return {one["metadata"]["name"]: json.loads(json.dumps(one)) for one in wanted}
