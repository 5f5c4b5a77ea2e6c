"""Clients bound each answer: its size, duration, compression and number of values."""

import asyncio
import contextlib
import gzip
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
import urllib3
from support.mlflow import expected
from support.settings import SETTINGS

from winecontract.parsing import UnreadableError, parse_json
from winepipelines.api.errors import Refused, TooLarge, Unavailable
from winepipelines.platform import bodies, boundedpools
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.kubernetes import DEPLOYMENTS, Kubernetes
from winepipelines.platform.mlflow import MLflow
from winepipelines.platform.workloads import trimmed

MIB = 1 << 20
Responder = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def server(answer: Responder) -> Iterator[str]:
    """Serve one answer to every request, as long as the client listens."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                answer(self)

        do_POST = do_GET  # noqa: N815 - the base class names it so

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Keep quiet."""

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        httpd.server_close()


def _head(handler: http.server.BaseHTTPRequestHandler, **headers: str) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    if "Content_Length" not in headers:
        handler.send_header("Connection", "close")
    handler.end_headers()


def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
    _head(handler)
    while True:
        handler.wfile.write(b'{"a": "' + b"x" * (1 << 16))


@cache
def _compressed() -> bytes:
    return gzip.compress(b"[" + b"0" * (64 * MIB), 1)


def bomb(handler: http.server.BaseHTTPRequestHandler) -> None:
    body = _compressed()
    _head(handler, Content_Encoding="gzip", Content_Length=str(len(body)))
    handler.wfile.write(body)


def announces_much(handler: http.server.BaseHTTPRequestHandler) -> None:
    _head(handler, Content_Length=str(1 << 40))
    while True:
        handler.wfile.write(b"x" * (1 << 16))


def drips_headers(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.05)  # a slow server


def drips_body(handler: http.server.BaseHTTPRequestHandler) -> None:
    _head(handler)
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.05)


@pytest.fixture
def pool() -> urllib3.PoolManager:
    return urllib3.PoolManager(retries=False, timeout=20)


@pytest.fixture
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundedpools.BoundedConnection, "seconds", 0.5)


@pytest.mark.parametrize("answer", [endless, bomb, announces_much])
def test_blocking_client_reads_no_more_than_the_limit(pool: urllib3.PoolManager, answer: Responder) -> None:
    with server(answer) as url, pytest.raises(boundedpools.AnswerTooLarge):
        pool.request("GET", url)


@pytest.mark.parametrize("answer", [drips_headers, drips_body])
def test_blocking_client_waits_no_longer_than_the_deadline(
    pool: urllib3.PoolManager, answer: Responder, short_deadline: None
) -> None:
    began = time.monotonic()
    with server(answer) as url, pytest.raises(boundedpools.AnswerTooSlow):
        pool.request("GET", url)
    assert time.monotonic() - began < 10, "the deadline ends the request, not the client's timeout"


def test_deadline_is_longer_than_the_configured_request_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundedpools.BoundedConnection, "seconds", 0.0)
    for request_seconds, deadline in ((20, 30), (60, 90)):
        boundedpools.allow_seconds(request_seconds)
        assert boundedpools.BoundedConnection.seconds == deadline


def test_truncated_answer_is_an_error(pool: urllib3.PoolManager) -> None:
    def short(handler: http.server.BaseHTTPRequestHandler) -> None:
        _head(handler, Content_Length="100", Connection="close")
        handler.wfile.write(b"{}")

    with server(short) as url, pytest.raises(urllib3.exceptions.HTTPError):
        pool.request("GET", url)


def test_answer_is_read_completely_and_its_connection_is_reused(pool: urllib3.PoolManager) -> None:
    clients = set()

    def ordinary(handler: http.server.BaseHTTPRequestHandler) -> None:
        clients.add(handler.client_address)
        body = gzip.compress(b'{"a": 1}')
        _head(handler, Content_Encoding="gzip", Content_Length=str(len(body)))
        handler.wfile.write(body)

    with server(ordinary) as url:
        for _ in range(3):
            assert pool.request("GET", url).json() == {"a": 1}
        streamed = pool.request("GET", url, preload_content=False)
        assert streamed.read() == b'{"a": 1}'
        streamed.release_conn()
        pool.clear()
    assert len(clients) == 1


@pytest.mark.parametrize("answer", [endless, bomb])
async def test_mlflow_and_kubeflow_answers_are_read_to_the_limit(answer: Responder) -> None:
    with server(answer) as url:
        settings = SETTINGS.with_(kfp_url=url, mlflow_url=url)
        with pytest.raises(TooLarge, match="larger than the operator reads"):
            await MLflow(settings).records("wine", expected())
        with pytest.raises(TooLarge, match="larger than the operator reads"):
            await Kubeflow(settings).health()


