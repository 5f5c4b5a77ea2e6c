"""Endpoints that accept connections and never answer, or answer a byte at a time: a comparison ends by its deadline."""

import asyncio
import contextlib
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from winecontract.protocols import Protocol
from winepipelines.platform.records import Example
from winepipelines.serving.probing import COMPARISON_SECONDS, SILENT, ProbeTarget, compare, probe, session

EXAMPLE = Example(["a"], [[1.0]], [5.7])
BODY = json.dumps({"data": {"ndarray": [5.7]}}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
SECONDS = 1.2
Respond = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def _hang(_: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def _answer_in_two_parts(writer: asyncio.StreamWriter) -> None:
    writer.write(ANSWER[:-10])
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.write(ANSWER[-10:])


async def _send_byte_by_byte(writer: asyncio.StreamWriter) -> None:
    """Write bytes often enough that a timeout between reads never expires."""
    writer.write(ANSWER[: ANSWER.index(b"\r\n\r\n") + 4])
    for byte in b" " * 10_000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.02)


async def _send_endless_headers(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(10_000):
        writer.write(b"X-%d: 1\r\n" % number)
        await writer.drain()
        await asyncio.sleep(0.02)


async def _answer(writer: asyncio.StreamWriter) -> None:
    writer.write(ANSWER)
    await writer.drain()


async def _answer_slowly(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.1)
    await _answer(writer)


@asynccontextmanager
async def _endpoint(respond: Respond) -> AsyncIterator[tuple[ProbeTarget, asyncio.Queue[None]]]:
    requests: asyncio.Queue[None] = asyncio.Queue()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.put_nowait(None)
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            await respond(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield ProbeTarget(f"http://{host}:{port}/", Protocol.SELDON, EXAMPLE), requests
    finally:
        server.close()
        for task in tasks:
            task.cancel()


def test_comparison_deadline_is_below_the_reconcile_deadline() -> None:
    assert COMPARISON_SECONDS <= 30


@pytest.mark.parametrize("respond", [_hang, _send_byte_by_byte, _send_endless_headers])
async def test_comparison_ends_by_its_deadline_when_both_models_hang(respond: Respond) -> None:
    async with (
        _endpoint(respond) as (served, served_requests),
        _endpoint(respond) as (canary, canary_requests),
        session(20.0) as client,
    ):
        began = time.monotonic()
        view = await compare(client, served, canary, SECONDS)
        assert time.monotonic() - began < SECONDS + 0.5
    assert (view.asked, view.failed, view.reason, view.served_reason) == (3, 3, "EndpointUnreachable", "EndpointUnreachable")
    assert (served_requests.qsize(), canary_requests.qsize()) == (SILENT, SILENT), "no further request is sent to either"


async def test_canary_that_answers_has_no_failures_when_the_served_model_hangs() -> None:
    async with _endpoint(_hang) as (served, served_requests), _endpoint(_answer) as (canary, _), session(20.0) as client:
        view = await compare(client, served, canary, SECONDS)
    assert (view.asked, view.failed, view.served_reason) == (20, 0, "EndpointUnreachable")
    assert view.served_milliseconds == math.inf, "the served model has no response time"
    assert served_requests.qsize() == SILENT


async def test_slow_models_are_compared_with_fewer_predictions() -> None:
    async with _endpoint(_answer_slowly) as (served, _), _endpoint(_answer_slowly) as (canary, _), session(20.0) as client:
        began = time.monotonic()
        view = await compare(client, served, canary, SECONDS)
        assert time.monotonic() - began < SECONDS + 0.5
    assert 0 < view.asked < 20
    assert view.failed == 0
    assert view.milliseconds >= 100


@pytest.mark.parametrize("respond", [_hang, _send_byte_by_byte, _send_endless_headers])
async def test_probe_ends_by_the_sessions_deadline(respond: Respond) -> None:
    async with _endpoint(respond) as (target, _), session(0.3) as client:
        began = time.monotonic()
        check = await probe(client, target)
        assert time.monotonic() - began < 1.0
    assert check.reason == "EndpointUnreachable"


async def test_probe_reads_an_answer_in_parts() -> None:
    async with _endpoint(_answer_in_two_parts) as (target, _), session(20.0) as client:
        assert (await probe(client, target)).passed


async def test_probe_is_not_delayed_by_connections_that_hang() -> None:
    async with _endpoint(_hang) as (hanging, requests), _endpoint(_answer) as (healthy, _), session(20.0) as client:
        attack = [asyncio.create_task(probe(client, hanging)) for _ in range(150)]
        for _ in attack:
            await requests.get()
        assert (await asyncio.wait_for(probe(client, healthy), 5)).passed
        for task in attack:
            task.cancel()
        await asyncio.gather(*attack, return_exceptions=True)
