"""Read the API server's answers with limits, and keep the parts of objects that are needed.

Users decide how large their objects are: an object may have 1.5 MB, and a list any number of objects. So a body is read up to a
limit, large bodies one at a time, and unneeded fields are dropped object by object while it is parsed.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from itertools import islice
from typing import Any

import aiohttp

from winecontract.parsing import UnreadableError, parse_json, parse_object
from winepipelines.api.naming import MANAGED_BY_LABEL
from winepipelines.api.pipeline import GROUP

Object = dict[str, Any]
Keep = Callable[[Object], Object]
PAGE_BYTES = 4 << 20  # of one page of a list
OBJECT_BYTES = 8 << 20  # of one object: etcd accepts 1.5 MB, which may be more in JSON
OBJECT_VALUES = 50_000  # of one object: a serving object has some hundreds, a Workflow some thousands
PAGE_VALUES = 2_000_000  # of a page; most are dropped while it is parsed
LARGE = 256 << 10  # bytes; larger bodies are read one at a time
LONGEST_TEXT = 4096  # characters of one text of an object that others created
MOST_ENTRIES = 256  # of one list or mapping in such an object
MOST_ANNOTATIONS, LONGEST_ANNOTATION = 32, 1024
MOST_OWNERS = 32
LISTS = frozenset({"items", "rows"})  # the objects of a list, which are not cut
logger = logging.getLogger(__name__)
IDENTITY = ("name", "namespace", "uid", "generation", "resourceVersion", "creationTimestamp", "deletionTimestamp", "finalizers")
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class TooLarge(aiohttp.ClientPayloadError):
    """An answer is larger than the operator reads."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the answer is larger than {limit >> 20} MiB")


async def parsed(response: aiohttp.ClientResponse, limit: int, turn: asyncio.Semaphore, keep: Keep, most: int) -> Object:
    """Read and parse a body of at most `limit` bytes and `most` values; large bodies are read one at a time.

    Raises TooLarge, what the client raises, and UnreadableError if the body is no JSON object.
    """
    async with AsyncExitStack() as stack:
        body, waits = bytearray(), True
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > limit:
                response.close()
                raise TooLarge(limit)
            if waits and len(body) > LARGE:
                await stack.enter_async_context(turn)
                waits = False
        return parse_object(body, keep=keep, most=most, prune=True)


def without_managers(found: Object) -> Object:
    """Keep an object without the field managers, which are half of a body and not needed."""
    found.pop("fieldsV1", None)
    return found


def cut(found: Object) -> Object:
    """Truncate long texts, lists and mappings of an object that others created."""
    return {name: _cut(name, value) for name, value in islice(found.items(), MOST_ENTRIES) if name != "fieldsV1"}


def _cut(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return value[:LONGEST_TEXT]
    if isinstance(value, list) and name not in LISTS:
        return [item[:LONGEST_TEXT] if isinstance(item, str) else item for item in value[:MOST_ENTRIES]]
    return value


def watched(found: Object) -> Object:
    """Trim the metadata of an object that kopf lists or watches to its identity and the operator's own annotations and labels."""
    for name in ("fieldsV1", "openAPIV3Schema"):
        found.pop(name, None)
    if found.get("items", ()) is None:  # an empty list of metadata is written as null
        found["items"] = []
    return own_metadata(found) if "uid" in found and "resourceVersion" in found else found


def own_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Keep an object's identity, owners, and the operator's own annotations and labels."""
    kept = {name: metadata[name] for name in IDENTITY if name in metadata}
    annotations = metadata.get("annotations") or {}
    ours = [(name, str(value)[:LONGEST_ANNOTATION]) for name, value in annotations.items() if name.startswith(f"{GROUP}/")]
    labels = {name: value for name, value in (metadata.get("labels") or {}).items() if name == MANAGED_BY_LABEL}
    owners = (metadata.get("ownerReferences") or [])[:MOST_OWNERS]
    more = {"annotations": dict(ours[:MOST_ANNOTATIONS]), "labels": labels, "ownerReferences": owners}
    return kept | {name: value for name, value in more.items() if value}


def response_class() -> type[aiohttp.ClientResponse]:
    """Make the response class for a client that reads and parses by itself, with limits and with `watched` as filter."""
    turn = asyncio.Semaphore()

    class BoundedResponse(aiohttp.ClientResponse):
        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            await super().start(connection)
            self.content = _Bounded(self.content, "watch" in self.url.query)  # type: ignore[assignment] # has the methods that are used
            return self

        async def json(self, **options: Any) -> Any:
            async with turn:
                return await super().json(**{"loads": partial(parse_json, keep=watched, prune=True), **options})

    return BoundedResponse


class _Bounded:
    """A body's stream that raises TooLarge above the limit, and trims the events of a watch."""

    def __init__(self, stream: aiohttp.StreamReader, is_watch: bool) -> None:
        self._stream = stream
        self._is_watch = is_watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def read(self, size: int = -1) -> bytes:
        if size >= 0:
            return await self._stream.read(size)
        body = bytearray()
        async for chunk in self._stream.iter_any():
            body += chunk
            if len(body) > OBJECT_BYTES:
                raise TooLarge(OBJECT_BYTES)
        return bytes(body)

    def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        return self._events() if self._is_watch else self._stream.iter_chunked(size)

    async def _events(self) -> AsyncGenerator[bytes]:
        async for line in lines(self._stream):
            try:
                event = parse_object(line, keep=watched, prune=True)
            except UnreadableError as error:  # the next list has the object
                logger.warning("Ignoring an event", extra={"fields": {"error": error}})
            else:
                yield json.dumps(event).encode() + b"\n"


async def lines(stream: aiohttp.StreamReader) -> AsyncGenerator[bytes]:
    """Yield a watch's lines, one event each; the client's own reader rejects long lines.

    Raises TooLarge.
    """
    rest = bytearray()
    async for chunk in stream.iter_any():
        begin = len(rest)
        rest += chunk
        while (end := rest.find(b"\n", begin)) >= 0:
            line = bytes(rest[:end])
            del rest[: end + 1]
            begin = 0
            if line:
                yield line
        if len(rest) > OBJECT_BYTES:
            raise TooLarge(OBJECT_BYTES)
