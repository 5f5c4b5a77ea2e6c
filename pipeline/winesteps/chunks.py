"""Reads a table of any length in chunks of bounded size, without the rows that cannot be scored. Called by `predict`.

CSV is read in blocks of whole lines. A good block is read by pyarrow at full speed; one that it refuses is parted, and the few
lines around what is wrong are looked at one by one. Parquet is read in batches of its row groups.
"""

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from winecolumns import lower_snake
from winesteps.failures import Reason, StepFailure
from winesteps.table import NUMBER, SEPARATORS

BLOCK_BYTES = 8 * 1024 * 1024
"""Bytes of a CSV file that are read at a time. A line must be shorter."""
BATCH_ROWS = 65_536
"""Rows of a parquet file that are read at a time."""
PIECES, PIECE_LINES = 16, 512
"""A block that pyarrow refuses is parted into so many pieces, again and again, down to pieces of so many lines."""


class Rejection(StrEnum):
    """Why a row is not scored. The values stand in reports and in the resource's status: do not rename them."""

    MISSING_VALUE = "MissingValue"
    NOT_A_NUMBER = "NotANumber"
    NOT_FINITE = "NotFinite"
    FIELD_COUNT = "FieldCount"
    UNREADABLE = "Unreadable"
    PREDICTION_NOT_FINITE = "PredictionNotFinite"


