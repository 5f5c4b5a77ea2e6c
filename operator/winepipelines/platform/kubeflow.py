"""Kubeflow Pipelines: runs, by its REST API `v2beta1` through the generated client. Called by `observe`, `act` and `runwatch`.

Nothing there is idempotent: names are not unique, and there is no client request id. So runs are looked for by name; who creates
one must have looked before. The client is blocking: every call goes to a thread.
"""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import kfp_server_api
import urllib3
import yaml
from kfp_server_api.exceptions import ApiException

from winepipelines.resource.errors import NotSent, Refused, Unavailable
from winepipelines.resource.observed import RunState, RunView
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.spec import Resources
from winepipelines.settings import Settings

T = TypeVar("T")

SYSTEM = "Kubeflow Pipelines"
PIPELINE_FILE = "pipelines/wine-training.yaml"
STEPS = ("download", "preprocess", "train")
TRAIN_EXECUTOR = "exec-train"
ACTIVE = ["PENDING", "RUNNING", "CANCELING", "PAUSED"]
PAGE_SIZE = 50  # specs come along with every run


class Kubeflow:
    """A Kubeflow Pipelines API server, in single-user or multi-user mode."""

    def __init__(self, settings: Settings) -> None:
        """Read the compiled pipeline; nothing is asked yet."""
        self._settings = settings
        self._documents = list(yaml.safe_load_all((Path(settings.templates) / PIPELINE_FILE).read_text()))
        configuration = kfp_server_api.Configuration(host=settings.kfp_url)
        configuration.retries = False  # a submission that is sent twice is carried out twice
        configuration.ssl_ca_cert = settings.kfp_ca_file or None
        if settings.kfp_token_file:
            configuration.api_key_prefix["authorization"] = "Bearer"
            configuration.api_key["authorization"] = ""
            configuration.refresh_api_key_hook = self._read_token  # it rotates
        client = kfp_server_api.ApiClient(configuration)
        self._runs = kfp_server_api.RunServiceApi(client)
        self._experiments = kfp_server_api.ExperimentServiceApi(client)
        self._health = kfp_server_api.HealthzServiceApi(client)
        self._multi_user: bool | None = None

    async def runs_named(self, namespace: str, name: str) -> tuple[RunView, ...]:
        """List the runs of a name, oldest first."""
        predicate = {"operation": "EQUALS", "key": "display_name", "string_value": name}
        return tuple(await self._list(namespace, predicate))

    async def active_runs(self, namespace: str) -> tuple[RunView, ...]:
        """List the runs of a namespace that have not ended."""
        predicate = {"operation": "IN", "key": "state", "string_values": {"values": ACTIVE}}
        return tuple(await self._list(namespace, predicate))

    async def create(self, pipeline: WinePipeline, name: str, revision: int) -> None:
        """Submit the run of a revision."""
        experiment = await self._experiment(pipeline.namespace, pipeline.spec.training.experiment)
        await self._call(self._runs.run_service_create_run, self.request(pipeline, name, revision, experiment))

    def request(self, pipeline: WinePipeline, name: str, revision: int, experiment_id: str) -> dict[str, Any]:
        """Build the request that submits the run of a revision."""
        request: dict[str, Any] = {
            "display_name": name,
            "description": f"WinePipeline {pipeline.namespace}/{pipeline.name}, revision {revision}",
            "experiment_id": experiment_id,
            "pipeline_spec": self.pipeline_spec(pipeline),
            "runtime_config": {"parameters": self.parameters(pipeline, revision)},
        }
        if self._settings.kfp_service_account:
            request["service_account"] = self._settings.kfp_service_account
        return request

    async def retry(self, run_id: str) -> None:
        """Let an ended run try again what did not succeed."""
        await self._call(self._runs.run_service_retry_run, run_id)

    async def terminate(self, run_id: str) -> None:
        """Ask for a run's end. One that has ended or gone is left at that."""
        await self._call(self._runs.run_service_terminate_run, run_id, forgiven=(400, 404))

    async def delete(self, run_id: str) -> None:
        """Remove a run and its Workflow. One that is gone is left at that."""
        await self._call(self._runs.run_service_delete_run, run_id, forgiven=(404,))

    def parameters(self, pipeline: WinePipeline, revision: int) -> dict[str, Any]:
        """Build a run's parameters from the spec. No credential is among them."""
        data, training = pipeline.spec.data, pipeline.spec.training
        return {
            "data_url": data.url,
            "data_sha256": data.sha256,
            "max_bytes": self._settings.max_data_bytes,
            "separator": data.separator,
            "target": data.target,
            "algorithm": training.algorithm,
            "parameters": training.parameters.model_dump(),
            "test_fraction": training.test_fraction,
            "seed": training.seed,
            "experiment": training.experiment,
            "registered_model": training.registered_model,
            "server_version": _server_version(pipeline),
            "mlflow_tracking_uri": self._settings.mlflow_url_in_steps,
            "s3_endpoint_url": self._settings.s3_endpoint_url,
            "owner": {
                "namespace": pipeline.namespace,
                "name": pipeline.name,
                "uid": pipeline.uid,
                "revision": revision,
            },
        }

    def pipeline_spec(self, pipeline: WinePipeline) -> dict[str, Any]:
        """Build the inline pipeline: as compiled, with the administrator's image and the resource's wishes for `train`."""
        specification = json.loads(json.dumps(self._documents[0]))
        for name, executor in specification["deploymentSpec"]["executors"].items():
            executor["container"]["image"] = self._settings.steps_image
            if name == TRAIN_EXECUTOR and (wished := _executor_resources(pipeline.spec.training.resources)):
                executor["container"]["resources"] = wished
        if len(self._documents) == 1:
            return dict(specification)
        return {"pipeline_spec": specification, "platform_spec": self._documents[1]}

    async def health(self) -> tuple[str, bool]:
        """Ask for its version, and whether it is in multi-user mode."""
        # Raw: the generated client knows no version in it.
        response = await self._call(self._health.healthz_service_get_healthz, _preload_content=False)
        try:
            health = dict(json.loads(response.data))
        except (ValueError, TypeError):
            raise Refused("KubeflowRefused", f"what answers at {self._settings.kfp_url} is not {SYSTEM}") from None
        return str(health.get("tag_name") or "of unknown version"), bool(health.get("multi_user"))

    async def knock(self, namespace: str) -> None:
        """Make the smallest request that is authorized.

        Raises Refused with what it says against it.
        """
        query: dict[str, Any] = {"page_size": 1} | ({"namespace": namespace} if await self._is_multi_user() else {})
        await self._call(self._experiments.experiment_service_list_experiments, **query)

    async def _list(self, namespace: str, predicate: dict[str, Any]) -> list[RunView]:
        query: dict[str, Any] = {
            "filter": json.dumps({"predicates": [predicate]}),
            "sort_by": "created_at asc",
            "page_size": PAGE_SIZE,
        }
        if await self._is_multi_user():
            query["namespace"] = namespace
        views: list[RunView] = []
        while True:
            page = await self._call(self._runs.run_service_list_runs, **query)
            views += [self._view(run) for run in page.runs or []]
            if not page.next_page_token:
                return views
            query["page_token"] = page.next_page_token

    def _view(self, run: Any) -> RunView:
        state = run.state or RunState.UNSPECIFIED
        tasks = (run.run_details.task_details or []) if run.run_details else []
        failed = [
            task.display_name
            for task in tasks
            if task.state == "FAILED" and task.display_name in ("download", "preprocess", "train")
        ]
        ui = self._settings.kfp_ui_url or self._settings.kfp_url
        return RunView(
            id=run.run_id,
            name=run.display_name,
            state=RunState(state) if state in set(RunState) else RunState.UNSPECIFIED,
            created_at=_moment(run.created_at) or datetime.now(UTC),
            finished_at=_moment(run.finished_at),
            url=f"{ui}/#/runs/details/{run.run_id}",
            failed_step=failed[0] if failed else "",
        )

    async def _experiment(self, namespace: str, name: str) -> str:
        """Find the experiment of a name in a namespace, or make it; someone else may be making it just now."""
        multi_user = await self._is_multi_user()
        for _ in range(2):
            predicate = {"operation": "EQUALS", "key": "display_name", "string_value": name}
            query: dict[str, Any] = {"filter": json.dumps({"predicates": [predicate]}), "page_size": 1}
            if multi_user:
                query["namespace"] = namespace
            found = await self._call(self._experiments.experiment_service_list_experiments, **query)
            if found.experiments:
                return str(found.experiments[0].experiment_id)
            body = {"display_name": name} | ({"namespace": namespace} if multi_user else {})
            created = await self._call(self._experiments.experiment_service_create_experiment, body, forgiven=(409,))
            if created is not None:
                return str(created.experiment_id)
        raise Unavailable("KubeflowUnavailable", f"{SYSTEM} neither shows nor makes the experiment {name!r}")

    async def _is_multi_user(self) -> bool:
        if self._multi_user is None:
            health = await self._call(self._health.healthz_service_get_healthz)
            self._multi_user = bool(health.multi_user)
        return self._multi_user

    def _read_token(self, configuration: kfp_server_api.Configuration) -> None:
        configuration.api_key["authorization"] = Path(self._settings.kfp_token_file).read_text().strip()

    async def _call(self, function: Callable[..., T], *arguments: object, forgiven: tuple[int, ...] = (), **query: object) -> T:
        try:
            return await asyncio.to_thread(function, *arguments, _request_timeout=self._settings.request_seconds, **query)
        except ApiException as error:
            if error.status in forgiven:
                return None  # type: ignore[return-value] # who forgives expects it
            message = f"{SYSTEM} answered {error.status}: {_message(error)}"
            if error.status == 429 or error.status >= 500:
                raise Unavailable("KubeflowUnavailable", message) from None
            raise Refused("KubeflowRefused", message) from None
        except urllib3.exceptions.HTTPError as error:
            where = f"{SYSTEM} at {self._settings.kfp_url}"
            if isinstance(error, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError):
                raise NotSent("KubeflowUnavailable", f"{where} cannot be reached") from None
            raise Unavailable("KubeflowUnavailable", f"{where} did not answer") from None


def _server_version(pipeline: WinePipeline) -> str:  # noqa: ARG001 - there is one server to date
    """Say which of Seldon's mlflowservers shall read the model; empty: the project's own server."""
    return ""


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)


def _moment(value: datetime | None) -> datetime | None:
    """Read a time; an unset one is written as the year 1970."""
    if value is None or value.year <= 1970:
        return None
    return value.replace(microsecond=0)


def _executor_resources(resources: Resources) -> dict[str, str]:
    """Write a container's resources in the form of the pipeline's intermediate representation."""
    names = {
        "resourceCpuRequest": resources.requests.get("cpu"),
        "resourceMemoryRequest": resources.requests.get("memory"),
        "resourceCpuLimit": resources.limits.get("cpu"),
        "resourceMemoryLimit": resources.limits.get("memory"),
    }
    return {name: str(value) for name, value in names.items() if value is not None}
