"""Watching objects by their metadata alone: what is in them, a pipeline or a credential, does not come along.

Called by `workflows` and `handlers`. Not the client's own watcher: it needs a typed API, whose models are 20 MB of memory.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiException

from winecontract.parsing import UnreadableError, parse_object
from winepipelines.platform.kubernetes import WATCH_SECONDS, Body, Kubernetes

ACCEPT = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
ACCEPT_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PAGE_SIZE = 500
BACKOFF_SECONDS = (1.0, 60.0)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Objects:
    """Which objects to watch: the path of their list, the selectors, and what to call them in the log."""

    path: str
    name: str
    labels: str = ""
    fields: str = ""


@dataclass(frozen=True)
class Seen:
    """Metadata of objects that are there, or with `gone` were. `complete`: there are no others."""

    objects: tuple[Body, ...]
    complete: bool = False
    gone: bool = False


class WatchEnded(Exception):
    """The API server has ended a watch with an error: most often, the version to go on from is too old."""


async def watch(
    kubernetes: Kubernetes, objects: Objects, backoff: tuple[float, float] = BACKOFF_SECONDS
) -> AsyncGenerator[Seen | None]:
    """Yield all objects, then each that moves; None when they can no longer be watched. For ever.

    Tries again after the first of `backoff` seconds, then twice that, up to the second.
    """
    failures = 0
    while True:
        try:
            found, version = await _list(kubernetes, objects)
            yield Seen(found, complete=True)
            while True:
                response = await _open(kubernetes, objects, ACCEPT, watch=True, resource_version=version)
                failures = 0
                with closing(response):
                    async for event in _events(response):
                        metadata = event["object"]["metadata"]
                        version = metadata["resourceVersion"]
                        if event["type"] != "BOOKMARK":
                            yield Seen((metadata,), gone=event["type"] == "DELETED")
        except WatchEnded:
            await asyncio.sleep(backoff[0])
        except (ApiException, aiohttp.ClientError, TimeoutError, UnreadableError) as error:
            if not failures:
                fields = {"objects": objects.name, "error": _why(error)}
                logger.warning("Cannot watch, so changes are noticed later", extra={"fields": fields})
            yield None
            await asyncio.sleep(min(backoff[0] * 2.0**failures, backoff[1]))
            failures = min(failures + 1, 20)


async def _list(kubernetes: Kubernetes, objects: Objects) -> tuple[tuple[Body, ...], str]:
    """List what there is, and the version to watch from."""
    found: list[Body] = []
    more: str | None = None
    while True:
        response = await _open(kubernetes, objects, ACCEPT_LIST, limit=PAGE_SIZE, _continue=more)
        page = parse_object(await response.read())
        found += [item["metadata"] for item in page["items"] or ()]
        more = page["metadata"].get("continue")
        if not more:
            return tuple(found), page["metadata"]["resourceVersion"]


async def _open(kubernetes: Kubernetes, objects: Objects, accept: str, **query: Any) -> aiohttp.ClientResponse:
    if query.get("watch"):
        query |= {"query_params": [("allowWatchBookmarks", "true")], "timeout_seconds": WATCH_SECONDS}
    selectors = {"label_selector": objects.labels, "field_selector": objects.fields}
    return await kubernetes.open(objects.path, accept, **{key: value for key, value in selectors.items() if value}, **query)


async def _events(response: aiohttp.ClientResponse) -> AsyncGenerator[Body]:
    """Yield a watch's events. Lines are put together here: the client's own reader refuses long ones."""
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            event = parse_object(line)
            if event["type"] == "ERROR":
                raise WatchEnded(event["object"].get("message"))
            yield event


def _why(error: Exception) -> str:
    if isinstance(error, ApiException):
        return {404: "the API server does not know them", 403: "the operator has no right to"}.get(
            error.status, str(error.reason)
        )
    if isinstance(error, UnreadableError):
        return f"the API server's answer cannot be read: {error}"
    return f"the API server does not answer ({type(error).__name__})"
