"""A step whose pod cannot start, or that says why it failed while MLflow cannot be told: the resource says so, and recovers."""

import json
import time
from collections.abc import Iterator

import pytest
from support.cluster import Cluster, ready, says
from support.operator import OperatorProcess

from sandbox.platform import Sandbox
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.status import ConditionType

TRAINED = ConditionType.TRAINED
SOON = 30.0  # seconds in which a person is told


@pytest.fixture
def mistaken(sandbox: Sandbox, operator: OperatorProcess) -> Iterator[OperatorProcess]:
    """An operator whose chart names an image that no registry has; the other one rests meanwhile."""
    operator.kill()
    with OperatorProcess(sandbox, {"WINE_STEPS_IMAGE": "registry.invalid/steps:typo"}) as other:
        yield other
    operator.start()


def test_an_image_that_is_nowhere_is_told_and_a_corrected_chart_is_enough(
    sandbox: Sandbox, cluster: Cluster, operator: OperatorProcess, mistaken: OperatorProcess, namespace: str
) -> None:
    cluster.apply(cluster.resource(namespace))
    began = time.monotonic()
    pipeline = cluster.wait(namespace, says(TRAINED, "ErrImagePull"), seconds=SOON)
    assert time.monotonic() - began < SOON
    condition = pipeline.status.condition(TRAINED)
    assert condition is not None
    assert "step download cannot start" in condition.message
    assert "registry.invalid/steps:typo" in condition.message
    mistaken.kill()
    operator.start()  # with the right image
    pipeline = cluster.wait(namespace, ready)
    assert pipeline.status.revision == 1
    assert [run["state"] for run in cluster.runs(namespace)].count("SUCCEEDED") == 1


def test_a_missing_secret_is_told_and_the_run_goes_on_when_it_is_there(
    cluster: Cluster, operator: OperatorProcess, namespace: str
) -> None:
    name = "mlpipeline-minio-artifact"
    secret = cluster.get("secret", namespace, name)
    assert secret is not None
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, lambda pipeline: bool(pipeline.status.run and pipeline.status.run.id))
    cluster.sandbox.kubectl("-n", namespace, "delete", "secret", name)

    def told(pipeline: WinePipeline) -> bool:
        return says(TRAINED, "CreateContainerConfigError")(pipeline) or says(ConditionType.PREPARED, "ArtifactSecretMissing")(
            pipeline
        )

    cluster.wait(namespace, told, seconds=SOON)
    secret["metadata"] = {"name": name, "namespace": namespace}
    cluster.sandbox.kubectl("apply", "-f", "-", stdin=json.dumps(secret))
    cluster.wait(namespace, ready)


def test_a_failure_that_mlflow_cannot_be_told_is_told_by_the_pod(
    cluster: Cluster, operator: OperatorProcess, namespace: str
) -> None:
    """Field case c18: the experiment is deleted."""
    api = f"{cluster.info.mlflow_url}/api/2.0/mlflow/experiments"
    experiment = cluster.http(f"{api}/create", {"name": f"deleted {namespace}"})["experiment_id"]
    cluster.http(f"{api}/delete", {"experiment_id": experiment})
    cluster.apply(cluster.resource(namespace, training={"experiment": f"deleted {namespace}"}))
    pipeline = cluster.wait(namespace, says(TRAINED, "ExperimentDeleted"))
    condition = pipeline.status.condition(TRAINED)
    assert condition is not None
    assert f"mlflow experiments restore --experiment-id {experiment}" in condition.message
    assert len(cluster.runs(namespace)) == 1, "it is not tried again and again"
    cluster.http(f"{api}/restore", {"experiment_id": experiment})
    body = cluster.resource(namespace, training={"experiment": f"deleted {namespace}"})
    body["metadata"]["annotations"] = {"winepipelines.io/retrain": "restored"}
    cluster.apply(body)
    cluster.wait(namespace, ready)
