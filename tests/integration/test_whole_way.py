"""From apply to an answering model, and what a person and a platform find along the way."""

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

from winepipelines.resource.naming import SELDON_SECRET
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.status import ConditionType, Stage

ROOT = Path(__file__).parents[2]
POD_DEFAULTS = ("mlflow-server-minio", "access-minio")


@pytest.fixture(scope="module")
def served(cluster: Cluster, operator: OperatorProcess) -> WinePipeline:
    """A resource with every default, on its way to the end."""
    cluster.namespace("served")
    cluster.apply(cluster.resource("served"))
    return cluster.wait("served", ready)


def test_the_status_says_what_is(cluster: Cluster, served: WinePipeline) -> None:
    status = served.status
    assert status.stage is Stage.SERVING
    assert status.revision == 1
    assert status.served is not None
    assert status.served.uri.startswith("s3://mlflow/")
    assert status.served.version.isdigit()
    assert status.run is not None
    assert status.run.state == "SUCCEEDED"
    assert [run["run_id"] for run in cluster.runs("served")] == [status.run.id]
    assert status.prediction is not None
    assert {condition.type for condition in status.conditions} == {kind.value for kind in ConditionType} - {
        "Reconciling",
        "Stalled",
    }
    assert all(condition.status == "True" for condition in status.conditions)
    assert all(condition.observed_generation == served.generation for condition in status.conditions)


def test_the_guides_wine_gets_its_number(cluster: Cluster, served: WinePipeline) -> None:
    assert 5 < cluster.predict("served") < 7


def test_r2_agrees_with_one_straight_script(cluster: Cluster, served: WinePipeline) -> None:
    script = ROOT / "bench" / "straight.py"
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
        [python, str(script), *arguments, "--experiment", "straight"], capture_output=True, text=True, check=True, env=environment
    )
    straight = json.loads(done.stdout.strip().splitlines()[-1]) if done.stdout.count("\n") == 1 else json.loads(done.stdout)
    assert served.status.served is not None
    for metric in ("r2", "rmse", "mae"):
        assert math.isclose(served.status.served.metrics[metric], straight[metric], abs_tol=1e-6)


def test_kubectl_get_shows_the_columns(cluster: Cluster, served: WinePipeline) -> None:
    heading, row = cluster.sandbox.kubectl("-n", "served", "get", "wp").splitlines()
    assert heading.split() == ["NAME", "READY", "STAGE", "RUN", "R2", "MODEL", "ENDPOINT", "AGE"]
    assert row.split()[:4] == ["mlflow", "True", "Serving", "SUCCEEDED"]
    wide = cluster.sandbox.kubectl("-n", "served", "get", "wine", "-o", "wide")
    assert "REVISION" in wide
    assert "answers at" in wide


def test_the_namespace_has_what_notebooks_and_seldon_need(cluster: Cluster, served: WinePipeline) -> None:
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
    copy = cluster.get("secrets", "served", SELDON_SECRET)
    source = cluster.get("secrets", "kubeflow", "mlflow-server-seldon-init-container-s3-credentials")
    assert copy is not None
    assert source is not None
    assert copy["data"] == source["data"]


def test_the_deployment_is_the_guides(cluster: Cluster, served: WinePipeline) -> None:
    deployment = cluster.get("sdep", "served", "mlflow")
    assert deployment is not None
    [predictor] = deployment["spec"]["predictors"]
    assert served.status.served is not None
    assert predictor["name"] == "wine-super-model"
    assert predictor["graph"] == {
        "name": "classifier",
        "implementation": "MLFLOW_SERVER",
        "modelUri": served.status.served.uri,
        "envSecretRefName": SELDON_SECRET,
    }
    assert cluster.get("services", "served", "mlflow-wine-super-model") is not None


def test_no_credential_is_anywhere_but_in_secrets(cluster: Cluster, operator: OperatorProcess, served: WinePipeline) -> None:
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


def test_the_story_is_in_the_events(cluster: Cluster, served: WinePipeline) -> None:
    reasons = [reason for reason, _ in cluster.events("served")]
    for reason in ("RevisionStarted", "Prepared", "RunSubmitting", "ModelLogged", "RolledOut", "Answers", "Serving"):
        assert reasons.count(reason) == 1, (reason, reasons)


def test_a_settled_resource_is_not_written_again(cluster: Cluster, operator: OperatorProcess, served: WinePipeline) -> None:
    """Not at a restart either."""
    cluster.wait("served", settled)
    before = _version(cluster)
    operator.kill()
    mark = len(operator.log.read_text())
    operator.start()
    cluster.apply(cluster.resource("served", "after"))  # one behind it in the queue: when it is Ready, the other was looked at
    cluster.wait("served", ready, "after")
    assert _version(cluster) == before
    assert "served/mlflow:" not in operator.log.read_text()[mark:]
    cluster.delete("winepipeline", "served", "after")


def _version(cluster: Cluster) -> str:
    body = cluster.get("winepipelines", "served", "mlflow")
    assert body is not None
    return str(body["metadata"]["resourceVersion"])


def test_the_copied_secret_follows_its_source(cluster: Cluster, operator: OperatorProcess, served: WinePipeline) -> None:
    name = "mlflow-server-seldon-init-container-s3-credentials"
    _patch_secret(cluster, "kubeflow", name, {"RCLONE_CONFIG_S3_REGION": "us-east-1"})
    eventually(lambda: "RCLONE_CONFIG_S3_REGION" in _secret(cluster, "served")["data"])
    _patch_secret(cluster, "kubeflow", name, {"RCLONE_CONFIG_S3_REGION": None})
    eventually(lambda: "RCLONE_CONFIG_S3_REGION" not in _secret(cluster, "served")["data"])


