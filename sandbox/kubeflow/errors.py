"""The errors of the API: what the server raises, and the form in which the grpc-gateway answers it.

Kubeflow keeps two texts: an external one, and an internal one to which each caller on the way up adds what it was
doing. The answer's `message` is the internal, its `details` carry the external. Source: backend/src/common/util/error.go.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: gRPC code -> (what Kubeflow calls it in the internal text, HTTP status of the grpc-gateway)
_CODES = {
    3: ("Invalid input error", 400),
    5: ("ResourceNotFoundError", 404),
    6: ("Already exist error", 409),
    7: ("PermissionDenied", 403),
    9: ("FailedPreconditionError", 400),
    10: ("BadRequestError", 409),
    12: ("Unimplemented", 501),
    13: ("InternalServerError", 500),
    14: ("ServiceUnavailable", 503),
    16: ("Unauthenticated", 401),
}


class ApiError(Exception):
    """An answer other than 200."""

    def __init__(self, code: int, external: str, cause: str = "", *, details: bool = True) -> None:
        kind = _CODES[code][0]
        self.code = code
        self.external = external
        self.internal = f"{kind}: {external}" + (f": {cause}" if cause else "") if details else external
        self.details = details
        super().__init__(self.internal)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return _CODES[self.code][1]

    def message(self) -> dict[str, Any]:
        """The body of the answer: `google.rpc.Status` as JSON."""
        body: dict[str, Any] = {"code": self.code, "message": self.internal}
        if self.details:
            status = {"@type": "type.googleapis.com/google.rpc.Status", "code": self.code, "message": self.external}
            body["details"] = [status]
        return body


def invalid(text: str) -> ApiError:
    """The caller's mistake: 400."""
    return ApiError(3, text)


def undecodable(text: str) -> ApiError:
    """A request that is not a message of the API at all: 400 straight from the gateway, without details."""
    return ApiError(3, f"proto: {text}", details=False)


def not_found(kind: str, name: str) -> ApiError:
    """404."""
    return ApiError(5, f"{kind} {name} not found")


def internal(doing: str, cause: str = "") -> ApiError:
    """500. The external text says nothing, as on the real server."""
    error = ApiError(13, "Internal Server Error", cause)
    error.internal = f"InternalServerError: {doing}" + (f": {cause}" if cause else "")
    return error


@contextmanager
def during(doing: str) -> Iterator[None]:
    """Put what was being done before the text of an error that passes."""
    try:
        yield
    except ApiError as error:
        error.internal = f"{doing}: {error.internal}"
        raise
