"""Splits text into records: lines, and runs of lines where a line break stands within quotes. Pure.

As pyarrow does, a quote only opens a field at its very beginning, and what follows a closing quote belongs to the field.
"""

import csv
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

MOST_LINES = 1000
MOST_BYTES = 1024 * 1024
"""A record with line breaks within quotes may have so many lines and bytes; else its quotes are taken for unclosed."""
MOST_UNCLOSED = 200
"""After so many records of a block whose quotes do not close, none is looked for beyond its line."""
csv.field_size_limit(16 * MOST_BYTES)


@dataclass
class Records:
    """Records without their last line end, and the number of the line that each begins on. Blank lines are none.

    `broken` has the indices of records whose quotes do not close. `rest` is an unfinished record at the end of the block.
    """

    texts: list[bytes] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    broken: set[int] = field(default_factory=set)
    rest: bytes = b""

    def add(self, text: bytes, line: int, *, is_broken: bool = False) -> None:
        """Append a record."""
        if is_broken:
            self.broken.add(len(self.texts))
        self.texts.append(text)
        self.lines.append(line)


def decode(text: bytes) -> str:
    """Text whose damaged bytes are kept, as surrogates."""
    return text.decode(errors="surrogateescape")


def fields(text: str, separator: str) -> list[str]:
    """The fields of one record."""
    return next(csv.reader(_lines(text), delimiter=separator), [])


def is_closed(text: str, separator: str) -> bool:
    """Whether every quote that opens a field of this record closes."""
    reader = csv.reader([*_lines(text), ""], delimiter=separator)
    next(reader, None)
    return reader.line_num <= text.count("\n") + 1


def split(block: bytes, line: int, separator: str, *, fits: Callable[[list[str]], bool], last: bool) -> Records:
    """Split a block of whole lines.

    Args:
        block: UTF-8, lines that end in a line feed, the last one of the file possibly without.
        line: the number of its first line.
        separator: the character between two fields.
        fits: whether the fields of a record of several lines can be a row of this table.
        last: whether nothing follows the block.

    """
    found = Records()
    lines = block.removesuffix(b"\n").split(b"\n")
    at = unclosed = 0
    while at < len(lines):
        text = lines[at]
        if b'"' not in text:
            if text:
                found.add(text, line + at)
            at += 1
            continue
        span = _span(lines, at, separator, fits) if unclosed < MOST_UNCLOSED else is_closed(decode(text), separator)
        if span is None and not last and _is_small(lines, at):
            found.rest = b"\n".join(lines[at:]) + b"\n"
            return found
        unclosed += span is None
        found.add(b"\n".join(lines[at : at + (span or 1)]), line + at, is_broken=not span)
        at += span or 1
    return found


def _span(lines: Sequence[bytes], at: int, separator: str, fits: Callable[[list[str]], bool]) -> int | None:
    """How many lines the record that begins here has; 0 where its quotes do not close, None where they may in a later block."""
    if is_closed(decode(lines[at]), separator):
        return 1
    end = min(at + MOST_LINES, len(lines))
    # By position, and only as far as the record goes: each line of a block may begin one.
    ahead = (decode(lines[index]) + "\n" for index in range(at, end))
    reader = csv.reader(itertools.chain(ahead, [""]), delimiter=separator)
    row = next(reader)
    if reader.line_num > end - at:
        return None
    return reader.line_num if fits(row) else 0


def _is_small(lines: Sequence[bytes], at: int) -> bool:
    return len(lines) - at < MOST_LINES and sum(map(len, lines[at:])) < MOST_BYTES


def _lines(text: str) -> list[str]:
    """The lines of a record, each but the last with its line feed."""
    *others, last = text.split("\n")
    return [*(part + "\n" for part in others), last]
