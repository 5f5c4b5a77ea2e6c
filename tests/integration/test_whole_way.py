"""From `kubectl apply` to a served model: status, columns, Events, objects, drift of Secrets, deletion."""

import base64
import json
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.cluster import Body, Cluster, eventually, ready, says, settled
from support.operator import OperatorProcess

from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import ConditionType, Stage
from winepipelines.serving.seldon.naming import COPY_SECRET

ROOT = Path(__file__).parents[2]
POD_DEFAULTS = ("mlflow-server-minio", "access-minio")


@pytest.fixture(scope="module")
def served(cluster: Cluster, operator: OperatorProcess) -> WinePipeline:
    """Apply a resource with every default, and wait until it is Ready."""
    cluster.namespace("served")
    cluster.apply(cluster.resource("served"))
    return cluster.wait("served", ready)


def test_status_of_a_served_model_is_complete(cluster: Cluster, served: WinePipeline) -> None:
    status = served.status
    assert status.stage is Stage.SERVING
    assert status.revision == 1
    assert status.served is not None
    assert status.served.model.uri.startswith("s3://mlflow/")
    assert status.served.model.version.isdigit()
    assert status.run is not None
    assert status.run.state == "SUCCEEDED"
    assert [run["run_id"] for run in cluster.runs("served")] == [status.run.id]
    assert status.last_prediction is not None
    only_while_true = {ConditionType.RECONCILING, ConditionType.STALLED, ConditionType.RETRAIN_PENDING}
    assert {condition.type for condition in status.conditions} == {kind.value for kind in set(ConditionType) - only_while_true}
    assert all(condition.status == "True" for condition in status.conditions)
    assert all(condition.observed_generation == served.generation for condition in status.conditions)


def test_served_model_predicts_the_guides_example(cluster: Cluster, served: WinePipeline) -> None:
    assert 5 < cluster.predict("served") < 7


def test_metrics_agree_with_the_baseline_script(cluster: Cluster, served: WinePipeline) -> None:
    script = ROOT / "bench" / "baseline.py"
    python = subprocess.run(
        ["bash", str(ROOT / "dev/environment"), "pipeline"], capture_output=True, text=True, check=True
    ).stdout.strip()
    environment = {
        "AWS_ACCESS_KEY_ID": cluster.info.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": cluster.info.s3_secret_key,
        "PATH": "/usr/bin:/bin",
        "HOME": str(cluster.info.folder),
    }
    arguments = [
        "--url",
        cluster.info.data_url,
        "--tracking-uri",
        cluster.info.mlflow_url,
        "--s3-endpoint",
        cluster.info.s3_endpoint,
    ]
    done = subprocess.run(
        [python, str(script), *arguments, "--experiment", "baseline"], capture_output=True, text=True, check=True, env=environment
    )
    baseline = json.loads(done.stdout.strip().splitlines()[-1]) if done.stdout.count("\n") == 1 else json.loads(done.stdout)
    assert served.status.served is not None
    for metric in ("r2", "rmse", "mae"):
        assert math.isclose(served.status.served.model.metrics[metric], baseline[metric], abs_tol=1e-6)


def test_kubectl_get_shows_the_columns(cluster: Cluster, served: WinePipeline) -> None:
    heading, row = cluster.sandbox.kubectl("-n", "served", "get", "wp").splitlines()
    assert heading.split() == ["NAME", "READY", "STAGE", "RUN", "R2", "MODEL", "ENDPOINT", "AGE"]
    assert row.split()[:4] == ["mlflow", "True", "Serving", "SUCCEEDED"]
    wide = cluster.sandbox.kubectl("-n", "served", "get", "wine", "-o", "wide")
    assert "REVISION" in wide
    assert "serves at" in wide


def test_namespace_has_poddefaults_for_notebooks_and_the_copied_secret(cluster: Cluster, served: WinePipeline) -> None:
    environments = {}
    for name in POD_DEFAULTS:
        pod_default = cluster.get("poddefaults", "served", name)
        assert pod_default is not None
        assert pod_default["spec"]["selector"] == {"matchLabels": {name: "true"}}
        environments[name] = {variable["name"]: variable for variable in pod_default["spec"]["env"]}
    assert environments["mlflow-server-minio"]["MLFLOW_TRACKING_URI"]["value"] == cluster.info.mlflow_url
    assert environments["mlflow-server-minio"]["MLFLOW_S3_ENDPOINT_URL"]["value"] == cluster.info.s3_endpoint
    for variable, key in (("AWS_ACCESS_KEY_ID", "accesskey"), ("AWS_SECRET_ACCESS_KEY", "secretkey")):
        reference = environments["access-minio"][variable]["valueFrom"]["secretKeyRef"]
        assert (reference["name"], reference["key"]) == ("mlpipeline-minio-artifact", key)
    copy = cluster.get("secrets", "served", COPY_SECRET)
    source = cluster.get("secrets", "kubeflow", "mlflow-server-seldon-init-container-s3-credentials")
    assert copy is not None
    assert source is not None
    assert copy["data"] == source["data"]


