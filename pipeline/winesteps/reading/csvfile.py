"""Reads a CSV file of any length in chunks of bounded size.

A good block is read by pyarrow at full speed. One that it refuses is parted, and the few records around what is wrong are
read one by one; what is accepted and refused is the same either way.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from winecontract.reasons import Reason
from winesteps.failures import StepFailure
from winesteps.reading import explain, records, text
from winesteps.reading.expand import expanded, head_of
from winesteps.reading.formats import recognize
from winesteps.reading.header import Column, Wanted, choose, left_out
from winesteps.reading.options import Options
from winesteps.reading.records import Records, decode, fields
from winesteps.reading.source import Chunk, Problem, Source
from winesteps.reading.values import Rejection, number

PIECES, PIECE_RECORDS = 16, 512
"""A block that pyarrow refuses is parted into so many pieces, again and again, down to pieces of so many records."""
SAMPLE_BYTES = 256 * 1024
"""The header, and what advice is checked on, are in so many bytes."""
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""The first line of a file for Excel may name its separator."""
_DAMAGED = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True)
class _Header:
    """The names as they stand in the file, and where the rows begin: line, and offset in the text's first block."""

    titles: list[str]
    line: int
    offset: int
    separator: str
    sample: explain.Sample


def open_csv(path: Path, options: Options, wanted: Wanted, scratch: Path) -> Source:
    """Open a CSV file with a header line, compressed or not, in any common encoding and with any line ends.

    Args:
        path: the file.
        options: how it is read.
        wanted: the columns that must be there, and those that must hold numbers.
        scratch: folder for the unpacked file; must stay until the last chunk was read.

    Raises:
        StepFailure: ParametersInvalid, DataNotCsv, DataTooLarge, DataInvalid or ColumnMissing.

    """
    options.check()
    plain, packed = expanded(path, scratch, options.max_bytes)
    head = head_of(plain)
    if (known := recognize(head)) is not None:
        inside = f" in the {packed} file" if packed else ""
        raise StepFailure(Reason.DATA_NOT_CSV, f"The file{inside} is {known.name}. {known.advice}")
    if not head:
        raise StepFailure(Reason.DATA_NOT_CSV, "The file is empty.")
    opened = text.open_text(plain)
    header = _header(opened, options.separator)
    options = replace(options, separator=header.separator)
    try:
        columns = choose(header.titles, options, wanted)
    except StepFailure as failure:
        raise explain.missing_columns(header.sample, options, wanted, failure) from None
    reader = _Reader(opened, options, columns, wanted, header)
    return Source(
        columns=[column.name for column in columns],
        chunks=reader.chunks,
        explain=reader.explain,
        titles=[column.title for column in columns],
        dropped=left_out(header.titles, columns),
        separator=header.separator,
        decimal=options.decimal,
        texts=[column.name for column in columns if not wanted.is_numeric(column.name)],
        written=", ".join(filter(None, (opened.encoding, packed))),
    )


def _header(opened: text.Text, separator: str) -> _Header:
    first, *others = list(islice(opened.blocks(), 2)) or [b""]
    is_whole = not others
    end = len(first) if is_whole else first.rfind(b"\n") + 1
    if first and not end:
        raise endless_line()
    if len(first) > SAMPLE_BYTES:
        end, is_whole = first.rfind(b"\n", 0, SAMPLE_BYTES) + 1, False
        if not end:
            message = f"The first line, the header, has more than {SAMPLE_BYTES:,} bytes, or the file has no line ends."
            raise StepFailure(Reason.DATA_INVALID, message)
    body, offset, line = first[:end], 0, 1
    while True:
        found = records.split(body[offset:], line, separator, fits=lambda _row: True, last=True)
        if not any(text.strip() for text in found.texts):
            raise StepFailure(Reason.DATA_NOT_CSV, "The file has no line with something in it.")
        header = decode(found.texts[0])
        if not (named := SEPARATOR_LINE.fullmatch(header)) or line > 1:
            break
        separator, line = named[1], found.lines[0] + 1
        offset = _end_of_lines(body, found.lines[0])
    if 0 in found.broken:
        message = f"Line {found.lines[0]} cannot be read as CSV: a quote opens and does not close."
        raise StepFailure(Reason.DATA_INVALID, message)
    titles = [name.strip() for name in fields(header, separator)]
    if damaged := _DAMAGED.search(header):
        byte = ord(damaged[0]) - 0xDC00
        message = f"Line {found.lines[0]}, the header, is not UTF-8: it has the byte 0x{byte:02x}. Save the file as UTF-8."
        raise StepFailure(Reason.DATA_INVALID, message)
    texts = [decode(text) for text in found.texts[: explain.SAMPLE_RECORDS]]
    sample = explain.Sample(texts, found.lines[: len(texts)], is_whole and len(texts) == len(found.texts))
    last = found.lines[0] + found.texts[0].count(b"\n")
    return _Header(titles, last, _end_of_lines(body, last), separator, sample)


