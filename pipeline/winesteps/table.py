"""Reads a delimited text file whose columns are all numbers. Called by `preprocess` alone.

pyarrow reads a good file at full speed. Only a file that it refuses is read again, value by value, to say which line and
column is at fault; that second reading is the one that decides.
"""

import array
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from winesteps.failures import Reason, StepFailure

NUMBER = re.compile(r"[ \t]*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t]*")
"""What counts as a number: neither nan nor inf, no thousands separator, no decimal comma."""
SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_SHOWN = 40
"""Most characters of a value that a message quotes."""


@dataclass(frozen=True)
class Header:
    """The first line with something in it: the names as they stand there, and that line's number, from 1."""

    names: list[str]
    line: int


def read_header(path: Path, separator: str) -> Header:
    """The header of a file in UTF-8, with or without byte order mark."""
    for line, fields in _records(path, separator):
        return Header([field.strip() for field in fields], line)
    raise StepFailure(Reason.DATA_NOT_CSV, "The file has no line with something in it.")


def other_separators(path: Path, separator: str) -> list[str]:
    """Names of the separators, other than this one, that split the header in several columns."""
    return [f"{name} ({key!r})" for key, name in SEPARATORS.items() if key != separator and _splits_header(path, key)]


def _splits_header(path: Path, separator: str) -> bool:
    try:
        return len(read_header(path, separator).names) > 1
    except StepFailure:  # names in quotes, say, which this separator does not part
        return False


def read_numbers(path: Path, separator: str, header: Header, columns: list[str]) -> pa.Table:
    """The rows below the header as float64 columns, all finite, under the names given.

    Raises:
        StepFailure: DataInvalid, naming the first line, and the column and value, that is not as it must be.

    """
    try:
        table = pyarrow.csv.read_csv(
            path,
            # Where the header stands is known, and its names are replaced: see columns.
            read_options=pyarrow.csv.ReadOptions(skip_rows=header.line, column_names=columns),
            parse_options=pyarrow.csv.ParseOptions(delimiter=separator),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.float64()), null_values=[], strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return _read_carefully(path, separator, header, columns)
    if all(pc.all(pc.is_finite(column)).as_py() is not False for column in table.columns):
        return table
    return _read_carefully(path, separator, header, columns)


def _read_carefully(path: Path, separator: str, header: Header, columns: list[str]) -> pa.Table:
    values = [array.array("d") for _ in columns]
    for line, fields in _records(path, separator):
        if line <= header.line:
            continue
        if len(fields) != len(columns):
            raise StepFailure(
                Reason.DATA_INVALID,
                f"Line {line:,} has {len(fields)} {'value' if len(fields) == 1 else 'values'}, "
                f"the header has {len(columns)} columns.",
            )
        for name, field, column in zip(columns, fields, values, strict=True):
            number = float(field) if NUMBER.fullmatch(field) else float("nan")
            if not abs(number) < float("inf"):  # true for nan and inf alike
                _refuse(line, name, field)
            column.append(number)
    return pa.table(dict(zip(columns, (pa.array(column, pa.float64()) for column in values), strict=True)))


def _refuse(line: int, column: str, field: str) -> NoReturn:
    text = field.strip()
    if not text:
        what = "has no value"
    elif re.fullmatch(r"[+-]?[0-9]+,[0-9]+", text):
        what = f"is {text[:_SHOWN]!r}, with a decimal comma; a decimal point is needed"
    else:
        what = f"is {text[:_SHOWN]!r}, not a finite number"
    raise StepFailure(Reason.DATA_INVALID, f"Line {line:,}, column {column!r} {what}. Correct or remove the row.")


def _records(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Each record that is not blank, with the number of the line it ends on."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise StepFailure(Reason.DATA_INVALID, f"Line {line:,} cannot be read as CSV: {error}.") from None
            except UnicodeDecodeError as error:
                raise _not_utf8(path, error) from None
            if fields:
                yield reader.line_num, fields


def _not_utf8(path: Path, error: UnicodeDecodeError) -> StepFailure:
    with path.open("rb") as file:  # the error is about a buffer of many lines: find the one
        line = next(line for line, content in enumerate(file, 1) if content != content.decode(errors="ignore").encode())
    byte = error.object[error.start]
    return StepFailure(Reason.DATA_INVALID, f"Line {line:,} is not UTF-8: it has the byte 0x{byte:02x}. Save the file as UTF-8.")
