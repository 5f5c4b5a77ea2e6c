"""An opened address: the body to read, and the headers that describe it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from winecontract.addresses import VERSION_ID

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
"""Timeouts of a connection, and of each next piece of the body."""
CHUNK_BYTES = 1024 * 1024
STRONG_ETAG = re.compile(r'"[!#-~]{1,254}"')
"""A strong entity tag: equal only for equal bytes. A weak one begins with `W/`, and is not matched."""


@dataclass(frozen=True)
class Opened:
    """A body to read, with its announced length in bytes and strong entity tag, if the server sent them.

    `unchanged` means that the known entity tag still holds; there is no body then. `version_id` is the object's version in a
    bucket with versioning. `location` is the address that answered, after redirects. `redirected` means that it is on another
    host, whose content must not be quoted.
    """

    chunks: Iterator[bytes]
    size: int | None
    etag: str = ""
    unchanged: bool = False
    version_id: str = ""
    location: str = ""
    redirected: bool = False


def strong(etag: str | None) -> str:
    """Return a strong entity tag; empty for any other. Tags with braces are dropped: Argo could read them as templates."""
    return etag if etag and STRONG_ETAG.fullmatch(etag) and not {"{", "}"} & set(etag) else ""


def version(version_id: str | None) -> str:
    """Return an object's version if it is a valid name, else an empty text."""
    return version_id if version_id and VERSION_ID.fullmatch(version_id) else ""
