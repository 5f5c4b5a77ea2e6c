"""Writes tables as parquet or CSV to an upload. Called by `predict`."""

import csv
import io
from collections.abc import Iterable
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from winesteps.failures import Reason, StepFailure
from winesteps.outputs import Upload

FORMULA = "^[\\s\\x00]*[=+@\\-\uff1d\uff0b\uff0d\uff20]|^[\\t\\r\\n]"
"""How texts begin that spreadsheets run as formulas, also where they strip what is before; full-width forms too."""
NUMBER = r"^[ \t]*[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?[ \t]*$"


class Writer(Protocol):
    """What writes tables of one schema, one after another."""

    def write_table(self, table: pa.Table) -> None:
        """Write another table."""

    def close(self) -> None:
        """Write what comes last."""


def open_writer(upload: Upload, suffix: str, schema: pa.Schema, separator: str, *, escape_formulas: bool = True) -> Writer:
    """What writes rows to an upload in the form that its name ends in.

    Args:
        upload: where they go.
        suffix: the form.
        schema: that of all tables.
        separator: between two fields of CSV.
        escape_formulas: whether texts of CSV that a spreadsheet would run as a formula get an apostrophe in front.

    Raises:
        StepFailure: DataInvalid where CSV cannot hold one of the columns.

    """
    if suffix == ".parquet":
        writer: Writer = pq.ParquetWriter(upload, schema, compression="zstd")
        return writer
    columns = list(zip(schema.names, schema.types, strict=True))
    for name, kind in columns:
        if pa.types.is_nested(kind) or pa.types.is_binary(kind):
            message = f"The column {name!r} is of type {kind}, which CSV cannot hold: write parquet, or leave it out."
            raise StepFailure(Reason.DATA_INVALID, message)
    schema = pa.schema([(name, kind.value_type if pa.types.is_dictionary(kind) else kind) for name, kind in columns])
    plain: Writer
    if separator.isascii():
        plain = pyarrow.csv.CSVWriter(upload, schema, write_options=pyarrow.csv.WriteOptions(delimiter=separator))
    else:  # pyarrow writes no other
        plain = _PlainCsv(upload, schema, separator)
    return _Escaping(plain, schema) if escape_formulas else plain


class _Escaping:
    """Writes CSV whose texts no spreadsheet runs as formulas. Numbers stay as they are, also in a column of text."""

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
        """Write what comes last."""
        self._writer.close()


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _without_formulas(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts with an apostrophe before those that begin as a formula does and are no number, as OWASP advises."""
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
        """Write what comes last: nothing."""

    def _write(self, rows: Iterable[Iterable[object]]) -> None:
        lines: list[str] = []
        for row in rows:
            text = io.StringIO(newline="")
            csv.writer(text, delimiter=self._separator, lineterminator="\r\n").writerow(row)  # quotes what has one of the two
            lines.append(text.getvalue().removesuffix("\r\n") + "\n")
        self._upload.write("".join(lines).encode())
