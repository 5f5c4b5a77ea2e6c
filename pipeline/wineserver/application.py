"""The ASGI application: what Seldon's executor does around each request, done here. Made by server.py.

A request gets an id (`Seldon-Puid`), the executor's CORS headers, a limit on its body and a place in the metrics. Where Seldon's
executor stands in front it does the same; its own headers are then the ones that a caller sees.
"""

import logging
import re
import time
import uuid

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from wineserver.environment import Environment
from wineserver.metrics import Metrics
from wineserver.model import NotFiniteError, WineModel
from wineserver.problems import RequestRefusedError, refusal
from wineserver.routes import Call, Route, Routes
from wineserver.rows import InputError

log = logging.getLogger("wineserver")
PUID = "seldon-puid"
LONGEST_PUID = 256
CLOSE = (b"connection", b"close")


class ClientGoneError(Exception):
    """The caller has closed the connection before the request was whole."""


class Application:
    """Serves a loaded model. `draining` is set when the server is to end: answers then ask the callers to connect anew."""

    def __init__(self, model: WineModel, environment: Environment) -> None:
        self._limit = environment.max_body
        self._metrics = Metrics(environment)
        self._routes = Routes(model, environment, self._metrics)
        self._common = [
            (b"access-control-allow-origin", environment.allowed_origins.encode()),
            (b"access-control-allow-headers", environment.allowed_headers.encode()),
            (b"x-content-type-options", b"nosniff"),
        ]

    @property
    def draining(self) -> bool:
        """Whether the server is about to end."""
        return self._routes.draining

    def drain(self) -> None:
        """Report not ready, and close each connection with the next answer on it."""
        self._routes.draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        assert scope["type"] == "http", scope["type"]
        started = time.perf_counter()
        headers = Headers(raw=scope["headers"])
        puid = headers.get(PUID, "")
        call = Call(scope["method"], scope["path"], headers, b"", puid if _fits_header(puid) else str(uuid.uuid4()))
        route: Route | None = None
        try:
            call.body = await _read(receive, headers, self._limit)
            route = self._routes.find(call.path)
            response = await self._respond(route, call)
        except ClientGoneError:
            return
        except InputError as error:
            response = refusal(call.path, 400, str(error))
        except RequestRefusedError as error:
            response = refusal(call.path, error.code, str(error), error.headers)
        except NotFiniteError as error:
            response = refusal(call.path, 500, str(error))
        except Exception as error:  # ours: the log has the details, the caller the type
            log.exception("could not answer %s", call.path)
            response = refusal(call.path, 500, f"the model could not answer: {type(error).__name__}; see the server's log")
        response.raw_headers.extend(self._common)
        response.raw_headers.append((PUID.encode(), (call.puid if _fits_header(call.puid) else str(uuid.uuid4())).encode()))
        if self.draining:
            response.raw_headers.append(CLOSE)
        await response(scope, receive, send)
        if route and route.service:
            self._metrics.count(route.service, route.model_path, call.method, response.status_code, time.perf_counter() - started)

    async def _respond(self, route: Route, call: Call) -> Response:
        if call.method == "OPTIONS":  # a browser asks first
            return Response(headers={"Allow": route.methods, "Access-Control-Allow-Methods": route.methods})
        handler = route.handlers.get("GET" if call.method == "HEAD" else call.method)
        if handler is None:
            wanted = " or ".join(sorted(route.handlers))
            raise RequestRefusedError(405, f"{call.path} is read with {wanted}, not {call.method}", {"Allow": route.methods})
        return await handler(call)


def _fits_header(puid: str) -> bool:
    return 0 < len(puid) <= LONGEST_PUID and puid.isascii() and puid.isprintable()


async def _read(receive: Receive, headers: Headers, limit: int) -> bytes:
    """Read the whole body. Refuses what is over `limit` bytes, announced or not, before it is in memory.

    So are compressed bodies, whose size nobody knows before it is too late. Raises RequestRefusedError or ClientGoneError.
    """
    encoding = headers.get("content-encoding", "").strip().lower() or "identity"
    if encoding != "identity":
        info = f"compressed bodies are not read (Content-Encoding: {encoding[:40]}): send the JSON as it is"
        raise RequestRefusedError(415, info, {"Accept-Encoding": "identity"})
    announced = headers.get("content-length", "0")
    _check(int(announced) if re.fullmatch("[0-9]{1,18}", announced) else 0, limit)
    message: Message = await receive()
    if not message.get("more_body") and message["type"] == "http.request":
        body: bytes = message.get("body", b"")
        _check(len(body), limit)
        return body
    parts, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        _check(size, limit)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise RequestRefusedError(413, f"the body is larger than {limit} bytes: send fewer rows at a time")