def _end_of_lines(body: bytes, count: int) -> int:
    """The offset behind so many lines."""
    offset = 0
    for _ in range(count):
        offset = body.find(b"\n", offset) + 1 or len(body)
    return offset


def endless_line() -> StepFailure:
    """The failure of a line that does not end within a block."""
    return StepFailure(Reason.DATA_INVALID, f"The file has a line of more than {text.BLOCK_BYTES:,} bytes: it has no line ends.")


class _Reader:
    """The rows of one file, as chunks."""

    def __init__(self, opened: text.Text, options: Options, columns: list[Column], wanted: Wanted, header: _Header) -> None:
        self._text, self._options, self._columns, self._header = opened, options, columns, header
        self._width = len(header.titles)
        self._numeric = [column for column in columns if wanted.is_numeric(column.name)]
        kinds = [pa.float64() if wanted.is_numeric(column.name) else pa.string() for column in columns]
        self._schema = pa.schema(list(zip((column.name for column in columns), kinds, strict=True)))
        self._may_drop = options.section == "data"
        if not options.separator.isascii():  # pyarrow knows no other
            return
        places = [str(position) for position in range(self._width)]
        chosen = [str(column.position) for column in columns]
        self._read = pyarrow.csv.ReadOptions(column_names=places, block_size=text.BLOCK_BYTES * 4)
        self._parse = pyarrow.csv.ParseOptions(delimiter=options.separator)
        self._convert = pyarrow.csv.ConvertOptions(
            column_types=dict(zip(chosen, kinds, strict=True)),
            include_columns=chosen,
            null_values=[],
            strings_can_be_null=False,
            decimal_point=options.decimal,
        )

    def explain(self, problem: Problem) -> str:
        """What is wrong with a row, and what to do."""
        return explain.bad_row(problem, self._header.sample, self._options, self._width, may_drop=self._may_drop)

    def chunks(self) -> Iterator[Chunk]:
        """All rows, in order."""
        row, line, rest = 1, self._header.line + 1, b""
        skip = self._header.offset
        for block in self._text.blocks():
            data, skip = rest + block[skip:], 0  # the header is in the first block
            end = data.rfind(b"\n") + 1
            if not end and len(data) >= text.BLOCK_BYTES:
                raise endless_line()
            body, rest = data[:end], data[end:]
            if body:
                made, unread = self._block(body, row, line, last=False)
                yield from made
                row += sum(map(_rows, made))
                line += body.count(b"\n") - unread.count(b"\n")
                rest = unread + rest
        if rest:
            made, _ = self._block(rest, row, line, last=True)
            yield from made

    def _block(self, body: bytes, row: int, line: int, *, last: bool) -> tuple[list[Chunk], bytes]:
        """The chunks of a block of whole lines, and the unfinished record at its end."""
        if self._is_plain(body) and (table := self._at_full_speed(body, _count_lines(body))) is not None:
            numbers = np.arange(row, row + table.num_rows, dtype=np.int64)
            return [Chunk(table, numbers)] if table.num_rows else [], b""
        found = records.split(body, line, self._options.separator, fits=self._fits, last=last)
        return list(self._pieces(found, 0, len(found.texts), row)), found.rest

    def _is_plain(self, body: bytes) -> bool:
        """Tell whether pyarrow splits a block as `records` does: its quotes come in pairs, and the last ones close."""
        if not self._options.separator.isascii():
            return False
        if b'"' not in body:
            return True
        final = body.rstrip(b"\n").rpartition(b"\n")[2]
        return body.count(b'"') % 2 == 0 and records.is_closed(decode(final), self._options.separator)

    def _pieces(self, found: Records, start: int, end: int, row: int) -> Iterator[Chunk]:
        """Yield chunks of the records from `start` to `end`, the first of which is row number `row`."""
        count = end - start
        if count <= 0:
            return
        if not any(start <= index < end for index in found.broken):
            body = b"\n".join(found.texts[start:end]) + b"\n"
            if self._is_plain(body) and (table := self._at_full_speed(body, count)) is not None:
                yield Chunk(table, np.arange(row, row + count, dtype=np.int64))
                return
        if count <= PIECE_RECORDS or not self._options.separator.isascii():
            yield self._one_by_one(found, start, end, row)
            return
        size = max(PIECE_RECORDS, math.ceil(count / PIECES))
        for first in range(start, end, size):
            yield from self._pieces(found, first, min(first + size, end), row + first - start)

    def _at_full_speed(self, body: bytes, count: int) -> pa.Table | None:
        """Parse a block with pyarrow; None if any of its values is invalid."""
        if not count:
            return self._schema.empty_table()
        try:
            table = pyarrow.csv.read_csv(pa.py_buffer(body), self._read, self._parse, self._convert)
        except (pa.ArrowInvalid, pa.ArrowKeyError):
            return None
        table = table.rename_columns(self._schema.names)
        finite = all(pc.all(pc.is_finite(table[column.name])).as_py() for column in self._numeric)
        return table if finite and table.num_rows == count else None

    def _one_by_one(self, found: Records, start: int, end: int, row: int) -> Chunk:
        good: list[list[object]] = []
        numbers: list[int] = []
        rejected: dict[Rejection, list[int]] = {}
        problems: list[Problem] = []
        for at, index in enumerate(range(start, end), row):
            parsed = self._row(found.texts[index], at, found.lines[index], is_broken=index in found.broken)
            if isinstance(parsed, Problem):
                if parsed.reason not in rejected:
                    problems.append(parsed)
                rejected.setdefault(parsed.reason, []).append(at)
            else:
                good.append(parsed)
                numbers.append(at)
        columns = zip(*good, strict=True) if good else ([] for _ in self._columns)
        arrays = [pa.array(column, kind) for column, kind in zip(columns, self._schema.types, strict=True)]
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        return Chunk(table, np.array(numbers, dtype=np.int64), rejected, problems)

    def _row(self, record: bytes, row: int, line: int, *, is_broken: bool) -> list[object] | Problem:
        if is_broken:
            return Problem(Rejection.UNREADABLE, row, line)
        values = fields(decode(record), self._options.separator)
        if len(values) != self._width:
            return Problem(Rejection.FIELD_COUNT, row, line, fields=len(values))
        kept: list[object] = []
        missing: Problem | None = None
        numeric = {column.position for column in self._numeric}
        for column in self._columns:
            value = values[column.position]
            if damaged := _DAMAGED.search(value):
                return Problem(Rejection.UNREADABLE, row, line, byte=ord(damaged[0]) - 0xDC00)
            if column.position not in numeric:
                kept.append(value)
                continue
            parsed = number(value, self._options.decimal)
            if isinstance(parsed, Rejection):
                problem = Problem(parsed, row, line, column.name, column.title, value)
                if parsed is not Rejection.MISSING_VALUE:
                    return problem
                missing = missing or problem
            kept.append(parsed)
        return missing or kept

    def _fits(self, values: Sequence[str]) -> bool:
        """Tell whether fields with a line break in one of them can be a row: numbers have no line break."""
        return len(values) == self._width and not any("\n" in values[column.position] for column in self._numeric)


def _rows(chunk: Chunk) -> int:
    return len(chunk.numbers) + sum(map(len, chunk.rejected.values()))


def _count_lines(block: bytes) -> int:
    """Count the lines of a block that are not blank."""
    if b"\n\n" in block or block.startswith(b"\n"):
        return sum(map(bool, block.split(b"\n")))
    return block.count(b"\n") + (not block.endswith(b"\n"))
