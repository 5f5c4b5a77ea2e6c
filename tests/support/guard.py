"""An API server with Seldon's CRD and the chart's guard, for requests with the operator's token."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from support.backends import SOURCE, seldon_backend
from support.cluster import Cluster
from support.earlier import SETTINGS, Earlier, earlier_manifests
from support.writes import Writes

from dev import helm
from sandbox.kubeconfigs import Access
from sandbox.platform import Sandbox
from winepipelines.platform.manifests import Manifests
from winepipelines.platform.namespace import Namespace

Object = dict[str, Any]
UNUSED: Any = None  # building manifests needs no API server
NAMESPACE = "admin"
CRD = Path(__file__).with_name("crds") / "seldondeployments-1.17.1.json"
RIGHTS = Path(__file__).parents[2] / "deploy/operator/rbac.yaml"
# The images of these tests, beside the chart's own.
VALUES: Object = {"mlflow": {"url": SETTINGS.mlflow_url}, "objectStore": {"url": SETTINGS.s3_endpoint_url}}
GUARD: Object = {"serverRepositories": ["s"]}
POLICY = "ValidatingAdmissionPolicy 'wine-operator.kubeflow."  # text in the guard's rejections
NOT_MANAGED = {"store", "mlflow", "data", "kubeflow", "seldon", "operator"}
RCLONE = {
    "RCLONE_CONFIG_S3_TYPE": "czM=",
    "RCLONE_CONFIG_S3_ENDPOINT": "aHR0cDovL21pbmlv",
    "RCLONE_CONFIG_S3_PROVIDER": "TWluaW8=",
}
MLFLOW = {"MLFLOW_TRACKING_USERNAME": "YQ==", "MLFLOW_TRACKING_PASSWORD": "Yg=="}


@dataclass(frozen=True)
class Guarded:
    """The API server with an administrator's rights, and writes with the operator's token."""

    cluster: Cluster
    operator: Writes

    def install(self, **guard: object) -> None:
        """Install the chart's policies."""
        install(self.cluster.sandbox, {**VALUES, "guard": {**GUARD, **guard}})

    @contextmanager
    def existing(self, manifest: Object) -> Iterator[None]:
        """Create an object without owners, which the garbage collector would delete, and delete it at exit."""
        metadata = {key: value for key, value in manifest["metadata"].items() if key != "ownerReferences"}
        sandbox, where = self.cluster.sandbox, ("-n", metadata["namespace"])
        sandbox.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps({**manifest, "metadata": metadata}))
        try:
            yield
        finally:
            sandbox.kubectl(*where, "delete", manifest["kind"], metadata["name"], "--ignore-not-found")


def install(sandbox: Sandbox, values: Object) -> None:
    """Install the policies of the chart, rendered with these values."""
    policies = [one for one in helm.template(values) if one["kind"].startswith("ValidatingAdmissionPolicy")]
    options = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    sandbox.kubectl(*options, stdin=yaml.safe_dump_all(policies))


@contextmanager
def guarded() -> Iterator[Guarded]:
    """Start the API server. There is no Seldon webhook, and the policy that stands in for it is removed."""
    with Sandbox(f"guard-{os.getpid()}", without=NOT_MANAGED) as sandbox:
        cluster = Cluster(sandbox)
        sandbox.kubectl("delete", "validatingadmissionpolicybinding", "seldondeployments.machinelearning.seldon.io")
        sandbox.kubectl("replace", "-f", str(CRD))
        sandbox.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(RIGHTS))
        cluster.namespace(NAMESPACE)
        token = sandbox.kubectl("-n", "kubeflow", "create", "token", "wine-operator", "--duration=2h").strip()
        guard = Guarded(cluster, Writes(Access.read(cluster.info.kubeconfig), token))
        guard.install()
        yield guard


def applied(earlier: Earlier, live: Object | None = None) -> Object:
    """Build the manifest that the operator applies today for the resource of a case."""
    manifest: Object = json.loads(json.dumps(seldon_backend(SETTINGS).manifest(earlier.pipeline, earlier.rollout, live)))
    return manifest


def shared() -> Mapping[str, Object]:
    """Build the PodDefaults and Secrets that the operator applies, by name."""
    settings = SETTINGS.with_(mlflow_secret="mlflow-tracking-credentials")
    pipeline = earlier_manifests()[0].pipeline
    namespace = Namespace(UNUSED, Manifests(settings.templates), settings, SOURCE)
    manifests = namespace.wanted(pipeline, {"data": RCLONE}, {"data": MLFLOW})
    return {one["metadata"]["name"]: json.loads(json.dumps(one)) for one in manifests}
