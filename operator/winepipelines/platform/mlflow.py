"""MLflow: what the steps of a run recorded. Called by `observe`.

Kubeflow's API carries neither outputs nor reasons, so the steps tag their MLflow runs with the resource's uid and revision
(`pipeline/winesteps`). The client is blocking: every call goes to a thread.
"""

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

# Read by the client at its import: an unreachable server is seen in seconds, and tried again by the operator itself.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow.exceptions import MlflowException, RestException
from mlflow.tracking import MlflowClient
from mlflow.utils.rest_utils import http_request

from winepipelines.resource.errors import Refused, Unavailable
from winepipelines.resource.observed import LoggedModel, StepFailure, TrainingRecords
from winepipelines.resource.pipeline import GROUP
from winepipelines.settings import Settings

T = TypeVar("T")
LOOK_LIMIT = 1 << 16  # characters


@dataclass(frozen=True)
class Example:
    """Rows that a model can be asked about, with what it answered when it was trained."""

    names: list[str]
    rows: list[list[float]]
    predictions: list[float]


class MLflow:
    """An MLflow tracking server."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is asked yet."""
        self._url = settings.mlflow_url
        self._client = MlflowClient(tracking_uri=settings.mlflow_url)

    async def records(self, experiment: str, uid: str, revision: int) -> TrainingRecords:
        """Find what a revision's steps recorded: the newest model and the newest failure."""
        found = await self._call(self._client.get_experiment_by_name, experiment)
        if found is None:
            return TrainingRecords()
        condition = f"tags.`{GROUP}/uid` = '{uid}' AND tags.`{GROUP}/revision` = '{revision}'"
        runs = await self._call(
            self._client.search_runs, [found.experiment_id], condition, max_results=20, order_by=["attributes.start_time DESC"]
        )
        models = [run for run in runs if run.info.status == "FINISHED" and f"{GROUP}/model-uri" in run.data.tags]
        failures = [run for run in runs if f"{GROUP}/failure-reason" in run.data.tags]
        return TrainingRecords(
            model=_model(models[0]) if models else None,
            failure=_failure(failures[0]) if failures else None,
        )

    async def example(self, mlflow_run: str) -> Example:
        """Read a model's own example.

        Raises Refused where the training step left none.
        """
        run = await self._call(self._client.get_run, mlflow_run)
        try:
            example = json.loads(run.data.tags[f"{GROUP}/example"])
            return Example(example["names"], example["ndarray"], json.loads(run.data.tags[f"{GROUP}/prediction"]))
        except (KeyError, TypeError, ValueError):
            raise Refused("ExampleMissing", f"MLflow run {mlflow_run} has no input example in its tags") from None

    async def look(self, path: str, **query: str) -> tuple[int, str]:
        """Read a path of the server as it answers: status and the text's beginning.

        Raises Unavailable where it does not answer.
        """
        return await self._call(self._get, path, query)

    def _get(self, path: str, query: dict[str, str]) -> tuple[int, str]:
        response = http_request(self._host(), path, "GET", params=query, raise_on_status=False)
        return int(response.status_code), str(response.text[:LOOK_LIMIT])

    def _host(self) -> Any:
        return self._client._tracking_client.store.get_host_creds()

    async def _call(self, function: Callable[..., T], *arguments: object, **options: object) -> T:
        try:
            return await asyncio.to_thread(function, *arguments, **options)
        except RestException as error:
            status = error.get_http_status_code()
            message = f"MLflow at {self._url} answered {status}: {error.message}"
            if status == 429 or status >= 500:
                raise Unavailable("MlflowUnavailable", message) from None
            raise Refused("MlflowRefused", message) from None
        except MlflowException:  # its text names sockets, which differ from try to try
            raise Unavailable("MlflowUnavailable", f"MLflow at {self._url} does not answer") from None


def _model(run: Any) -> LoggedModel:
    tags = run.data.tags
    return LoggedModel(
        uri=tags[f"{GROUP}/model-uri"],
        mlflow_run=run.info.run_id,
        version=tags.get(f"{GROUP}/model-version", ""),
        metrics={name: round(value, 6) for name, value in run.data.metrics.items()},
    )


def _failure(run: Any) -> StepFailure:
    tags = run.data.tags
    return StepFailure(
        step=tags.get(f"{GROUP}/failed-step", "unknown"),
        reason=tags[f"{GROUP}/failure-reason"],
        message=tags.get(f"{GROUP}/failure-message", ""),
        permanent=tags.get(f"{GROUP}/failure-permanent") == "true",
        at=datetime.fromtimestamp((run.info.end_time or run.info.start_time) / 1000, UTC),
    )
