"""The operator detects a switch of Kubeflow Pipelines between single-user and multi-user mode without a restart."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from support.backends import SOURCE
from support.settings import SETTINGS

from winecontract.signatures import Keys
from winepipelines.api.errors import Refused
from winepipelines.api.observed import StepsView
from winepipelines.api.pipeline import WinePipeline
from winepipelines.platform import kubeflowclient
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.kubernetes import Kind
from winepipelines.platform.manifests import Manifests
from winepipelines.platform.namespace import Namespace
from winepipelines.platform.steps import Steps
from winepipelines.settings import Settings


class Server:
    """A fake API server of Kubeflow Pipelines. Its errors in each mode are those of KFP 2.17."""

    def __init__(self, multi_user: bool) -> None:
        self.multi_user = multi_user
        self.up = True
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.queries: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                path, namespace = parts.path.rpartition("/")[2], parse_qs(parts.query).get("namespace", [None])[0]
                outer.queries.append((path, namespace))
                status, body = outer.answer(path, namespace)
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
                """Keep quiet."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, path: str, namespace: str | None) -> tuple[int, dict[str, Any]]:
        if not self.up:
            return 500, {"message": "down"}
        if path == "healthz":
            return 200, {"tag_name": "2.17.0", **({"multi_user": True} if self.multi_user else {})}  # the JSON omits false values
        if self.refusal is not None:
            return self.refusal
        if self.multi_user and not namespace:
            return 400, {"code": 3, "message": "empty namespace"}
        if not self.multi_user and namespace:
            return 400, {"code": 3, "message": "In single-user mode, list cannot filter by namespace"}
        return 200, {"runs": []} if path == "runs" else {"experiments": [{"experiment_id": "1"}]}