def test_deployment_is_as_in_the_guide(cluster: Cluster, served: WinePipeline) -> None:
    deployment = cluster.get("sdep", "served", "mlflow")
    assert deployment is not None
    [predictor] = deployment["spec"]["predictors"]
    assert served.status.served is not None
    assert predictor["name"] == "wine-super-model"
    assert predictor["graph"] == {
        "name": "classifier",
        "implementation": "MLFLOW_SERVER",
        "modelUri": served.status.served.model.uri,
        "envSecretRefName": COPY_SECRET,
    }
    assert cluster.get("services", "served", "mlflow-wine-super-model") is not None


def test_credentials_are_only_in_secrets(cluster: Cluster, operator: OperatorProcess, served: WinePipeline) -> None:
    credentials = [cluster.info.s3_secret_key, base64.b64encode(cluster.info.s3_secret_key.encode()).decode()]
    places = {
        "objects": cluster.sandbox.kubectl("-n", "served", "get", "wp,sdep,deployments,pods,poddefaults,events,wf", "-o", "yaml"),
        "runs": json.dumps(cluster.runs("served")),
        "log": operator.log.read_text(),
        "compiled": (ROOT / "templates/pipelines/wine-training.yaml").read_text(),
        "arguments": subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout,
    }
    for place, text in places.items():
        for credential in credentials:
            assert credential not in text, place


def test_events_report_each_step_once(cluster: Cluster, served: WinePipeline) -> None:
    reasons = [reason for reason, _ in cluster.events("served")]
    for reason in (
        "RevisionStarted",
        "Prepared",
        "RunSubmitting",
        "ModelLogged",
        "RolloutComplete",
        "PredictionMatched",
        "Serving",
    ):
        assert reasons.count(reason) == 1, (reason, reasons)


def test_settled_resource_is_not_written(cluster: Cluster, operator: OperatorProcess, served: WinePipeline) -> None:
    """This holds at a restart of the operator, too."""
    cluster.wait("served", settled)
    before = _version(cluster)
    operator.kill()
    mark = len(operator.log.read_text())
    operator.start()
    cluster.apply(cluster.resource("served", "after"))  # it is behind the other one in the queue
    cluster.wait("served", ready, "after")
    assert _version(cluster) == before
    assert "served/mlflow:" not in operator.log.read_text()[mark:]
    cluster.delete("winepipeline", "served", "after")


def _version(cluster: Cluster) -> str:
    body = cluster.get("winepipelines", "served", "mlflow")
    assert body is not None
    return str(body["metadata"]["resourceVersion"])


def test_copied_secret_follows_its_source(cluster: Cluster, operator: OperatorProcess, served: WinePipeline) -> None:
    name = "mlflow-server-seldon-init-container-s3-credentials"
    _patch_secret(cluster, "kubeflow", name, {"RCLONE_CONFIG_S3_REGION": "us-east-1"})
    eventually(lambda: "RCLONE_CONFIG_S3_REGION" in _secret(cluster, "served")["data"])
    _patch_secret(cluster, "kubeflow", name, {"RCLONE_CONFIG_S3_REGION": None})
    eventually(lambda: "RCLONE_CONFIG_S3_REGION" not in _secret(cluster, "served")["data"])


def _secret(cluster: Cluster, namespace: str) -> Body:
    secret = cluster.get("secrets", namespace, COPY_SECRET)
    assert secret is not None
    return secret


def _patch_secret(cluster: Cluster, namespace: str, name: str, values: dict[str, str | None]) -> None:
    data = {key: None if value is None else base64.b64encode(value.encode()).decode() for key, value in values.items()}
    cluster.sandbox.kubectl("-n", namespace, "patch", "secret", name, "--type=merge", "-p", json.dumps({"data": data}))


def test_spec_change_is_served_without_a_failed_request(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, ready)
    first = cluster.predict(namespace)
    cluster.apply(cluster.resource(namespace, training={"parameters": {"alpha": 0.01}}))
    answered = 0

    def ready_and_answering(pipeline: WinePipeline) -> bool:
        nonlocal answered
        answered += math.isfinite(cluster.predict(namespace))
        return ready(pipeline)

    pipeline = cluster.wait(namespace, ready_and_answering)
    assert answered > 3
    assert pipeline.status.revision == 2
    assert not math.isclose(cluster.predict(namespace), first)
    assert [entry.revision for entry in pipeline.status.history] == [2, 1]
    assert len(cluster.runs(namespace)) == 2


