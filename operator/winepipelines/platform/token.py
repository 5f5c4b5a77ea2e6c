"""A service account's token as its file has it: who it says we are. Called by `doctor`. Nothing is verified or kept."""

import base64
from pathlib import Path
from typing import Any

from winecontract.parsing import parse_json


class TokenUnreadable(Exception):
    """There is no token in the file; the message says why, and nothing of the file's content."""


def claims(path: str) -> dict[str, Any]:
    """Decode the claims of the token in a file.

    Raises TokenUnreadable.
    """
    try:
        text = Path(path).read_text().strip()
    except FileNotFoundError:
        raise TokenUnreadable("there is no such file") from None
    except (OSError, UnicodeError):
        raise TokenUnreadable("the file cannot be read") from None
    try:
        _, payload, _ = text.split(".")
        decoded = parse_json(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, UnicodeError):
        raise TokenUnreadable("the file holds no token") from None
    if not isinstance(decoded, dict):
        raise TokenUnreadable("the file holds no token")
    return decoded
