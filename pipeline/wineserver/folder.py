"""A model's folder in MLflow's format: what its file `MLmodel` and its input example say about the model.

MLflow itself does not read them here: importing it takes longer, and needs more memory, than all else that the server of a linear
model does. Source of the format: mlflow 3.17, `mlflow/models/model.py` and `mlflow/types/schema.py`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from winecontract.reasons import Reason

DESCRIPTION = "MLmodel"
MAX_BYTES = 4 * 1024 * 1024
"""Most bytes of the description and of the example; a signature of ten thousand columns needs a fifth of them."""
# MLflow's column types as the Open Inference Protocol's datatypes; other types are no numbers.
DATATYPES = {"double": "FP64", "float": "FP32", "integer": "INT32", "long": "INT64"}


class ModelFolderError(Exception):
    """A folder that cannot be served; the message is one line: what is wrong, and what to do."""

    reason = Reason.MODEL_UNUSABLE


@dataclass(frozen=True)
class Description:
    """What a folder says about its model.

    `datatypes` has one entry a column; `flavors` has the settings of each flavor; `run` is the MLflow run that made the model, ""
    where MLmodel does not say; `example` is the first row of the input example in the model's order, () where there is none that
    fits.
    """

    columns: tuple[str, ...]
    datatypes: tuple[str, ...]
    flavors: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""
    example: tuple[float, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a folder. Raises ModelFolderError."""
        content = _content(folder)
        columns, datatypes = _columns(folder, content)
        flavors, run = content.get("flavors"), content.get("run_id")
        return cls(
            columns,
            datatypes,
            flavors if isinstance(flavors, dict) else {},
            run if isinstance(run, str) else "",
            _example(folder, content, columns),
        )


def line_of(error: Exception) -> str:
    """Return the text of an error on one short line."""
    return " ".join(str(error).split())[:300]


def _content(folder: Path) -> Mapping[str, Any]:
    """Parse the description."""
    if not (folder / DESCRIPTION).is_file():
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) if folder.is_dir() else ""
        raise ModelFolderError(
            f"there is no MLmodel file in {folder} ({f'it holds {found}' if found else 'it is empty'}): "
            "check that the modelUri of the SeldonDeployment is the folder of an MLflow model, "
            "since an address that holds nothing is copied without an error"
        )
    try:
        content = yaml.safe_load(_bytes(folder / DESCRIPTION))  # libyaml would crash on deep nesting
        if not isinstance(content, dict):
            raise TypeError("it is no mapping")
    except Exception as error:
        raise ModelFolderError(f"the MLmodel file in {folder} cannot be read: {line_of(error)}; train it again") from error
    return content


def _columns(folder: Path, content: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the signature's columns, and their datatypes."""
    try:
        inputs = json.loads(content["signature"]["inputs"])
        names = tuple(str(column["name"]) for column in inputs)
        types = tuple(str(column["type"]) for column in inputs)
    except (LookupError, TypeError, ValueError, RecursionError):
        names, types = (), ()
    if not names or "tensor" in types:
        raise ModelFolderError(
            f"the model in {folder} has no signature with named columns: save it with "
            "signature=mlflow.models.infer_signature(<data frame>, <predictions>)"
        )
    for name, kind in zip(names, types, strict=True):
        if kind not in DATATYPES:
            raise ModelFolderError(f"the column {name} of the model in {folder} is of type {kind}: only numbers are served")
    return names, tuple(DATATYPES[kind] for kind in types)


def _example(folder: Path, content: Mapping[str, Any], columns: tuple[str, ...]) -> tuple[float, ...]:
    """Return the first row of the input example in the order of the columns; () where there is none that fits."""
    try:
        example = json.loads(_bytes(folder / content["saved_input_example_info"]["artifact_path"]))
        row = dict(zip(example["columns"], example["data"][0], strict=True))
        return tuple(float(row[column]) for column in columns)
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return ()  # it only makes messages better


def _bytes(path: Path) -> bytes:
    """Read a file. Raises ValueError if it is too large, OSError."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES} bytes")
    return content
