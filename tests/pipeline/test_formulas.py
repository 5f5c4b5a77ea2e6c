"""What CSV outputs must not hold: texts that a spreadsheet runs."""

import csv
import io
from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa
import pytest

from winesteps.outputs import Upload
from winesteps.writers import open_writer

HARMFUL = [
    "=1+1",
    "=cmd|'/C calc'!A0",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1+1",
    "\uff1d1+1",
    "-",
    "+49 30 1234",
    "--5",
]
HARMLESS = ["", "red", "a=b", "-5", "+3.2e5", "-.5", " -5 ", "-5,3", "1-2", "'=1", "5%"]


def written(texts: Sequence[str | None], separator: str = ";", **options: bool) -> list[list[str]]:
    buffer = io.BytesIO()
    numbers = [-1.5] * len(texts)
    coded = pa.array(texts, pa.string()).dictionary_encode()
    table = pa.table({"text": pa.array(texts, pa.string()), "number": numbers, "coded": coded})
    writer = open_writer(cast("Upload", _Raw(buffer)), ".csv", table.schema, separator, **options)
    writer.write_table(table)
    writer.close()
    return list(csv.reader(io.StringIO(buffer.getvalue().decode(), newline=""), delimiter=separator))[1:]


class _Raw(io.RawIOBase):
    def __init__(self, buffer: io.BytesIO) -> None:
        self._buffer = buffer

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._buffer.write(data)


@pytest.mark.parametrize("separator", [";", "\u00a6"])
def test_formulas_are_escaped_and_nothing_else(separator: str) -> None:
    rows = written([*HARMFUL, *HARMLESS], separator)
    assert [row[0] for row in rows] == [*(f"'{text}" for text in HARMFUL), *HARMLESS]
    assert [row[2] for row in rows] == [row[0] for row in rows]
    assert {row[1] for row in rows} == {"-1.5"}


def test_a_missing_text_stays_missing() -> None:
    assert [row[0] for row in written([None, "=1"])] == ["", "'=1"]


def test_they_can_be_kept() -> None:
    assert [row[0] for row in written(HARMFUL, escape_formulas=False)] == HARMFUL
