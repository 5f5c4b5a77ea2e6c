"""Errors of the platform, distinguished by what can be done about them. Adapters in `platform` and `serving` raise them."""

from winepipelines.engine.errors import PlatformError, Unavailable

__all__ = ["NotSent", "PlatformError", "Refused", "TooLarge", "Unavailable"]


class NotSent(Unavailable):
    """No connection was made, so that the request was certainly not carried out."""


class TooLarge(Unavailable):
    """The answer is larger than the operator reads. The request may have been carried out."""


class Refused(PlatformError):
    """The system rejected the request: the same request fails again until the request or the platform's settings change."""
