"""The ASGI application: what Seldon's executor does around each request, done here. Made by server.py.

A request gets an id (`Seldon-Puid`), the executor's CORS headers, limits on its body (limits.py) and a place in the metrics.
Where Seldon's executor stands in front it does the same; its own headers are then the ones that a caller sees.
"""

import asyncio
import logging
import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from wineserver.environment import Environment
from wineserver.limits import ANSWER_TIME, BODY_BUDGET, BODY_TIME, LARGE_AT_ONCE, LARGE_BODY, READ_AHEAD, Budget, Room
from wineserver.metrics import Metrics
from wineserver.model import NotFiniteError, WineModel
from wineserver.problems import RequestRefusedError, refusal
from wineserver.routes import Call, Handler, Route, Routes
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
        self._budget = Budget(max(BODY_BUDGET, self._limit))
        self._threads = ThreadPoolExecutor(LARGE_AT_ONCE, "large")
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
        room = Room(self._budget)
        try:
            route, response = await self._answer(call, receive, room)
            if response is None:
                return
            response.raw_headers.extend(self._common)
            response.raw_headers.append((PUID.encode(), (call.puid if _fits_header(call.puid) else str(uuid.uuid4())).encode()))
            if self.draining:
                response.raw_headers.append(CLOSE)
            await _send(response, send)
        finally:
            room.give_back()
        if route and route.service:
            self._metrics.count(route.service, route.model_path, call.method, response.status_code, time.perf_counter() - started)

    async def _answer(self, call: Call, receive: Receive, room: Room) -> tuple[Route | None, Response | None]:
        """Read the body and answer; None to a caller who is gone. `room` holds what the body takes of the budget."""
        route: Route | None = None
        try:
            route = self._routes.find(call.path)
            handler = _handler(route, call)
            call.body = await self._read(receive, call.headers, room)
            if len(call.body) > LARGE_BODY:
                return route, await asyncio.get_running_loop().run_in_executor(self._threads, handler, call)
            return route, handler(call)
        except ClientGoneError:
            return route, None
        except InputError as error:
            return route, refusal(call.path, 400, str(error))
        except RequestRefusedError as error:
            return route, refusal(call.path, error.code, str(error), error.headers)
        except NotFiniteError as error:
            return route, refusal(call.path, 500, str(error))
        except Exception as error:  # ours: the log has the details, the caller the type
            log.exception("could not answer %s", call.path)
            info = f"the model could not answer: {type(error).__name__}; see the server's log"
            return route, refusal(call.path, 500, info)

    async def _read(self, receive: Receive, headers: Headers, room: Room) -> bytes:
        """Read the whole body. Refuses what is over the limit, announced or not, before it is in memory.

        So are compressed bodies, whose size nobody knows before it is too late. Raises RequestRefusedError or ClientGoneError.
        """
        encoding = headers.get("content-encoding", "").strip().lower() or "identity"
        if encoding != "identity":
            info = f"compressed bodies are not read (Content-Encoding: {encoding[:40]}): send the JSON as it is"
            raise RequestRefusedError(415, info, {"Accept-Encoding": "identity"})
        length = headers.get("content-length", "0")
        announced = int(length) if re.fullmatch("[0-9]{1,18}", length) else 0
        self._check(announced)
        if announced > LARGE_BODY:
            await room.take(announced)
        parts, size = [], 0
        while True:
            message: Message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            part, is_last = message.get("body", b""), not message.get("more_body")
            if not part and not is_last:  # connections.py says so by nothing
                info = f"the body was not whole after {BODY_TIME:.0f} s: send it faster, or fewer rows"
                raise RequestRefusedError(408, info)
            parts.append(part)
            size += len(part)
            self._check(size)
            if size > LARGE_BODY and not room.size:  # in chunks, and nobody knows how many
                await room.take(self._limit)
            if is_last:
                return b"".join(parts)

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise RequestRefusedError(413, f"the body is larger than {self._limit} bytes: send fewer rows at a time")


def _handler(route: Route, call: Call) -> Handler:
    """Return what answers a method. Raises RequestRefusedError (405)."""
    if call.method == "OPTIONS":  # a browser asks first
        return lambda _: Response(headers={"Allow": route.methods, "Access-Control-Allow-Methods": route.methods})
    handler = route.handlers.get("GET" if call.method == "HEAD" else call.method)
    if handler is None:
        wanted = " or ".join(sorted(route.handlers))
        raise RequestRefusedError(405, f"{call.path} is read with {wanted}, not {call.method}", {"Allow": route.methods})
    return handler


async def _send(response: Response, send: Send) -> None:
    """Send an answer, a large one as the caller takes it: a caller who does not is left with half of it."""
    body = bytes(response.body)
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    if len(body) <= READ_AHEAD:
        await send({"type": "http.response.body", "body": body})
        return
    try:
        async with asyncio.timeout(ANSWER_TIME):
            for start in range(0, len(body), READ_AHEAD):
                part = body[start : start + READ_AHEAD]
                await send({"type": "http.response.body", "body": part, "more_body": start + len(part) < len(body)})
    except TimeoutError:
        log.warning("a caller has not taken its answer of %d bytes in %.0f s", len(body), ANSWER_TIME)


def _fits_header(puid: str) -> bool:
    return 0 < len(puid) <= LONGEST_PUID and puid.isascii() and puid.isprintable()
