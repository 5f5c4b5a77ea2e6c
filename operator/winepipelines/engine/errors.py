"""Errors that the engine knows: a failed call, a resource that has changed meanwhile, and a body that does not fit the schema."""

from winecontract.reasons import Reason
from winecontract.text import clean

DEADLINE_EXCEEDED = Reason.DEADLINE_EXCEEDED
UNEXPECTED = Reason.UNEXPECTED_ERROR


class PlatformError(Exception):
    """A system that the operator depends on did not do what was requested.

    Args:
        reason: the condition's reason.
        message: for the resource's owner. It holds no credential, and no text that changes between attempts, because the status
            would be written again and again.
        words: the system's own message, if it sent one.
        status: the HTTP status of the system's answer; None if it sent none.
        diagnosed: whether the message names the problem even though there was no answer, such as an untrusted certificate.

    """

    def __init__(
        self, reason: Reason, message: str, words: str = "", *, status: int | None = None, diagnosed: bool = False
    ) -> None:
        message = clean(message)
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.words = clean(words) or message
        self.status = status
        self.diagnosed = diagnosed or status is not None


class Unavailable(PlatformError):
    """The system cannot be reached or is unhealthy: the same request may succeed later. It may have been carried out."""


class Conflict(Exception):
    """The resource has changed since it was read. Its watch delivers the change."""


class InvalidResource(Exception):
    """A resource's body does not fit the schema. The message names the field."""
