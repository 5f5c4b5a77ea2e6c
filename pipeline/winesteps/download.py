"""The download step: fetch the file at an address and check it.

`sources` opens the address (http, https or s3). This module counts and hashes the bytes, rejects content that is clearly not CSV
(`reading.formats`), and writes the file only when it is complete. The check step uses `drain`, which keeps no bytes.
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

from winecontract.reasons import Reason
from winesteps.credentials import Credentials
from winesteps.failures import StepFailure, redact_url, unquoted
from winesteps.opened import Opened
from winesteps.reading.formats import HEAD_BYTES, recognize
from winesteps.sources import open_source

ATTEMPTS = 3
"""Tries of a transfer within one step. After that the step fails, and the operator retries."""
PROGRESS_BYTES = 16 * 1024 * 1024
"""Bytes between two log lines about the progress."""
T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Downloaded:
    """The received file: its length in bytes, SHA-256 in hexadecimal, and the server's strong entity tag, if it sent one.

    `version_id` is the object's version in a bucket with versioning. `location` is the address that answered, after redirects.
    `redirected` means that it is on another host, whose content must not be quoted.
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
    """Fetch `url` into `target`, which appears complete or not at all. With `text`, reject content that is clearly not CSV.

    Raises:
        StepFailure: see `winecontract.reasons.Reason`; a passing reason only after `ATTEMPTS` tries, 1 s and 2 s apart.

    """
    if sha256 and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise StepFailure(Reason.PARAMETERS_INVALID, "data_sha256 must be 64 hexadecimal digits, or empty.")

    def transfer() -> Downloaded:
        source = open_source(url, s3_endpoint_url, credentials=credentials)
        return _transfer(source, redact_url(url), target, sha256.lower(), max_bytes, text)

    return persistent(transfer, wait)


def persistent(transfer: Callable[[], T], wait: Callable[[float], None]) -> T:
    """Retry a transfer that fails for a passing reason: `ATTEMPTS` tries in all, 1 s and 2 s apart."""
    for attempt in range(1, ATTEMPTS):
        try:
            return transfer()
        except StepFailure as failure:
            if failure.permanent:
                raise
            log.warning("retrying transfer attempt=%d of=%d: %s", attempt, ATTEMPTS, failure.message)
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
                "If the change is intended, set sha256 to the new value.",
            )
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return downloaded


def drain(source: Opened, shown: str, max_bytes: int, write: Callable[[bytes], object], *, text: bool = True) -> Downloaded:
    """Read a body in pieces to its end. Raise `StepFailure` if it is too large or, with `text`, clearly not CSV."""
    if source.size is not None and source.size > max_bytes:
        raise _too_large(shown, f"{source.size:,} bytes", max_bytes)
    log.info("downloading %s bytes=%s", shown, "unknown" if source.size is None else source.size)
    digest, size, reported = hashlib.sha256(), 0, 0
    for chunk in _checked(source, shown) if text else source.chunks:
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(shown, f"more than {max_bytes:,} bytes", max_bytes)
        digest.update(chunk)
        write(chunk)
        if size - reported >= PROGRESS_BYTES:
            reported = size
            log.info("downloading %s received=%d", shown, size)
    log.info("downloaded %s bytes=%d sha256=%s", shown, size, digest.hexdigest())
    return Downloaded(size, digest.hexdigest(), source.etag, source.version_id, source.location, source.redirected)


def _checked(source: Opened, shown: str) -> Iterator[bytes]:
    """Pass the chunks on after checking the first bytes. Raise `StepFailure` if they are clearly not CSV."""
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


def _too_large(shown: str, found: str, max_bytes: int) -> StepFailure:
    return StepFailure(Reason.DATA_TOO_LARGE, f"{shown} has {found}; the limit on this platform is {max_bytes:,}.")
