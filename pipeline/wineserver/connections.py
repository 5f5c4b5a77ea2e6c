"""Connections whose callers take their time, and how many there may be. Used by server.py.

uvicorn limits neither how long a caller may take for its headers, nor for taking an answer. Each connection has a time since
when it has waited for its caller; `Server` checks all of them every second. Where there are too many, the one that has waited
longest for its caller makes room, so that a probe always finds some.
"""

import asyncio
import resource
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from wineserver.limits import (
    ANSWER_TIME,
    BODY_TIME,
    FREE_PIECES,
    HEADER_TIME,
    LINGER,
    MAX_CONNECTIONS,
    READ_AHEAD,
    SEND_BUFFER,
    SMALLEST_PIECE,
)

OTHER_FILES = 64
"""Files that the process has open beside its connections."""


class Pieces(h11.Connection):
    """An HTTP/1.1 connection that refuses a body in many tiny pieces: each costs as much time as one of 64 KiB."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER)
        self._left = 0.0

    def next_event(self) -> Any:
        """Return the next event. Raises h11.RemoteProtocolError."""
        event = super().next_event()
        if type(event) is h11.Data:
            self._left += len(event.data) / SMALLEST_PIECE - 1
            if self._left < 0:
                raise h11.RemoteProtocolError("the body comes in too many pieces")
        elif type(event) is h11.Request:
            self._left = FREE_PIECES
        return event


class Connection(H11Protocol):
    """A connection that ends when its caller has kept it waiting for too long."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.conn = Pieces()
        self._asked = True
        """Whether the next request has begun: of a new connection it has."""
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
        """Note when a request begins, and when its headers are whole."""
        cycle = self.cycle
        if not self._asked and self._is_idle:
            self._asked, self._since = True, self.loop.time()
        super().data_received(data)
        if self.cycle is not cycle:
            self._asked, self._since = False, self.loop.time()

    def on_response_complete(self) -> None:
        """Note when the connection becomes idle."""
        self._since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Note when the caller began to let the answer wait."""
        self._since = self.loop.time()
        super().pause_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; where an answer has been sent already there is nothing left to say."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.abort()

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
        elif self.conn.their_state is h11.SEND_BODY and self.cycle is not None:  # the rest of a body that was refused
            late = waited > LINGER
        else:
            late = self._asked and waited > HEADER_TIME
        if late:
            self.transport.abort()


def most_connections() -> int:
    """Return how many connections there may be: a server that can open no more files accepts none for a second."""
    return max(1, min(MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OTHER_FILES))