@dataclass(frozen=True)
class Chunk:
    """Rows in the file's order. `numbers` counts the file's rows from 1, without the header and blank lines.

    In `table` the model's columns are float64 and finite, the others as they came.
    """

    table: pa.Table
    numbers: np.ndarray
    rejected: Mapping[Rejection, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A file that is open for reading: its columns under lower_snake names, in its own order, and its chunks."""

    columns: list[str]
    chunks: Callable[[], Iterator[Chunk]]


def open_csv(path: Path, separator: str, features: Sequence[str]) -> Source:
    """Open a CSV file: UTF-8 with a header line, one row a line.

    Raises:
        StepFailure: ParametersInvalid, DataNotCsv, DataInvalid, or ColumnMissing for what the model needs.

    """
    if len(separator) != 1 or separator in '"\r\n':
        raise StepFailure(Reason.PARAMETERS_INVALID, f"input.separator must be one character, no quote, not {separator!r}.")
    line, offset = _header(path)
    if (names := _fields(line, separator)) is None:
        raise StepFailure(Reason.DATA_INVALID, f"The header cannot be read as CSV with the separator {separator!r}.")
    columns = _names([name.strip() for name in names])
    try:
        _check_features(columns, features)
    except StepFailure as failure:
        others = [f"{name} ({key!r})" for key, name in SEPARATORS.items() if len(_fields(line, key) or []) > 1]
        if len(columns) > 1 or not others:
            raise
        hint = f"It looks separated by {' or '.join(others)}: set input.separator."
        raise StepFailure(Reason.COLUMN_MISSING, f"{failure.message} {hint}") from None
    return Source(columns, lambda: _Csv(separator, columns, frozenset(features)).chunks(path, offset))


def open_parquet(path: Path, features: Sequence[str]) -> Source:
    """Open a parquet file.

    Raises:
        StepFailure: DataNotParquet, DataInvalid, or ColumnMissing for what the model needs.

    """
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError):
        raise StepFailure(Reason.DATA_NOT_PARQUET, "The file cannot be read as parquet; for CSV, set input.format.") from None
    schema = file.schema_arrow
    columns = _names(schema.names)
    _check_features(columns, features)
    for name, kind in zip(columns, schema.types, strict=True):
        if name in features and not _is_numeric(kind):
            raise StepFailure(Reason.DATA_INVALID, f"The column {name!r} is of type {kind}; the model needs numbers.")
    return Source(columns, lambda: _parquet_chunks(file, columns, features))


def _header(path: Path) -> tuple[str, int]:
    """The first line with something in it, and where the one after it begins."""
    with path.open("rb") as file:
        while line := file.readline(BLOCK_BYTES):
            if not line.endswith(b"\n") and len(line) == BLOCK_BYTES:
                raise _endless_line()
            if text := line.removeprefix(b"\xef\xbb\xbf").strip(b"\r\n"):
                try:
                    return text.decode(), file.tell()
                except UnicodeDecodeError:
                    raise StepFailure(Reason.DATA_INVALID, "The header is not UTF-8. Save the file as UTF-8.") from None
    raise StepFailure(Reason.DATA_NOT_CSV, "The file has no line with something in it.")


def _fields(line: str, separator: str) -> list[str] | None:
    """The fields of one line; None where it is no whole record."""
    try:
        [fields] = csv.reader([line], delimiter=separator, strict=True)
    except (csv.Error, ValueError):  # the latter: none, or several
        return None
    return fields


def _names(originals: Sequence[str]) -> list[str]:
    names: dict[str, str] = {}
    for position, original in enumerate(originals, 1):
        name = lower_snake(original)
        if not name:
            raise StepFailure(Reason.DATA_INVALID, f"Column {position} has no name.")
        if name in names:
            message = f"Two columns would be named {name!r}: {names[name]!r} and {original!r}. Rename one of them."
            raise StepFailure(Reason.DATA_INVALID, message)
        names[name] = original
    return list(names)


def _check_features(columns: Sequence[str], features: Sequence[str]) -> None:
    missing = [name for name in features if name not in columns]
    if missing:
        known = f"{', '.join(columns[:30])}{', …' * (len(columns) > 30)}"
        message = f"The model needs {', '.join(repr(name) for name in missing[:10])}; the file has the columns {known}."
        raise StepFailure(Reason.COLUMN_MISSING, message)


def _is_numeric(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_decimal))


class _Csv:
    """Blocks of lines of one file, as chunks."""

    def __init__(self, separator: str, columns: list[str], features: frozenset[str]) -> None:
        self._separator = separator
        self._columns = columns
        self._features = [(position, name) for position, name in enumerate(columns) if name in features]
        self._schema = pa.schema([(name, pa.float64() if name in features else pa.string()) for name in columns])
        self._read = pyarrow.csv.ReadOptions(column_names=columns, block_size=BLOCK_BYTES * 2)
        self._parse = pyarrow.csv.ParseOptions(delimiter=separator)
        self._convert = pyarrow.csv.ConvertOptions(
            column_types=dict(zip(columns, self._schema.types, strict=True)), null_values=[], strings_can_be_null=False
        )

    def chunks(self, path: Path, offset: int) -> Iterator[Chunk]:
        """The rows from an offset on."""
        first = 1
        for block in _blocks(path, offset):
            lines = [line for line in block.splitlines(keepends=True) if line.strip(b"\r\n")] if _may_have_blanks(block) else None
            count = len(lines) if lines is not None else block.count(b"\n") + (not block.endswith(b"\n"))
            if count:
                yield from self._block(block, lines, count, first)
            first += count

    def _block(self, block: bytes, lines: list[bytes] | None, count: int, first: int) -> Iterator[Chunk]:
        """Chunks of a block of so many lines, without counting blank ones, whose first is the row `first`."""
        if (table := self._at_full_speed(block, count)) is not None:
            yield Chunk(table, np.arange(first, first + count, dtype=np.int64))
            return
        lines = lines if lines is not None else block.splitlines(keepends=True)
        if count <= PIECE_LINES:
            yield self._line_by_line(lines, first)
            return
        size = max(PIECE_LINES, math.ceil(count / PIECES))
        for start in range(0, count, size):
            piece = lines[start : start + size]
            yield from self._block(b"".join(piece), piece, len(piece), first + start)

    def _at_full_speed(self, block: bytes, count: int) -> pa.Table | None:
        """The block as a table; None where any of it is not as it must be."""
        try:
            table = pyarrow.csv.read_csv(pa.py_buffer(block), self._read, self._parse, self._convert)
        except pa.ArrowInvalid:
            return None
        finite = all(pc.all(pc.is_finite(table[name])).as_py() for _, name in self._features)
        return table if finite and table.num_rows == count else None

    def _line_by_line(self, lines: list[bytes], first: int) -> Chunk:
        good: list[list[object]] = []
        numbers: list[int] = []
        rejected: dict[Rejection, list[int]] = {}
        for number, line in enumerate(lines, first):
            row = self._row(line)
            if isinstance(row, Rejection):
                rejected.setdefault(row, []).append(number)
            else:
                good.append(row)
                numbers.append(number)
        columns = zip(*good, strict=True) if good else ([] for _ in self._columns)
        arrays = [pa.array(column, kind) for column, kind in zip(columns, self._schema.types, strict=True)]
        return Chunk(pa.Table.from_arrays(arrays, schema=self._schema), np.array(numbers, dtype=np.int64), rejected)

    def _row(self, line: bytes) -> list[object] | Rejection:
        try:
            fields = _fields(line.decode().rstrip("\r\n"), self._separator)
        except UnicodeDecodeError:
            fields = None
        if fields is None:
            return Rejection.UNREADABLE
        if len(fields) != len(self._columns):
            return Rejection.FIELD_COUNT
        row: list[object] = [*fields]
        for position, _ in self._features:
            text = fields[position].strip()
            if not NUMBER.fullmatch(text):
                return _why_not(text)
            if not math.isfinite(number := float(text)):
                return Rejection.NOT_FINITE
            row[position] = number
        return row


def _why_not(text: str) -> Rejection:
    if not text:
        return Rejection.MISSING_VALUE
    infinite = text.lower().lstrip("+-") in {"nan", "inf", "infinity"}
    return Rejection.NOT_FINITE if infinite else Rejection.NOT_A_NUMBER


def _blocks(path: Path, offset: int) -> Iterator[bytes]:
    """The file from an offset on, in blocks of whole lines."""
    with path.open("rb") as file:
        file.seek(offset)
        rest = b""
        while True:
            read = file.read(BLOCK_BYTES - len(rest))
            if not read:
                break
            block = rest + read
            end = block.rfind(b"\n") + 1
            if not end and len(block) >= BLOCK_BYTES:
                raise _endless_line()
            rest = block[end:]
            if end:
                yield block[:end]
        if rest:
            yield rest


def _may_have_blanks(block: bytes) -> bool:
    """Whether there are blank lines, or ends of lines of another kind, so that lines have to be counted one by one."""
    odd = block.count(b"\r") != block.count(b"\r\n")
    return odd or b"\n\n" in block or b"\n\r\n" in block or block.startswith((b"\n", b"\r\n"))


def _endless_line() -> StepFailure:
    return StepFailure(Reason.DATA_INVALID, f"The file has a line of more than {BLOCK_BYTES:,} bytes: it has no line ends.")


def _parquet_chunks(file: pq.ParquetFile, columns: list[str], features: Sequence[str]) -> Iterator[Chunk]:
    first = 1
    for batch in file.iter_batches(batch_size=BATCH_ROWS):
        table = pa.Table.from_batches([batch]).rename_columns(columns)
        numbers = np.arange(first, first + batch.num_rows, dtype=np.int64)
        first += batch.num_rows
        missing, infinite = (np.zeros(batch.num_rows, dtype=bool) for _ in range(2))
        for name in features:
            values = pc.cast(table[name], pa.float64(), safe=False)
            missing |= pc.is_null(values, nan_is_null=True).to_numpy()
            infinite |= pc.fill_null(pc.is_inf(values), fill_value=False).to_numpy()
            table = table.set_column(columns.index(name), name, values)
        reasons = {Rejection.MISSING_VALUE: missing, Rejection.NOT_FINITE: infinite & ~missing}
        rejected = {reason: numbers[mask].tolist() for reason, mask in reasons.items() if mask.any()}
        good = ~(missing | infinite)
        yield Chunk(table if good.all() else table.filter(pa.array(good)), numbers[good], rejected)
