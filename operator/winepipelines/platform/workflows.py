"""Argo's Workflows, one for each run of Kubeflow Pipelines, as hints that a run has moved. Called by `runwatch`.

One watch for all namespaces, and of metadata alone: a Workflow is as large as its pipeline, and its phase is a label. Only runs
that have not ended are in it. Kubeflow Pipelines labels a Workflow once the run's end is in its own records; that is some seconds
after Argo has ended the Workflow.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiException

from winepipelines.platform.kubernetes import WATCH_SECONDS, Kubernetes

PATH = "/apis/argoproj.io/v1alpha1/workflows"
RUN_LABEL = "pipeline/runid"
PHASE_LABEL = "workflows.argoproj.io/phase"
SELECTOR = f"{RUN_LABEL},pipeline/persistedFinalState!=true"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PAGE_SIZE = 500
BACKOFF_SECONDS = (1.0, 60.0)
Body = dict[str, Any]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hint:
    """Phases of Workflows by run id: "" before Argo's first, None where the Workflow, or the last need to look at it, is gone."""

    phases: Mapping[str, str | None]
    complete: bool = False  # there are no others


class WatchEnded(Exception):
    """The API server has ended a watch with an error: most often, the version to go on from is too old."""


class Workflows:
    """The Workflows of all runs that have not ended."""

    def __init__(self, kubernetes: Kubernetes, backoff_seconds: tuple[float, float] = BACKOFF_SECONDS) -> None:
        """Try again after the first of `backoff_seconds`, then twice that, up to the second."""
        self._kubernetes = kubernetes
        self._backoff = backoff_seconds

    async def hints(self) -> AsyncGenerator[Hint | None]:
        """Yield all Workflows, then each that moves; None when they can no longer be watched. For ever."""
        failures = 0
        while True:
            try:
                phases, version = await self._list()
                yield Hint(phases, complete=True)
                failures = 0
                while True:
                    response = await self._open(METADATA, watch=True, resource_version=version)
                    with closing(response):
                        async for event in _events(response):
                            version = event["object"]["metadata"]["resourceVersion"]
                            if event["type"] != "BOOKMARK":
                                yield _hint(event)
            except WatchEnded:
                await asyncio.sleep(self._backoff[0])
            except (ApiException, aiohttp.ClientError, TimeoutError) as error:
                if not failures:
                    logger.warning("Workflows cannot be watched, so runs are listed more often: %s", _why(error))
                yield None
                await asyncio.sleep(min(self._backoff[0] * 2.0**failures, self._backoff[1]))
                failures = min(failures + 1, 20)

    async def _list(self) -> tuple[dict[str, str | None], str]:
        """List what there is, and the version to watch from."""
        phases: dict[str, str | None] = {}
        more: str | None = None
        while True:
            response = await self._open(METADATA_LIST, limit=PAGE_SIZE, _continue=more)
            page = await response.json()
            phases |= {_label(item, RUN_LABEL): _label(item, PHASE_LABEL) for item in page["items"] or ()}
            more = page["metadata"].get("continue")
            if not more:
                return phases, page["metadata"]["resourceVersion"]

    async def _open(self, accept: str, **query: Any) -> aiohttp.ClientResponse:
        if query.get("watch"):
            query |= {"query_params": [("allowWatchBookmarks", "true")], "timeout_seconds": WATCH_SECONDS}
        return await self._kubernetes.open(PATH, accept, label_selector=SELECTOR, **query)


async def _events(response: aiohttp.ClientResponse) -> AsyncGenerator[Body]:
    """Yield a watch's events. Lines are put together here: the client's own reader refuses long ones."""
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            event = json.loads(line)
            if event["type"] == "ERROR":
                raise WatchEnded(event["object"].get("message"))
            yield event


def _hint(event: Body) -> Hint:
    workflow = event["object"]
    return Hint({_label(workflow, RUN_LABEL): None if event["type"] == "DELETED" else _label(workflow, PHASE_LABEL)})


def _label(workflow: Body, name: str) -> str:
    return str(workflow["metadata"]["labels"].get(name, ""))


def _why(error: Exception) -> str:
    if isinstance(error, ApiException):
        return {404: "the API server does not know them", 403: "the operator has no right to"}.get(
            error.status, str(error.reason)
        )
    return f"the API server does not answer ({type(error).__name__})"
