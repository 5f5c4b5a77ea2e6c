"""Unpacks a compressed file: gzip, xz, or zip with one file in it, recognized by content. The size is limited while it
unpacks.
"""

import gzip
import logging
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from winesteps.failures import Reason, StepFailure
from winesteps.reading.formats import HEAD_BYTES, compression, quote

PIECE_BYTES = 1024 * 1024
XZ_MEMORY_BYTES = 256 * 1024 * 1024
"""Most memory that an xz file may ask for; `xz -9` asks for 65 MiB."""
MEMBERS_SHOWN = 5
_WORKBOOK = {"[Content_Types].xml": "an Excel workbook (.xlsx) or another Office document", "mimetype": "an OpenDocument file"}

log = logging.getLogger(__name__)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def head_of(path: Path) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def expanded(path: Path, scratch: Path, max_bytes: int) -> tuple[Path, str]:
    """The unpacked file, and how it was packed: the file itself and "" where it is not compressed.

    Args:
        path: the file as it came.
        scratch: folder for the unpacked file.
        max_bytes: largest size when unpacked.

    Raises:
        StepFailure: DataNotCsv for a damaged file or one that holds several; DataTooLarge.

    """
    kind = compression(head_of(path))
    if not kind:
        return path, ""
    target = scratch / f"{path.name}.unpacked"
    try:
        with path.open("rb") as packed, target.open("wb") as plain:
            pieces = {"gzip": _gzip, "xz": _xz, "zip": _zip}[kind](packed)
            _copy(pieces, plain, kind, max_bytes)
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, gzip.BadGzipFile):
            raise  # of the disk, not of the file
        raise StepFailure(Reason.DATA_NOT_CSV, f"The {kind} file is damaged or breaks off, and cannot be unpacked.") from None
    except NotImplementedError:
        message = f"The {kind} file is packed by a method that cannot be unpacked. Pack it with deflate."
        raise StepFailure(Reason.DATA_NOT_CSV, message) from None
    head = head_of(target)
    if inner := compression(head) or ("tar" if head[257:262] == b"ustar" else ""):
        message = f"The {kind} file holds a {inner} file. One CSV file is needed, packed once."
        raise StepFailure(Reason.DATA_NOT_CSV, message)
    log.info("unpacked a %s file: %s bytes", kind, f"{target.stat().st_size:,}")
    return target, kind


def _copy(pieces: Iterator[bytes], target: IO[bytes], kind: str, max_bytes: int) -> None:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > max_bytes:
            message = f"The {kind} file unpacks to more than {max_bytes:,} bytes, the limit on this platform."
            raise StepFailure(Reason.DATA_TOO_LARGE, message)
        target.write(piece)


def _pieces(file: _Readable) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece


def _gzip(packed: IO[bytes]) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=packed) as file:
        yield from _pieces(file)


def _xz(packed: IO[bytes]) -> Iterator[bytes]:
    """The streams of an xz file, one after another."""
    data = packed.read(PIECE_BYTES)
    while data:
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)
        while not stream.eof:
            if stream.needs_input and not data and not (data := packed.read(PIECE_BYTES)):
                raise EOFError
            piece = stream.decompress(data, PIECE_BYTES)
            data = b""
            if piece:
                yield piece
        data = (stream.unused_data or packed.read(PIECE_BYTES)).lstrip(b"\0")  # streams may be padded


def _zip(packed: IO[bytes]) -> Iterator[bytes]:
    with zipfile.ZipFile(packed) as archive:
        names = set(archive.namelist())
        for name, what in _WORKBOOK.items():
            if name in names and len(names) > 1:
                raise StepFailure(Reason.DATA_NOT_CSV, f"The file is {what}. Save the sheet as CSV.")
        members = [info for info in archive.infolist() if not _is_clutter(info)]
        if len(members) != 1:
            shown = ", ".join(quote(info.filename) for info in members[:MEMBERS_SHOWN])
            listed = f": {shown}{', …' * (len(members) > MEMBERS_SHOWN)}" if members else ""
            message = f"The zip file holds {len(members)} files{listed}. One CSV file is needed: pack it alone."
            raise StepFailure(Reason.DATA_NOT_CSV, message)
        if members[0].flag_bits & 0x1:
            raise StepFailure(Reason.DATA_NOT_CSV, "The zip file is protected by a password. Pack it without.")
        with archive.open(members[0]) as file:
            yield from _pieces(file)


def _is_clutter(info: zipfile.ZipInfo) -> bool:
    """Folders, and what macOS and Windows add."""
    last = info.filename.rpartition("/")[2]
    return info.is_dir() or info.filename.startswith("__MACOSX/") or last in {".DS_Store", "Thumbs.db", "desktop.ini"}
