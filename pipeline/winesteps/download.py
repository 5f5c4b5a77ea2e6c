"""The download step: the bytes at an address, checked, in a file.

Called by the `download` component, and by `check` for bytes that are not kept. They come by http, https or s3 (see sources.py);
here they are counted, hashed, refused where they are plainly not a CSV file (`reading.formats`), and put in place only when
all of them have come.
"""

import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from winesteps.credentials import Credentials
from winesteps.failures import Reason, StepFailure, redact_url, unquoted
from winesteps.opened import Opened
from winesteps.reading.formats import HEAD_BYTES, recognize
from winesteps.sources import open_source

ATTEMPTS = 3
"""How often a transfer is tried within one step; failures that last are the operator's to try again."""
PROGRESS_BYTES = 16 * 1024 * 1024
"""A line in the log each so many bytes."""
T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Downloaded:
    """What came: length in bytes, SHA-256 in hexadecimal, and the server's strong entity tag, if it gave one.

    `version_id` is the object's in a bucket with versioning, `location` the address that answered, after redirects; `redirected`
    tells that it is on another host, whose content must not be quoted.
    """

    size: int
    sha256: str
    etag: str = ""
    version_id: str = ""
    location: str = field(default="", compare=False)
    redirected: bool = False


def download(
    url: str,
    target: Path,
    *,
    sha256: str = "",
    max_bytes: int = 1024**3,
    s3_endpoint_url: str = "",
    text: bool = True,
    credentials: Credentials | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Downloaded:
    """Fetch `url` into `target`, which appears complete or not at all. What is not `text` is not looked at.

    Raises:
        StepFailure: see `winesteps.failures.Reason`; a passing one only after `ATTEMPTS` tries, 1 s and 2 s apart.

    """
    if sha256 and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise StepFailure(Reason.PARAMETERS_INVALID, "data_sha256 must be 64 hexadecimal digits, or empty.")

    def transfer() -> Downloaded:
        source = open_source(url, s3_endpoint_url, credentials=credentials)
        return _transfer(source, redact_url(url), target, sha256.lower(), max_bytes, text)

    return persistent(transfer, wait)


def persistent(transfer: Callable[[], T], wait: Callable[[float], None]) -> T:
    """Try up to `ATTEMPTS` times what fails for a passing reason, 1 s and 2 s apart."""
    for attempt in range(1, ATTEMPTS):
        try:
            return transfer()
        except StepFailure as failure:
            if failure.permanent:
                raise
            log.warning("attempt %d of %d: %s", attempt, ATTEMPTS, failure.message)
            wait(2.0 ** (attempt - 1))
    return transfer()


def _transfer(
    opener: AbstractContextManager[Opened], shown: str, target: Path, sha256: str, max_bytes: int, text: bool
) -> Downloaded:
    part = target.with_name(target.name + ".part")
    try:
        with opener as source, part.open("wb") as file:
            downloaded = drain(source, shown, max_bytes, file.write, text=text)
        if sha256 and downloaded.sha256 != sha256:
            raise StepFailure(
                Reason.CHECKSUM_MISMATCH,
                f"{shown} has SHA-256 {downloaded.sha256}, not {sha256}: the data has changed. "
                "Set sha256 to the new value if that is meant.",
            )
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return downloaded


def drain(source: Opened, shown: str, max_bytes: int, write: Callable[[bytes], object], *, text: bool = True) -> Downloaded:
    """Read a body to its end, piece by piece; raises `StepFailure` where it is too large, or plainly not a CSV file."""
    if source.size is not None and source.size > max_bytes:
        raise _too_large(shown, f"{source.size:,} bytes", max_bytes)
    log.info("downloading %s (%s bytes)", shown, "?" if source.size is None else f"{source.size:,}")
    digest, size, reported = hashlib.sha256(), 0, 0
    for chunk in _checked(source, shown) if text else source.chunks:
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(shown, f"more than {max_bytes:,} bytes", max_bytes)
        digest.update(chunk)
        write(chunk)
        if size - reported >= PROGRESS_BYTES:
            reported = size
            log.info("%s bytes so far", f"{size:,}")
    log.info("downloaded %s bytes, SHA-256 %s", f"{size:,}", digest.hexdigest())
    return Downloaded(size, digest.hexdigest(), source.etag, source.version_id, source.location, source.redirected)


def _checked(source: Opened, shown: str) -> Iterator[bytes]:
    """The chunks, after a look at the first bytes; raises `StepFailure` where they are plainly not a CSV file's."""
    head = b""
    for chunk in source.chunks:
        if len(head) < HEAD_BYTES:
            head += chunk
            if len(head) < HEAD_BYTES:
                continue
            _check_beginning(head, source, shown)
            yield head
        else:
            yield chunk
    if len(head) < HEAD_BYTES:
        _check_beginning(head, source, shown)
        yield head


def _check_beginning(head: bytes, source: Opened, shown: str) -> None:
    if not head:
        raise StepFailure(Reason.DATA_NOT_CSV, f"{shown} is empty.")
    with unquoted(source.redirected):
        if (known := recognize(head)) is not None:
            raise StepFailure(Reason.DATA_NOT_CSV, f"{shown} is {known.name}. {known.advice}")


def _too_large(shown: str, what: str, max_bytes: int) -> StepFailure:
    return StepFailure(Reason.DATA_TOO_LARGE, f"{shown} has {what}; the limit on this platform is {max_bytes:,}.")
