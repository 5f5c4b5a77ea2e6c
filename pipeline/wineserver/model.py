"""The MLflow model in a folder: its columns, its example and its predictions."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import Model
from numpy.typing import NDArray

from winecontract import linear, signatures
from winecontract.reasons import Reason
from wineserver.rows import Matrix, Schema

# MLflow's column types as the Open Inference Protocol's datatypes; other types are no numbers.
DATATYPES = {"double": "FP64", "float": "FP32", "integer": "INT32", "long": "INT64"}


class NotFiniteError(Exception):
    """The model predicted infinity or no number; JSON has no word for either."""


class ModelFolderError(Exception):
    """A folder that cannot be served; the message is one line: what is wrong, and what to do."""

    reason = Reason.MODEL_UNUSABLE


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
    description = _describe(folder)
    columns, datatypes = _columns(folder, description)
    try:
        predict = _linear(folder, columns) or _unpickled(folder, description, list(columns))
    except Exception as error:
        raise ModelFolderError(
            f"the model in {folder} cannot be loaded: {type(error).__name__}: {_line(error)}; "
            "serve it with the packages that trained it (its requirements.txt), or train it again"
        ) from error
    run = description.run_id if isinstance(description.run_id, str) else ""
    model = WineModel(Schema(columns, _example(folder, description, columns)), datatypes, predict, run)
    try:
        if model.schema.example:
            model.predict(model.schema.from_rows([list(model.schema.example)]))
    except Exception as error:
        raise ModelFolderError(
            f"the model in {folder} cannot answer its own input example: {type(error).__name__}: {_line(error)}; "
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


def _unpickled(folder: Path, description: Model, columns: list[str]) -> Callable[[Matrix], Any]:
    """Load the model as MLflow does. Imported here: of a linear model's server scikit-learn would be a third."""
    import mlflow.pyfunc
    import mlflow.sklearn

    # The scikit-learn flavor predicts without pyfunc's schema check, which rows.py has done with better messages.
    flavor = mlflow.sklearn if "sklearn" in description.flavors else mlflow.pyfunc
    predict: Callable[[pd.DataFrame], Any] = flavor.load_model(str(folder)).predict
    return lambda matrix: predict(pd.DataFrame(matrix, columns=columns, copy=False))


def verify(folder: Path, digest: str) -> None:
    """Raise ModelTamperedError unless a folder has this digest."""
    try:
        signatures.check(folder, digest)
    except (signatures.TamperedError, signatures.FolderInvalidError) as error:
        raise ModelTamperedError(
            f"the files in {folder} are not those that the train step stored: {error}; "
            "restore them in the object store, or train again (annotation winepipelines.io/retrain)"
        ) from error


def _describe(folder: Path) -> Model:
    if not (folder / "MLmodel").is_file():
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) if folder.is_dir() else ""
        raise ModelFolderError(
            f"there is no MLmodel file in {folder} ({f'it holds {found}' if found else 'it is empty'}): "
            "check that the modelUri of the SeldonDeployment is the folder of an MLflow model, "
            "since an address that holds nothing is copied without an error"
        )
    try:
        return Model.load(str(folder))
    except Exception as error:
        raise ModelFolderError(f"the MLmodel file in {folder} cannot be read: {_line(error)}; train it again") from error


def _columns(folder: Path, description: Model) -> tuple[tuple[str, ...], tuple[str, ...]]:
    inputs = description.signature.inputs if description.signature else None
    if inputs is None or inputs.is_tensor_spec() or not inputs.has_input_names():
        raise ModelFolderError(
            f"the model in {folder} has no signature with named columns: save it with "
            "signature=mlflow.models.infer_signature(<data frame>, <predictions>)"
        )
    types = [getattr(column.type, "name", "") for column in inputs.inputs]
    for column, kind in zip(inputs.inputs, types, strict=True):
        if kind not in DATATYPES:
            raise ModelFolderError(
                f"the column {column.name} of the model in {folder} is of type {column.type}: only numbers are served"
            )
    return tuple(inputs.input_names()), tuple(DATATYPES[kind] for kind in types)


def _example(folder: Path, description: Model, columns: tuple[str, ...]) -> tuple[float, ...]:
    """Return the first row of MLflow's input example in the model's order; () where there is none that fits."""
    try:
        path = folder / (description.saved_input_example_info or {})["artifact_path"]
        example = json.loads(path.read_text("utf-8"))
        row = dict(zip(example["columns"], example["data"][0], strict=True))
        return tuple(float(row[column]) for column in columns)
    except (OSError, ValueError, TypeError, LookupError):
        return ()  # it only makes messages better


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
