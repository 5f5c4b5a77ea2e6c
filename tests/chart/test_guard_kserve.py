"""The guard of a chart whose backend is KServe, on a real API server: what the operator applies passes, and nothing else.

The CRDs have no schema, as in KServe's minimal installation: the guard alone rejects fields.
"""

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
from support.kserve_attacks import RUNTIME, SECRET, SERVICE, with_value
from support.rollouts import model
from support.writes import Writes

from dev import helm
from sandbox.kubeconfigs import Access
from sandbox.kubectl import await_kinds
from sandbox.platform import Sandbox
from winepipelines.api.modelrecord import ModelRecord
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
        await_kinds(sandbox.kubectl, "crd", "-l", "kserve=minimal")
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


@pytest.mark.parametrize(
    "fields", [{}, {"replicas": 3}, {"autoscaling": {"minReplicas": 2, "maxReplicas": 4}, "resources": {"limits": {"cpu": 1}}}]
)
def test_guard_accepts_what_the_operator_applies(operator: Writes, fields: Object) -> None:
    assert [operator.apply(manifest) for manifest in applied(**fields)] == [""] * 4


@pytest.mark.parametrize("version", ["0.15", "0.20"])
@pytest.mark.parametrize("canary", [None, ROLLOUT.canary])
def test_guard_accepts_what_the_operator_applies_in_knative_mode(
    operator: Writes, version: str, canary: ModelRecord | None
) -> None:
    backend = kserve_backend(SETTINGS, kserve_mode="Knative", kserve_version=version)
    for manifest in backend.manifests(PIPELINE, Rollout(1, ROLLOUT.model, canary, 10 if canary else 0)):
        assert operator.apply(json.loads(json.dumps(manifest))) == ""


@pytest.mark.parametrize(("mode", "accepted"), [("Knative", True), ("Standard", False)])
def test_guard_accepts_a_service_that_is_scaled_to_zero_only_in_knative_mode(operator: Writes, mode: str, accepted: bool) -> None:
    backend = kserve_backend(SETTINGS, kserve_mode=mode)
    service = backend.manifests(serving(autoscaling={"minReplicas": 0, "maxReplicas": 4}), Rollout(1, ROLLOUT.model))[-1]
    answer = operator.apply(json.loads(json.dumps(service)))
    assert answer == "" if accepted else DENIED in answer


def test_guard_rejects_a_knative_service_without_the_containers_restrictions(operator: Writes) -> None:
    _, service = kserve_backend(SETTINGS, kserve_mode="Knative").manifests(PIPELINE, ROLLOUT)
    service = json.loads(json.dumps(service))
    del service["spec"]["predictor"]["model"]["securityContext"]["runAsNonRoot"]
    assert DENIED in operator.apply(service)


def test_guard_accepts_what_the_webhook_of_kserve_adds(operator: Writes) -> None:
    added = with_value(served(), ("metadata", "annotations", "modelFormat"), "winepipelines")
    added = with_value(added, ("spec", "predictor", "model", "name"), "")
    added = with_value(added, ("spec", "predictor", "model", "resources", "requests", "cpu"), "1")
    assert operator.apply(added) == ""


@pytest.mark.parametrize(("path", "value"), SERVICE)
def test_guard_rejects_other_fields_of_an_inference_service(operator: Writes, path: tuple[str | int, ...], value: object) -> None:
    assert DENIED in operator.apply(with_value(served(), path, value))


@pytest.mark.parametrize(("path", "value"), RUNTIME)
def test_guard_rejects_other_fields_of_a_serving_runtime(operator: Writes, path: tuple[str | int, ...], value: object) -> None:
    assert DENIED in operator.apply(with_value(applied()[1], path, value))


@pytest.mark.parametrize(("path", "value"), SECRET)
def test_guard_rejects_other_fields_of_the_copied_secret(operator: Writes, path: tuple[str | int, ...], value: object) -> None:
    assert DENIED in operator.apply(with_value(applied()[0], path, value))
