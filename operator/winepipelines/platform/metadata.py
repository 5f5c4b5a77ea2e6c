"""Watch objects by their metadata only: their content, such as a pipeline or a credential, is not transferred.

The client's own watcher is not used, because it needs the typed API, whose models take 20 MB of memory.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiException

from winecontract.parsing import UnreadableError, parse_object
from winepipelines.platform import bodies
from winepipelines.platform.kubernetes import WATCH_SECONDS, Body, Kubernetes

PAGE_SIZE = 500
BACKOFF_SECONDS = (1.0, 60.0)
WATCH_FAILED = "Cannot watch objects; changes are noticed late"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Objects:
    """Which objects to watch: the path of their list, the selectors, their name in log lines, and the labels to keep."""

    path: str
    name: str
    labels: str = ""
    fields: str = ""
    shown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """Metadata of objects that exist or, with `gone`, are deleted. `complete` means that there are no others."""

    objects: tuple[Body, ...]
    complete: bool = False
    gone: bool = False


class WatchEnded(Exception):
    """The API server has ended a watch with an error, usually because the resource version is too old."""


async def watch(
    kubernetes: Kubernetes, objects: Objects, backoff: tuple[float, float] = BACKOFF_SECONDS
) -> AsyncGenerator[Seen | None]:
    """Yield all objects, then each change; None when the watch fails, so that changes may be missed. Never ends.

    Retries after the first of `backoff` seconds, then after twice as long each time, up to the second. A kind that does not exist
    is reported once: nothing of it can change.
    """
    failures, is_missing = 0, False
    while True:
        try:
            found, version = await _list(kubernetes, objects)
            is_missing = False
            yield Seen(found, complete=True)
            while True:
                response = await _open(kubernetes, objects, version)
                failures = 0
                async for event in _events(response):
                    metadata = event["object"]["metadata"]
                    version = metadata["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        yield Seen((_kept(objects, metadata, managers=True),), gone=event["type"] == "DELETED")
        except WatchEnded:
            await asyncio.sleep(backoff[0])
        except (ApiException, aiohttp.ClientError, TimeoutError, UnreadableError) as error:
            if not failures:
                fields = {"objects": objects.name, "error": _why(error)}
                logger.warning(WATCH_FAILED, extra={"fields": fields})
            was_missing, is_missing = is_missing, _is_missing(error)
            if not (was_missing and is_missing):
                yield None
            await asyncio.sleep(min(backoff[0] * 2.0**failures, backoff[1]))
            failures = min(failures + 1, 20)


async def _list(kubernetes: Kubernetes, objects: Objects) -> tuple[tuple[Body, ...], str]:
    """List the objects; return the resource version from which to watch, too."""
    found: list[Body] = []
    version = ""
    async with aclosing(kubernetes.pages(objects.path, bodies.METADATA_LIST, PAGE_SIZE, **_selectors(objects))) as pages:
        async for page in pages:
            found += [_kept(objects, item["metadata"]) for item in page["items"] or ()]
            version = page["metadata"]["resourceVersion"]
    return tuple(found), version


def _kept(objects: Objects, metadata: Body, *, managers: bool = False) -> Body:
    """Keep the metadata that is needed: users may add more of any size."""
    labels = metadata.get("labels") or {}
    kept: Body = {name: metadata[name] for name in ("name", "namespace", "resourceVersion") if name in metadata}
    kept["labels"] = {name: labels[name] for name in objects.shown if name in labels}
    kept["ownerReferences"] = (metadata.get("ownerReferences") or [])[: bodies.MOST_OWNERS]
    if managers:
        fields = metadata.get("managedFields") or ()
        kept["managedFields"] = [{"manager": field.get("manager", ""), "time": field.get("time", "")} for field in fields]
    return kept


def _selectors(objects: Objects) -> dict[str, str]:
    selectors = {"label_selector": objects.labels, "field_selector": objects.fields}
    return {key: value for key, value in selectors.items() if value}


async def _open(kubernetes: Kubernetes, objects: Objects, version: str) -> aiohttp.ClientResponse:
    query: dict[str, Any] = {"query_params": [("allowWatchBookmarks", "true")], "timeout_seconds": WATCH_SECONDS}
    return await kubernetes.open(
        objects.path, bodies.METADATA, watch=True, resource_version=version, **_selectors(objects), **query
    )


async def _events(response: aiohttp.ClientResponse) -> AsyncGenerator[Body]:
    """Yield a watch's events."""
    with closing(response):
        async for line in bodies.lines(response.content):
            event = parse_object(line, keep=bodies.cut, prune=True)
            if event["type"] == "ERROR":
                raise WatchEnded(event["object"].get("message"))
            yield event


def _is_missing(error: Exception) -> bool:
    """Whether the API server does not serve the kind."""
    return isinstance(error, ApiException) and error.status == 404


def _why(error: Exception) -> str:
    if isinstance(error, ApiException):
        return {404: "the API server does not serve this kind", 403: "the operator lacks the right to list or watch them"}.get(
            error.status, str(error.reason)
        )
    if isinstance(error, UnreadableError):
        return f"the API server's answer cannot be read: {error}"
    return f"the API server does not answer ({type(error).__name__})"
