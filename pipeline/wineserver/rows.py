"""Requests to numbers: every form a request may have becomes one float64 matrix [rows, columns], or says why not.

Pure; used by the routes of both protocols. A value that is not a finite number never reaches the model: an estimator would refuse
it with a message about itself instead of about the request.
"""

import json
import math
import textwrap
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winecolumns import lower_snake

Matrix = NDArray[np.float64]
LARGEST = float(np.finfo(np.float32).max)  # forests compute in 32 bits
NUMERIC = frozenset({"FP16", "FP32", "FP64", *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))})
MAX_ROWS = 100_000
"""Rows of one request. A WinePrediction scores a file of any length."""
LONGEST_EXAMPLE = 400  # characters


class InputError(ValueError):
    """A request the model cannot answer; the message says what is wrong, where, and what is expected."""


@dataclass(frozen=True)
class Tensor:
    """An input of an Open Inference Protocol request; `data` is flat or nested by row."""

    name: str
    shape: object
    datatype: str
    data: object


@dataclass(frozen=True)
class Schema:
    """The model's columns in the order it was trained on, and one example row (from MLflow's input example)."""

    columns: tuple[str, ...]
    example: tuple[float, ...] = ()

    def refuse(self, problem: str) -> InputError:
        """Return the error for `problem`, completed with what is expected."""
        names = textwrap.shorten(", ".join(self.columns), 1000, placeholder=" …")
        example = json.dumps(list(self.example))
        shown = f"; for example {example}" if self.example and len(example) <= LONGEST_EXAMPLE else ""
        return InputError(f"{problem}; expected rows of {len(self.columns)} numbers: {names}{shown}")

    def from_rows(self, rows: object, names: object = None) -> Matrix:
        """Read a list of rows; `names` (one a value, in any order) puts them in the model's order. Raises InputError."""
        order = self._order(names)
        if not isinstance(rows, list) or not rows:
            raise self.refuse("there are no rows")
        self._check_number(len(rows))
        if (kinds := set(map(type, rows))) != {list}:
            flat = ": put the row into a list of its own, [[...]]" if list not in kinds else ""
            raise self.refuse(f"the data is not a list of rows{flat}")
        if set(map(len, rows)) != {len(self.columns)}:
            number, row = next((i, r) for i, r in enumerate(rows, 1) if len(r) != len(self.columns))
            raise self.refuse(f"row {number} has {len(row)} values")
        return self._matrix(list(chain.from_iterable(rows)), order, names)

    def from_tensor(self, shape: object, values: object, names: object = None) -> Matrix:
        """Read a flat list of values of `shape` [rows, columns]. Raises InputError."""
        if not (isinstance(shape, list) and len(shape) == 2 and all(type(size) is int and size > 0 for size in shape)):
            row = f": one row is [1, {len(self.columns)}]" if shape == [len(self.columns)] else ""
            raise self.refuse(f"the shape {_shown(shape)} is not [rows, columns]{row}")
        if not isinstance(values, list) or len(values) != shape[0] * shape[1]:
            found = f", not {len(values)}" if isinstance(values, list) else ""
            raise self.refuse(f"the shape {shape} needs {shape[0] * shape[1]} values{found}")
        order = self._order(names)
        self._check_number(shape[0])
        if shape[1] != len(self.columns):
            raise self.refuse(f"row 1 has {shape[1]} values")
        return self._matrix(values, order, names)

    def from_inputs(self, inputs: Sequence[Tensor]) -> Matrix:
        """Read the inputs of an Open Inference Protocol request: one matrix, or one tensor a column. Raises InputError."""
        for tensor in inputs:
            if tensor.datatype not in NUMERIC:
                raise self.refuse(f"the input {_quoted(tensor.name)} has the datatype {_quoted(tensor.datatype)}: send FP64")
        if len(inputs) == 1 and (len(self.columns) > 1 or _dimensions(inputs[0]) == 2):
            tensor = inputs[0]
            return self.from_tensor(tensor.shape, _flat(tensor.data))
        columns = [_flat(tensor.data) for tensor in inputs]
        if not columns or not columns[0]:
            raise self.refuse("there are no rows")
        for tensor, values in zip(inputs, columns, strict=True):
            if len(values) != len(columns[0]) or tensor.shape not in ([len(values)], [len(values), 1]):
                raise self.refuse(f"the input {_quoted(tensor.name)} is not a column of {len(columns[0])} values")
        rows = [list(row) for row in zip(*columns, strict=True)]
        return self.from_rows(rows, [tensor.name for tensor in inputs])

    @cached_property
    def _listed(self) -> list[str]:
        return list(self.columns)

    @cached_property
    def _exact(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.columns)}

    @cached_property
    def _normalized(self) -> dict[str, int]:
        """Places of the columns by their lower_snake names, as training and batch scoring read a header."""
        places: dict[str, list[int]] = {}
        for place, name in enumerate(self.columns):
            places.setdefault(lower_snake(name), []).append(place)
        return {name: found[0] for name, found in places.items() if name and len(found) == 1}

    def _order(self, names: object) -> list[int] | None:
        """Where each of the model's columns stands in `names`; None where they are in order or not given."""
        if names is None or names == [] or names == self._listed:
            return None
        if not isinstance(names, list) or set(map(type, names)) != {str}:
            raise self.refuse("the names are not a list of texts")
        stands: dict[int, int] = {}
        unknown: list[str] = []
        repeated: list[str] = []
        for position, name in enumerate(names):
            place = self._exact.get(name)
            if place is None:
                place = self._normalized.get(lower_snake(name))
            if place is None:
                unknown.append(name)
            elif place in stands:
                repeated.append(f"{_quoted(names[stands[place]])} and {_quoted(name)}")
            else:
                stands[place] = position
        missing = [name for place, name in enumerate(self.columns) if place not in stands]
        for word, found in (("unknown", unknown), ("missing", missing), ("repeated", repeated)):
            if found:
                shown = ", ".join(name or '""' for name in found[:100])
                raise self.refuse(f"{word} columns: {textwrap.shorten(shown, 300, placeholder=' …')}")
        return [stands[place] for place in range(len(self.columns))]

    def _check_number(self, rows: int) -> None:
        if rows > MAX_ROWS:
            raise self.refuse(f"there are {rows} rows, and at most {MAX_ROWS} are read at a time: send fewer")

    def _matrix(self, values: list[Any], order: list[int] | None, names: object) -> Matrix:
        """Make a matrix of the values of whole rows, with its columns in `order`. Raises InputError."""
        try:
            matrix = np.frombuffer(array("d", values)).reshape(-1, len(self.columns))  # a third of the time of np.array
        except (TypeError, OverflowError):  # no number, or a whole one of hundreds of digits
            matrix = np.array([_number(value) for value in values]).reshape(-1, len(self.columns))
        with np.errstate(invalid="ignore"):
            refused = ~(np.abs(matrix.ravel()) <= LARGEST)
        # A logical value became 0 or 1.
        like_bools = np.flatnonzero((matrix == 0) | (matrix == 1)).tolist()
        refused[[place for place in like_bools if type(values[place]) is bool]] = True
        if refused.any():
            row, column = divmod(int(refused.argmax()), len(self.columns))
            label = self.columns[column] if order is None else names[column]  # type: ignore[index]  # _order saw a list
            found = values[row * len(self.columns) + column]
            where = f"row {row + 1}, column {_quoted(label)}"
            raise self.refuse(f"{where}: {_shown(found)} is not a finite number{_advice(found)}")
        return matrix if order is None else matrix[:, order]


