"""Drift of the operator's objects: it is corrected and reported in an Event, and the model keeps answering."""

import json

import pytest
from support.cluster import Body, Cluster, eventually, ready, settled
from support.operator import OperatorProcess
from support.parametrized import both_backends
from support.platforms import KSERVE, Backend
from support.poddefaults import CHARM, conflicting_poddefault

from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import ConditionType
from winepipelines.serving.kserve.naming import RUNTIME


@pytest.fixture(scope="module")
def home(cluster: Cluster, operator: OperatorProcess) -> str:
    """Serve a model for all tests of drift; return its namespace."""
    namespace = cluster.namespace(f"drift-on-{cluster.backend.name.lower()}")
    cluster.apply(cluster.resource(namespace))
    return namespace


@pytest.fixture
def served(cluster: Cluster, operator: OperatorProcess, home: str) -> WinePipeline:
    return cluster.wait(home, settled)


def _events(cluster: Cluster, namespace: str, reason: str) -> list[str]:
    return [message for found, message in cluster.events(namespace) if found == reason]


def _corrections(cluster: Cluster, namespace: str) -> list[str]:
    return _events(cluster, namespace, "DriftCorrected")


def _version(cluster: Cluster, namespace: str) -> str:
    body = cluster.get("winepipelines", namespace, "mlflow")
    assert body is not None
    return str(body["metadata"]["resourceVersion"])


@both_backends
@pytest.mark.parametrize("kind", ["secrets", "poddefaults"])
def test_deleted_child_is_recreated_at_once(cluster: Cluster, served: WinePipeline, kind: str, backend: Backend) -> None:
    namespace, before = served.namespace, _version(cluster, served.namespace)
    corrected = _corrections(cluster, namespace)
    name = {"secrets": backend.copy, "poddefaults": "access-minio"}[kind]
    cluster.sandbox.kubectl("-n", namespace, "delete", kind, name)
    eventually(lambda: cluster.get(kind, namespace, name) is not None, 10)
    eventually(lambda: len(_corrections(cluster, namespace)) == len(corrected) + 1)
    [correction] = set(_corrections(cluster, namespace)) - set(corrected)
    assert f"{name} was deleted" in correction
    assert _version(cluster, namespace) == before, "the status is not written"


@both_backends
def test_edited_secret_is_corrected_at_once(cluster: Cluster, served: WinePipeline, backend: Backend) -> None:
    namespace, corrected = served.namespace, _corrections(cluster, served.namespace)
    before = _copy(cluster, namespace)
    key, *_ = before["data"]
    patch = json.dumps({"stringData": {key: "http://evil.example", "EXTRA": "x"}})
    cluster.sandbox.kubectl("-n", namespace, "patch", "secret", backend.copy, "-p", patch)
    eventually(lambda: _copy(cluster, namespace)["data"] == before["data"], 10)
    eventually(lambda: len(_corrections(cluster, namespace)) == len(corrected) + 1)
    assert cluster.predict(namespace)


@pytest.mark.parametrize("backend", [KSERVE], ids=str, indirect=True, scope="session")
def test_edited_serving_runtime_is_corrected_at_once(cluster: Cluster, served: WinePipeline, backend: Backend) -> None:
    namespace, corrected = served.namespace, _corrections(cluster, served.namespace)
    before = _image(cluster, namespace)
    edit = [{"op": "replace", "path": "/spec/containers/0/image", "value": "registry.invalid/other:1"}]
    cluster.sandbox.kubectl("-n", namespace, "patch", "servingruntimes", RUNTIME, "--type=json", "-p", json.dumps(edit))
    eventually(lambda: _image(cluster, namespace) == before, 10)
    eventually(lambda: len(_corrections(cluster, namespace)) > len(corrected))
    cluster.wait(namespace, settled)
    assert cluster.predict(namespace)


def _image(cluster: Cluster, namespace: str) -> str:
    runtime = cluster.get("servingruntimes", namespace, RUNTIME)
    assert runtime is not None
    return str(runtime["spec"]["containers"][0]["image"])


def _copy(cluster: Cluster, namespace: str) -> Body:
    secret = cluster.get("secrets", namespace, cluster.backend.copy)
    assert secret is not None
    return secret


@both_backends
def test_change_of_the_source_secret_is_not_drift(cluster: Cluster, served: WinePipeline, backend: Backend) -> None:
    namespace, before = served.namespace, _version(cluster, served.namespace)
    corrected, updated = _corrections(cluster, namespace), len(_events(cluster, namespace, "CopiesUpdated"))
    source = ("-n", "kubeflow", "patch", "secret", backend.source, "--type=merge", "-p")
    cluster.sandbox.kubectl(*source, json.dumps({"stringData": {backend.region: "eu-elsewhere-1"}}))
    try:
        eventually(lambda: "eu-elsewhere-1" in backend.settings_of(_copy(cluster, namespace)), 10)
        eventually(lambda: len(_events(cluster, namespace, "CopiesUpdated")) == updated + 1)
    finally:
        cluster.sandbox.kubectl(*source, json.dumps({"data": {backend.region: None}}))
    eventually(lambda: len(_events(cluster, namespace, "CopiesUpdated")) == updated + 2)
    assert _corrections(cluster, namespace) == corrected
    assert _version(cluster, namespace) == before, "the status is not written"


def test_platforms_poddefault_replaces_ours_for_as_long_as_it_exists(cluster: Cluster, served: WinePipeline) -> None:
    namespace = served.namespace
    with conflicting_poddefault(cluster, namespace):
        eventually(lambda: cluster.get("poddefaults", namespace, "access-minio") is None, 10)
        eventually(
            lambda: any("Deleted PodDefault access-minio" in text for text in _events(cluster, namespace, "CopiesUpdated"))
        )
        pipeline = cluster.wait(namespace, lambda found: CHARM in _prepared(found))
        assert ready(pipeline)
        assert f"Uses PodDefault {CHARM} of the platform instead of access-minio" in _prepared(pipeline)
        assert cluster.get("poddefaults", namespace, "mlflow-server-minio") is not None
    eventually(lambda: cluster.get("poddefaults", namespace, "access-minio") is not None, 10)
    cluster.wait(namespace, lambda found: CHARM not in _prepared(found))


def _prepared(pipeline: WinePipeline) -> str:
    condition = pipeline.status.condition(ConditionType.PREPARED)
    return condition.message if condition is not None else ""


@both_backends
@pytest.mark.parametrize("action", ["delete", "edit"])
def test_changed_deployment_is_corrected_and_the_model_becomes_ready(
    cluster: Cluster, served: WinePipeline, action: str, backend: Backend
) -> None:
    namespace, corrected = served.namespace, len(_corrections(cluster, served.namespace))
    before = cluster.get(backend.plural, namespace, "mlflow")
    assert before is not None
    if action == "delete":
        cluster.sandbox.kubectl("-n", namespace, "delete", backend.plural, "mlflow", "--wait=false")
    else:
        patch = json.dumps([{"op": "replace", "path": backend.edited, "value": backend.edit}])
        cluster.sandbox.kubectl("-n", namespace, "patch", backend.plural, "mlflow", "--type=json", "-p", patch)
    eventually(lambda: len(_corrections(cluster, namespace)) == corrected + 1)
    pipeline = cluster.wait(namespace, ready)
    assert pipeline.status.revision == 1
    assert len(cluster.runs(namespace)) == 1
    eventually(lambda: cluster.predict(namespace) > 0)
    after = cluster.get(backend.plural, namespace, "mlflow")
    assert after is not None
    assert backend.edited_of(after) == backend.edited_of(before)
