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
from support.parametrized import both_backends
from support.platforms import Backend

from sandbox.kubectl import await_kinds
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import ConditionType, Stage

ROOT = Path(__file__).parents[2]
POD_DEFAULTS = ("mlflow-server-minio", "access-minio")


@pytest.fixture(scope="module")
def served(cluster: Cluster, operator: OperatorProcess) -> WinePipeline:
    """Apply a resource with every default, and wait until it is Ready."""
    namespace = cluster.namespace(f"served-on-{cluster.backend.name.lower()}")
    cluster.apply(cluster.resource(namespace))
    return cluster.wait(namespace, ready)


@both_backends
def test_status_of_a_served_model_is_complete(cluster: Cluster, served: WinePipeline) -> None:
    status = served.status
    assert status.stage is Stage.SERVING
    assert status.revision == 1
    assert status.served is not None
    assert status.served.model.uri.startswith("s3://mlflow/")
    assert status.served.model.version.isdigit()
    assert status.run is not None
    assert status.run.state == "SUCCEEDED"
    assert [run["run_id"] for run in cluster.runs(served.namespace)] == [status.run.id]
    assert status.last_prediction is not None
    only_while_true = {
        *(ConditionType.RECONCILING, ConditionType.STALLED, ConditionType.RETRAIN_PENDING),
        ConditionType.MIGRATED,
    }
    assert {condition.type for condition in status.conditions} == {kind.value for kind in set(ConditionType) - only_while_true}
    assert all(condition.status == "True" for condition in status.conditions)
    assert all(condition.observed_generation == served.generation for condition in status.conditions)


@both_backends
def test_served_model_predicts_the_guides_example(cluster: Cluster, served: WinePipeline) -> None:
    assert served.status.endpoint is not None
    assert served.status.endpoint.url == cluster.backend.url(cluster.info, served.namespace, served.name)
    assert 5 < cluster.predict(served.namespace) < 7


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


@both_backends
def test_kubectl_get_shows_the_columns(cluster: Cluster, served: WinePipeline) -> None:
    heading, row = cluster.sandbox.kubectl("-n", served.namespace, "get", "wp").splitlines()
    assert heading.split() == ["NAME", "READY", "STAGE", "RUN", "R2", "MODEL", "ENDPOINT", "AGE"]
    assert row.split()[:4] == ["mlflow", "True", "Serving", "SUCCEEDED"]
    wide = cluster.sandbox.kubectl("-n", served.namespace, "get", "wine", "-o", "wide")
    assert "REVISION" in wide
    assert "serves at" in wide


@both_backends
def test_namespace_has_poddefaults_for_notebooks(cluster: Cluster, served: WinePipeline) -> None:
    environments = {}
    for name in POD_DEFAULTS:
        pod_default = cluster.get("poddefaults", served.namespace, name)
        assert pod_default is not None
        assert pod_default["spec"]["selector"] == {"matchLabels": {name: "true"}}
        environments[name] = {variable["name"]: variable for variable in pod_default["spec"]["env"]}
    assert environments["mlflow-server-minio"]["MLFLOW_TRACKING_URI"]["value"] == cluster.info.mlflow_url
    assert environments["mlflow-server-minio"]["MLFLOW_S3_ENDPOINT_URL"]["value"] == cluster.info.s3_endpoint
    for variable, key in (("AWS_ACCESS_KEY_ID", "accesskey"), ("AWS_SECRET_ACCESS_KEY", "secretkey")):
        reference = environments["access-minio"][variable]["valueFrom"]["secretKeyRef"]
        assert (reference["name"], reference["key"]) == ("mlpipeline-minio-artifact", key)


@both_backends
def test_namespace_has_the_copied_secret(cluster: Cluster, served: WinePipeline) -> None:
    source = cluster.get("secrets", "kubeflow", cluster.backend.source)
    assert source is not None
    assert sorted(_secret(cluster, served.namespace)["data"].values()) == sorted(source["data"].values())


def test_deployment_is_as_in_the_guide(cluster: Cluster, served: WinePipeline) -> None:
    deployment = cluster.get("sdep", served.namespace, "mlflow")
    assert deployment is not None
    [predictor] = deployment["spec"]["predictors"]
    assert served.status.served is not None
    assert predictor["name"] == "wine-super-model"
    assert predictor["graph"] == {
        "name": "classifier",
        "implementation": "MLFLOW_SERVER",
        "modelUri": served.status.served.model.uri,
        "envSecretRefName": cluster.backend.copy,
    }
    assert cluster.get("services", served.namespace, "mlflow-wine-super-model") is not None


@both_backends
def test_credentials_are_only_in_secrets(cluster: Cluster, operator: OperatorProcess, served: WinePipeline) -> None:
    credentials = [cluster.info.s3_secret_key, base64.b64encode(cluster.info.s3_secret_key.encode()).decode()]
    kinds = f"wp,{cluster.backend.plural},deployments,pods,poddefaults,events,wf"
    places = {
        "objects": cluster.sandbox.kubectl("-n", served.namespace, "get", kinds, "-o", "yaml"),
        "runs": json.dumps(cluster.runs(served.namespace)),
        "log": operator.log.read_text(),
        "compiled": (ROOT / "templates/pipelines/wine-training.yaml").read_text(),
        "arguments": subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout,
    }
    for place, text in places.items():
        for credential in credentials:
            assert credential not in text, place


@both_backends
def test_events_report_each_step_once(cluster: Cluster, served: WinePipeline) -> None:
    reasons = [reason for reason, _ in cluster.events(served.namespace)]
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