def _number(value: object) -> float:
    """A number as a float; no number for everything else."""
    try:
        return float(value) if type(value) in (int, float) else math.nan  # type: ignore[arg-type]
    except OverflowError:
        return math.inf


def _advice(value: object) -> str:
    """What to do about a value that is no finite number."""
    match value:
        case str():
            try:
                float(value)
            except ValueError:
                return ": it is a text"
            return ": it is a text, send it without quotes"
        case None:
            return ": the model needs a value in every column"
        case bool():
            return ": send 1 or 0"
        case int() | float():
            return f" of at most {LARGEST:.4g}"
    return ""


def _dimensions(tensor: Tensor) -> int:
    return len(tensor.shape) if isinstance(tensor.shape, list) else 0


def _flat(data: object) -> list[Any]:
    """Tensor data may be flat or nested by row."""
    if not isinstance(data, list):
        return []
    return list(chain.from_iterable(data)) if data and set(map(type, data)) == {list} else data


def _shown(value: object) -> str:
    """A value of a request as JSON, short; nested ones by their kind, since they may be deep."""
    match value:
        case str():
            return _quoted(value)
        case int() if value.bit_length() > 64:
            return "a whole number of more than 64 bits"
        case dict():
            return "an object"
        case list() if not all(type(item) is int for item in value):
            return "a list"
        case list():
            return textwrap.shorten(str(value[:10]), 60, placeholder=" …")
    return textwrap.shorten(json.dumps(value, default=str), 60, placeholder="…")


def _quoted(text: str) -> str:
    return json.dumps(textwrap.shorten(text[:200], 60, placeholder="…"), ensure_ascii=False)
