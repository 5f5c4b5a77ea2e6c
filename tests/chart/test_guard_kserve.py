"""The guard of a chart whose backend is KServe, on a real API server: what the operator applies passes, and nothing else.

The CRDs have no schema, as in KServe's minimal installation: the guard alone rejects fields.
"""

import copy
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from support.backends import kserve_backend
from support.cluster import Cluster, eventually
from support.guard import NAMESPACE, NOT_MANAGED, install
from support.kserve import PIPELINE, SETTINGS, serving
from support.rollouts import model
from support.writes import Writes

from dev import helm
from sandbox.kubeconfigs import Access
from sandbox.platform import Sandbox
from winepipelines.api.rollout import Rollout
from winepipelines.platform.manifests import Manifests
from winepipelines.platform.namespace import Namespace

Object = dict[str, Any]
BACKEND = kserve_backend(SETTINGS)
VALUES: Object = {
    "serving": {"backend": "kserve"},
    "mlflow": {"url": SETTINGS.mlflow_url},
    "objectStore": {"url": SETTINGS.s3_endpoint_url},
    "guard": {"serverRepositories": ["registry/server"]},
}
RIGHTS = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
KINDS = {"InferenceService": "v1beta1", "ServingRuntime": "v1alpha1"}
ROLLOUT = Rollout(
    1, model(1, "s3://mlflow/1/model", digest=f"sha256:{'0' * 64}"), canary=model(2, "s3://mlflow/2/artifacts/model")
)
DENIED = "ValidatingAdmissionPolicy 'wine-operator.kubeflow."
NOBODY: Any = None  # building uses no server


@pytest.fixture(scope="module")
def operator() -> Iterator[Writes]:
    """Start an API server with KServe's kinds and the chart's policies; return writes with the operator's token."""
    with Sandbox(f"guard-kserve-{os.getpid()}", without=NOT_MANAGED) as sandbox:
        rights = [one for one in helm.template(VALUES) if one["kind"] in RIGHTS]
        for manifests in ([crd(kind, version) for kind, version in KINDS.items()], rights):
            sandbox.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(manifests))
        sandbox.kubectl("wait", "--for=condition=Established", "crd", "-l", "kserve=minimal", "--timeout=30s")
        cluster = Cluster(sandbox)
        cluster.namespace(NAMESPACE)
        token = sandbox.kubectl("-n", "kubeflow", "create", "token", "wine-operator", "--duration=2h").strip()
        install(sandbox, VALUES)
        writes = Writes(Access.read(cluster.info.kubeconfig), token)
        eventually(lambda: DENIED in writes.apply(with_value(served(), ("spec", "unknown"), 1)))
        yield writes


def crd(kind: str, version: str) -> Object:
    plural = f"{kind.lower()}s"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.serving.kserve.io", "labels": {"kserve": "minimal"}},
        "spec": {
            "group": "serving.kserve.io",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }


def applied(**fields: object) -> list[Object]:
    """Build everything that the operator applies for a resource, except PodDefaults."""
    namespace = Namespace(NOBODY, Manifests(SETTINGS.templates), SETTINGS, BACKEND.source)
    secrets = [one for one in namespace.wanted(PIPELINE, {"data": {"accesskey": "YQ==", "secretkey": "Yg=="}}) if "data" in one]
    return [json.loads(json.dumps(one)) for one in (*secrets, *BACKEND.manifests(serving(**fields), ROLLOUT))]


def served() -> Object:
    return applied()[-2]


def with_value(manifest: Object, path: tuple[str | int, ...], value: object) -> Object:
    changed = copy.deepcopy(manifest)
    target: Any = changed
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    "fields", [{}, {"replicas": 3}, {"autoscaling": {"minReplicas": 2, "maxReplicas": 4}, "resources": {"limits": {"cpu": 1}}}]
)
def test_guard_accepts_what_the_operator_applies(operator: Writes, fields: Object) -> None:
    assert [operator.apply(manifest) for manifest in applied(**fields)] == [""] * 4


