"""A user with all rights in one namespace cannot redirect the operator or the platform's credentials."""

import base64
from typing import Any

from support.cluster import Body, Cluster, ready, says
from support.operator import OperatorProcess

from winepipelines.api.naming import MANAGED_BY, MANAGED_BY_LABEL
from winepipelines.api.status import ConditionType
from winepipelines.serving.seldon.naming import COPY_SECRET

EVIL = "http://evil.example:9000"


def _object(kind: str, api_version: str, namespace: str, name: str, *, ours: bool, **fields: Any) -> Body:
    labels = {MANAGED_BY_LABEL: MANAGED_BY} if ours else {}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def test_forged_objects_of_the_operator_are_corrected_before_use(
    cluster: Cluster, operator: OperatorProcess, namespace: str
) -> None:
    forged = {"RCLONE_CONFIG_S3_ENDPOINT": EVIL, "RCLONE_CONFIG_S3_TYPE": "s3", "RCLONE_CONFIG_S3_EXTRA": "x"}
    cluster.apply(_object("Secret", "v1", namespace, COPY_SECRET, ours=True, stringData=forged))
    env = [{"name": "MLFLOW_TRACKING_URI", "value": EVIL}]
    spec = {"selector": {"matchLabels": {"mlflow-server-minio": "true"}}, "env": env}
    cluster.apply(_object("PodDefault", "kubeflow.org/v1alpha1", namespace, "mlflow-server-minio", ours=True, spec=spec))
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, ready)
    secret = cluster.get("secrets", namespace, COPY_SECRET)
    source = cluster.get("secrets", "kubeflow", "mlflow-server-seldon-init-container-s3-credentials")
    pod_default = cluster.get("poddefaults", namespace, "mlflow-server-minio")
    assert secret is not None
    assert source is not None
    assert pod_default is not None
    assert secret["data"] == source["data"]
    assert EVIL not in str(pod_default["spec"])


def test_credentials_are_not_written_into_a_foreign_secret(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    cluster.apply(_object("Secret", "v1", namespace, COPY_SECRET, ours=False, stringData={"mine": "stays"}))
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, says(ConditionType.PREPARED, "NotManaged"))
    secret = cluster.get("secrets", namespace, COPY_SECRET)
    assert secret is not None
    assert secret["data"] == {"mine": base64.b64encode(b"stays").decode()}
    assert cluster.get("sdep", namespace, "mlflow") is None
    assert cluster.runs(namespace) == []


def test_annotations_and_labels_cannot_redirect_the_operator(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    body = cluster.resource(namespace)
    body["metadata"]["annotations"] = {
        f"winepipelines.io/{name}": EVIL for name in ("endpoint", "mlflow-url", "kfp-url", "s3-endpoint", "model-uri", "applied")
    }
    cluster.apply(body)
    pipeline = cluster.wait(namespace, ready)
    made = cluster.sandbox.kubectl("-n", namespace, "get", "sdep,deployments,poddefaults,secrets,workflows", "-o", "yaml")
    assert EVIL not in made
    assert base64.b64encode(EVIL.encode()).decode() not in made
    assert EVIL not in pipeline.status.model_dump_json()


def test_cloned_run_is_ignored_and_reported(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    """A user clones the run of a revision with other parameters while it is training, and the clone ends first."""
    forest = {"algorithm": "RandomForest", "registeredModel": namespace, "search": {"n_estimators": [60, 80, 100, 120]}}
    cluster.apply(cluster.resource(namespace, training=forest))
    own = cluster.wait(namespace, lambda pipeline: bool(pipeline.status.run and pipeline.status.run.id)).status.run
    assert own is not None
    run = cluster.http(f"{cluster.info.kfp_url}/apis/v2beta1/runs/{own.id}")
    parameters = {**run["runtime_config"]["parameters"], "search": {}, "parameters": {"n_estimators": 1, "max_depth": 1}}
    body = {name: run[name] for name in ("experiment_id", "pipeline_spec")}
    body |= {"display_name": f"Clone of {run['display_name']}", "runtime_config": {"parameters": parameters}}
    clone = cluster.http(f"{cluster.info.kfp_url}/apis/v2beta1/runs", body)["run_id"]
    pipeline = cluster.wait(namespace, ready)
    candidate = pipeline.status.candidate
    assert candidate is not None
    path = f"api/2.0/mlflow/runs/get?run_id={candidate.model.mlflow_run}"
    tags = cluster.http(f"{cluster.info.mlflow_url}/{path}")["run"]["data"]["tags"]
    assert {"key": "winepipelines.io/kfp-run", "value": own.id} in tags
    if candidate.ignored_record:  # the clone was first
        assert clone in candidate.ignored_record
        assert clone in dict(cluster.events(namespace))["CopiedRunIgnored"]
