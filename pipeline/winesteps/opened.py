"""What `sources` opens: a body to be read, and what its server says of it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from winesteps.addresses import VERSION_ID

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
"""How long a connection, and each next piece of the body, may take."""
CHUNK_BYTES = 1024 * 1024
STRONG_ETAG = re.compile(r'"[!#-~]{1,254}"')
"""An entity tag that is the same only for the same bytes. A weak one, `W/"…"`, is no such thing."""


@dataclass(frozen=True)
class Opened:
    """A body to be read: its announced length in bytes and strong entity tag, where the server gave them.

    `unchanged` is the answer to an entity tag that is known: there is no body then. `version_id` names the version of an object
    in a bucket with versioning. `location` is the address that answered, after redirects; `redirected` tells that it is on
    another host, whose content must not be quoted.
    """

    chunks: Iterator[bytes]
    size: int | None
    etag: str = ""
    unchanged: bool = False
    version_id: str = ""
    location: str = ""
    redirected: bool = False


def strong(etag: str | None) -> str:
    """A strong entity tag; empty for any other. One with braces could be a template of Argo's: it is passed on to steps."""
    return etag if etag and STRONG_ETAG.fullmatch(etag) and not {"{", "}"} & set(etag) else ""


def version(version_id: str | None) -> str:
    """The version of an object, as a store names it; empty for what is no such name."""
    return version_id if version_id and VERSION_ID.fullmatch(version_id) else ""
