"""How errors look: Seldon's status message, or the Open Inference Protocol's `{"error": …}` below /v2.

Every refusal is JSON, an unknown path and a defect of ours included.
"""

import http
from typing import Any

import orjson
from starlette.responses import Response

from winecontract.text import clean


class RequestRefusedError(Exception):
    """A request that no handler is asked about: `code` and what to do instead."""

    def __init__(self, code: int, info: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(info)
        self.code = code
        self.headers = headers or {}


def json_response(content: Any, code: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `content` as JSON."""
    return Response(orjson.dumps(content), code, headers, media_type="application/json")


def refusal(path: str, code: int, info: str, headers: dict[str, str] | None = None) -> Response:
    """Return the error answer in the form that callers of `path` read."""
    info = clean(info)
    if path.startswith("/v2"):
        return json_response({"error": info}, code, headers)
    reason = http.HTTPStatus(code).name
    return json_response({"status": {"status": "FAILURE", "code": code, "reason": reason, "info": info}}, code, headers)
