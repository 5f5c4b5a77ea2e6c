"""Decodes a file, and gives it out as blocks of UTF-8 whose lines end in a line feed, whatever the file has.

UTF-8, UTF-16 and UTF-32 are recognized by their byte order mark or their zero bytes. What is not UTF-8 at all is read as
Windows-1252 (Latin-1), as Excel writes. A file that is UTF-8 but for a few damaged places stays UTF-8: its damaged lines are
found by the reader.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from winecontract.reasons import Reason
from winesteps.failures import StepFailure

BLOCK_BYTES = 8 * 1024 * 1024
"""Bytes that are read at a time. A line must be shorter."""
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_UNDEFINED = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
"""Bytes that Windows-1252 does not have."""
_MOST_CONTROLS = 0.02
_CONTROLS = re.compile(rb"[\x01-\x08\x0b\x0e-\x19\x1c-\x1e\x7f]")


@dataclass(frozen=True)
class Text:
    """A text file and its encoding; `skip` bytes at its beginning are a byte order mark."""

    path: Path
    encoding: str
    skip: int = 0

    def blocks(self) -> Iterator[bytes]:
        """The text in UTF-8, in order, with line feeds for the ends of lines; damaged bytes of a UTF-8 file as they are."""
        held = b""
        for block in self._decoded():
            data = held + block
            held = b"\r" if data.endswith(b"\r") else b""  # its line feed may be the next block's first byte
            if data := _with_line_feeds(data[: len(data) - len(held)]):
                yield data
        if held:
            yield b"\n"

    def _decoded(self) -> Iterator[bytes]:
        decoder = None if self.encoding == "utf-8" else codecs.getincrementaldecoder(self.encoding)()
        with self.path.open("rb") as file:
            file.seek(self.skip)
            while block := file.read(BLOCK_BYTES):
                yield block if decoder is None else self._recode(decoder, block, final=False)
        if decoder is not None:
            yield self._recode(decoder, b"", final=True)

    def _recode(self, decoder: codecs.IncrementalDecoder, block: bytes, *, final: bool) -> bytes:
        try:
            text = decoder.decode(block, final)
            if "\0" in text:
                raise StepFailure(Reason.DATA_NOT_CSV, "The file is not text: it has characters of value zero.")
            return text.encode()
        except UnicodeError:
            message = f"The file begins as {self.encoding.upper()} and cannot be read as that to its end. Save it as UTF-8."
            raise StepFailure(Reason.DATA_INVALID, message) from None


def open_text(path: Path) -> Text:
    """Find a file's encoding; reads all of it.

    Raises:
        StepFailure: DataNotCsv where the file is not text.

    """
    with path.open("rb") as file:
        head = file.read(4096)
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return Text(path, encoding if encoding != "utf-8" else _scan(path, len(bom)), len(bom))
    if wide := _without_bom(head):
        return Text(path, wide)
    if len(_CONTROLS.findall(head)) > _MOST_CONTROLS * len(head):
        raise StepFailure(Reason.DATA_NOT_CSV, "The file is not text: it has many control characters. A CSV file is needed.")
    return Text(path, _scan(path, 0))


def _without_bom(head: bytes) -> str:
    """UTF-16 of mostly Western text: every other byte is zero."""
    even, odd = head[0::2], head[1::2]
    for first, second, encoding in ((even, odd, "utf-16-le"), (odd, even, "utf-16-be")):
        if len(second) >= 2 and second.count(0) > 0.9 * len(second) and not first.count(0):
            return encoding
    return ""


def _scan(path: Path, skip: int) -> str:
    """utf-8, also where some of it is damaged, or cp1252; raises where there are zero bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    valid = invalid = undefined = False
    with path.open("rb") as file:
        file.seek(skip)
        offset = skip
        while block := file.read(BLOCK_BYTES):
            if (position := block.find(0)) >= 0:
                message = f"The file is not text: byte {offset + position:,} is zero. A CSV file is needed."
                raise StepFailure(Reason.DATA_NOT_CSV, message)
            offset += len(block)
            if block.isascii() and not invalid:
                invalid = bool(decoder.getstate()[0])
                continue
            valid = valid or _MULTIBYTE.search(block) is not None
            undefined = undefined or _UNDEFINED.search(block) is not None
            invalid = invalid or not _decodes(decoder, block)
    invalid = invalid or bool(decoder.getstate()[0])
    return "cp1252" if invalid and not valid and not undefined and not skip else "utf-8"


def _decodes(decoder: codecs.IncrementalDecoder, block: bytes) -> bool:
    try:
        decoder.decode(block)
    except UnicodeDecodeError:
        return False
    return True


def _with_line_feeds(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data
