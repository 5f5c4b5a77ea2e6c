"""Write tables as parquet or CSV to an upload."""

import csv
import io
from collections.abc import Iterable
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from winecontract.reasons import Reason
from winesteps.failures import StepFailure
from winesteps.outputs import Upload

FORMULA = "^[\\s\\x00]*[=+@\\-\uff1d\uff0b\uff0d\uff20]|^[\\t\\r\\n]"
"""Beginnings of texts that spreadsheets run as formulas, some after they strip blanks; full-width forms, too."""
NUMBER = r"^[ \t]*[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?[ \t]*$"


class Writer(Protocol):
    """Writes tables of one schema, one after another."""

    def write_table(self, table: pa.Table) -> None:
        """Write another table."""

    def close(self) -> None:
        """Finish the file."""


def open_writer(upload: Upload, suffix: str, schema: pa.Schema, separator: str, *, escape_formulas: bool = True) -> Writer:
    """Open a writer for the format of a suffix.

    Args:
        upload: the upload to write to.
        suffix: `.parquet` or `.csv`.
        schema: schema of all tables.
        separator: character between two fields of CSV.
        escape_formulas: whether to put an apostrophe before texts of CSV that a spreadsheet would run as a formula.

    Raises:
        StepFailure: DataInvalid if CSV cannot represent one of the columns.

    """
    if suffix == ".parquet":
        writer: Writer = pq.ParquetWriter(upload, schema, compression="zstd")
        return writer
    columns = list(zip(schema.names, schema.types, strict=True))
    for name, kind in columns:
        if pa.types.is_nested(kind) or pa.types.is_binary(kind):
            message = f"The column {name!r} has the type {kind}, which CSV cannot represent. Write parquet, or drop the column."
            raise StepFailure(Reason.DATA_INVALID, message)
    schema = pa.schema([(name, kind.value_type if pa.types.is_dictionary(kind) else kind) for name, kind in columns])
    plain: Writer
    if separator.isascii():
        plain = pyarrow.csv.CSVWriter(upload, schema, write_options=pyarrow.csv.WriteOptions(delimiter=separator))
    else:  # pyarrow writes only ASCII separators
        plain = _PlainCsv(upload, schema, separator)
    return _Escaping(plain, schema) if escape_formulas else plain


class _Escaping:
    """Writes CSV whose texts no spreadsheet runs as formulas. Numbers in columns of text are not changed."""

    def __init__(self, writer: Writer, schema: pa.Schema) -> None:
        self._writer, self._schema = writer, schema

    def write_table(self, table: pa.Table) -> None:
        """Write another table."""
        columns = [
            _without_formulas(column.cast(kind)) if _is_text(kind) else column
            for column, kind in zip(table.columns, self._schema.types, strict=True)
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _without_formulas(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Put an apostrophe before texts that begin like a formula and are not numbers, as OWASP advises."""
    begins = pc.match_substring_regex(values, FORMULA)
    harmful = pc.and_not(begins, pc.match_substring_regex(values, NUMBER))
    return pc.if_else(
        harmful, pc.binary_join_element_wise(pa.scalar("'", values.type), values, pa.scalar("", values.type)), values
    )


class _PlainCsv:
    """Writes CSV with any separator, slowly."""

    def __init__(self, upload: Upload, schema: pa.Schema, separator: str) -> None:
        self._upload, self._separator = upload, separator
        self._write([schema.names])

    def write_table(self, table: pa.Table) -> None:
        """Write another table."""
        self._write(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def close(self) -> None:
        """Finish the file; CSV has no footer."""

    def _write(self, rows: Iterable[Iterable[object]]) -> None:
        lines: list[str] = []
        for row in rows:
            text = io.StringIO(newline="")
            csv.writer(text, delimiter=self._separator, lineterminator="\r\n").writerow(row)  # quotes fields that contain either
            lines.append(text.getvalue().removesuffix("\r\n") + "\n")
        self._upload.write("".join(lines).encode())