@pytest.fixture(params=[False, True], ids=["single-user", "multi-user"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(request.param)
    yield server
    server.http.shutdown()
    server.http.server_close()


def _settings(server: Server, **more: Any) -> Settings:
    return SETTINGS.with_(kfp_url=server.url, **more)


async def test_rejected_request_refreshes_the_mode_at_once(server: Server) -> None:
    kubeflow = Kubeflow(_settings(server))
    changes: list[bool] = []
    kubeflow.on_mode_change(lambda: changes.append(True))
    assert await kubeflow.active_runs("admin") == ()
    for _ in range(2):  # to the other mode and back
        server.multi_user = not server.multi_user
        assert await kubeflow.active_runs("admin") == ()
        assert await kubeflow.lists_are_shared() == (not server.multi_user)
        assert await kubeflow.namespace_of_runs("admin") == ("admin" if server.multi_user else "kubeflow")
        await kubeflow.check_access("admin")
    assert len(changes) == 2


async def test_mode_is_refreshed_after_its_lifetime(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    kubeflow = Kubeflow(_settings(server))
    before = await kubeflow.lists_are_shared()
    server.multi_user = not server.multi_user
    assert await kubeflow.lists_are_shared() == before, "the mode is cached"
    monkeypatch.setattr(kubeflowclient, "MODE_SECONDS", 0.0)
    assert await kubeflow.lists_are_shared() != before
    server.up = False
    assert await kubeflow.lists_are_shared() != before, "an outage does not change the mode"


async def test_health_check_refreshes_the_mode(server: Server) -> None:
    kubeflow = Kubeflow(_settings(server))
    before = await kubeflow.lists_are_shared()
    server.multi_user = not server.multi_user
    await kubeflow.health()
    assert await kubeflow.lists_are_shared() != before


async def test_request_is_not_repeated_when_it_is_rejected_for_another_reason(server: Server) -> None:
    kubeflow = Kubeflow(_settings(server))
    await kubeflow.check_access("admin")
    server.refusal = 403, {"message": "not yours"}
    server.queries.clear()
    with pytest.raises(Refused, match="not yours"):
        await kubeflow.check_access("admin")
    assert [path for path, _ in server.queries] == ["experiments", "healthz"]


class Cluster:
    """A Kubernetes API server with some Secrets. Keeps the reads, applies and creates."""

    def __init__(self, *secrets: tuple[str, str]) -> None:
        self.secrets = set(secrets)
        self.queries: list[tuple[str, str]] = []
        self.applied: list[dict[str, Any]] = []
        self.created: list[tuple[str, dict[str, Any]]] = []

    async def ask(self, method: str, path: str, body: dict[str, Any]) -> None:
        assert method == "post"
        self.created.append((path, body))

    async def get(self, kind: Any, namespace: str, name: str) -> dict[str, Any] | None:
        self.queries.append((namespace, name))
        found = (namespace, name) in self.secrets
        return {"metadata": {"name": name}, "data": {"accesskey": "YQ==", "secretkey": "YQ=="}} if found else None

    async def list(self, kind: Any, *_: object, **__: object) -> list[dict[str, Any]]:
        return []

    async def apply(self, kind: Any, manifest: dict[str, Any], manager: str) -> dict[str, Any]:
        self.applied.append(manifest)
        return manifest


ARTIFACTS, MLFLOW = "mlpipeline-minio-artifact", "wine-mlflow-credentials"
PIPELINE = WinePipeline.from_body(
    {
        "apiVersion": "winepipelines.io/v1alpha1",
        "kind": "WinePipeline",
        "metadata": {"name": "wine", "namespace": "admin", "uid": "u", "generation": 1, "resourceVersion": "1"},
        "spec": {"data": {"url": "http://data/wine.csv"}},
    }
)


def _namespace(server: Server, cluster: Any, **settings: Any) -> Namespace:
    settings = {"mlflow_secret": "tracking", **settings}
    configured = _settings(server, **settings)
    return Namespace(cluster, Manifests(configured.templates), configured, SOURCE, Kubeflow(configured).namespace_of_runs)


async def test_artifact_secret_is_read_in_the_namespace_of_runs(server: Server) -> None:
    where = "admin" if server.multi_user else "kubeflow"
    cluster = Cluster((where, ARTIFACTS))
    view = await _namespace(server, cluster).view(PIPELINE)
    assert view.artifacts is not None
    assert view.artifacts.exists
    assert view.artifacts.namespace == where
    assert {namespace for namespace, name in cluster.queries if name in (ARTIFACTS, MLFLOW)} == {where}


async def test_mlflow_credentials_are_copied_to_the_namespace_of_runs(server: Server) -> None:
    cluster = Cluster()
    await _namespace(server, cluster).apply(PIPELINE)
    [copy] = [manifest for manifest in cluster.applied if manifest["metadata"]["name"] == MLFLOW]
    assert copy["metadata"]["namespace"] == ("admin" if server.multi_user else "kubeflow")
    assert ("ownerReferences" in copy["metadata"]) == server.multi_user, "an owner must be in the same namespace"
    others = {manifest["metadata"]["namespace"] for manifest in cluster.applied if manifest is not copy}
    assert others == {"admin"}, "other objects are in the namespace of the WinePipeline"


class Sources(Cluster):
    """A Kubernetes API server with two Secrets of MLflow credentials."""

    async def get(self, kind: Any, namespace: str, name: str) -> dict[str, Any] | None:
        users = {"tracking": "b3BlcmF0b3I=", "weaker": "c3RlcHM="}
        if name not in users:
            return None
        data = {"MLFLOW_TRACKING_USERNAME": users[name], "MLFLOW_TRACKING_PASSWORD": "eA=="}
        return {"metadata": {"name": name, "namespace": namespace}, "data": data}


@pytest.mark.parametrize(("steps", "user"), [("weaker", "c3RlcHM="), ("", "b3BlcmF0b3I=")])
async def test_steps_can_have_other_credentials_than_the_operator(server: Server, steps: str, user: str) -> None:
    cluster = Sources()
    namespace = _namespace(server, cluster, steps_mlflow_secret=steps)
    await namespace.apply(PIPELINE)
    [copy] = [manifest for manifest in cluster.applied if manifest["metadata"]["name"] == MLFLOW]
    assert copy["data"]["MLFLOW_TRACKING_USERNAME"] == user
    assert (await namespace.mlflow_credentials())["MLFLOW_TRACKING_USERNAME"] == "operator"


async def test_each_missing_mlflow_secret_is_reported(server: Server) -> None:
    view = await _namespace(server, Sources(), mlflow_secret="missing", steps_mlflow_secret="weaker").view(PIPELINE)
    assert view.mlflow is not None
    assert (view.mlflow.name, view.mlflow.exists) == ("missing", False)
    view = await _namespace(server, Sources(), steps_mlflow_secret="missing").view(PIPELINE)
    assert view.mlflow is not None
    assert (view.mlflow.name, view.mlflow.exists) == ("missing", False)


async def test_model_key_is_created_in_the_namespace_of_runs(server: Server) -> None:
    cluster = Cluster()
    await _namespace(server, cluster).apply(PIPELINE)
    [(path, key)] = cluster.created
    where = "admin" if server.multi_user else "kubeflow"
    assert path == f"/api/v1/namespaces/{where}/secrets"
    assert (key["metadata"]["namespace"], key["metadata"]["name"], key["type"]) == (where, "wine-model-key", "Opaque")
    assert ("ownerReferences" in key["metadata"]) == server.multi_user
    assert len(Keys.parse(key["stringData"]).current.secret) == 32
    assert "wine-model-key" not in {manifest["metadata"]["name"] for manifest in cluster.applied}


async def test_model_key_is_reported_missing_when_the_operator_may_not_create_it(server: Server) -> None:
    cluster = Cluster()
    view = await _namespace(server, cluster, namespaces=("admin",)).view(PIPELINE)
    assert view.key is not None
    assert not view.key.exists
    assert ("wine-model-key" in {child.name for child in view.children}) == server.multi_user


async def test_no_secret_is_read_in_a_namespace_without_rights(server: Server) -> None:
    cluster = Cluster()
    view = await _namespace(server, cluster, namespaces=("admin",)).view(PIPELINE)
    assert (view.artifacts is None) == (not server.multi_user)
    assert ("kubeflow", ARTIFACTS) not in cluster.queries


async def test_view_omits_the_artifact_secret_during_an_outage_at_the_start(server: Server) -> None:
    before = await _namespace(server, Cluster()).view(PIPELINE)
    server.up = False
    view = await _namespace(server, Cluster()).view(PIPELINE)
    assert view.artifacts is None
    assert [child.name for child in view.children] == [child.name for child in before.children]


async def test_no_step_pods_are_listed_in_a_namespace_without_rights(server: Server) -> None:
    settings = _settings(server, namespaces=("admin",))
    queries: list[str] = []

    async def read(path: str, *_: object, **__: object) -> dict[str, Any]:
        queries.append(path)
        return {"items": []}

    async def listed(kind: Kind, namespace: str, *_: object, **__: object) -> list[dict[str, Any]]:
        queries.append(kind.path(namespace))
        return []

    view = await Steps(SimpleNamespace(read=read, list=listed), Kubeflow(settings), settings).view("admin", "run")  # type: ignore[arg-type]
    assert view == StepsView() or server.multi_user
    assert all("/namespaces/admin/" in path for path in queries)
    assert bool(queries) == server.multi_user
