"""Manifests are data: no value can become structure, and what others add to an object is no difference."""

from dataclasses import replace
from typing import Any

import pytest
import yaml

from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.manifests import Manifests, covers
from winepipelines.platform.namespace import Namespace
from winepipelines.platform.seldon import Seldon, _is_applied, _is_complete, _pod_trouble, _predictions
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.spec import Spec
from winepipelines.resource.status import Status
from winepipelines.settings import Settings

SETTINGS = Settings(
    kfp_url="http://kfp",
    mlflow_url="http://mlflow",
    s3_endpoint_url="http://minio",
    steps_image="registry/steps:1",
    server_image="s:1",
)
MANIFESTS = Manifests(SETTINGS.templates)
NOBODY: Any = None  # building asks no server
SPEC = Spec.model_validate({"data": {"url": "http://data/wine.csv"}})
PIPELINE = WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", SPEC, Status())
HOSTILE = '"}}\n---\nkind: ClusterRoleBinding # {{ 7 * 7 }} {% raw %}'


def test_the_deployment_is_the_guides() -> None:
    manifest = Seldon(NOBODY, MANIFESTS, SETTINGS, NOBODY).manifest(PIPELINE, 3, "s3://mlflow/1/abc/artifacts/model")
    [predictor] = manifest["spec"]["predictors"]
    assert predictor["name"] == "wine-super-model"
    assert predictor["graph"]["name"] == "classifier"
    assert predictor["graph"]["modelUri"] == "s3://mlflow/1/abc/artifacts/model"
    assert predictor["graph"]["envSecretRefName"] == "seldon-init-container-secret"
    [container] = predictor["componentSpecs"][0]["spec"]["containers"]
    assert (container["name"], container["image"]) == ("classifier", "s:1")
    assert manifest["metadata"]["ownerReferences"][0]["uid"] == PIPELINE.uid


def test_hostile_values_stay_values() -> None:
    manifest = Seldon(NOBODY, MANIFESTS, SETTINGS, NOBODY).manifest(PIPELINE, 1, HOSTILE)
    assert manifest["spec"]["predictors"][0]["graph"]["modelUri"] == HOSTILE
    children = Namespace(NOBODY, MANIFESTS, SETTINGS).wanted(PIPELINE, {"data": {"KEY": HOSTILE}})
    assert [child["kind"] for child in children] == ["PodDefault", "PodDefault", "Secret"]
    assert children[2]["data"] == {"KEY": HOSTILE}


def test_the_steps_secret_has_mlflows_credentials_and_nothing_else() -> None:
    settings = replace(SETTINGS, mlflow_secret="mlflow-tracking-credentials")
    encoded = {
        "MLFLOW_TRACKING_TOKEN": "dG9rZW4K",
        "database-password": "c2VjcmV0",
        "MLFLOW_TRACKING_USERNAME": "",
    }  # "token" and a line's end
    *_, secret = Namespace(NOBODY, MANIFESTS, settings).wanted(PIPELINE, {"data": {}}, {"data": encoded})
    assert secret["metadata"]["name"] == "wine-mlflow-credentials"
    assert secret["metadata"]["ownerReferences"][0]["uid"] == PIPELINE.uid
    assert secret["data"] == {"MLFLOW_TRACKING_TOKEN": "dG9rZW4="}


def test_the_same_resource_makes_the_same_manifest() -> None:
    seldon = Seldon(NOBODY, MANIFESTS, SETTINGS, NOBODY)
    first, second = (seldon.manifest(PIPELINE, 1, "s3://mlflow/1") for _ in range(2))
    assert first == second
    assert _is_applied(first, second)
    assert not _is_applied(first, seldon.manifest(PIPELINE, 2, "s3://mlflow/2"))


def test_an_edited_deployment_differs() -> None:
    seldon = Seldon(NOBODY, MANIFESTS, SETTINGS, NOBODY)
    wanted = seldon.manifest(PIPELINE, 1, "s3://mlflow/1")
    live = yaml.safe_load(yaml.safe_dump(wanted))
    live["spec"]["predictors"][0]["graph"]["logger"] = {"mode": "all"}  # what a webhook adds is no difference
    assert _is_applied(live, wanted)
    live["spec"]["predictors"][0]["graph"]["modelUri"] = "s3://elsewhere"
    assert not _is_applied(live, wanted)


