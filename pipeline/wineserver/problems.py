"""How errors look: Seldon's status message, or the Open Inference Protocol's `{"error": …}` below /v2.

Used by application.py. Every refusal is JSON, an unknown path and a defect of ours included.
"""

import http
import logging
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wineserver.rows import InputError

log = logging.getLogger("wineserver")


def json_response(content: Any, code: int = 200) -> Response:
    """Return `content` as JSON."""
    return Response(orjson.dumps(content), code, media_type="application/json")


def refusal(path: str, code: int, info: str) -> Response:
    """Return the error answer in the form that callers of `path` read."""
    if path.startswith("/v2"):
        return json_response({"error": info}, code)
    reason = http.HTTPStatus(code).name
    return json_response({"status": {"status": "FAILURE", "code": code, "reason": reason, "info": info}}, code)


async def on_input_error(request: Request, error: Exception) -> Response:
    """The request holds what the model cannot answer."""
    return refusal(request.url.path, 400, str(error))


async def on_invalid_body(request: Request, error: Exception) -> Response:
    """FastAPI could not make an inference request of the body; it would answer 422."""
    assert isinstance(error, RequestValidationError)
    if "json" not in request.headers.get("content-type", ""):
        return refusal(request.url.path, 400, "send the header Content-Type: application/json with the request")
    found = error.errors()[0] if error.errors() else {}
    where = ".".join(str(part) for part in found.get("loc", ()))
    expected = getattr(request.app.state, "expected", "")
    return refusal(request.url.path, 400, f"{where}: {found.get('msg', 'invalid')}; {expected}")


async def on_http_error(request: Request, error: Exception) -> Response:
    """An unknown path, a wrong method, or a body too large."""
    assert isinstance(error, HTTPException)
    return refusal(request.url.path, error.status_code, error.detail)


async def on_defect(request: Request, error: Exception) -> Response:
    """Anything else is ours: the log has the details, the caller the type."""
    log.error("could not answer %s", request.url.path, exc_info=error)
    return refusal(request.url.path, 500, f"the model could not answer: {type(error).__name__}; see the server's log")


HANDLERS = {
    InputError: on_input_error,
    RequestValidationError: on_invalid_body,
    HTTPException: on_http_error,
    Exception: on_defect,
}


class BodyLimit:
    """Refuses bodies over `limit` bytes, announced or not, before they are in memory; and compressed ones,
    whose size nobody knows before it is too late.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a receive that counts."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            if received == 0:
                self._check_headers(scope)
            message = await receive()
            received += len(message.get("body", b""))
            self._check_size(received)
            return message

        await self.app(scope, counted, send)

    def _check_headers(self, scope: Scope) -> None:
        headers: dict[bytes, bytes] = dict(scope.get("headers", ()))
        announced = headers.get(b"content-length", b"0")
        self._check_size(int(announced) if announced.isdigit() else 0)
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise HTTPException(415, "compressed bodies are not read: send the JSON as it is")

    def _check_size(self, size: int) -> None:
        if size > self.limit:
            raise HTTPException(413, f"the body is larger than {self.limit} bytes: send fewer rows at a time")
