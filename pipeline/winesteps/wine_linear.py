"""Predicts with a linear model from its numbers alone: the loader of models for Seldon's mlflowserver.

`servers` copies this file into the model's folder, and MLflow of any version calls `_load_pyfunc` there. It is read by Python 3.8
and later, and needs nothing but numpy: neither scikit-learn nor a pickle, which only the versions that wrote it read.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np


class LinearModel:
    """`columns` names the coefficients, in their order."""

    def __init__(self, columns: list[str], coefficients: list[float], intercept: float) -> None:
        self.columns = columns
        self.coefficients = np.asarray(coefficients, dtype="float64")
        self.intercept = intercept

    def predict(self, rows: Any, params: Any = None) -> Any:  # noqa: ARG002 - MLflow's signature
        """Predict float64 [rows] from a data frame with the columns in any order, or from [rows, columns] in their own order.

        Raises ValueError where a column is missing, or the number of columns is another.
        """
        if hasattr(rows, "columns"):
            names = [str(name) for name in rows.columns]
            if names != [str(number) for number in range(len(names))]:  # a frame without names numbers its columns
                missing = [name for name in self.columns if name not in names]
                if missing:
                    raise ValueError("the model needs the columns " + ", ".join(missing))
                rows = rows[self.columns]
        matrix = np.atleast_2d(np.asarray(rows, dtype="float64"))
        if matrix.shape[1] != len(self.columns):
            raise ValueError("the model has the columns " + ", ".join(self.columns))
        return matrix @ self.coefficients + self.intercept


def _load_pyfunc(path: str) -> LinearModel:
    """MLflow's entry: `path` is the file that `servers` wrote."""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - Python 3.8 and whatever MLflow hands over
        numbers = json.load(file)
    return LinearModel(numbers["columns"], numbers["coefficients"], numbers["intercept"])