@pytest.mark.parametrize(
    ("live", "wanted", "covered"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({}, {"a": None}, False),
        ([{"name": "x", "extra": 1}, {"name": "y"}], [{"name": "y"}], True),
        ([{"name": "x"}], [{"name": "y"}], False),
        ("text", {"a": 1}, False),
    ],
)
def test_covers(live: object, wanted: object, covered: bool) -> None:
    assert covers(live, wanted) is covered


def test_a_run_has_the_administrators_image_and_addresses_and_no_credential() -> None:
    kubeflow = Kubeflow(SETTINGS)
    specification = kubeflow.pipeline_spec(PIPELINE)
    executors = specification["pipeline_spec"]["deploymentSpec"]["executors"]
    assert {executor["container"]["image"] for executor in executors.values()} == {"registry/steps:1"}
    assert set(specification["platform_spec"]) == {"platforms"}
    parameters = kubeflow.parameters(PIPELINE, 7)
    assert parameters["mlflow_tracking_uri"] == "http://mlflow"
    assert parameters["owner"] == {"namespace": "admin", "name": "mlflow", "uid": PIPELINE.uid, "revision": 7}
    assert not [name for name in parameters if "key" in name or "token" in name or "password" in name]
    declared = specification["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) <= set(declared)
    assert {name for name, declaration in declared.items() if not declaration.get("isOptional")} <= set(parameters)


def test_wished_resources_go_to_the_training_step() -> None:
    spec = SPEC.with_(training={"resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "2Gi"}}})
    pipeline = WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", spec, Status())
    executors = Kubeflow(SETTINGS).pipeline_spec(pipeline)["pipeline_spec"]["deploymentSpec"]["executors"]
    assert executors["exec-train"]["container"]["resources"] == {"resourceCpuRequest": "500m", "resourceMemoryLimit": "2Gi"}
    assert "resources" not in executors["exec-download"]["container"]


def test_a_deployment_is_complete_when_no_other_pod_is_left() -> None:
    deployment: dict[str, Any] = {"metadata": {"generation": 2}, "spec": {"replicas": 2}}
    deployment["status"] = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    assert _is_complete(deployment)
    for field, value in (("observedGeneration", 1), ("replicas", 3), ("updatedReplicas", 1), ("availableReplicas", 1)):
        assert not _is_complete({**deployment, "status": {**deployment["status"], field: value}}), field
    assert not _is_complete({"metadata": {"generation": 1}, "spec": {}})


def test_a_pods_own_reason_is_told() -> None:
    waiting = {
        "name": "classifier-model-initializer",
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
    }
    waiting["lastState"] = {"terminated": {"message": "AccessDenied"}}
    pod = {"metadata": {"name": "p"}, "status": {"initContainerStatuses": [waiting]}}
    assert _pod_trouble(pod) == (
        "CrashLoopBackOff",
        "container classifier-model-initializer of pod p: CrashLoopBackOff. AccessDenied",
    )
    starting = {"name": "classifier", "state": {"waiting": {"reason": "PodInitializing"}}}
    assert _pod_trouble({"metadata": {"name": "p"}, "status": {"containerStatuses": [starting]}}) is None
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    assert _pod_trouble({"metadata": {"name": "p"}, "status": {"conditions": [unschedulable]}}) == (
        "Unschedulable",
        "pod p: 0/1 nodes",
    )


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (b'{"data": {"ndarray": [5.7, 6]}}', [5.7, 6.0]),
        (b'{"data": {"ndarray": [[5.7], [6]]}}', [5.7, 6.0]),
        (b'{"data": {"tensor": {"shape": [1], "values": [5.7]}}}', [5.7]),
        (b'{"data": {"ndarray": ["red"]}}', None),
        (b'{"data": {}}', None),
        (b"<html>", None),
        (b"[]", None),
    ],
)
def test_predictions_of_a_seldon_message(text: bytes, values: list[float] | None) -> None:
    assert _predictions(text) == values