def test_shared_children_are_deleted_with_the_last_resource(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    for name in ("one", "two"):
        cluster.apply(cluster.resource(namespace, name))
    for name in ("one", "two"):
        cluster.wait(namespace, ready, name)
    assert len(_secret(cluster, namespace)["metadata"]["ownerReferences"]) == 2
    cluster.delete("winepipeline", namespace, "one")
    assert cluster.get("sdep", namespace, "one") is None
    eventually(lambda: len(_secret(cluster, namespace)["metadata"]["ownerReferences"]) == 1)
    assert cluster.predict(namespace, "two")
    cluster.delete("winepipeline", namespace, "two")
    eventually(lambda: cluster.get("secrets", namespace, COPY_SECRET) is None)
    for name in POD_DEFAULTS:
        eventually(lambda name=name: cluster.get("poddefaults", namespace, name) is None)  # type: ignore[misc] # bound now


def test_retained_deployment_keeps_answering(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    cluster.apply(cluster.resource(namespace, deletionPolicy="Retain"))
    cluster.wait(namespace, ready)
    before = cluster.predict(namespace)
    cluster.delete("winepipeline", namespace, "mlflow")
    cluster.namespace("bystander")
    cluster.apply(cluster.resource("bystander", suspend=True))  # its children are collected after those of the other one
    cluster.wait("bystander", lambda pipeline: pipeline.status.stage is Stage.SUSPENDED)
    cluster.delete("winepipeline", "bystander", "mlflow")
    eventually(lambda: cluster.get("poddefaults", "bystander", "access-minio") is None)
    assert cluster.predict(namespace) == before
    assert _secret(cluster, namespace)["metadata"]["ownerReferences"][0]["kind"] == "SeldonDeployment"


def test_deployment_of_others_is_reported_and_left_alone(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    predictor = {"name": "mine", "graph": {"name": "mine", "implementation": "MLFLOW_SERVER", "modelUri": "s3://mlflow/none"}}
    foreign = {
        "apiVersion": "machinelearning.seldon.io/v1",
        "kind": "SeldonDeployment",
        "metadata": {"name": "mlflow", "namespace": namespace},
        "spec": {"predictors": [predictor]},
    }
    cluster.apply(foreign)
    cluster.apply(cluster.resource(namespace))
    pipeline = cluster.wait(namespace, says(ConditionType.READY, "NotManaged"))
    condition = pipeline.status.condition(ConditionType.READY)
    assert condition is not None
    assert f"kubectl -n {namespace} delete sdep mlflow" in condition.message
    cluster.delete("winepipeline", namespace, "mlflow")
    assert cluster.get("sdep", namespace, "mlflow") is not None
    cluster.delete("sdep", namespace, "mlflow")


@pytest.fixture
def poddefaults_not_installed(cluster: Cluster) -> Iterator[None]:
    manifest = ROOT / "sandbox" / "manifests" / "20-poddefaults.yaml"
    cluster.sandbox.kubectl("delete", "-f", str(manifest))
    yield
    cluster.sandbox.kubectl("apply", "--server-side", "-f", str(manifest))
    cluster.sandbox.kubectl("wait", "--for=condition=Established", "crd/poddefaults.kubeflow.org", "--timeout=30s")


@pytest.mark.usefixtures("poddefaults_not_installed")
def test_missing_poddefault_kind_is_reported_and_the_model_is_served(
    cluster: Cluster, operator: OperatorProcess, namespace: str
) -> None:
    cluster.apply(cluster.resource(namespace))
    pipeline = cluster.wait(namespace, ready)
    condition = pipeline.status.condition(ConditionType.PREPARED)
    assert condition is not None
    assert condition.status == "True"
    assert condition.reason == "PodDefaultsSkipped"


def test_operator_environment_lacks_the_training_packages() -> None:
    pins = (ROOT / "requirements" / "operator.txt").read_text()
    packages = {line.split("==")[0] for line in pins.splitlines() if "==" in line}
    assert not packages & {"kfp", "mlflow", "scikit-learn", "pandas"}
    assert {"kopf", "kubernetes", "mlflow-skinny"} <= packages


def test_idle_operator_stays_under_150_megabytes(operator: OperatorProcess, served: WinePipeline) -> None:
    assert operator.resident_kilobytes < 150_000


def test_examples_are_valid_resources(cluster: Cluster) -> None:
    for path in (ROOT / "deploy" / "examples").glob("*.yaml"):
        for body in yaml.safe_load_all(path.read_text()):
            cluster.sandbox.kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(body))
