"""The model in a folder of MLflow's format: load it, and predict."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winecontract import linear, signatures
from winecontract.reasons import Reason
from wineserver.folder import Description, ModelFolderError, line_of
from wineserver.rows import Matrix, Schema

PICKLES = ("cloudpickle", "pickle")
"""MLflow's formats of an estimator that `pickle` reads."""


class NotFiniteError(Exception):
    """The model predicted infinity or no number; JSON has no word for either."""


class ModelTamperedError(ModelFolderError):
    """A folder that holds other files than the train step stored."""

    reason = Reason.MODEL_TAMPERED


@dataclass(frozen=True)
class WineModel:
    """A loaded model. `datatypes` has one entry a column; `run` is the MLflow run that made it, "" where MLmodel does not say."""

    schema: Schema
    datatypes: tuple[str, ...]
    predict_matrix: Callable[[Matrix], Any]
    run: str = ""

    def predict(self, matrix: Matrix) -> NDArray[np.float64]:
        """Predict float64 [rows] (or [rows, outputs]) from [rows, columns] in the schema's order. Raises NotFiniteError."""
        values = np.asarray(self.predict_matrix(matrix), dtype=np.float64)
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0][0])
            raise NotFiniteError(f"the model predicts no finite number for row {row + 1}")
        return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def load(folder: Path, digest: str = "") -> WineModel:
    """Load the model in `folder` and have it answer its own example; never changes the folder.

    With a `digest`, nothing in the folder is read before all of it is known to be what the train step stored.

    Raises:
        ModelFolderError: the folder cannot be served.
        ModelTamperedError: the folder has another digest.

    """
    if digest:
        verify(folder, digest)
    description = Description.read(folder)
    try:
        predict = _linear(folder, description.columns) or _unpickled(folder, description)
    except Exception as error:
        raise ModelFolderError(
            f"the model in {folder} cannot be loaded: {type(error).__name__}: {line_of(error)}; "
            "serve it with the packages that trained it (its requirements.txt), or train it again"
        ) from error
    schema = Schema(description.columns, description.example)
    model = WineModel(schema, description.datatypes, predict, description.run)
    try:
        if model.schema.example:
            model.predict(model.schema.from_rows([list(model.schema.example)]))
    except Exception as error:
        raise ModelFolderError(
            f"the model in {folder} cannot answer its own input example: {type(error).__name__}: {line_of(error)}; "
            "serve it with the packages that trained it (its requirements.txt), or train it again"
        ) from error
    return model


def _linear(folder: Path, columns: tuple[str, ...]) -> Callable[[Matrix], Any] | None:
    """Take a linear model from its numbers, without a pickle and without scikit-learn; None where the folder has no such file.

    A data frame's values are in Fortran's order, and the last bit of a product depends on it.
    """
    if (numbers := linear.read(folder)) is None:
        return None
    if numbers.columns != columns:
        raise ModelFolderError(f"{linear.FILE} names other columns than the signature")
    coefficients, intercept = np.array(numbers.coefficients), numbers.intercept
    return lambda matrix: np.asfortranarray(matrix) @ coefficients + intercept


def _unpickled(folder: Path, description: Description) -> Callable[[Matrix], Any]:
    """Load the model from its pickle. Imported here: a linear model's server needs none of these packages.

    MLflow, whose import takes a second, loads what is not just a pickle of an estimator.
    """
    import pandas as pd

    flavor = description.flavors.get("sklearn")
    if isinstance(flavor, dict) and flavor.get("serialization_format") in PICKLES and not flavor.get("code"):
        with (folder / str(flavor["pickled_model"])).open("rb") as file:
            predict = pickle.load(file).predict  # noqa: S301 - `load` has verified the folder, or the administrator trusts it
    else:
        predict = _loaded_by_mlflow(folder, description)
    columns = list(description.columns)
    return lambda matrix: predict(pd.DataFrame(matrix, columns=columns, copy=False))


def _loaded_by_mlflow(folder: Path, description: Description) -> Callable[..., Any]:
    import mlflow.pyfunc
    import mlflow.sklearn

    # The scikit-learn flavor predicts without pyfunc's schema check, which rows.py has done with better messages.
    flavor = mlflow.sklearn if "sklearn" in description.flavors else mlflow.pyfunc
    predict: Callable[..., Any] = flavor.load_model(str(folder)).predict
    return predict


def verify(folder: Path, digest: str) -> None:
    """Raise ModelTamperedError unless a folder has this digest."""
    try:
        signatures.check(folder, digest)
    except (signatures.TamperedError, signatures.FolderInvalidError) as error:
        raise ModelTamperedError(
            f"the files in {folder} are not those that the train step stored: {error}; "
            "restore them in the object store, or train again (annotation winepipelines.io/retrain)"
        ) from error
