"""Runs and experiments of Kubeflow Pipelines.

The API is not idempotent: display names are not unique, and requests have no client id. So runs are found by name, and whoever
creates a run must have searched for it before.
"""

import asyncio
import functools
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused, TooLarge, Unavailable
from winepipelines.api.observed import RunState, RunView
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.prediction import EXPERIMENT, WinePrediction
from winepipelines.api.spec import Runtime
from winepipelines.platform import boundedpools
from winepipelines.platform.kubeflowclient import SYSTEM, KubeflowClient
from winepipelines.platform.runrequests import RunRequests, check_templates
from winepipelines.settings import Settings

NOT_STARTED = "RUNTIME_STATE_UNSPECIFIED"  # Argo has not started the Workflow: a filter has it, an answer has no state
ACTIVE = ["PENDING", "RUNNING", "CANCELING", "PAUSED", NOT_STARTED]
PAGE_SIZE = 30  # the server returns each run with its specification
RUNS_LIMIT = 5000  # of one list
RUN_BYTES = 8 << 20  # of one run: the server accepts 4 MiB


class Kubeflow:
    """Runs of a Kubeflow Pipelines server."""

    def __init__(self, settings: Settings, version_of_server: Callable[[Runtime], str] = lambda _: "") -> None:
        """Read the compiled pipelines; nothing connects yet. See `RunRequests` for `version_of_server`."""
        self._settings = settings
        self._client = KubeflowClient(settings)
        self._requests = RunRequests(settings, version_of_server)
        self._large = asyncio.Semaphore()
        self.health = self._client.health
        self.settings_hash = functools.cache(self._requests.settings_hash)  # each reconcile needs it, and settings never change

    def on_mode_change(self, callback: Callable[[], None]) -> None:
        """Call back when the server changes between single-user and multi-user mode."""
        self._client.on_mode_change = callback

    async def runs_named(self, namespace: str, name: str) -> tuple[RunView, ...]:
        """List the runs with a display name, oldest first."""
        found = await self._list(namespace, _has_name(name))
        return tuple(run for run in found if run.name == name)  # the server's database may ignore upper and lower case

    async def active_runs(self, namespace: str) -> tuple[RunView, ...]:
        """List the runs of a namespace that have not ended; in single-user mode those of all namespaces."""
        predicate = {"operation": "IN", "key": "state", "string_values": {"values": ACTIVE}}
        return tuple(await self._list(namespace, predicate))

    async def lists_are_shared(self) -> bool:
        """Whether one list has the runs of all namespaces, as in single-user mode."""
        return not await self._client.is_multi_user()

    async def namespace_of_runs(self, namespace: str) -> str:
        """Return the namespace of the runs of a namespace's resources: in single-user mode that is the platform's.

        Raises PlatformError if the mode is unknown.
        """
        return namespace if await self._client.is_multi_user() else self._settings.platform_namespace

    async def check_access(self, namespace: str) -> None:
        """Make the smallest request that needs authorization. Raises Refused if the server denies it."""

        async def check_access(multi_user: bool) -> None:
            query: dict[str, Any] = {"page_size": 1} | ({"namespace": namespace} if multi_user else {})
            await self._client.call(self._client.experiments.experiment_service_list_experiments, **query)

        await self._client.in_mode(check_access)

    async def create(self, pipeline: WinePipeline, name: str, revision: int) -> None:
        """Submit the run of a revision."""
        experiment = await self._experiment(pipeline.namespace, pipeline.spec.training.experiment)
        await self.submit(self._requests.training(pipeline, name, revision, experiment))

    async def create_check(
        self, pipeline: WinePipeline, name: str, check_id: str, known_sha256: str = "", known_etag: str = ""
    ) -> None:
        """Submit a data check."""
        experiment = await self._experiment(pipeline.namespace, pipeline.spec.training.experiment)
        await self.submit(self._requests.data_check(pipeline, name, check_id, known_sha256, known_etag, experiment))

    async def predict(self, prediction: WinePrediction, name: str) -> None:
        """Submit the run of a prediction."""
        experiment = await self._experiment(prediction.namespace, EXPERIMENT)
        await self.submit(self._requests.prediction(prediction, name, experiment))

    async def submit(self, request: dict[str, Any]) -> None:
        """Submit a run. Raises Refused, before any request, if Argo Workflows would evaluate a parameter as a template."""
        check_templates(request)
        await self._client.call(self._client.runs.run_service_create_run, request)

    async def terminate(self, run_id: str) -> None:
        """Terminate a run, unless it has ended or is deleted."""
        await self._client.call(self._client.runs.run_service_terminate_run, run_id, forgiven=(400, 404))

    async def delete(self, run_id: str) -> None:
        """Delete a run and its Workflow, unless it is deleted already."""
        await self._client.call(self._client.runs.run_service_delete_run, run_id, forgiven=(404,))

    async def _list(self, namespace: str, predicate: dict[str, Any]) -> list[RunView]:
        return await self._client.in_mode(lambda multi_user: self._pages(namespace if multi_user else "", predicate))

    async def _pages(self, namespace: str, predicate: dict[str, Any]) -> list[RunView]:
        """List runs page by page; an empty namespace is omitted."""
        query: dict[str, Any] = {"filter": _filter(predicate), "sort_by": "created_at asc", "page_size": PAGE_SIZE}
        if namespace:
            query["namespace"] = namespace
        views: list[RunView] = []
        while True:
            try:
                page = await self._page(**query)
            except TooLarge:  # users decide how large a run's specification is
                if query["page_size"] == 1:
                    raise
                query["page_size"] = max(1, query["page_size"] // 7)
                continue
            try:
                views += [self._view(run) for run in page.runs or []]
            except (AttributeError, TypeError, ValueError) as error:
                raise self._client.unreadable(error) from None
            if not page.next_page_token:
                return views
            if len(views) > RUNS_LIMIT:
                raise Refused(
                    Reason.TOO_MANY_RUNS, f"{SYSTEM} lists more than {RUNS_LIMIT} runs that have not ended, or with one name"
                )
            query["page_token"] = page.next_page_token

    async def _page(self, **query: Any) -> Any:
        """List one page. A single run may be larger than other answers; only one such answer is read at a time."""
        if query["page_size"] > 1:
            return await self._client.call(self._client.runs.run_service_list_runs, **query)
        async with self._large:
            with boundedpools.allowed(RUN_BYTES):
                return await self._client.call(self._client.runs.run_service_list_runs, **query)

    def _view(self, run: Any) -> RunView:
        state = RunState.PENDING if run.state in (None, "", NOT_STARTED) else run.state
        tasks = (run.run_details.task_details or []) if run.run_details else []
        failed = [task.display_name for task in tasks if task.state == "FAILED" and task.display_name in self._requests.steps]
        ui = self._settings.kfp_ui_url or self._settings.kfp_url
        return RunView(
            id=run.run_id,
            name=run.display_name,
            state=RunState(state) if state in set(RunState) else RunState.UNSPECIFIED,
            created_at=_time(run.created_at) or datetime.now(UTC),
            finished_at=_time(run.finished_at),
            url=f"{ui}/#/runs/details/{run.run_id}",
            failed_step=failed[0] if failed else "",
        )

    async def _experiment(self, namespace: str, name: str) -> str:
        """Return the id of the experiment with a name in a namespace; create it if there is none."""
        return await self._client.in_mode(lambda multi_user: self._find_experiment(namespace, name, multi_user=multi_user))

    async def _find_experiment(self, namespace: str, name: str, *, multi_user: bool) -> str:
        """Find or create the experiment. Another client may create it in between, so this is tried twice."""
        for _ in range(2):
            query: dict[str, Any] = {"filter": _filter(_has_name(name)), "page_size": 1}
            if multi_user:
                query["namespace"] = namespace
            found = await self._client.call(self._client.experiments.experiment_service_list_experiments, **query)
            if found.experiments:
                return str(found.experiments[0].experiment_id)
            body = {"display_name": name} | ({"namespace": namespace} if multi_user else {})
            create = self._client.experiments.experiment_service_create_experiment
            created = await self._client.call(create, body, forgiven=(409,))
            if created is not None:
                return str(created.experiment_id)
        raise Unavailable(
            Reason.KUBEFLOW_UNAVAILABLE, f"{SYSTEM} does not list the experiment {name!r} and reports that it exists (409)"
        )


def _has_name(name: str) -> dict[str, Any]:
    return {"operation": "EQUALS", "key": "display_name", "string_value": name}


def _filter(predicate: dict[str, Any]) -> str:
    """Encode a filter. The server unescapes it once more than HTTP requires."""
    return quote(json.dumps({"predicates": [predicate]}))


def _time(value: datetime | None) -> datetime | None:
    """Return a time to the second; the server writes an unset one as the year 1970."""
    if value is None or value.year <= 1970:
        return None
    return value.replace(microsecond=0)
