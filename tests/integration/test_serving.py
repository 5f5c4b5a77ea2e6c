"""How a model is served: in either protocol, by an autoscaler's number of pods, and when the cluster will not have it."""

import json
from collections.abc import Iterator

import pytest
from support.cluster import Body, Cluster, eventually, ready, says
from support.operator import OperatorProcess

from sandbox.errors import KubectlError
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.spec import Protocol
from winepipelines.resource.status import ConditionType

DEPLOYMENT = "mlflow-wine-super-model-0-classifier"
DEPLOYED, STALLED = ConditionType.DEPLOYED, ConditionType.STALLED


def _speaks(protocol: Protocol) -> object:
    def so(pipeline: WinePipeline) -> bool:
        endpoint = pipeline.status.endpoint
        return ready(pipeline) and endpoint is not None and endpoint.protocol == protocol

    return so


def _stored(cluster: Cluster, kind: str, namespace: str, name: str) -> Body:
    found = cluster.get(kind, namespace, name)
    assert found is not None
    return found


def test_a_model_changes_its_protocol_without_being_trained_again(
    cluster: Cluster, operator: OperatorProcess, namespace: str
) -> None:
    cluster.apply(cluster.resource(namespace, serving={"protocol": "v2"}))
    pipeline = cluster.wait(namespace, ready)
    assert pipeline.status.endpoint is not None
    assert pipeline.status.endpoint.protocol == Protocol.V2
    url = pipeline.status.endpoint.url
    assert url == f"{cluster.info.gateway_url}/seldon/{namespace}/mlflow/v2/models/classifier/infer"
    column = {
        "shape": [1, 11],
        "datatype": "FP64",
        "name": "rows",
        "data": [7.4, 0.7, 0, 1.9, 0.076, 11, 34, 0.9978, 3.51, 0.56, 9.4],
    }
    answer = cluster.http(url, {"inputs": [column]})
    assert answer["outputs"][0]["data"][0] == pytest.approx(5.3, abs=0.5)

    cluster.apply(cluster.resource(namespace, serving={"protocol": "seldon"}))
    pipeline = cluster.wait(namespace, _speaks(Protocol.SELDON))  # type: ignore[arg-type]
    assert pipeline.status.endpoint is not None
    assert pipeline.status.endpoint.url.endswith("/api/v1.0/predictions")
    assert cluster.predict(namespace) == pytest.approx(5.3, abs=0.5)
    assert pipeline.status.revision == 1
    assert len(cluster.runs(namespace)) == 1


def test_replicas_are_the_autoscalers_while_there_is_one(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    autoscaling = {"minReplicas": 1, "maxReplicas": 3}
    cluster.apply(cluster.resource(namespace, serving={"autoscaling": autoscaling}))
    cluster.wait(namespace, ready)
    [autoscaler] = cluster.objects("hpa", namespace)
    assert (autoscaler["spec"]["minReplicas"], autoscaler["spec"]["maxReplicas"]) == (1, 3)
    before = _stored(cluster, "seldondeployments", namespace, "mlflow")["metadata"]["generation"]
    scale = json.dumps({"spec": {"replicas": 2}})
    cluster.sandbox.kubectl(
        *("-n", namespace, "patch", "deployment", DEPLOYMENT, "--subresource=scale", "--type=merge", "-p", scale)
    )

    def replicas() -> tuple[int, int]:
        live = _stored(cluster, "deployments", namespace, DEPLOYMENT)
        return live["spec"]["replicas"], live["status"].get("readyReplicas", 0)

    eventually(lambda: replicas() == (2, 2))
    cluster.apply(cluster.resource(namespace, serving={"autoscaling": autoscaling}, training={"seed": 7}))
    pipeline = cluster.wait(namespace, lambda pipeline: ready(pipeline) and pipeline.status.revision == 2)
    assert replicas()[0] == 2
    assert _stored(cluster, "seldondeployments", namespace, "mlflow")["metadata"]["generation"] == before + 3, (
        "on trial, alone again, in charge"
    )
    assert pipeline.status.condition(STALLED) is None

    cluster.apply(cluster.resource(namespace, training={"seed": 7}))
    cluster.wait(namespace, ready)
    eventually(lambda: replicas() == (1, 1))
    eventually(lambda: cluster.objects("hpa", namespace) == [])


def test_a_quota_in_the_way_is_told_and_what_served_serves(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    """There is room for the pods that serve and one of a step, but not for two candidates."""
    serving = {"replicas": 2}
    cluster.apply(cluster.resource(namespace, serving=serving))
    cluster.wait(namespace, ready)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "spec": {"hard": {"pods": "3"}}}
    cluster.apply({**quota, "metadata": {"name": "full", "namespace": namespace}})
    eventually(lambda: bool((_stored(cluster, "resourcequota", namespace, "full").get("status") or {}).get("hard")))
    before = cluster.predict(namespace)
    cluster.apply(cluster.resource(namespace, serving=serving, training={"parameters": {"alpha": 0.01}}))
    pipeline = cluster.wait(namespace, says(DEPLOYED, "FailedCreate"))
    told = pipeline.status.condition(DEPLOYED)
    assert told is not None
    assert 'pods "mlflow-candidate-0-classifier" is forbidden: exceeded quota: full' in told.message
    assert cluster.predict(namespace) == before
    cluster.delete("resourcequota", namespace, "full")
    cluster.wait(namespace, lambda pipeline: ready(pipeline) and pipeline.status.revision == 2)
    assert cluster.predict(namespace) != before


@pytest.fixture
def refusal(cluster: Cluster, namespace: str) -> Iterator[str]:
    """A webhook's refusal of every SeldonDeployment of the namespace, by a policy; return its name."""
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": f"refusal-{namespace}"},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "resourceRules": [
                    {
                        "apiGroups": ["machinelearning.seldon.io"],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": ["seldondeployments"],
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
    probe = {
        "apiVersion": "machinelearning.seldon.io/v1",
        "kind": "SeldonDeployment",
        "metadata": {"name": "probe", "namespace": namespace},
        "spec": {"predictors": [{"name": "a", "graph": {"name": "b", "implementation": "MLFLOW_SERVER", "modelUri": "s3://c"}}]},
    }

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


def test_a_refusal_is_told_in_its_own_words_and_passes(
    cluster: Cluster, operator: OperatorProcess, namespace: str, refusal: str
) -> None:
    cluster.apply(cluster.resource(namespace))
    pipeline = cluster.wait(namespace, says(STALLED, "DeploymentRefused"))
    told = pipeline.status.condition(DEPLOYED)
    assert told is not None
    assert told.message.startswith("the SeldonDeployment mlflow is refused: ")
    assert "no deployments on a Friday" in told.message
    cluster.sandbox.kubectl("delete", "validatingadmissionpolicybinding", refusal)
    cluster.wait(namespace, ready)
    refusals = [reason for reason, _ in cluster.events(namespace) if reason == "DeploymentRefused"]
    assert len(refusals) == 1  # however often it was tried
