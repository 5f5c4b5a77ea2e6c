"""Linear models as plain numbers: the file `linear.json` beside MLflow's own pickle in a model's folder.

The train step writes it for every linear model. The model server and the steps load it in preference: reading it runs no code and
needs no scikit-learn.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

FILE = "linear.json"
MAX_BYTES = 1024 * 1024
"""Most bytes of the file; ten thousand columns need about half of them."""


class LinearInvalidError(ValueError):
    """The file is not a linear model. The message says what is wrong, and quotes nothing of it."""


@dataclass(frozen=True)
class Linear:
    """A prediction is the sum of a row's values, each times its column's coefficient, plus the intercept."""

    columns: tuple[str, ...]
    coefficients: tuple[float, ...]
    intercept: float

    @classmethod
    def of(cls, columns: Iterable[str], coefficients: Iterable[float], intercept: float) -> Self:
        """Take numbers of any library's types."""
        return cls(tuple(map(str, columns)), tuple(map(float, coefficients)), float(intercept))

    def write(self, folder: Path) -> None:
        """Write the file into a model's folder. Floats are read back as they are."""
        content = {"columns": list(self.columns), "coefficients": list(self.coefficients), "intercept": self.intercept}
        (folder / FILE).write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")


def read(folder: Path) -> Linear | None:
    """Read a model's folder; None where it has no such file. Raises LinearInvalidError."""
    try:
        with (folder / FILE).open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LinearInvalidError(f"{FILE} cannot be read: {error.strerror}") from error
    if len(text) > MAX_BYTES:
        raise LinearInvalidError(f"{FILE} has more than {MAX_BYTES} bytes")
    try:
        content = json.loads(text)
        columns, coefficients, intercept = content["columns"], content["coefficients"], content["intercept"]
        numbers = [*coefficients, intercept]
        names = isinstance(columns, list) and all(isinstance(name, str) for name in columns)
        finite = all(isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in numbers)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise LinearInvalidError(f"{FILE} has not the form of a linear model ({type(error).__name__})") from None
    if not names or not finite or not columns or len(columns) != len(coefficients) or len(set(columns)) != len(columns):
        raise LinearInvalidError(f"{FILE} does not name a finite coefficient for each column")
    return Linear.of(columns, coefficients, intercept)
