"""A platform that follows a script: Kubeflow Pipelines, MLflow, the object store, Seldon and the endpoints of models.

For benchmarks with thousands of resources. It speaks the parts of the protocols that the operator uses, does no work, and counts
requests. Every run trains the same model at once; every deployment rolls out at once. The API server, with
the Workflows, Secrets, SeldonDeployments and Deployments, is the real one.
"""

import asyncio
import base64
import contextlib
import json
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from support.fleet import AT_ONCE, rolled_out_at_once

from sandbox.seldon.api import SECRET, Api
from winecontract import signatures
from winecontract.tags import MODEL_FOLDER, Tag

Object = dict[str, Any]
WORKFLOW = "argoproj.io/v1alpha1/workflows"
KFP, MLFLOW, STORE, ENDPOINT = "Kubeflow Pipelines", "MLflow", "object store", "endpoint"
EXAMPLE = {"names": ["alcohol", "pH"], "ndarray": [[9.2, 3.32], [10.1, 3.2], [11.0, 3.1]]}
PREDICTIONS = [5.5, 5.7, 6.1]
METRICS = {"r2": 0.35, "rmse": 0.65, "mae": 0.51}
SEARCHED = re.compile(r"tags\.`([^`]+)` = '([^']*)'")
LAST_MODIFIED = "Mon, 05 Jan 2026 12:00:00 GMT"