@both_backends
def test_settled_resource_is_not_written(cluster: Cluster, operator: OperatorProcess, served: WinePipeline) -> None:
    """This holds at a restart of the operator, too."""
    namespace = served.namespace
    cluster.wait(namespace, settled)
    before = _version(cluster, namespace)
    operator.kill()
    mark = len(operator.log.read_text())
    operator.start()
    cluster.apply(cluster.resource(namespace, "after"))  # it is behind the other one in the queue
    cluster.wait(namespace, ready, "after")
    assert _version(cluster, namespace) == before
    assert f"{namespace}/mlflow:" not in operator.log.read_text()[mark:]
    cluster.delete("winepipeline", namespace, "after")


def _version(cluster: Cluster, namespace: str) -> str:
    body = cluster.get("winepipelines", namespace, "mlflow")
    assert body is not None
    return str(body["metadata"]["resourceVersion"])


@both_backends
def test_copied_secret_follows_its_source(
    cluster: Cluster, operator: OperatorProcess, served: WinePipeline, backend: Backend
) -> None:
    def region_is_copied() -> bool:
        return "eu-somewhere-1" in backend.settings_of(_secret(cluster, served.namespace))

    _patch_secret(cluster, "kubeflow", backend.source, {backend.region: "eu-somewhere-1"})
    eventually(region_is_copied)
    _patch_secret(cluster, "kubeflow", backend.source, {backend.region: None})
    eventually(lambda: not region_is_copied())


def _secret(cluster: Cluster, namespace: str) -> Body:
    secret = cluster.get("secrets", namespace, cluster.backend.copy)
    assert secret is not None
    return secret


def _patch_secret(cluster: Cluster, namespace: str, name: str, values: dict[str, str | None]) -> None:
    data = {key: None if value is None else base64.b64encode(value.encode()).decode() for key, value in values.items()}
    cluster.sandbox.kubectl("-n", namespace, "patch", "secret", name, "--type=merge", "-p", json.dumps({"data": data}))


@both_backends
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


@both_backends
def test_shared_children_are_deleted_with_the_last_resource(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    for name in ("one", "two"):
        cluster.apply(cluster.resource(namespace, name))
    for name in ("one", "two"):
        cluster.wait(namespace, ready, name)
    assert len(_secret(cluster, namespace)["metadata"]["ownerReferences"]) == 2
    cluster.delete("winepipeline", namespace, "one")
    assert cluster.get(cluster.backend.plural, namespace, "one") is None
    eventually(lambda: len(_secret(cluster, namespace)["metadata"]["ownerReferences"]) == 1)
    assert cluster.predict(namespace, "two")
    cluster.delete("winepipeline", namespace, "two")
    eventually(lambda: cluster.get("secrets", namespace, cluster.backend.copy) is None)
    for name in POD_DEFAULTS:
        eventually(lambda name=name: cluster.get("poddefaults", namespace, name) is None)  # type: ignore[misc] # bound now


@both_backends
def test_retained_deployment_keeps_answering(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    cluster.apply(cluster.resource(namespace, deletionPolicy="Retain"))
    cluster.wait(namespace, ready)
    before = cluster.predict(namespace)
    cluster.delete("winepipeline", namespace, "mlflow")
    bystander = cluster.namespace(f"{namespace}-bystander")
    cluster.apply(cluster.resource(bystander, suspend=True))  # its children are collected after those of the other one
    cluster.wait(bystander, lambda pipeline: pipeline.status.stage is Stage.SUSPENDED)
    cluster.delete("winepipeline", bystander, "mlflow")
    eventually(lambda: cluster.get("poddefaults", bystander, "access-minio") is None)
    assert cluster.predict(namespace) == before
    assert _secret(cluster, namespace)["metadata"]["ownerReferences"][0]["kind"] == cluster.backend.kind


@both_backends
def test_deployment_of_others_is_reported_and_left_alone(
    cluster: Cluster, operator: OperatorProcess, namespace: str, backend: Backend
) -> None:
    cluster.apply(backend.foreign(namespace, "mlflow"))
    cluster.apply(cluster.resource(namespace))
    pipeline = cluster.wait(namespace, says(ConditionType.READY, "NotManaged"))
    condition = pipeline.status.condition(ConditionType.READY)
    assert condition is not None
    assert f"kubectl -n {namespace} delete {backend.short_name} mlflow" in condition.message
    cluster.delete("winepipeline", namespace, "mlflow")
    assert cluster.get(backend.plural, namespace, "mlflow") is not None
    cluster.delete(backend.plural, namespace, "mlflow")


@pytest.fixture
def poddefaults_not_installed(cluster: Cluster) -> Iterator[None]:
    manifest = ROOT / "sandbox" / "manifests" / "20-poddefaults.yaml"
    cluster.sandbox.kubectl("delete", "-f", str(manifest))
    yield
    cluster.sandbox.kubectl("apply", "--server-side", "-f", str(manifest))
    await_kinds(cluster.sandbox.kubectl, "crd/poddefaults.kubeflow.org")


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


def test_idle_operator_stays_under_160_megabytes(operator: OperatorProcess, served: WinePipeline) -> None:
    assert operator.resident_kilobytes < 160_000


def test_examples_are_valid_resources(cluster: Cluster) -> None:
    for path in (ROOT / "deploy" / "examples").glob("*.yaml"):
        for body in yaml.safe_load_all(path.read_text()):
            cluster.sandbox.kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(body))
