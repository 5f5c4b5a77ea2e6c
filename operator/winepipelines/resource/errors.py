"""Errors of the platform, told apart by what can be done about them.

Adapters in `platform` raise them, with messages for the resource's owner: no credential, and no text that changes from one
try to the next (status would be written again and again). What they quote is cleaned here.
"""

from winecontract.text import clean


class PlatformError(Exception):
    """A system of the platform did not do what was asked.

    `reason` is a condition's reason; `words` are the system's own, where it said any.
    """

    def __init__(self, reason: str, message: str, words: str = "") -> None:
        message = clean(message)
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.words = clean(words) or message


class Unavailable(PlatformError):
    """It cannot be reached, or is not well: the same request may pass later. It may have been carried out."""


class NotSent(Unavailable):
    """No connection was made, so that the request was certainly not carried out."""


class TooLarge(Unavailable):
    """Its answer is larger than the operator reads. It may have been carried out."""


class Refused(PlatformError):
    """It understood and said no: only a change of the request or of the platform's settings helps."""