@dataclass
class ScriptedPlatform:
    """The state of the platform. `serve` runs it.

    `succeeded` and `applied` have the times, by `time.perf_counter`, at which the run of a resource succeeded, and at which its
    deployment was seen, by namespace and name.
    """

    api: Api
    requests: Counter[str] = field(default_factory=Counter)
    succeeded: dict[tuple[str, str], float] = field(default_factory=dict)
    applied: dict[tuple[str, str], float] = field(default_factory=dict)
    url: str = ""
    _experiments: dict[tuple[str, str], Object] = field(default_factory=dict)
    _runs: dict[tuple[str, str], Object] = field(default_factory=dict)
    _records: dict[str, Object] = field(default_factory=dict)
    _records_of: dict[str, list[Object]] = field(default_factory=dict)  # by the uid of the resource
    _aliases: dict[tuple[str, str], str] = field(default_factory=dict)
    _versions: dict[tuple[str, str], str] = field(default_factory=dict)
    _keys: dict[str, signatures.Keys] = field(default_factory=dict)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    @property
    def variables(self) -> dict[str, str]:
        """Variables of the operator's environment that point it to this platform."""
        endpoint = f"{self.url}/endpoints/{{namespace}}/{{name}}"
        return {
            "WINE_KFP_URL": self.url,
            "WINE_MLFLOW_URL": self.url,
            "WINE_S3_ENDPOINT_URL": self.url,
            "WINE_ENDPOINT_TEMPLATE": endpoint,
            "WINE_PREDICTOR_TEMPLATE": f"{endpoint}/{{predictor}}",
        }

    @contextlib.asynccontextmanager
    async def serve(self, port: int) -> AsyncIterator[None]:
        """Serve on a port within the context, and roll out what is deployed."""
        app = web.Application(client_max_size=32 << 20)
        runs, experiments, mlflow = "/apis/v2beta1/runs", "/apis/v2beta1/experiments", "/api/2.0/mlflow"
        app.add_routes(
            [
                web.get("/apis/v2beta1/healthz", self._health),
                web.get(experiments, self._list_experiments),
                web.post(experiments, self._create_experiment),
                web.get(runs, self._list_runs),
                web.post(runs, self._create_run),
                web.get(f"{mlflow}/experiments/get-by-name", self._experiment),
                web.post(f"{mlflow}/runs/search", self._search),
                web.get(f"{mlflow}/runs/get", self._record),
                web.get(f"{mlflow}/registered-models/alias", self._aliased),
                web.post(f"{mlflow}/registered-models/alias", self._set_alias),
                web.get(f"{mlflow}/model-versions/get", self._version),
                web.get("/health", self._mlflow_version),
                web.get("/version", self._mlflow_version),
                web.post("/endpoints/{namespace}/{name}/{path:.*}", self._predict),
                web.get("/{bucket}/{key:.+}", self._object),
            ]
        )
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, backlog=500)
        await site.start()
        self.url = f"http://127.0.0.1:{port}"
        try:
            async with rolled_out_at_once(self.api, self._applied):
                yield
        finally:
            await runner.cleanup()

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.result()

    # -- Kubeflow Pipelines -------------------------------------------------------------------------------------------

    async def _health(self, _: web.Request) -> web.Response:
        self.requests[KFP] += 1
        return web.json_response({"tag_name": "2.17.0", "multi_user": True, "pipeline_store": "database"})

    async def _list_experiments(self, request: web.Request) -> web.Response:
        self.requests[KFP] += 1
        found = self._experiments.get((request.query.get("namespace", ""), _named(request)))
        return web.json_response({"experiments": [found]} if found else {})

    async def _create_experiment(self, request: web.Request) -> web.Response:
        self.requests[KFP] += 1
        asked = await request.json()
        key = asked["namespace"], asked["display_name"]
        made = {"experiment_id": secrets.token_hex(16), "namespace": key[0], "display_name": key[1]}
        return web.json_response(self._experiments.setdefault(key, made))

    async def _list_runs(self, request: web.Request) -> web.Response:
        self.requests[KFP] += 1
        namespace, name = request.query.get("namespace", ""), _named(request)
        if not name:  # those that have not ended
            runs = [run for key, run in self._runs.items() if key[0] == namespace and run["state"] == "RUNNING"]
        else:
            runs = [run for run in (self._runs.get((namespace, name)),) if run]
        return web.json_response({"runs": runs, "total_size": len(runs)})

    async def _create_run(self, request: web.Request) -> web.Response:
        self.requests[KFP] += 1
        asked = await request.json()
        parameters = asked["runtime_config"]["parameters"]
        owner = parameters["owner"]
        run_id = _uuid()
        run = {
            "run_id": run_id,
            "display_name": asked["display_name"],
            "experiment_id": asked["experiment_id"],
            "state": "RUNNING",
            "created_at": _now(),
        }
        self._runs[owner["namespace"], asked["display_name"]] = run
        self._spawn(self._train(run, owner, parameters["registered_model"]))
        return web.json_response(run)

    async def _train(self, run: Object, owner: Object, registered_model: str) -> None:
        """Run the Workflow of a run, and record its model."""
        labels = {"pipeline/runid": run["run_id"], "workflows.argoproj.io/phase": "Running"}
        metadata = {"name": f"run-{run['run_id']}", "namespace": owner["namespace"], "labels": labels}
        async with self._slots:
            workflow = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": metadata, "spec": {}}
            await self.api.create(WORKFLOW, workflow)
            await self._record_model(run, owner, registered_model)
            run |= {"state": "SUCCEEDED", "finished_at": _now()}
            self.succeeded[owner["namespace"], owner["name"]] = time.perf_counter()
            ended = {"workflows.argoproj.io/phase": "Succeeded", "pipeline/persistedFinalState": "true"}
            await self.api.merge(WORKFLOW, metadata["namespace"], metadata["name"], {"metadata": {"labels": ended}})

    # -- MLflow -------------------------------------------------------------------------------------------------------

    async def _record_model(self, run: Object, owner: Object, registered_model: str) -> None:
        record = secrets.token_hex(16)
        artifacts = f"s3://mlflow/1/{record}/artifacts"
        tags: dict[str, str] = {
            Tag.NAMESPACE: owner["namespace"],
            Tag.NAME: owner["name"],
            Tag.UID: owner["uid"],
            Tag.REVISION: str(owner["revision"]),
            Tag.KFP_RUN: run["run_id"],
            Tag.MODEL_URI: f"{artifacts}/{MODEL_FOLDER}",
            Tag.MODEL_VERSION: "1",
            Tag.DIGEST: f"sha256:{secrets.token_hex(32)}",
            Tag.EXAMPLE: json.dumps(EXAMPLE),
            Tag.PREDICTION: json.dumps(PREDICTIONS),
            Tag.DATA: json.dumps({"rows": 1599, "rowsDropped": 0, "columnsDropped": [], "format": "csv", "warnings": []}),
            Tag.DATA_SHA256: secrets.token_hex(32),
        }
        statement = signatures.statement(record, registered_model, tags, METRICS)
        tags[Tag.SIGNATURE] = signatures.sign(statement, await self._keys_of(owner["namespace"]))
        times = {"start_time": int(time.time() * 1000), "end_time": int(time.time() * 1000)}
        info = {"run_id": record, "run_uuid": record, "experiment_id": "1", "status": "FINISHED", "artifact_uri": artifacts}
        data = {
            "tags": [{"key": tag, "value": value} for tag, value in tags.items()],
            "metrics": [{"key": name, "value": value, "timestamp": 0, "step": 0} for name, value in METRICS.items()],
        }
        self._records[record] = made = {"info": {**info, **times, "lifecycle_stage": "active"}, "data": data}
        self._records_of.setdefault(owner["uid"], []).append(made)
        self._versions[registered_model, "1"] = record

    async def _keys_of(self, namespace: str) -> signatures.Keys:
        if namespace not in self._keys:
            secret = await self.api.get(SECRET, namespace, signatures.SECRET)
            values = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
            self._keys[namespace] = signatures.Keys.parse(values)
        return self._keys[namespace]

    async def _mlflow_version(self, _: web.Request) -> web.Response:
        self.requests[MLFLOW] += 1
        return web.Response(text="3.5.0")

    async def _experiment(self, request: web.Request) -> web.Response:
        self.requests[MLFLOW] += 1
        found = {"experiment_id": "1", "name": request.query["experiment_name"], "lifecycle_stage": "active"}
        return web.json_response({"experiment": found})

    async def _search(self, request: web.Request) -> web.Response:
        self.requests[MLFLOW] += 1
        wanted = dict(SEARCHED.findall((await request.json())["filter"]))
        found = []
        for record in self._records_of.get(wanted.get(Tag.UID, ""), ()):
            tags = {tag["key"]: tag["value"] for tag in record["data"]["tags"]}
            if all(tags.get(name) == value for name, value in wanted.items()):
                found.append(record)
        return web.json_response({"runs": found})

    async def _record(self, request: web.Request) -> web.Response:
        self.requests[MLFLOW] += 1
        found = self._records.get(request.query["run_id"])
        return web.json_response({"run": found}) if found else _absent()

    async def _aliased(self, request: web.Request) -> web.Response:
        self.requests[MLFLOW] += 1
        version = self._aliases.get((request.query["name"], request.query["alias"]))
        return self._version_of(request.query["name"], version)

    async def _set_alias(self, request: web.Request) -> web.Response:
        self.requests[MLFLOW] += 1
        asked = await request.json()
        self._aliases[asked["name"], asked["alias"]] = asked["version"]
        return web.json_response({})

    async def _version(self, request: web.Request) -> web.Response:
        self.requests[MLFLOW] += 1
        return self._version_of(request.query["name"], request.query["version"])

    def _version_of(self, name: str, version: str | None) -> web.Response:
        record = self._versions.get((name, version or ""))
        return web.json_response({"model_version": {"name": name, "version": version, "run_id": record}}) if record else _absent()

    # -- serving ------------------------------------------------------------------------------------------------------

    async def _object(self, _: web.Request) -> web.Response:
        self.requests[STORE] += 1
        headers = {"Content-Range": "bytes 0-0/1", "Last-Modified": LAST_MODIFIED, "ETag": '"0"'}
        return web.Response(status=206, body=b"a", headers=headers)

    async def _predict(self, request: web.Request) -> web.Response:
        self.requests[ENDPOINT] += 1
        await request.read()
        return web.json_response({"data": {"ndarray": PREDICTIONS}})

    def _applied(self, sdep: Object) -> None:
        self.applied[sdep["metadata"]["namespace"], sdep["metadata"]["name"]] = time.perf_counter()


def _named(request: web.Request) -> str:
    """Return the display name that a list is filtered by; empty if it is filtered by another field."""
    text = unquote(request.query.get("filter", ""))
    predicates = json.loads(text)["predicates"] if text else []
    return str(next((each["string_value"] for each in predicates if each["key"] == "display_name"), ""))


def _absent() -> web.Response:
    return web.json_response({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not found"}, status=404)


def _uuid() -> str:
    text = secrets.token_hex(16)
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