async def test_mlflow_request_times_out_when_the_body_is_slow(short_deadline: None) -> None:
    with server(drips_body) as url, pytest.raises(Unavailable, match="does not answer in time"):
        await MLflow(SETTINGS.with_(kfp_url=url, mlflow_url=url)).records("wine", expected())


async def test_run_with_huge_tags_hides_no_other_run() -> None:
    """Every user of MLflow can set tags of many megabytes on a run with the tags of a WinePipeline."""

    def run(name: str, tag: str) -> dict[str, Any]:
        info = {
            "run_id": name,
            "experiment_id": "1",
            "status": "RUNNING",
            "start_time": 1,
            "artifact_uri": "s3://b",
            "lifecycle_stage": "active",
        }
        return {"info": info, "data": {"tags": [{"key": "winepipelines.io/failure-reason", "value": tag}]}}

    runs = [run("forged", "x" * (3 * MIB)), run("own", "DataUnusable")]

    def mlflow(handler: http.server.BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        query = json.loads(handler.rfile.read(length) or b"{}")
        if "search" not in handler.path:
            found: dict[str, Any] = {"experiment": {"experiment_id": "1", "name": "wine", "lifecycle_stage": "active"}}
        else:
            start = _page_offset(query.get("page_token"))
            found = {"runs": runs[start : start + int(query["max_results"])]}
        body = json.dumps(found).encode()
        _head(handler, Content_Length=str(len(body)))
        handler.wfile.write(body)

    with server(mlflow) as url:
        records = await MLflow(SETTINGS.with_(kfp_url=url, mlflow_url=url)).records("wine", expected())
    assert records.failure is not None
    assert records.failure.reason == "DataUnusable"


def _page_offset(token: str | None) -> int:
    from mlflow.utils.search_utils import SearchUtils

    return int(SearchUtils.parse_start_offset_from_page_token(token))


# -- the API server ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [endless, bomb, announces_much])
async def test_asynchronous_client_reads_no_more_than_the_limit(answer: Responder) -> None:
    with server(answer) as url:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            with pytest.raises(bodies.TooLarge):
                await bodies.parsed(response, MIB, asyncio.Semaphore(), dict, 10)
        async with aiohttp.ClientSession(response_class=bodies.response_class()) as session, session.get(url) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.json()


async def test_large_body_holds_the_semaphore_while_it_is_parsed() -> None:
    turn = asyncio.Semaphore()
    held: list[int] = []

    def keep(found: bodies.Object) -> bodies.Object:
        held.append(turn._value)
        return found

    def large(handler: http.server.BaseHTTPRequestHandler) -> None:
        _head(handler)
        handler.wfile.write(json.dumps({"a": "x" * MIB}).encode())

    with server(large) as url:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            await bodies.parsed(response, 2 * MIB, turn, keep, 10)
    assert held == [0]
    assert not turn.locked()


async def test_watch_event_is_bounded() -> None:
    with server(endless) as url:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            with pytest.raises(bodies.TooLarge):
                async for _ in bodies.lines(response.content):
                    pass


async def test_watch_events_for_kopf_lose_unused_metadata() -> None:
    metadata = {
        "name": "wine",
        "namespace": "team",
        "uid": "1",
        "resourceVersion": "7",
        "annotations": {"big": "x" * MIB, "winepipelines.io/retrain": "now"},
        "labels": {"app.kubernetes.io/managed-by": "wine-operator", **{f"l{number}": "" for number in range(1000)}},
        "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}],
    }
    event = {"type": "ADDED", "object": {"kind": "WinePipeline", "metadata": metadata, "spec": {"a": "b"}}}
    bookmark = {"type": "BOOKMARK", "object": {"kind": "WinePipeline", "metadata": {"resourceVersion": "8"}}}

    def watch(handler: http.server.BaseHTTPRequestHandler) -> None:
        _head(handler)
        handler.wfile.write(json.dumps(event).encode() + b"\n" + json.dumps(bookmark).encode() + b"\n")

    with server(watch) as url:
        async with (
            aiohttp.ClientSession(response_class=bodies.response_class()) as session,
            session.get(f"{url}?watch=true") as response,
        ):
            read = b"".join([chunk async for chunk in response.content.iter_chunked(MIB)])
    first, second = map(json.loads, read.splitlines())
    assert second == bookmark
    assert first["object"]["spec"] == {"a": "b"}
    assert first["object"]["metadata"] == {
        **{name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion")},
        "annotations": {"winepipelines.io/retrain": "now"},
        "labels": {"app.kubernetes.io/managed-by": "wine-operator"},
    }


async def test_schema_of_a_crd_is_dropped() -> None:
    schema = {"openAPIV3Schema": {"properties": {"kind": {"type": "string"}, "metadata": {"type": "object"}}}}
    metadata = {"name": "wines.example.com", "uid": "1", "resourceVersion": "2"}
    crd = {"metadata": metadata, "spec": {"group": "example.com", "versions": [{"name": "v1", "schema": schema}]}}
    text = json.dumps({"kind": "CustomResourceDefinitionList", "items": [crd]})
    [read] = parse_json(text, keep=bodies.watched)["items"]
    assert read == {**crd, "spec": {"group": "example.com", "versions": [{"name": "v1", "schema": {}}]}}


async def test_unreadable_watch_event_is_dropped() -> None:
    def watch(handler: http.server.BaseHTTPRequestHandler) -> None:
        _head(handler)
        handler.wfile.write(b"[" * 5000 + b"]" * 5000 + b"\n" + b'{"type": "BOOKMARK"}\n')

    with server(watch) as url:
        async with (
            aiohttp.ClientSession(response_class=bodies.response_class()) as session,
            session.get(f"{url}?watch=true") as response,
        ):
            assert [chunk async for chunk in response.content.iter_chunked(MIB)] == [b'{"type": "BOOKMARK"}\n']


def test_empty_metadata_list_has_a_list_of_items() -> None:
    empty = b'{"kind": "PartialObjectMetadataList", "metadata": {"resourceVersion": "1"}, "items": null}'
    assert parse_json(empty, keep=bodies.watched)["items"] == []


class Api(Kubernetes):
    """The adapter, connected to a test's server."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._turn = asyncio.Semaphore()
        self._url, self._session = url, session

    async def open(self, path: str, accept: str, **query: Any) -> aiohttp.ClientResponse:
        return await self._session.get(self._url + path, params={name: str(value) for name, value in query.items()})


async def test_list_of_huge_objects_is_read_in_small_pages_up_to_the_limit() -> None:
    requests: list[int] = []

    def deployments(handler: http.server.BaseHTTPRequestHandler) -> None:
        query = {name: value[0] for name, value in parse_qs(urlsplit(handler.path).query).items()}
        start, limit = int(query.get("_continue", 0)), int(query["limit"])
        requests.append(limit)
        container = {"name": "c", "env": [{"name": "E", "value": "x" * MIB}]}
        spec = {"replicas": 1, "template": {"metadata": {}, "spec": {"containers": [container]}}}
        items = [{"metadata": {"name": str(number)}, "spec": spec, "status": {}} for number in range(80)]
        more = {"continue": str(start + limit)} if start + limit < 80 else {}
        body = json.dumps({"items": items[start : start + limit], "metadata": more}).encode()
        _head(handler, Content_Length=str(len(body)))
        handler.wfile.write(body)

    with server(deployments) as url:
        async with aiohttp.ClientSession() as session:
            found = await Api(url, session).list(DEPLOYMENTS, "team", trimmed, 20)
    assert len(found) == 21, "one more than the limit shows that there are more"
    assert requests == [100, 12, *[1] * 21]
    assert len(json.dumps(found)) < 10_000


async def test_too_large_object_is_reported_with_its_path() -> None:
    with server(endless) as url:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(Refused, match=r"/apis/apps/v1/namespaces/team/deployments is larger than 8 MiB") as caught:
                await Api(url, session).list(DEPLOYMENTS, "team", trimmed, 20)
    assert caught.value.reason == "ObjectTooLarge"


@pytest.mark.parametrize("value", [b"[]", b"{}", b"0", b'"ab"'])
async def test_object_with_too_many_values_is_rejected(value: bytes) -> None:
    """SeldonDeployments hold arbitrary JSON, and an empty list takes twenty times as much memory as its text."""

    def many(handler: http.server.BaseHTTPRequestHandler) -> None:
        body = b'{"spec": {"a": [[' + b",".join([value] * 30_000) + b"], [" + b",".join([value] * 30_000) + b"]]}}"
        _head(handler, Content_Length=str(len(body)))
        handler.wfile.write(body)

    with server(many) as url:
        async with aiohttp.ClientSession() as session:
            api = Api(url, session)
            with pytest.raises(UnreadableError, match="more than 50000 values"):
                await api.parsed(await api.open("/", ""))
