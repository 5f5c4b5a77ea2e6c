"""Steps whose pods cannot start, or whose failures cannot be recorded in MLflow: the resource reports why, and recovers."""

import json
import time
from collections.abc import Iterator

import pytest
from support.cluster import Cluster, ready, says
from support.operator import OperatorProcess

from sandbox.platform import Sandbox
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import ConditionType

TRAINED = ConditionType.TRAINED
SOON = 30.0  # seconds until the failure is reported


@pytest.fixture
def misconfigured(sandbox: Sandbox, operator: OperatorProcess) -> Iterator[OperatorProcess]:
    """Run an operator with an image that no registry has. The shared operator is stopped meanwhile."""
    operator.kill()
    with OperatorProcess(sandbox, {"WINE_STEPS_IMAGE": "registry.invalid/steps:typo"}) as other:
        yield other
    operator.start()


def test_missing_image_is_reported_and_a_corrected_image_is_used(
    sandbox: Sandbox, cluster: Cluster, operator: OperatorProcess, misconfigured: OperatorProcess, namespace: str
) -> None:
    cluster.apply(cluster.resource(namespace))
    began = time.monotonic()
    pipeline = cluster.wait(namespace, says(TRAINED, "ErrImagePull"), seconds=SOON)
    assert time.monotonic() - began < SOON
    condition = pipeline.status.condition(TRAINED)
    assert condition is not None
    assert "Step download cannot start" in condition.message
    assert "registry.invalid/steps:typo" in condition.message
    misconfigured.kill()
    operator.start()  # with the right image
    pipeline = cluster.wait(namespace, ready)
    assert pipeline.status.revision == 1
    assert [run["state"] for run in cluster.runs(namespace)].count("SUCCEEDED") == 1


def test_missing_secret_is_reported_and_the_run_continues_when_it_exists(
    cluster: Cluster, operator: OperatorProcess, namespace: str
) -> None:
    name = "mlpipeline-minio-artifact"
    secret = cluster.get("secret", namespace, name)
    assert secret is not None
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, lambda pipeline: bool(pipeline.status.run and pipeline.status.run.id))
    cluster.sandbox.kubectl("-n", namespace, "delete", "secret", name)

    def reported(pipeline: WinePipeline) -> bool:
        return says(TRAINED, "CreateContainerConfigError")(pipeline) or says(ConditionType.PREPARED, "ArtifactSecretMissing")(
            pipeline
        )

    cluster.wait(namespace, reported, seconds=SOON)
    secret["metadata"] = {"name": name, "namespace": namespace}
    cluster.sandbox.kubectl("apply", "-f", "-", stdin=json.dumps(secret))
    cluster.wait(namespace, ready)


def test_failure_is_reported_by_the_pod_when_mlflow_cannot_record_it(
    cluster: Cluster, operator: OperatorProcess, namespace: str
) -> None:
    """The experiment is deleted, so the step cannot write to it."""
    api = f"{cluster.info.mlflow_url}/api/2.0/mlflow/experiments"
    experiment = cluster.http(f"{api}/create", {"name": f"deleted {namespace}"})["experiment_id"]
    cluster.http(f"{api}/delete", {"experiment_id": experiment})
    cluster.apply(cluster.resource(namespace, training={"experiment": f"deleted {namespace}"}))
    pipeline = cluster.wait(namespace, says(TRAINED, "ExperimentDeleted"))
    condition = pipeline.status.condition(TRAINED)
    assert condition is not None
    assert f"mlflow experiments restore --experiment-id {experiment}" in condition.message
    assert len(cluster.runs(namespace)) == 1, "the run is not repeated"
    cluster.http(f"{api}/restore", {"experiment_id": experiment})
    body = cluster.resource(namespace, training={"experiment": f"deleted {namespace}"})
    body["metadata"]["annotations"] = {"winepipelines.io/retrain": "restored"}
    cluster.apply(body)
    cluster.wait(namespace, ready)
