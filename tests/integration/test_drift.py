"""What someone edits or deletes of what the operator has made is made right, told in an Event, and the model answers on."""

import json

import pytest
from support.cluster import Cluster, eventually, ready, settled
from support.operator import OperatorProcess

from winepipelines.resource.naming import SELDON_SECRET
from winepipelines.resource.pipeline import WinePipeline


@pytest.fixture
def served(cluster: Cluster, operator: OperatorProcess, namespace: str) -> WinePipeline:
    cluster.apply(cluster.resource(namespace))
    return cluster.wait(namespace, settled)


def _mended(cluster: Cluster, namespace: str) -> list[str]:
    return [message for reason, message in cluster.events(namespace) if reason == "DriftMended"]


@pytest.mark.parametrize(("kind", "name"), [("secrets", SELDON_SECRET), ("poddefaults", "access-minio")])
def test_a_deleted_child_is_made_again_at_once(cluster: Cluster, served: WinePipeline, kind: str, name: str) -> None:
    namespace, before = served.namespace, served.resource_version
    cluster.sandbox.kubectl("-n", namespace, "delete", kind, name)
    eventually(lambda: cluster.get(kind, namespace, name) is not None, 10)
    eventually(lambda: len(_mended(cluster, namespace)) == 1)
    assert f"{name} was gone" in _mended(cluster, namespace)[0]
    after = cluster.get("winepipelines", namespace, "mlflow")
    assert after is not None
    assert after["metadata"]["resourceVersion"] == before, "Ready stays as it is"


def test_an_edited_secret_is_made_right_at_once(cluster: Cluster, served: WinePipeline) -> None:
    namespace = served.namespace
    patch = json.dumps({"stringData": {"RCLONE_CONFIG_S3_ENDPOINT": "http://evil.example", "RCLONE_CONFIG_S3_EXTRA": "x"}})
    cluster.sandbox.kubectl("-n", namespace, "patch", "secret", SELDON_SECRET, "-p", patch)
    source = cluster.get("secrets", "kubeflow", "mlflow-server-seldon-init-container-s3-credentials")
    assert source is not None

    def right_again() -> bool:
        secret = cluster.get("secrets", namespace, SELDON_SECRET)
        return secret is not None and secret["data"] == source["data"]

    eventually(right_again, 10)
    eventually(lambda: len(_mended(cluster, namespace)) == 1)
    assert cluster.predict(namespace)


def test_a_changed_source_secret_is_no_drift(cluster: Cluster, served: WinePipeline) -> None:
    namespace, before = served.namespace, served.resource_version
    source = ("-n", "kubeflow", "patch", "secret", "mlflow-server-seldon-init-container-s3-credentials", "--type=merge", "-p")
    cluster.sandbox.kubectl(*source, json.dumps({"stringData": {"RCLONE_CONFIG_S3_REGION": "us-east-1"}}))
    try:

        def followed() -> bool:
            secret = cluster.get("secrets", namespace, SELDON_SECRET)
            return secret is not None and "RCLONE_CONFIG_S3_REGION" in secret["data"]

        eventually(followed, 10)
        eventually(lambda: "CopiesUpdated" in {reason for reason, _ in cluster.events(namespace)})
    finally:
        cluster.sandbox.kubectl(*source, json.dumps({"data": {"RCLONE_CONFIG_S3_REGION": None}}))
    eventually(lambda: [reason for reason, _ in cluster.events(namespace)].count("CopiesUpdated") == 2)
    assert _mended(cluster, namespace) == []
    after = cluster.get("winepipelines", namespace, "mlflow")
    assert after is not None
    assert after["metadata"]["resourceVersion"] == before, "Ready stays as it is"


@pytest.mark.parametrize("action", ["delete", "edit"])
def test_a_deployment_is_made_right_and_the_model_is_ready_again(
    cluster: Cluster, operator: OperatorProcess, namespace: str, action: str
) -> None:
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, settled)
    if action == "delete":
        cluster.sandbox.kubectl("-n", namespace, "delete", "sdep", "mlflow", "--wait=false")
    else:
        patch = json.dumps([{"op": "replace", "path": "/spec/predictors/0/replicas", "value": 2}])
        cluster.sandbox.kubectl("-n", namespace, "patch", "sdep", "mlflow", "--type=json", "-p", patch)
    eventually(lambda: len(_mended(cluster, namespace)) == 1)
    pipeline = cluster.wait(namespace, ready)
    assert pipeline.status.revision == 1
    assert len(cluster.runs(namespace)) == 1
    assert cluster.predict(namespace)
    deployment = cluster.get("sdep", namespace, "mlflow")
    assert deployment is not None
    assert deployment["spec"]["predictors"][0]["replicas"] == 1
