"""Drift of the operator's objects: it is corrected and reported in an Event, and the model keeps answering."""

import json

import pytest
from support.cluster import Cluster, eventually, ready, settled
from support.operator import OperatorProcess

from winepipelines.api.pipeline import WinePipeline
from winepipelines.serving.seldon.naming import COPY_SECRET


@pytest.fixture
def served(cluster: Cluster, operator: OperatorProcess, namespace: str) -> WinePipeline:
    cluster.apply(cluster.resource(namespace))
    return cluster.wait(namespace, settled)


def _corrections(cluster: Cluster, namespace: str) -> list[str]:
    return [message for reason, message in cluster.events(namespace) if reason == "DriftCorrected"]


@pytest.mark.parametrize(("kind", "name"), [("secrets", COPY_SECRET), ("poddefaults", "access-minio")])
def test_deleted_child_is_recreated_at_once(cluster: Cluster, served: WinePipeline, kind: str, name: str) -> None:
    namespace, before = served.namespace, served.resource_version
    cluster.sandbox.kubectl("-n", namespace, "delete", kind, name)
    eventually(lambda: cluster.get(kind, namespace, name) is not None, 10)
    eventually(lambda: len(_corrections(cluster, namespace)) == 1)
    assert f"{name} was deleted" in _corrections(cluster, namespace)[0]
    after = cluster.get("winepipelines", namespace, "mlflow")
    assert after is not None
    assert after["metadata"]["resourceVersion"] == before, "the status is not written"


def test_edited_secret_is_corrected_at_once(cluster: Cluster, served: WinePipeline) -> None:
    namespace = served.namespace
    patch = json.dumps({"stringData": {"RCLONE_CONFIG_S3_ENDPOINT": "http://evil.example", "RCLONE_CONFIG_S3_EXTRA": "x"}})
    cluster.sandbox.kubectl("-n", namespace, "patch", "secret", COPY_SECRET, "-p", patch)
    source = cluster.get("secrets", "kubeflow", "mlflow-server-seldon-init-container-s3-credentials")
    assert source is not None

    def corrected() -> bool:
        secret = cluster.get("secrets", namespace, COPY_SECRET)
        return secret is not None and secret["data"] == source["data"]

    eventually(corrected, 10)
    eventually(lambda: len(_corrections(cluster, namespace)) == 1)
    assert cluster.predict(namespace)


def test_change_of_the_source_secret_is_not_drift(cluster: Cluster, served: WinePipeline) -> None:
    namespace, before = served.namespace, served.resource_version
    source = ("-n", "kubeflow", "patch", "secret", "mlflow-server-seldon-init-container-s3-credentials", "--type=merge", "-p")
    cluster.sandbox.kubectl(*source, json.dumps({"stringData": {"RCLONE_CONFIG_S3_REGION": "us-east-1"}}))
    try:

        def copied() -> bool:
            secret = cluster.get("secrets", namespace, COPY_SECRET)
            return secret is not None and "RCLONE_CONFIG_S3_REGION" in secret["data"]

        eventually(copied, 10)
        eventually(lambda: "CopiesUpdated" in {reason for reason, _ in cluster.events(namespace)})
    finally:
        cluster.sandbox.kubectl(*source, json.dumps({"data": {"RCLONE_CONFIG_S3_REGION": None}}))
    eventually(lambda: [reason for reason, _ in cluster.events(namespace)].count("CopiesUpdated") == 2)
    assert _corrections(cluster, namespace) == []
    after = cluster.get("winepipelines", namespace, "mlflow")
    assert after is not None
    assert after["metadata"]["resourceVersion"] == before, "the status is not written"


@pytest.mark.parametrize("action", ["delete", "edit"])
def test_changed_deployment_is_corrected_and_the_model_becomes_ready(
    cluster: Cluster, operator: OperatorProcess, namespace: str, action: str
) -> None:
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, settled)
    if action == "delete":
        cluster.sandbox.kubectl("-n", namespace, "delete", "sdep", "mlflow", "--wait=false")
    else:
        patch = json.dumps([{"op": "replace", "path": "/spec/predictors/0/replicas", "value": 2}])
        cluster.sandbox.kubectl("-n", namespace, "patch", "sdep", "mlflow", "--type=json", "-p", patch)
    eventually(lambda: len(_corrections(cluster, namespace)) == 1)
    pipeline = cluster.wait(namespace, ready)
    assert pipeline.status.revision == 1
    assert len(cluster.runs(namespace)) == 1
    assert cluster.predict(namespace)
    deployment = cluster.get("sdep", namespace, "mlflow")
    assert deployment is not None
    assert deployment["spec"]["predictors"][0]["replicas"] == 1
