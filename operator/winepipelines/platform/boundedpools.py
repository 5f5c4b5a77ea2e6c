"""Limit the answers that blocking clients read: those of Kubeflow Pipelines, MLflow and the object store, which use urllib3.

The clients themselves have no limit of size or total time. Here an answer is read before the client gets it, up to a limit of
bytes after decompression, and the whole request has a deadline, however slowly the answer arrives.
"""

import contextlib
import http.client
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import urllib3
from urllib3 import poolmanager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

ANSWER_BYTES = 2 << 20
SECONDS = 30.0  # of a request, from its first byte to the answer's last
PIECE = 1 << 16
TOO_SLOW = "AnswerTooSlow: timed out after {:g} s"
ENCODED = ("content-encoding", "content-length", "transfer-encoding")  # they describe the encoded answer


_limit = ContextVar("answer_bytes", default=ANSWER_BYTES)


@contextlib.contextmanager
def allowed(number: int) -> Iterator[None]:
    """Allow answers of this many bytes, also in threads that are started within the context."""
    before = _limit.set(number)
    try:
        yield
    finally:
        _limit.reset(before)


class AnswerTooLarge(HTTPError):
    """An answer is larger than the operator reads."""


class AnswerTooSlow(HTTPError):
    """An answer is not complete within the time of a request."""


class _Deadline:
    """Ends a request at its deadline by closing its socket for both sides, which wakes the thread that reads it."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self.expired = False
        self._socket = sock
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def _expire(self) -> None:
        self.expired = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "_Deadline":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


class BoundedConnection(HTTPConnection):
    """A connection with limited answers."""

    seconds = SECONDS
    _request: tuple[str, str, bool] = ("GET", "", True)  # method, address, whether the body is read at once
    _started = 0.0

    def request(self, method: str, url: str, *arguments: Any, preload_content: bool = True, **options: Any) -> None:
        """Send a request and start its deadline."""
        self._request, self._started = (method, url, preload_content), time.monotonic()
        super().request(method, url, *arguments, preload_content=False, **options)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override] # as in urllib3
        """Read the whole answer.

        Raises AnswerTooLarge, AnswerTooSlow, and what urllib3 raises.
        """
        with _Deadline(self.sock, max(0.0, self.seconds - (time.monotonic() - self._started))) as deadline:
            try:
                answer = super().getresponse()
                body = _read(answer, _limit.get())
            except (HTTPError, http.client.HTTPException, OSError):
                self.close()
                if deadline.expired:
                    raise AnswerTooSlow(TOO_SLOW.format(self.seconds)) from None
                raise
        if deadline.expired:  # an answer that ended at that time may be truncated
            self.close()
            raise AnswerTooSlow(TOO_SLOW.format(self.seconds))
        headers = answer.headers.copy()
        for name in ENCODED:
            headers.discard(name)
        method, url, preload = self._request
        return urllib3.HTTPResponse(
            body=io.BytesIO(body),
            headers=headers,
            status=answer.status,
            version=answer.version,
            version_string=answer.version_string,
            reason=answer.reason,
            preload_content=preload,
            original_response=answer._original_response,  # when it ends, the client reuses the connection
            request_method=method,
            request_url=url,
        )


def _read(answer: urllib3.HTTPResponse, limit: int) -> bytes:
    pieces, size = [], 0
    while piece := answer.read1(PIECE, decode_content=True):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            answer.close()
            raise AnswerTooLarge(f"AnswerTooLarge: more than {limit} bytes")
    return b"".join(pieces)


class _BoundedTls(BoundedConnection, HTTPSConnection):
    """The same over TLS."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = BoundedConnection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _BoundedTls


def allow_seconds(request_seconds: float) -> None:
    """Set the deadline of requests from the configured timeout of one answer."""
    BoundedConnection.seconds = max(SECONDS, 1.5 * request_seconds)


def bound_all() -> None:
    """Make all pool managers of this process, also those inside clients, create limited connections."""
    poolmanager.pool_classes_by_scheme.update(http=_Pool, https=_TlsPool)
