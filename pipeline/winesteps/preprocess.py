"""The preprocess step: the downloaded CSV file as a table of finite numbers, in parquet.

Called by the `preprocess` component. What a file must be like is decided here; how it is read, in table.py.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winecolumns import lower_snake
from winesteps.failures import Reason, StepFailure
from winesteps.table import Header, other_separators, read_header, read_numbers

MIN_ROWS = 20
"""Fewer rows than this are refused: nothing measured on a part of them means anything."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preprocessed:
    """What the table is like: rows, features in the file's order, target as the columns are named now."""

    rows: int
    features: list[str]
    target: str


def preprocess(csv_file: Path, table_file: Path, *, separator: str = ";", target: str = "quality") -> Preprocessed:
    """Check the CSV file and write it as parquet: float64 columns under lower_snake names, in the file's order.

    Args:
        csv_file: UTF-8 with a header line; a byte order mark, CRLF, quotes and blank lines are fine.
        table_file: the parquet file to write.
        separator: the one character between two values.
        target: the column to predict, as the header names it or in lower_snake form.

    Raises:
        StepFailure: ParametersInvalid, DataNotCsv, ColumnMissing, DataInvalid or TooFewRows.

    """
    if len(separator) != 1 or separator in '"\r\n':
        raise StepFailure(Reason.PARAMETERS_INVALID, f"separator must be one character, no quote, not {separator!r}.")
    header = _header(csv_file, separator, target)
    columns = _column_names(header)
    target_column = lower_snake(target)
    if target_column not in columns:
        raise _missing(csv_file, header, columns, separator, target)
    if len(columns) < 2:
        raise StepFailure(Reason.DATA_INVALID, f"The file has no column besides the target {target!r}.")
    table = read_numbers(csv_file, separator, header, columns)
    if table.num_rows < MIN_ROWS:
        raise StepFailure(Reason.TOO_FEW_ROWS, f"The file has {table.num_rows} rows of data; at least {MIN_ROWS} are needed.")
    _check_variation(table, target_column)
    pq.write_table(table, table_file)
    features = [name for name in columns if name != target_column]
    log.info("%s rows, target %s, features %s", f"{table.num_rows:,}", target_column, ", ".join(features))
    return Preprocessed(table.num_rows, features, target_column)


def _header(path: Path, separator: str, target: str) -> Header:
    """Names in quotes make a header that the wrong separator cannot read, rather than a single column."""
    try:
        return read_header(path, separator)
    except StepFailure:
        if others := other_separators(path, separator):
            raise _wrong_separator(f"the header cannot be read with the separator {separator!r}", others, target) from None
        raise


def _column_names(header: Header) -> list[str]:
    names: dict[str, str] = {}
    for position, original in enumerate(header.names, 1):
        name = lower_snake(original)
        if not name:
            raise StepFailure(Reason.DATA_INVALID, f"Column {position} of the header has no name.")
        if name in names:
            raise StepFailure(
                Reason.DATA_INVALID,
                f"Two columns would be named {name!r}: {names[name]!r} and {original!r}. Rename one of them.",
            )
        names[name] = original
    return list(names)


def _missing(path: Path, header: Header, columns: list[str], separator: str, target: str) -> StepFailure:
    if len(header.names) == 1 and (others := other_separators(path, separator)):
        return _wrong_separator(f"with the separator {separator!r} the header is a single column", others, target)
    known = f"{', '.join(columns[:30])}{', …' * (len(columns) > 30)}"
    return StepFailure(Reason.COLUMN_MISSING, f"There is no column {target!r}; the header has {known}.")


def _wrong_separator(what: str, others: list[str], target: str) -> StepFailure:
    return StepFailure(
        Reason.COLUMN_MISSING,
        f"There is no column {target!r}: {what}. It looks separated by {' or '.join(others)}: set data.separator.",
    )


def _check_variation(table: pa.Table, target: str) -> None:
    constant = []
    for name in table.column_names:
        bounds = pc.min_max(table[name]).as_py()
        if bounds["min"] == bounds["max"]:
            constant.append(name)
    if target in constant:
        raise StepFailure(
            Reason.DATA_INVALID, f"Every row has the same {target!r}, {table[target][0].as_py():g}: nothing to learn."
        )
    if len(constant) == table.num_columns - 1:
        raise StepFailure(Reason.DATA_INVALID, "Every column besides the target has one value only: nothing to learn.")
    if constant:
        log.warning("columns with one value only, which teach nothing: %s", ", ".join(constant))
