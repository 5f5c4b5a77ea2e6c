"""Connections whose callers take their time, and how many there may be. Used by server.py.

uvicorn limits neither how long a caller may take for its headers, nor for taking an answer. Each connection has a time since
when it has waited for its caller; `Server` checks all of them every second. Where there are too many, the one that has waited
longest for its caller makes room, so that a probe always finds some.
"""

import asyncio
import resource
import socket
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from wineserver.limits import (
    ANSWER_TIME,
    BODY_TIME,
    FREE_PIECES,
    HEADER_TIME,
    LINGER,
    MAX_CONNECTIONS,
    MAX_HEAD,
    READ_AHEAD,
    SEND_BUFFER,
    SMALLEST_PIECE,
)

OTHER_FILES = 64
"""Files that the process has open beside its connections."""


class Connection(HttpToolsProtocol):
    """A connection that ends when its caller has kept it waiting for too long."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._asked = True
        """Whether the next request has begun: of a new connection it has."""
        self._receiving = False
        """Whether the body of a request is not whole yet."""
        self._unread = 0
        """Bytes since the last piece of a body: a head, trailers, or what stands around pieces."""
        self._pieces = 0.0
        """How many more pieces the body may come in, if they are tiny."""
        self._since = self.loop.time()
        self._closing_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room for the connection, or close it where all others are being answered."""
        transport.max_size = READ_AHEAD  # type: ignore[attr-defined]  # of asyncio's own transport: 256 KiB by default
        if (connection := transport.get_extra_info("socket")) is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        super().connection_made(transport)
        if len(self.connections) <= most_connections():
            return
        waiting = [other for other in self.connections if isinstance(other, Connection) and other.waits_for_caller]
        longest = min(waiting, key=lambda other: other._since)  # this one waits, too
        longest.transport.abort()
        self.connections.discard(longest)  # now, since more connections come before it is closed

    def data_received(self, data: bytes) -> None:
        """Parse what was received. Note when a request begins, and when its headers are whole."""
        self._unset_keepalive_if_required()
        cycle = self.cycle
        if not self._asked and self._is_idle:
            self._asked, self._since = True, self.loop.time()
        if self._unread > MAX_HEAD:
            self._refuse()
            return
        self._unread += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse()
        if self.cycle is not cycle:
            self._asked, self._since = False, self.loop.time()

    def _parse(self, data: bytes) -> None:
        """Feed the parser. Raises HttpParserError.

        The parser leaves out the body of a request that offers another protocol, as clients do which could speak HTTP/2. No other
        is spoken here, so that it reads the request again without the offer.
        """
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self.parser.get_method() == b"CONNECT":
                    raise httptools.HttpParserError from None
                data = self._head_without_offer() + data[upgrade.args[0] :]
            else:
                return

    def _head_without_offer(self) -> bytes:
        line = b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        lines = [b"%s: %s\r\n" % (name, value) for name, value in self.headers if name != b"upgrade"]
        return b"".join((line, *lines, b"\r\n"))

    def on_headers_complete(self) -> None:
        """Note that the body begins."""
        if self.parser.should_upgrade():
            return
        self._receiving, self._unread, self._pieces = True, 0, float(FREE_PIECES)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the body is whole."""
        if self.parser.should_upgrade():
            return
        self._receiving, self._unread = False, 0
        super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body. Raises HttpParserError if too many are tiny: each costs as much time as one of 64 KiB."""
        self._unread = 0
        self._pieces += len(body) / SMALLEST_PIECE - 1
        if self._pieces < 0:
            raise httptools.HttpParserError
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Note when the connection becomes idle."""
        self._since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Note when the caller began to let the answer wait."""
        self._since = self.loop.time()
        super().pause_writing()

    def _refuse(self) -> None:
        """Refuse what is no HTTP; where an answer has been sent already there is nothing left to say."""
        if self.cycle is not None and (self._receiving if self.cycle.response_complete else self.cycle.response_started):
            self.transport.abort()
            return
        if not self._is_idle:
            self.cycle.disconnected = True  # the application need not answer any more
            self.cycle.message_event.set()
        self.send_400_response("Invalid HTTP request received.")

    @property
    def waits_for_caller(self) -> bool:
        """Whether the next move is the caller's."""
        return self._is_idle or self.cycle.more_body or self.flow.write_paused

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def end_if_late(self, now: float) -> None:
        """End the connection if its caller has had its time; a body that is late is refused first, by the application."""
        waited = now - self._since
        if self.transport.is_closing():  # with bytes that the caller does not take
            self._closing_since = self._closing_since or now
            late = now - self._closing_since > LINGER
        elif self.flow.write_paused:
            late = waited > ANSWER_TIME / 2
        elif not self._is_idle:
            late = False
            if self.cycle.more_body and waited > BODY_TIME:
                self.cycle.message_event.set()  # the application, woken without bytes, refuses the request
        elif self._receiving:  # the rest of a body that was refused
            late = waited > LINGER
        else:
            late = self._asked and waited > HEADER_TIME
        if late:
            self.transport.abort()


def most_connections() -> int:
    """Return how many connections there may be: a server that can open no more files accepts none for a second."""
    return max(1, min(MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OTHER_FILES))
