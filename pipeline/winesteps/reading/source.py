"""What a reader returns: chunks of rows, and what is wrong with those that are left out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from winesteps.reading.values import Rejection


@dataclass(frozen=True)
class Problem:
    """A row that cannot be used: its number, the line it begins on, and the field that is wrong.

    `fields` is how many fields the row has, where their number is wrong; `byte` one that cannot be decoded.
    """

    reason: Rejection
    row: int
    line: int
    column: str = ""
    title: str = ""
    value: str = ""
    fields: int = 0
    byte: int | None = None


@dataclass(frozen=True)
class Chunk:
    """Rows in the file's order. `numbers` counts the file's rows from 1, without the header and blank lines.

    In `table` the numeric columns are float64 and finite, the others as they came. `problems` has the first row of each reason.
    """

    table: pa.Table
    numbers: np.ndarray
    rejected: Mapping[Rejection, Sequence[int]] = field(default_factory=dict)
    problems: Sequence[Problem] = ()


@dataclass(frozen=True)
class Source:
    """An open file: the columns that are read, under lower_snake names and in the file's order, and its chunks.

    `titles` are the names as the header has them, `dropped` those of the columns that are left out. `explain` says in words
    what is wrong with a row and what to do. `written` is how the file is encoded and compressed.
    """

    columns: list[str]
    chunks: Callable[[], Iterator[Chunk]]
    explain: Callable[[Problem], str]
    titles: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    separator: str = ""
    decimal: str = "."
    texts: list[str] = field(default_factory=list)
    written: str = ""
