"""Unpack a compressed file: gzip, xz, or zip with one file in it, recognized by content. The size is limited while unpacking."""

import io
import logging
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Protocol

from winecontract.reasons import Reason
from winesteps.failures import StepFailure
from winesteps.reading.formats import HEAD_BYTES, compression, quote

PIECE_BYTES = 1024 * 1024
STREAM_BYTES = 64 * 1024
"""Compressed bytes that are read at a time. The rest of them is copied at the end of each stream."""
XZ_MEMORY_BYTES = 256 * 1024 * 1024
"""Most memory that an xz file may need; files of `xz -9` need 65 MiB."""
MOST_STREAMS = 100_000
"""Most streams in a gzip or xz file: each stream costs time, however few bytes it has."""
SPARE_BYTES = 16 * 1024 * 1024
"""Compressed bytes that may unpack to almost nothing."""
MEMBERS_BYTES = 4 * 1024 * 1024
"""Longest directory of a zip file, which is read at once."""
ZIP_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""Compression methods that unpack in pieces of bounded size."""
MEMBERS_SHOWN = 5
_WORKBOOK = {"[Content_Types].xml": "an Excel workbook (.xlsx) or another Office document", "mimetype": "an OpenDocument file"}

log = logging.getLogger(__name__)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def head_of(path: Path) -> bytes:
    """Read the first bytes of a file."""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def expanded(path: Path, scratch: Path, max_bytes: int) -> tuple[Path, str]:
    """Return the unpacked file and its compression; the file itself and "" if it is not compressed.

    Args:
        path: the received file.
        scratch: folder for the unpacked file.
        max_bytes: largest size when unpacked.

    Raises:
        StepFailure: DataNotCsv for a damaged file or one with several members; DataTooLarge.

    """
    kind = compression(head_of(path))
    if not kind:
        return path, ""
    target = scratch / f"{path.name}.unpacked"
    try:
        with _Bounded(io.FileIO(path)) as packed, target.open("wb") as plain:
            pieces = {"gzip": _gzip, "xz": _xz, "zip": _zip}[kind](packed)
            _copy(pieces, plain, kind, max_bytes)
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk failed, not the file
        message = f"The {kind} file is damaged or incomplete, and cannot be unpacked. Provide a complete file."
        raise StepFailure(Reason.DATA_NOT_CSV, message) from None
    except NotImplementedError:
        message = f"The {kind} file uses an unsupported compression method. Compress it with deflate."
        raise StepFailure(Reason.DATA_NOT_CSV, message) from None
    head = head_of(target)
    if inner := compression(head) or ("tar" if head[257:262] == b"ustar" else ""):
        message = f"The {kind} file contains a {inner} file. Compress one CSV file, once."
        raise StepFailure(Reason.DATA_NOT_CSV, message)
    log.info("unpacked file compression=%s bytes=%d", kind, target.stat().st_size)
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


class _Bounded(io.BufferedReader):
    """A file that refuses to read many bytes at once, which would take much memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes, or to the end. Raise BadZipFile if these are too many."""
        limit = MEMBERS_BYTES + 1 if size is None or size < 0 else size
        if (size is not None and size > MEMBERS_BYTES) or len(data := super().read(limit)) > MEMBERS_BYTES:
            raise zipfile.BadZipFile("too many members")
        return data


class _Streams:
    """Counts the streams of a compressed body, and the bytes before and after unpacking."""

    def __init__(self) -> None:
        self.streams, self.taken, self.given = 0, 0, 0

    def begin(self) -> None:
        """Count another stream. Raise zlib.error after too many."""
        self.streams += 1
        if self.streams > MOST_STREAMS:
            raise zlib.error("too many streams")

    def take(self, data: bytes) -> bytes:
        """Count compressed bytes. Raise zlib.error if they unpack to almost nothing."""
        self.taken += len(data)
        if self.taken > 2 * self.given + SPARE_BYTES:
            raise zlib.error("nothing in it")
        return data


def inflated(read: Callable[[], bytes]) -> Iterator[bytes]:
    """Unpack a gzip body, of one stream or of several, in pieces of at most `PIECE_BYTES`.

    Args:
        read: the next compressed bytes; empty at the end.

    Raises:
        zlib.error: the body is damaged, or crafted to exhaust the step.
        EOFError: the body is incomplete.

    """
    count = _Streams()
    data = count.take(read())
    while data:
        count.begin()
        stream = zlib.decompressobj(31)
        while not stream.eof:
            if not data and not (data := count.take(read())):
                raise EOFError
            piece = stream.decompress(data, PIECE_BYTES)
            data = stream.unconsumed_tail
            if piece:
                count.given += len(piece)
                yield piece
        data = (stream.unused_data or count.take(read())).lstrip(b"\0")  # streams may be padded


def _gzip(packed: IO[bytes]) -> Iterator[bytes]:
    return inflated(lambda: packed.read(STREAM_BYTES))


def _xz(packed: IO[bytes]) -> Iterator[bytes]:
    """Unpack the streams of an xz file, one after another."""
    count = _Streams()
    data = count.take(packed.read(STREAM_BYTES))
    while data:
        count.begin()
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)
        while not stream.eof:
            if stream.needs_input and not data and not (data := count.take(packed.read(STREAM_BYTES))):
                raise EOFError
            piece = stream.decompress(data, PIECE_BYTES)
            data = b""
            if piece:
                count.given += len(piece)
                yield piece
        data = (stream.unused_data or count.take(packed.read(STREAM_BYTES))).lstrip(b"\0")  # streams may be padded


def _zip(packed: IO[bytes]) -> Iterator[bytes]:
    with zipfile.ZipFile(packed) as archive:
        names = set(archive.namelist())
        for name, kind in _WORKBOOK.items():
            if name in names and len(names) > 1:
                raise StepFailure(Reason.DATA_NOT_CSV, f"The file is {kind}. Save the sheet as CSV.")
        members = [info for info in archive.infolist() if not _is_clutter(info)]
        if len(members) != 1:
            shown = ", ".join(quote(info.filename) for info in members[:MEMBERS_SHOWN])
            listed = f": {shown}{', …' * (len(members) > MEMBERS_SHOWN)}" if members else ""
            message = f"The zip file contains {len(members)} files{listed}. Compress one CSV file alone."
            raise StepFailure(Reason.DATA_NOT_CSV, message)
        if members[0].flag_bits & 0x1:
            raise StepFailure(Reason.DATA_NOT_CSV, "The zip file is protected by a password. Compress it without a password.")
        if members[0].compress_type not in ZIP_METHODS:
            raise NotImplementedError
        with archive.open(members[0]) as file:
            yield from _pieces(file)


def _is_clutter(info: zipfile.ZipInfo) -> bool:
    """Tell whether a member is a folder, or a file that macOS or Windows adds."""
    last = info.filename.rpartition("/")[2]
    return info.is_dir() or info.filename.startswith("__MACOSX/") or last in {".DS_Store", "Thumbs.db", "desktop.ini"}
