"""The Istio gateway and Seldon's executors: forwards requests to ready model servers.

    /seldon/<namespace>/<name>/<path>                           by the predictors' traffic weights
    /seldon-predictor/<namespace>/<name>/<predictor>/<path>     one predictor, as its own cluster service would

`controller` says who is there; the executor's paths are those of seldon-core 1.18, `executor/api/rest/server.go`. Of a predictor
without executor the server answers all paths itself.
"""

import asyncio
import logging
import uuid
from collections import Counter, deque
from dataclasses import dataclass

import aiohttp
from aiohttp import web

log = logging.getLogger("seldon.gateway")
Key = tuple[str, str]  # namespace, name

# Hop-by-hop headers. Host and Content-Length are set again.
SINGLE_HOP = {
    *("connection", "host", "keep-alive", "proxy-authenticate", "proxy-authorization"),
    *("te", "trailer", "transfer-encoding", "upgrade", "content-length"),
}
SELDON_PATHS = {
    "api/v1.0/predictions": "predict",
    "api/v0.1/predictions": "predict",
    "api/v1.0/health/status": "health/status",
    "ready": "health/status",
    "live": "health/ping",
}
NO_SERVER = "no healthy upstream"
NO_ANSWER = "upstream connect error or disconnect/reset before headers"
TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=5)
IDLE = 30  # keep-alive of a connection to a server in seconds, shorter than the servers'


@dataclass
class Route:
    """One predictor: its share of the traffic, and the Deployment whose servers answer."""

    predictor: str
    protocol: str
    traffic: int
    deployment: Key
    executor: bool = True
    credit: int = 0

    def path(self, path: str) -> str | None:
        """Map a path of the predictor's Service to the server's path. None if an executor of this protocol has no such path."""
        if not self.executor:
            return path
        if self.protocol == "v2":
            return path if path.startswith("v2/") else None
        return SELDON_PATHS.get(path)


class Gateway:
    """All routes, the servers that are ready, and the proxy between them."""

    def __init__(self) -> None:
        self._routes: dict[Key, list[Route]] = {}
        self._addresses: dict[Key, deque[str]] = {}
        self._in_flight: Counter[str] = Counter()
        self._draining: dict[str, asyncio.Event] = {}
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.ServerRunner | None = None

    async def start(self, port: int, host: str = "127.0.0.1") -> None:
        """Listen, on the loopback interface by default."""
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE)
        self._session = aiohttp.ClientSession(connector=connector, timeout=TIMEOUT, auto_decompress=False)
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None, keepalive_timeout=75), shutdown_timeout=5)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, reuse_address=True).start()

    async def stop(self) -> None:
        """Finish requests in flight, and stop listening."""
        if self._runner:
            await self._runner.cleanup()
        if self._session:
            await self._session.close()

    def routed(self, key: Key) -> bool:
        """Report whether a SeldonDeployment has routes."""
        return key in self._routes

    def set_routes(self, key: Key, routes: list[Route]) -> None:
        """Set a SeldonDeployment's predictors. [] removes it."""
        self._routes[key] = routes
        if not routes:
            del self._routes[key]

    def set_addresses(self, deployment: Key, addresses: list[str]) -> None:
        """Set the ready servers of a Deployment. Requests in flight to others continue."""
        if sorted(self._addresses.get(deployment, ())) != sorted(addresses):
            self._addresses[deployment] = deque(addresses)
        if not addresses:
            self._addresses.pop(deployment, None)

    def _in_turn(self, deployment: Key) -> list[str]:
        """Return the ready servers in round-robin order."""
        addresses = self._addresses.get(deployment, deque())
        addresses.rotate(-1)
        return list(addresses)

    async def drained(self, address: str, seconds: float) -> None:
        """Wait at most `seconds` seconds until no request is in flight to an address without a route."""
        if not self._in_flight[address]:
            return
        drained = self._draining.setdefault(address, asyncio.Event())
        try:
            await asyncio.wait_for(drained.wait(), seconds)
        except TimeoutError:
            log.warning("%d requests to %s did not end within %.0f s", self._in_flight[address], address, seconds)
        self._draining.pop(address, None)

    def _choose(self, routes: list[Route]) -> Route:
        """Choose by weight, evenly over time (smooth weighted round robin, as in nginx)."""
        for route in routes:
            route.credit += route.traffic
        chosen = max(routes, key=lambda route: route.credit)
        chosen.credit -= sum(route.traffic for route in routes)
        return chosen

    def _find(self, raw: str) -> tuple[Route, str] | None:
        """Return the route and the executor's path for a request's path."""
        match raw.split("/", 4):
            case ["", "seldon", namespace, name, path] if routes := self._routes.get((namespace, name)):
                return self._choose(routes), path
            case ["", "seldon-predictor", namespace, name, rest] if routes := self._routes.get((namespace, name)):
                predictor, _, path = rest.partition("/")
                route = next((route for route in routes if route.predictor == predictor), None)
                return (route, path) if route else None
        return None

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        found = self._find(request.path)
        if found is None:
            return web.Response(status=404)  # Envoy's answer without a route has no body
        route, path = found
        body = (
            await request.content.read() if request.can_read_body else None
        )  # read before a server is chosen, because it may take long
        addresses, wanted = self._in_turn(route.deployment), route.path(path)
        if not addresses:
            return web.Response(status=503, text=NO_SERVER)
        if wanted is None:
            return web.Response(status=404, text="404 page not found\n")
        for address in addresses:
            try:
                return await self._forward(request, body, address, wanted, route.executor)
            except aiohttp.ClientConnectorError as error:  # the server just ended and got nothing, so another one can answer
                log.warning("%s", error)
        return web.Response(status=503, text=f"{NO_ANSWER}. reset reason: connection failure")

    async def _forward(
        self, request: web.BaseRequest, body: bytes | None, address: str, path: str, executor: bool
    ) -> web.Response:
        """Forward a request to one server, as an executor if there is one. Raises aiohttp.ClientConnectorError if it is down."""
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in SINGLE_HOP}
        puid = {"Seldon-Puid": headers.setdefault("Seldon-Puid", str(uuid.uuid4()))} if executor else {}
        self._in_flight[address] += 1
        try:
            async with self._session.request(
                request.method, f"{address}/{path}", params=request.query, data=body, headers=headers, allow_redirects=False
            ) as response:
                kept = {name: value for name, value in response.headers.items() if name.lower() not in SINGLE_HOP}
                return web.Response(status=response.status, body=await response.read(), headers=kept | puid)
        except aiohttp.ClientConnectorError:
            raise
        except TimeoutError:
            return web.Response(status=504, text="upstream request timeout")
        except (aiohttp.ClientError, OSError) as error:
            log.warning("%s: %s", address, error)
            return web.Response(status=503, text=f"{NO_ANSWER}. reset reason: {type(error).__name__}")
        finally:
            self._arrived(address)

    def _arrived(self, address: str) -> None:
        self._in_flight[address] -= 1
        if not self._in_flight[address]:
            del self._in_flight[address]
            if drained := self._draining.get(address):
                drained.set()
