"""Serving a model: both protocols, autoscaling, and clusters that refuse its deployment or pods."""

import json
from collections.abc import Callable, Iterator

import pytest
from support.cluster import Body, Cluster, eventually, ready, says
from support.operator import OperatorProcess
from support.parametrized import both_backends
from support.platforms import Backend

from sandbox.errors import KubectlError
from winecontract.protocols import Protocol
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import ConditionType

DEPLOYED, STALLED = ConditionType.DEPLOYED, ConditionType.STALLED


def _speaks(protocol: Protocol) -> Callable[[WinePipeline], bool]:
    def matches(pipeline: WinePipeline) -> bool:
        endpoint = pipeline.status.endpoint
        return ready(pipeline) and endpoint is not None and endpoint.protocol == protocol

    return matches


def _stored(cluster: Cluster, kind: str, namespace: str, name: str) -> Body:
    found = cluster.get(kind, namespace, name)
    assert found is not None
    return found


@both_backends
def test_protocol_changes_without_another_run(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    cluster.apply(cluster.resource(namespace, serving={"protocol": "v2"}))
    pipeline = cluster.wait(namespace, ready)
    assert pipeline.status.endpoint is not None
    assert pipeline.status.endpoint.protocol == Protocol.V2
    url = pipeline.status.endpoint.url
    assert url == cluster.backend.v2_url(cluster.info, namespace, "mlflow")
    column = {
        "shape": [1, 11],
        "datatype": "FP64",
        "name": "rows",
        "data": [7.4, 0.7, 0, 1.9, 0.076, 11, 34, 0.9978, 3.51, 0.56, 9.4],
    }
    answer = cluster.http(url, {"inputs": [column]})
    assert answer["outputs"][0]["data"][0] == pytest.approx(5.3, abs=0.5)

    cluster.apply(cluster.resource(namespace, serving={"protocol": "seldon"}))
    pipeline = cluster.wait(namespace, _speaks(Protocol.SELDON))
    assert pipeline.status.endpoint is not None
    assert pipeline.status.endpoint.url.endswith("/api/v1.0/predictions")
    assert cluster.predict(namespace) == pytest.approx(5.3, abs=0.5)
    assert pipeline.status.revision == 1
    assert len(cluster.runs(namespace)) == 1


@both_backends
def test_autoscaler_owns_the_replicas(cluster: Cluster, operator: OperatorProcess, namespace: str, backend: Backend) -> None:
    autoscaling = {"minReplicas": 1, "maxReplicas": 3}
    cluster.apply(cluster.resource(namespace, serving={"autoscaling": autoscaling}))
    cluster.wait(namespace, ready)
    [autoscaler] = cluster.objects("hpa", namespace)
    assert (autoscaler["spec"]["minReplicas"], autoscaler["spec"]["maxReplicas"]) == (1, 3)
    before = _stored(cluster, backend.plural, namespace, "mlflow")["metadata"]["generation"]
    deployment = backend.deployment.format(name="mlflow")
    scale = json.dumps({"spec": {"replicas": 2}})
    cluster.sandbox.kubectl(
        *("-n", namespace, "patch", "deployment", deployment, "--subresource=scale", "--type=merge", "-p", scale)
    )

    def replicas() -> tuple[int, int]:
        live = _stored(cluster, "deployments", namespace, deployment)
        return live["spec"]["replicas"], live["status"].get("readyReplicas", 0)

    eventually(lambda: replicas() == (2, 2))
    cluster.apply(cluster.resource(namespace, serving={"autoscaling": autoscaling}, training={"seed": 7}))
    pipeline = cluster.wait(namespace, lambda pipeline: ready(pipeline) and pipeline.status.revision == 2)
    assert replicas()[0] == 2
    changes = 3 if backend.splits_traffic else 1  # one for the canary, one without it, one for the promotion
    assert _stored(cluster, backend.plural, namespace, "mlflow")["metadata"]["generation"] == before + changes
    assert pipeline.status.condition(STALLED) is None

    cluster.apply(cluster.resource(namespace, training={"seed": 7}))
    cluster.wait(namespace, ready)
    eventually(lambda: replicas() == (1, 1))
    eventually(lambda: cluster.objects("hpa", namespace) == [])


@both_backends
def test_exceeded_quota_is_reported_and_the_served_model_keeps_serving(
    cluster: Cluster, operator: OperatorProcess, namespace: str
) -> None:
    """The quota has room for the serving pods and one pod of a step, but not for two candidates."""
    serving = {"replicas": 2}
    cluster.apply(cluster.resource(namespace, serving=serving))
    cluster.wait(namespace, ready)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "spec": {"hard": {"pods": "3"}}}
    cluster.apply({**quota, "metadata": {"name": "full", "namespace": namespace}})
    eventually(lambda: bool((_stored(cluster, "resourcequota", namespace, "full").get("status") or {}).get("hard")))
    before = cluster.predict(namespace)
    cluster.apply(cluster.resource(namespace, serving=serving, training={"parameters": {"alpha": 0.01}}))
    pipeline = cluster.wait(namespace, says(DEPLOYED, "FailedCreate"))
    condition = pipeline.status.condition(DEPLOYED)
    assert condition is not None
    candidate = cluster.backend.candidate.format(name="mlflow")
    assert f'Pods "{candidate}' in condition.message
    assert "is forbidden: exceeded quota: full" in condition.message
    assert cluster.predict(namespace) == before
    cluster.delete("resourcequota", namespace, "full")
    cluster.wait(namespace, lambda pipeline: ready(pipeline) and pipeline.status.revision == 2)
    assert cluster.predict(namespace) != before


@pytest.fixture
def refusal(cluster: Cluster, namespace: str, backend: Backend) -> Iterator[str]:
    """Refuse every SeldonDeployment of the namespace by an admission policy. Yield the name of its binding."""
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": f"refusal-{namespace}"},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "resourceRules": [
                    {
                        "apiGroups": [backend.group],
                        "apiVersions": [backend.version],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": [backend.plural],
                    }
                ],
            },
            "validations": [{"expression": "false", "message": "no deployments on a Friday"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": f"refusal-{namespace}"},
        "spec": {"policyName": f"refusal-{namespace}", "validationActions": ["Deny"]},
    }
    for body in (policy, binding):
        cluster.apply(body)
    probe = backend.foreign(namespace, "probe")

    def refused() -> bool:
        try:
            cluster.sandbox.kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(probe))
        except KubectlError as error:
            return "on a Friday" in str(error)
        return False

    eventually(refused)
    yield f"refusal-{namespace}"
    for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
        cluster.sandbox.kubectl("delete", kind, f"refusal-{namespace}", "--ignore-not-found")


@both_backends
def test_refusal_by_the_api_server_is_reported_with_its_message(
    cluster: Cluster, operator: OperatorProcess, namespace: str, refusal: str
) -> None:
    cluster.apply(cluster.resource(namespace))
    pipeline = cluster.wait(namespace, says(STALLED, "DeploymentRejected"))
    condition = pipeline.status.condition(DEPLOYED)
    assert condition is not None
    assert condition.message.startswith(f"The API server rejected the {cluster.backend.kind} mlflow: ")
    assert "no deployments on a Friday" in condition.message
    cluster.sandbox.kubectl("delete", "validatingadmissionpolicybinding", refusal)
    cluster.wait(namespace, ready)
    refusals = [reason for reason, _ in cluster.events(namespace) if reason == "DeploymentRejected"]
    assert len(refusals) == 1  # one Event for all attempts