def test_guard_accepts_what_the_webhook_of_kserve_adds(operator: Writes) -> None:
    added = with_value(served(), ("metadata", "annotations", "modelFormat"), "winepipelines")
    added = with_value(added, ("spec", "predictor", "model", "name"), "")
    added = with_value(added, ("spec", "predictor", "model", "resources", "requests", "cpu"), "1")
    assert operator.apply(added) == ""


MODEL = ("spec", "predictor", "model")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("metadata", "annotations", "serving.kserve.io/storageSecretName"), "another"),
        (("metadata", "annotations", "serving.kserve.io/deploymentMode"), "ModelMesh"),
        (("metadata", "annotations", "sidecar.istio.io/inject"), "false"),
        (("metadata", "labels", "winepipelines.io/pipeline"), "another"),
        (("metadata", "labels", "networking.kserve.io/visibility"), "exposed"),
        (("metadata", "ownerReferences", 0, "kind"), "Secret"),
        (("metadata", "finalizers"), ["mine"]),
        (("spec", "transformer"), {"containers": [{"name": "kserve-container", "image": "evil:1"}]}),
        (("spec", "predictor", "serviceAccountName"), "default-editor"),
        (("spec", "predictor", "containers"), [{"name": "sidecar", "image": "evil:1"}]),
        (("spec", "predictor", "volumes"), [{"name": "keys", "secret": {"secretName": "keys"}}]),
        (("spec", "predictor", "automountServiceAccountToken"), True),
        (("spec", "predictor", "securityContext"), {"runAsUser": 0}),
        (("spec", "predictor", "minReplicas"), 1000),
        (("spec", "predictor", "hostNetwork"), True),
        ((*MODEL, "image"), "evil:1"),
        ((*MODEL, "image"), "registry/server-of-others:1"),
        ((*MODEL, "storageUri"), "s3://mlflow/1/../2/"),
        ((*MODEL, "storageUri"), "pvc://keys/model/"),
        ((*MODEL, "runtime"), "another"),
        ((*MODEL, "command"), ["sh"]),
        ((*MODEL, "env"), [{"name": "LD_PRELOAD", "value": "/mnt/models/evil.so"}]),
        ((*MODEL, "env", 0), {"name": "MODEL_DIGEST", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "x"}}}),
        ((*MODEL, "envFrom"), [{"secretRef": {"name": "keys"}}]),
        ((*MODEL, "volumeMounts"), [{"name": "keys", "mountPath": "/keys"}]),
        ((*MODEL, "securityContext", "privileged"), True),
        ((*MODEL, "lifecycle", "preStop", "exec", "command"), ["sh", "-c", "true"]),
        ((*MODEL, "livenessProbe", "httpGet", "host"), "elsewhere"),
        ((*MODEL, "livenessProbe"), {"exec": {"command": ["sh"]}}),
        ((*MODEL, "ports", 0, "hostPort"), 80),
    ],
)
def test_guard_rejects_other_fields_of_an_inference_service(operator: Writes, path: tuple[str | int, ...], value: object) -> None:
    assert DENIED in operator.apply(with_value(served(), path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("metadata", "name"), "another"),
        (("spec", "containers", 0, "image"), "evil:1"),
        (("spec", "containers", 0, "command"), ["sh"]),
        (("spec", "volumes"), [{"name": "keys", "secret": {"secretName": "keys"}}]),
        (("spec", "supportedModelFormats", 0, "autoSelect"), True),
        (("spec", "annotations"), {"a": "b"}),
    ],
)
def test_guard_rejects_other_fields_of_a_serving_runtime(operator: Writes, path: tuple[str | int, ...], value: object) -> None:
    assert DENIED in operator.apply(with_value(applied()[1], path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("data", "LD_PRELOAD"), "eA=="),
        (("metadata", "annotations", "serving.kserve.io/s3-cabundle"), "x"),
        (("metadata", "annotations", "serving.kserve.io/s3-endpoint"), "http://elsewhere/"),
        (("type",), "example.org/other"),
    ],
)
def test_guard_rejects_other_fields_of_the_copied_secret(operator: Writes, path: tuple[str | int, ...], value: object) -> None:
    assert DENIED in operator.apply(with_value(applied()[0], path, value))
