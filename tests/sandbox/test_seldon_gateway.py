"""The gateway: paths, weights, answers without a server, and draining."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from sandbox.ports import choose
from sandbox.seldon import gateway as module
from sandbox.seldon.gateway import Gateway, Route

KEY, WINE, CANARY = ("admin", "mlflow"), ("admin", "mlflow-wine-0-classifier"), ("admin", "mlflow-canary-0-classifier")
PREDICT = "/seldon/admin/mlflow/api/v1.0/predictions"


class Upstream:
    """A server that answers with the request. `gate` holds back its answers."""

    def __init__(self, name: str) -> None:
        self.name, self.gate, self.asked = name, asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def start(self) -> "Upstream":
        port = choose(["it"], {})["it"]
        self.runner = web.ServerRunner(web.Server(self.answer, access_log=None))
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", port).start()
        self.address = f"http://127.0.0.1:{port}"
        return self

    async def answer(self, request: web.BaseRequest) -> web.Response:
        body = await request.content.read()
        self.asked.set()
        await self.gate.wait()
        status = 418 if body == b"teapot" else 200
        return web.json_response(
            {"server": self.name, "path": request.path, "query": request.query_string, "size": len(body), "is": request.method},
            status=status,
        )


class Client(Gateway):
    """A gateway, and requests to it."""

    session: aiohttp.ClientSession


@pytest_asyncio.fixture
async def upstreams() -> AsyncIterator[list[Upstream]]:
    made = [await Upstream(name).start() for name in ("one", "two")]
    yield made
    for upstream in made:
        upstream.gate.set()
        await upstream.runner.cleanup()


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator["Client"]:
    made = Client()
    port = choose(["it"], {})["it"]
    await made.start(port)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as made.session:
        yield made
    await made.stop()


async def post(gateway: "Client", path: str = PREDICT, body: bytes = b"{}", method: str = "POST") -> tuple[int, Any]:
    async with gateway.session.request(method, path, data=body) as response:
        kind = response.headers.get("Content-Type", "")
        return response.status, await (response.json() if "json" in kind else response.text())


async def test_server_answers_every_path_without_an_executor(gateway: Client, upstreams: list[Upstream]) -> None:
    gateway.set_routes(KEY, [Route("wine", "seldon", 100, WINE, executor=False)])
    gateway.set_addresses(WINE, [upstreams[0].address])
    for path in ("api/v1.0/predictions", "v2/models/classifier/infer", "metrics", "no/such/path"):
        async with gateway.session.post(f"/seldon/admin/mlflow/{path}", data=b"{}") as response:
            assert (await response.json())["path"] == f"/{path}"
            assert "Seldon-Puid" not in response.headers


async def test_request_reaches_the_server_as_the_executor_forwards_it(gateway: Client, upstreams: list[Upstream]) -> None:
    gateway.set_routes(KEY, [Route("wine", "seldon", 100, WINE)])
    gateway.set_addresses(WINE, [upstreams[0].address])
    status, body = await post(gateway, PREDICT + "?a=1", b"x" * 3_000_000)
    assert (status, body) == (200, {"server": "one", "path": "/predict", "query": "a=1", "size": 3_000_000, "is": "POST"})
    status, body = await post(gateway, "/seldon-predictor/admin/mlflow/wine/api/v1.0/predictions")
    assert (status, body["path"]) == (200, "/predict")
    assert (await post(gateway, body=b"teapot"))[0] == 418
    assert (await post(gateway, "/seldon/admin/mlflow/api/v1.0/health/status", method="GET"))[1]["path"] == "/health/status"


async def test_protocols_have_their_own_paths(gateway: Client, upstreams: list[Upstream]) -> None:
    gateway.set_addresses(WINE, [upstreams[0].address])
    infer = "/seldon/admin/mlflow/v2/models/classifier/infer"
    gateway.set_routes(KEY, [Route("wine", "v2", 100, WINE)])
    assert (await post(gateway, infer))[1]["path"] == "/v2/models/classifier/infer"
    assert (await post(gateway))[0] == 404
    gateway.set_routes(KEY, [Route("wine", "seldon", 100, WINE)])
    assert (await post(gateway, infer))[0] == 404


async def test_missing_route_or_server_is_answered(gateway: Client, upstreams: list[Upstream]) -> None:
    for path in (PREDICT, "/", "/seldon/admin", "/seldon-predictor/admin/mlflow/wine/x"):
        assert (await post(gateway, path))[0] == 404
    gateway.set_routes(KEY, [Route("wine", "seldon", 100, WINE)])
    assert await post(gateway) == (503, "no healthy upstream")
    assert (await post(gateway, "/seldon-predictor/admin/mlflow/other/x"))[0] == 404
    await upstreams[0].runner.cleanup()
    gateway.set_addresses(WINE, [upstreams[0].address])
    status, text = await post(gateway)
    assert (status, text.startswith("upstream connect error")) == (503, True)
    gateway.set_routes(KEY, [])
    assert (await post(gateway))[0] == 404


async def test_weights_and_replicas_share_the_requests(gateway: Client, upstreams: list[Upstream]) -> None:
    gateway.set_routes(KEY, [Route("wine", "seldon", 90, WINE), Route("canary", "seldon", 10, CANARY)])
    gateway.set_addresses(WINE, [upstreams[0].address])
    gateway.set_addresses(CANARY, [upstreams[1].address])
    served = Counter([(await post(gateway))[1]["server"] for _ in range(50)])
    assert served == {"one": 45, "two": 5}
    assert (await post(gateway, "/seldon-predictor/admin/mlflow/canary/api/v1.0/predictions"))[1]["server"] == "two"
    gateway.set_routes(KEY, [Route("wine", "seldon", 100, WINE)])
    gateway.set_addresses(WINE, [upstream.address for upstream in upstreams])
    assert Counter([(await post(gateway))[1]["server"] for _ in range(10)]) == {"one": 5, "two": 5}


async def test_server_is_drained_before_it_ends(gateway: Client, upstreams: list[Upstream]) -> None:
    old, new = upstreams
    gateway.set_routes(KEY, [Route("wine", "seldon", 100, WINE)])
    gateway.set_addresses(WINE, [old.address])
    old.gate.clear()
    slow = asyncio.create_task(post(gateway))
    await old.asked.wait()
    gateway.set_addresses(WINE, [new.address])
    drained = asyncio.create_task(gateway.drained(old.address, 10))
    assert (await post(gateway))[1]["server"] == "two"
    assert not drained.done()
    old.gate.set()
    assert (await slow)[1]["server"] == "one"
    await asyncio.wait_for(drained, 5)
    await asyncio.wait_for(gateway.drained(old.address, 10), 1)


async def test_draining_ends_after_its_timeout(gateway: Client, upstreams: list[Upstream]) -> None:
    gateway.set_routes(KEY, [Route("wine", "seldon", 100, WINE)])
    gateway.set_addresses(WINE, [upstreams[0].address])
    upstreams[0].gate.clear()
    slow = asyncio.create_task(post(gateway))
    await upstreams[0].asked.wait()
    await asyncio.wait_for(gateway.drained(upstreams[0].address, 0.05), 5)
    assert not slow.done()
    upstreams[0].gate.set()
    await slow


async def test_request_is_sent_to_another_server_when_one_is_down(gateway: Client, upstreams: list[Upstream]) -> None:
    gateway.set_routes(KEY, [Route("wine", "seldon", 100, WINE)])
    gateway.set_addresses(WINE, [upstream.address for upstream in upstreams])
    await upstreams[0].runner.cleanup()
    answers = [await post(gateway, body=b"x" * 100) for _ in range(6)]
    assert {(status, body["server"], body["size"]) for status, body in answers} == {(200, "two", 100)}


async def test_received_request_is_not_sent_to_another_server(gateway: Client, upstreams: list[Upstream]) -> None:
    gateway.set_routes(KEY, [Route("wine", "seldon", 100, WINE)])
    gateway.set_addresses(WINE, [upstream.address for upstream in upstreams])
    for upstream in upstreams:
        upstream.gate.clear()
    asked = asyncio.create_task(post(gateway))
    waiting = [asyncio.create_task(upstream.asked.wait()) for upstream in upstreams]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    first, other = sorted(upstreams, key=lambda upstream: not upstream.asked.is_set())
    for protocol in list(first.runner.server.connections if first.runner.server else []):
        protocol.force_close()  # the server breaks down over it
    status, text = await asked
    assert (status, "ServerDisconnectedError" in text, other.asked.is_set()) == (503, True, False)
    for task in waiting:
        task.cancel()


async def test_request_to_a_hanging_server_times_out(upstreams: list[Upstream], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", aiohttp.ClientTimeout(total=0.1))
    made, port = Client(), choose(["it"], {})["it"]
    await made.start(port)
    made.set_routes(KEY, [Route("wine", "seldon", 100, WINE)])
    made.set_addresses(WINE, [upstreams[0].address])
    upstreams[0].gate.clear()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as made.session:
        assert await post(made) == (504, "upstream request timeout")
    await made.stop()
