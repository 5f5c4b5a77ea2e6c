"""The probe that the kubelet asks fails where a reconcile hangs, so that a hung operator is started anew."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import aiohttp
import kopf
import pytest
from kopf._cogs.structs.ephemera import AnyMemo
from kopf._core.engines.activities import run_activity
from kopf._core.engines.indexing import OperatorIndexers
from kopf._core.engines.probing import health_reporter
from kopf._core.intents.causes import Activity

from winepipelines import handlers
from winepipelines.settings import Settings

SETTINGS = Settings(kfp_url="http://kfp", mlflow_url="http://mlflow", s3_endpoint_url="http://minio", hang_seconds=600)


@asynccontextmanager
async def _probe(monkeypatch: pytest.MonkeyPatch, longest_reconcile: float) -> AsyncIterator[str]:
    """Serve kopf's own probe of an operator whose oldest reconcile is that old; give its address."""

    async def started(_: Settings) -> SimpleNamespace:
        quick = SimpleNamespace(longest_reconcile=lambda: 0.0)
        return SimpleNamespace(reconciler=quick, predictions=SimpleNamespace(longest_reconcile=lambda: longest_reconcile))

    monkeypatch.setattr(handlers.Operator, "start", started)
    registry = handlers.register(SETTINGS)
    settings = kopf.OperatorSettings()
    memo, indices = AnyMemo(kopf.Memo()), OperatorIndexers().indices
    await run_activity(
        lifecycle=kopf.lifecycles.all_at_once,
        registry=registry,
        settings=settings,
        activity=Activity.STARTUP,
        indices=indices,
        memo=memo,
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}/healthz"
    ready = asyncio.Event()
    server = asyncio.create_task(
        health_reporter(address, memo=memo, indices=indices, registry=registry, settings=settings, ready_flag=ready)
    )
    await ready.wait()
    yield address
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)


async def _ask(address: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(address) as response:
        return response.status, await response.text()


async def test_the_probe_tells_how_long_the_oldest_reconcile_has_been_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _probe(monkeypatch, 12.5) as address:
        assert await _ask(address) == (200, '{"longestReconcileSeconds": 12.5}')


async def test_the_probe_fails_where_a_reconcile_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _probe(monkeypatch, 601) as address:
        status, _ = await _ask(address)
    assert status == 500