def _secret(cluster: Cluster, namespace: str) -> Body:
    secret = cluster.get("secrets", namespace, SELDON_SECRET)
    assert secret is not None
    return secret


def _patch_secret(cluster: Cluster, namespace: str, name: str, values: dict[str, str | None]) -> None:
    data = {key: None if value is None else base64.b64encode(value.encode()).decode() for key, value in values.items()}
    cluster.sandbox.kubectl("-n", namespace, "patch", "secret", name, "--type=merge", "-p", json.dumps({"data": data}))


def test_a_spec_change_is_served_without_a_gap(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, ready)
    first = cluster.predict(namespace)
    cluster.apply(cluster.resource(namespace, training={"parameters": {"alpha": 0.01}}))
    asked = 0

    def answers_all_the_while(pipeline: WinePipeline) -> bool:
        nonlocal asked
        asked += math.isfinite(cluster.predict(namespace))
        return ready(pipeline)

    pipeline = cluster.wait(namespace, answers_all_the_while)
    assert asked > 3
    assert pipeline.status.revision == 2
    assert not math.isclose(cluster.predict(namespace), first)
    assert [entry.revision for entry in pipeline.status.history] == [2, 1]
    assert len(cluster.runs(namespace)) == 2


def test_shared_children_go_with_the_last_resource(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
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
    eventually(lambda: cluster.get("secrets", namespace, SELDON_SECRET) is None)
    for name in POD_DEFAULTS:
        eventually(lambda name=name: cluster.get("poddefaults", namespace, name) is None)  # type: ignore[misc] # bound now


def test_a_retained_deployment_answers_on(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    cluster.apply(cluster.resource(namespace, deletionPolicy="Retain"))
    cluster.wait(namespace, ready)
    before = cluster.predict(namespace)
    cluster.delete("winepipeline", namespace, "mlflow")
    cluster.namespace("bystander")
    cluster.apply(cluster.resource("bystander", suspend=True))  # the garbage collector has had its turn when this one is gone
    cluster.wait("bystander", lambda pipeline: pipeline.status.stage is Stage.SUSPENDED)
    cluster.delete("winepipeline", "bystander", "mlflow")
    eventually(lambda: cluster.get("poddefaults", "bystander", "access-minio") is None)
    assert cluster.predict(namespace) == before
    assert _secret(cluster, namespace)["metadata"]["ownerReferences"][0]["kind"] == "SeldonDeployment"


def test_a_foreign_deployment_is_reported_and_left_alone(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    predictor = {"name": "mine", "graph": {"name": "mine", "implementation": "MLFLOW_SERVER", "modelUri": "s3://mlflow/none"}}
    foreign = {
        "apiVersion": "machinelearning.seldon.io/v1",
        "kind": "SeldonDeployment",
        "metadata": {"name": "mlflow", "namespace": namespace},
        "spec": {"predictors": [predictor]},
    }
    cluster.apply(foreign)
    cluster.apply(cluster.resource(namespace))
    pipeline = cluster.wait(namespace, says(ConditionType.READY, "ForeignObject"))
    condition = pipeline.status.condition(ConditionType.READY)
    assert condition is not None
    assert f"kubectl -n {namespace} delete sdep mlflow" in condition.message
    cluster.delete("winepipeline", namespace, "mlflow")
    assert cluster.get("sdep", namespace, "mlflow") is not None
    cluster.delete("sdep", namespace, "mlflow")


@pytest.fixture
def without_the_poddefault_kind(cluster: Cluster) -> Iterator[None]:
    manifest = ROOT / "sandbox" / "manifests" / "20-poddefaults.yaml"
    cluster.sandbox.kubectl("delete", "-f", str(manifest))
    yield
    cluster.sandbox.kubectl("apply", "--server-side", "-f", str(manifest))
    cluster.sandbox.kubectl("wait", "--for=condition=Established", "crd/poddefaults.kubeflow.org", "--timeout=30s")


@pytest.mark.usefixtures("without_the_poddefault_kind")
def test_without_the_poddefault_kind_it_works_and_says_so(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    cluster.apply(cluster.resource(namespace))
    pipeline = cluster.wait(namespace, ready)
    condition = pipeline.status.condition(ConditionType.PREPARED)
    assert condition is not None
    assert condition.status == "True"
    assert condition.reason == "PodDefaultsLeftOut"


def test_the_operators_environment_is_small() -> None:
    pins = (ROOT / "requirements" / "operator.txt").read_text()
    packages = {line.split("==")[0] for line in pins.splitlines() if "==" in line}
    assert not packages & {"kfp", "mlflow", "scikit-learn", "pandas"}
    assert {"kopf", "kubernetes", "mlflow-skinny"} <= packages


def test_idle_it_stays_under_150_megabytes(operator: OperatorProcess, served: WinePipeline) -> None:
    assert operator.resident_kilobytes < 150_000


def test_the_example_is_a_resource(cluster: Cluster) -> None:
    for path in (ROOT / "deploy" / "examples").glob("*.yaml"):
        for body in yaml.safe_load_all(path.read_text()):
            cluster.sandbox.kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(body))
