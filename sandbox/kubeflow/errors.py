"""The errors of the API, and the form in which the grpc-gateway answers them.

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
        """Return the HTTP status."""
        return _CODES[self.code][1]

    def message(self) -> dict[str, Any]:
        """Return the body of the answer: `google.rpc.Status` as JSON."""
        body: dict[str, Any] = {"code": self.code, "message": self.internal}
        if self.details:
            status = {"@type": "type.googleapis.com/google.rpc.Status", "code": self.code, "message": self.external}
            body["details"] = [status]
        return body


def invalid(text: str) -> ApiError:
    """Return a client error: 400."""
    return ApiError(3, text)


def undecodable(text: str) -> ApiError:
    """Return the error of a request that is no message of the API: 400 from the gateway, without details."""
    return ApiError(3, f"proto: {text}", details=False)


def not_found(kind: str, name: str) -> ApiError:
    """Return the error of a missing object: 404."""
    return ApiError(5, f"{kind} {name} not found")


def internal(doing: str, cause: str = "") -> ApiError:
    """Return an internal error: 500. Its external text is generic, as on the real server."""
    error = ApiError(13, "Internal Server Error", cause)
    error.internal = f"InternalServerError: {doing}" + (f": {cause}" if cause else "")
    return error


@contextmanager
def during(doing: str) -> Iterator[None]:
    """Prefix the text of an error with the current action."""
    try:
        yield
    except ApiError as error:
        error.internal = f"{doing}: {error.internal}"
        raise
