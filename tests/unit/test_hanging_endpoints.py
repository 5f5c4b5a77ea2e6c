"""Endpoints that accept connections and never answer, or answer a byte at a time: a comparison ends by its deadline."""

import asyncio
import contextlib
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from winepipelines.platform.answers import COMPARISON_SECONDS, SILENT, Asked, ask, compare, session
from winepipelines.platform.records import Example
from winepipelines.resource.spec import Protocol

EXAMPLE = Example(["a"], [[1.0]], [5.7])
BODY = json.dumps({"data": {"ndarray": [5.7]}}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
SECONDS = 1.2
Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def _hang(_: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def _answer_in_two_parts(writer: asyncio.StreamWriter) -> None:
    writer.write(ANSWER[:-10])
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.write(ANSWER[-10:])


async def _drip(writer: asyncio.StreamWriter) -> None:
    """Write a byte of the answer often enough for any timeout that each byte starts anew."""
    writer.write(ANSWER[: ANSWER.index(b"\r\n\r\n") + 4])
    for byte in b" " * 10_000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.02)


async def _drip_headers(writer: asyncio.StreamWriter) -> None:
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
async def _endpoint(behave: Behaviour) -> AsyncIterator[tuple[Asked, asyncio.Queue[None]]]:
    requests: asyncio.Queue[None] = asyncio.Queue()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.put_nowait(None)
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            await behave(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield Asked(f"http://{host}:{port}/", Protocol.SELDON, EXAMPLE), requests
    finally:
        server.close()
        for task in tasks:
            task.cancel()


def test_the_deadline_is_far_below_the_deadline_of_a_reconcile() -> None:
    assert COMPARISON_SECONDS <= 30


@pytest.mark.parametrize("behaviour", [_hang, _drip, _drip_headers])
async def test_a_comparison_ends_by_its_deadline_when_both_models_hang(behaviour: Behaviour) -> None:
    async with _endpoint(behaviour) as (served, of_served), _endpoint(behaviour) as (trial, of_trial), session(20.0) as made:
        began = time.monotonic()
        view = await compare(made, served, trial, SECONDS)
        assert time.monotonic() - began < SECONDS + 0.5
    assert (view.asked, view.failed, view.reason, view.served_reason) == (3, 3, "EndpointUnreachable", "EndpointUnreachable")
    assert (of_served.qsize(), of_trial.qsize()) == (SILENT, SILENT), "and both are left alone"


async def test_a_served_model_that_hangs_says_nothing_against_a_candidate_that_answers() -> None:
    async with _endpoint(_hang) as (served, of_served), _endpoint(_answer) as (trial, _), session(20.0) as made:
        view = await compare(made, served, trial, SECONDS)
    assert (view.asked, view.failed, view.served_reason) == (20, 0, "EndpointUnreachable")
    assert view.served_milliseconds == math.inf, "there is nothing to compare with"
    assert of_served.qsize() == SILENT


async def test_a_slow_model_is_judged_by_the_predictions_that_there_is_time_for() -> None:
    async with _endpoint(_answer_slowly) as (served, _), _endpoint(_answer_slowly) as (trial, _), session(20.0) as made:
        began = time.monotonic()
        view = await compare(made, served, trial, SECONDS)
        assert time.monotonic() - began < SECONDS + 0.5
    assert 0 < view.asked < 20
    assert view.failed == 0
    assert view.milliseconds >= 100


@pytest.mark.parametrize("behaviour", [_hang, _drip, _drip_headers])
async def test_one_prediction_ends_by_the_sessions_deadline(behaviour: Behaviour) -> None:
    async with _endpoint(behaviour) as (asked, _), session(0.3) as made:
        began = time.monotonic()
        check = await ask(made, asked)
        assert time.monotonic() - began < 1.0
    assert check.reason == "EndpointUnreachable"


async def test_an_answer_in_parts_is_read_to_its_end() -> None:
    async with _endpoint(_answer_in_two_parts) as (asked, _), session(20.0) as made:
        assert (await ask(made, asked)).passed


async def test_connections_that_hang_do_not_keep_others_from_being_made() -> None:
    async with _endpoint(_hang) as (hanging, requests), _endpoint(_answer) as (honest, _), session(20.0) as made:
        attack = [asyncio.create_task(ask(made, hanging)) for _ in range(150)]
        for _ in attack:
            await requests.get()
        assert (await asyncio.wait_for(ask(made, honest), 5)).passed
        for task in attack:
            task.cancel()
        await asyncio.gather(*attack, return_exceptions=True)
