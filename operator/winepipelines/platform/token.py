"""Read the claims of a service account token from its file. Nothing is verified or kept."""

import base64
from pathlib import Path
from typing import Any

from winecontract.parsing import parse_json


class TokenUnreadable(Exception):
    """The file holds no readable token. The message has the cause, and no content of the file."""


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
