"""A reverse proxy between the operator and a system that counts, delays, rejects and aborts requests.

It runs in a thread of its own, which calls `before` and `after` around each request. `before` may return a fault, which replaces
the upstream's response or is added to it.
"""

import asyncio
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from types import TracebackType
from typing import Self

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, encode_basic_auth, web


class Fault(Enum):
    """A fault of a request or its response."""

    CUT_BEFORE = auto()  # the connection is closed; nothing was forwarded
    CUT_AFTER = auto()  # the request was forwarded; the connection is closed without a response
    TWICE = auto()  # the request is forwarded twice
    UNAVAILABLE = auto()  # 503; nothing was forwarded
    RATE_LIMITED = auto()  # 429; nothing was forwarded
    BROKEN = auto()  # 500; nothing was forwarded
    REDIRECTED = auto()  # 307 to `elsewhere`; nothing was forwarded
    WEB_PAGE = auto()  # 200 with HTML; nothing was forwarded
    LATE = auto()  # the request is forwarded; the response is sent after `late_seconds`, or when `answer` is set


@dataclass(frozen=True)
class Call:
    """A request. `path` includes the query."""

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Before = Callable[[Call], Fault | int | None]  # an int is the status of the response; nothing is forwarded
After = Callable[[Call], None]
REFUSALS = {Fault.UNAVAILABLE: (503, 14), Fault.RATE_LIMITED: (429, 8), Fault.BROKEN: (500, 13)}  # HTTP status, gRPC code
HOP = {"transfer-encoding", "content-length", "connection", "keep-alive", "content-encoding"}


class Proxy:
    """A proxy for one upstream. `tls` is the TLS context for the upstream, `own_tls` that of the proxy's own server.

    The proxy removes the prefix `strip` from paths, and replaces the client's credentials by `basic`.
    """

    def __init__(
        self,
        upstream: str,
        *,
        before: Before = lambda _: None,
        after: After = lambda _: None,
        tls: ssl.SSLContext | None = None,
        own_tls: ssl.SSLContext | None = None,
        keep_host: bool = False,
        elsewhere: str = "",
        late_seconds: float = 3.0,
        strip: str = "",
        address: str = "127.0.0.1",
        basic: tuple[str, str] | None = None,
    ) -> None:
        self._strip = strip
        self._address = address
        self._basic = basic
        self._upstream = upstream
        self.before = before
        self.after = after
        self._tls = tls
        self._own_tls = own_tls
        self.elsewhere = elsewhere
        self.late_seconds = late_seconds
        self.answer = threading.Event()
        self._keep_host = keep_host  # S3 signatures cover the Host header
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = threading.Event()
        self._port = 0

    @property
    def url(self) -> str:
        """The proxy's URL."""
        return f"{'https' if self._own_tls else 'http'}://{self._address}:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        connector = TCPConnector(ssl=self._tls or True, limit=0)
        async with ClientSession(connector=connector, timeout=ClientTimeout(total=None), auto_decompress=False) as session:
            self._session = session
            app = web.Application(client_max_size=1 << 26)
            app.router.add_route("*", "/{path:.*}", self._handle)
            runner = web.AppRunner(app, shutdown_timeout=1)
            await runner.setup()
            site = web.TCPSite(runner, self._address, 0, ssl_context=self._own_tls)
            await site.start()
            server = site._server
            assert isinstance(server, asyncio.Server)
            self._port = server.sockets[0].getsockname()[1]
            self._started.set()
            await self._stopping.wait()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        call = Call(request.method, request.raw_path, body, request.headers)
        fault = self.before(call)
        call = replace(call, path=call.path.removeprefix(self._strip))
        if isinstance(fault, int):
            return web.Response(status=fault, text="<html>", headers={"Location": "http://127.0.0.1:9/"})
        if fault in REFUSALS:
            status, code = REFUSALS[fault]
            return web.json_response({"code": code, "message": fault.name.lower()}, status=status)
        if fault is Fault.REDIRECTED:
            return web.Response(status=307, headers={"Location": self.elsewhere + call.path})
        if fault is Fault.WEB_PAGE:
            return web.Response(text="<html>Log in</html>", content_type="text/html")
        if fault is Fault.CUT_BEFORE:
            return self._cut(request)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
        if not self._keep_host:
            headers.pop("Host", None)
        if self._basic:
            headers["Authorization"] = encode_basic_auth(*self._basic)
        try:
            if fault is Fault.TWICE:
                async with self._session.request(
                    call.method,
                    self._upstream + call.path,
                    data=body or None,
                    headers=headers,
                    skip_auto_headers=("Content-Type",),
                ) as first:
                    await first.read()
            async with self._session.request(
                call.method, self._upstream + call.path, data=body or None, headers=headers, skip_auto_headers=("Content-Type",)
            ) as answer:
                if fault is Fault.LATE:
                    await asyncio.to_thread(self.answer.wait, self.late_seconds)
                if fault is Fault.CUT_AFTER:
                    await answer.read()
                    return self._cut(request)
                kept = {name: value for name, value in answer.headers.items() if name.lower() not in (HOP - {"content-encoding"})}
                response = web.StreamResponse(status=answer.status, headers=kept)
                if "watch=" not in call.path:
                    content = await answer.read()
                    self.after(call)
                    response.content_length = len(content)
                    await response.prepare(request)
                    await response.write(content)
                else:
                    await response.prepare(request)
                    async for chunk in answer.content.iter_any():
                        await response.write(chunk)
                await response.write_eof()
                return response
        except ClientError:
            return self._cut(request)

    def _cut(self, request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=502)
