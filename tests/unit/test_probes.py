"""The kubelet's probes: liveness fails when the event loop is blocked, readiness when the API server is unreachable."""

import asyncio
import json
import logging
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from kubernetes.aio.config import kube_config

from winepipelines.platform.kubernetes import lost
from winepipelines.probes import ANSWER_SECONDS, Probes

CUT_OFF = "the API server did not answer within 4 s"


class Operator:
    """The operator's state that the probes read."""

    def __init__(self) -> None:
        self.longest_reconcile = 0.0
        self.problem = ""
        self.requests = 0
        self.now = 0.0

    async def lost(self) -> str:
        self.requests += 1
        return self.problem


@pytest.fixture
def operator() -> Operator:
    return Operator()


@pytest.fixture
async def address(operator: Operator, unused_tcp_port: int) -> AsyncIterator[str]:
    probes = Probes(lambda: operator.longest_reconcile, operator.lost, lambda: operator.now)
    await probes.start("127.0.0.1", unused_tcp_port)
    yield f"http://127.0.0.1:{unused_tcp_port}"
    await probes.stop()


async def _get(url: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.json()


async def test_liveness_reports_the_age_of_the_oldest_reconcile(operator: Operator, address: str) -> None:
    operator.longest_reconcile = 12.5
    assert await _get(f"{address}/healthz") == (200, {"longestReconcileSeconds": 12.5})


async def test_liveness_succeeds_when_a_reconcile_hangs(operator: Operator, address: str) -> None:
    """A user whose resource hangs must not be able to restart the operator of all users."""
    operator.longest_reconcile = 1e6
    assert (await _get(f"{address}/healthz"))[0] == 200


async def test_liveness_fails_when_the_event_loop_is_blocked(operator: Operator, address: str) -> None:
    def probe() -> str:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{address}/healthz", timeout=0.2):
                return "alive"
        except TimeoutError:
            return "no answer"

    probing = asyncio.get_running_loop().run_in_executor(None, probe)
    time.sleep(0.5)  # noqa: ASYNC251 - the attack
    assert await probing == "no answer"
    assert await asyncio.to_thread(probe) == "alive"


async def test_readiness_fails_and_liveness_succeeds_when_the_api_server_is_unreachable(operator: Operator, address: str) -> None:
    assert await _get(f"{address}/readyz") == (200, {"apiServer": "ok"})
    operator.problem, operator.now = CUT_OFF, ANSWER_SECONDS
    assert await _get(f"{address}/readyz") == (503, {"apiServer": CUT_OFF})
    assert (await _get(f"{address}/healthz"))[0] == 200, "a restart would not help"
    operator.problem, operator.now = "", 2 * ANSWER_SECONDS
    assert (await _get(f"{address}/readyz"))[0] == 200


async def test_readiness_caches_the_check_of_the_api_server(operator: Operator, address: str) -> None:
    for _ in range(5):
        await _get(f"{address}/readyz")
    assert operator.requests == 1


async def test_readiness_logs_a_failure_and_its_end_once(
    operator: Operator, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "winepipelines.probes"):
        for problem in ("", CUT_OFF, CUT_OFF, "", ""):
            operator.problem, operator.now = problem, operator.now + ANSWER_SECONDS
            await _get(f"{address}/readyz")
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


class TestLost:
    """The request to the API server, and the responses that count as failures."""

    @pytest.fixture
    async def server(
        self, unused_tcp_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[dict[str, Any]]:
        """An API server with one configurable response; it records its requests."""
        server: dict[str, Any] = {"status": 200, "body": {"items": []}, "requests": []}

        async def answer(request: web.Request) -> web.Response:
            server["requests"].append(request.path_qs)
            return web.json_response(server["body"], status=server["status"])

        application = web.Application()
        application.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
        kubeconfig = tmp_path / "kubeconfig"
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{unused_tcp_port}"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        users = [{"name": "u", "user": {"token": "t"}}]
        kubeconfig.write_text(
            json.dumps({"clusters": [cluster], "contexts": [context], "users": users, "current-context": "c"}), encoding="utf-8"
        )
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
        server["stop"] = runner.cleanup
        yield server
        await runner.cleanup()

    async def test_lost_lists_winepipelines_in_all_namespaces_or_in_one(self, server: dict[str, Any]) -> None:
        assert await lost("", 4) == ""
        assert await lost("team-a", 4) == ""
        assert server["requests"] == [
            "/apis/winepipelines.io/v1alpha1/winepipelines?limit=1",
            "/apis/winepipelines.io/v1alpha1/namespaces/team-a/winepipelines?limit=1",
        ]

    @pytest.mark.parametrize(
        ("status", "problem"),
        [
            (401, "answered 401"),
            (403, "answered 403"),
            (404, "does not serve winepipelines"),
            (500, "answered 500"),
            (503, "503"),
        ],
    )
    async def test_lost_reports_the_problem_when_the_response_is_an_error(
        self, server: dict[str, Any], status: int, problem: str
    ) -> None:
        server |= {"status": status, "body": {"message": "no"}}
        assert problem in await lost("", 4)

    async def test_lost_reports_an_unreachable_server(self, server: dict[str, Any]) -> None:
        await server["stop"]()
        assert "cannot be reached" in await lost("", 4)

    async def test_lost_reports_a_timeout(self, server: dict[str, Any]) -> None:
        assert await lost("", 0) == "the API server did not answer within 0 s"

    async def test_lost_reports_missing_credentials(
        self, server: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
        assert "no credentials for the API server" in await lost("", 4)
