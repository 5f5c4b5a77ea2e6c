"""Columns that come along: numbers where every value is one, text as it came elsewhere, wherever the file is parted."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from winesteps.reading import kinds


def converted(values: list[str], decimal: str = ".", parts: int = 1) -> pa.ChunkedArray:
    flags: dict[str, int] = {}
    size = max(1, -(-len(values) // parts))
    for start in range(0, len(values), size):
        flags = kinds.kinds(pa.table({"a": pa.array(values[start : start + size], pa.string())}), ["a"], decimal, flags)
    return kinds.convert(pa.table({"a": pa.array(values, pa.string())}), flags, decimal)["a"]


@pytest.mark.parametrize(
    ("values", "decimal", "kind", "expected"),
    [
        (["5", "6", "-7", "+8", " 9 "], ".", "int64", [5, 6, -7, 8, 9]),
        (["5", "6.5", ".5", "7.", "1e3", "-1E-2"], ".", "double", [5, 6.5, 0.5, 7, 1000, -0.01]),
        (["5", "6,5", "+,5"], ",", "double", [5, 6.5, 0.5]),
        (["5", "", "NA", "null"], ".", "int64", [5, None, None, None]),
        (["5.5", "?"], ".", "double", [5.5, None]),
        (["007", "12"], ".", "string", ["007", "12"]),
        (["5", "red"], ".", "string", ["5", "red"]),
        (["5", "6,5"], ".", "string", ["5", "6,5"]),
        (["", ""], ".", "string", ["", ""]),
        (["123456789012345678", "5"], ".", "int64", [123456789012345678, 5]),
        (["123456789012345678", "5.5"], ".", "string", ["123456789012345678", "5.5"]),
        (["1234567890123456789012"], ".", "string", ["1234567890123456789012"]),
        (["inf", "1"], ".", "string", ["inf", "1"]),
        (["1_000"], ".", "string", ["1_000"]),
        (["0x10"], ".", "string", ["0x10"]),
        (["2024-01-01"], ".", "string", ["2024-01-01"]),
        (["true"], ".", "string", ["true"]),
    ],
)
def test_a_column_is_of_numbers_where_all_its_values_are(values: list[str], decimal: str, kind: str, expected: list[Any]) -> None:
    found = converted(values, decimal)
    assert str(found.type) == kind
    assert found.to_pylist() == expected


field = st.sampled_from(["", "NA", "1", "-2", "+3.5", "4,5", "1e3", "007", "red", "123456789012345678", ".5", "5.", " 6 "])


@given(st.lists(field, min_size=1, max_size=9), st.sampled_from([".", ","]), st.integers(2, 4))
def test_where_the_file_is_parted_changes_nothing(values: list[str], decimal: str, parts: int) -> None:
    assert converted(values, decimal, parts).equals(converted(values, decimal))
