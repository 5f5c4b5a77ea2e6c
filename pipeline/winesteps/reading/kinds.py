"""Types of columns that come along as text: numbers stay numbers where every value of the file is one. Pure.

Chunks are read one after another, so what is known of a column is a set of flags that later chunks add to.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from winesteps.reading.values import MISSING

INTEGER, LONG, DECIMAL, TEXT = 1, 2, 4, 8
"""A column has whole numbers of up to 15 digits, of up to 18, numbers with a decimal separator or exponent, other text."""
_WHOLE = r"^[+-]?(?:0|[1-9][0-9]{0,14})$"
_LONG = r"^[+-]?[1-9][0-9]{15,17}$"
_NUMBER = {
    point: rf"^[+-]?(?:(?:0|[1-9][0-9]{{0,14}})(?:{escaped}[0-9]*)?|{escaped}[0-9]+)(?:[eE][+-]?[0-9]{{1,2}})?$"
    for point, escaped in ((".", r"\."), (",", ","))
}
"""Leading zeros make a code, not a number: 007."""


def kinds(table: pa.Table, names: Sequence[str], decimal: str, known: Mapping[str, int]) -> dict[str, int]:
    """The flags of some text columns: those that are known, and what this table adds."""
    found = dict(known)
    for name in names:
        if not found.get(name, 0) & TEXT:
            found[name] = found.get(name, 0) | _kind(_trimmed(table[name]), decimal)
    return found


def type_of(flags: int) -> pa.DataType:
    """The type of a column with these flags."""
    if not flags or flags & TEXT or (flags & LONG and flags & DECIMAL):  # a long number would lose digits
        return pa.string()
    return pa.float64() if flags & DECIMAL else pa.int64()


def convert(table: pa.Table, flags: Mapping[str, int], decimal: str) -> pa.Table:
    """The table with its text columns as numbers where their flags say so; a missing value is null there."""
    for name, flag in flags.items():
        if (kind := type_of(flag)) == pa.string():
            continue
        values = _trimmed(table[name])
        values = pc.replace_substring_regex(values, r"^\+", "")
        if decimal == ",":
            values = pc.replace_substring(values, ",", ".")
        values = pc.if_else(_is_missing(values), pa.scalar(None, pa.string()), values)
        table = table.set_column(table.column_names.index(name), name, pc.cast(values, kind))
    return table


def _kind(values: pa.ChunkedArray, decimal: str) -> int:
    """The flags of trimmed values."""
    present = values.filter(pc.invert(_is_missing(values)))
    if not len(present):
        return 0
    whole = pc.match_substring_regex(present, _WHOLE)
    if pc.all(whole).as_py():
        return INTEGER
    rest = present.filter(pc.invert(whole))
    long = pc.match_substring_regex(rest, _LONG)
    others = rest.filter(pc.invert(long))
    flags = INTEGER * pc.any(whole).as_py() | LONG * pc.any(long).as_py()
    if not len(others):
        return int(flags)
    return int(flags | (DECIMAL if pc.all(pc.match_substring_regex(others, _NUMBER[decimal])).as_py() else TEXT))


def _trimmed(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.utf8_trim(values, characters=" \t")


def _is_missing(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.is_in(pc.utf8_lower(values), value_set=pa.array(sorted(MISSING)))
