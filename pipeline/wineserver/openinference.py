"""The Open Inference Protocol, version 2, in MLServer's form: one input of rows, or one a column; one output, `predict`."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from wineserver.model import WineModel
from wineserver.rows import InputError, Matrix, Schema, Tensor

FORM = '{"inputs": [{"name": "x", "shape": [rows, columns], "datatype": "FP64", "data": [...]}]}'
BINARY = "binary tensors are not read: send the data as JSON numbers (tritonclient: set_data_from_numpy(..., binary_data=False))"
MAX_INPUTS = 10_000
ID_LENGTH = 256


def read(schema: Schema, payload: object, predict_path: str) -> Matrix:
    """Read an inference request. Raises InputError."""
    if not isinstance(payload, dict):
        raise schema.refuse(f"the body is not an object: send {FORM}")
    inputs = payload.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise schema.refuse(_no_inputs(payload, predict_path))
    if len(inputs) > MAX_INPUTS:
        raise schema.refuse(f"there are {len(inputs)} inputs")
    if not isinstance(payload.get("id", ""), str | None) or len(payload.get("id") or "") > ID_LENGTH:
        raise schema.refuse(f'"id" is not a text of at most {ID_LENGTH} characters')
    return schema.from_inputs([_tensor(schema, number, tensor) for number, tensor in enumerate(inputs, 1)])


def answer(payload: Mapping[str, Any], values: NDArray[Any], name: str, puid: str) -> dict[str, Any]:
    """Return the inference response for the predicted values; its id is the request's, else that of the Seldon-Puid header."""
    shape = [len(values), 1] if values.ndim == 1 else list(values.shape)
    output = {
        "name": "predict",
        "shape": shape,
        "datatype": "FP64",
        "parameters": {"content_type": "np"},
        "data": values.ravel().tolist(),
    }
    return {"model_name": name, "id": payload.get("id") or puid, "parameters": {}, "outputs": [output]}


def metadata(model: WineModel, name: str) -> dict[str, Any]:
    """Return the model's metadata."""
    inputs = [
        {"name": column, "datatype": datatype, "shape": [-1, 1]}
        for column, datatype in zip(model.schema.columns, model.datatypes, strict=True)
    ]
    outputs = [{"name": "predict", "datatype": "FP64", "shape": [-1, 1]}]
    return {"name": name, "versions": [], "platform": "mlflow", "inputs": inputs, "outputs": outputs, "parameters": {}}


def _no_inputs(payload: Mapping[str, Any], predict_path: str) -> str:
    if "inputs" in payload:
        return f'"inputs" is not a list of tensors: send {FORM}'
    if "data" in payload:
        return f"this is a message of the Seldon protocol: send it to {predict_path}, or here {FORM}"
    return f'the body has no "inputs": send {FORM}'


def _tensor(schema: Schema, number: int, tensor: object) -> Tensor:
    if not isinstance(tensor, dict):
        raise schema.refuse(f"input {number} is not an object: send {FORM}")
    name, datatype = tensor.get("name"), tensor.get("datatype")
    if not isinstance(name, str) or not isinstance(datatype, str):
        raise schema.refuse(f'input {number} needs the texts "name" and "datatype": send {FORM}')
    parameters = tensor.get("parameters")
    if "data" not in tensor:
        if isinstance(parameters, dict) and "binary_data_size" in parameters:
            raise InputError(BINARY)
        raise schema.refuse(f'input {number} has no "data": send {FORM}')
    return Tensor(name, tensor.get("shape"), datatype, tensor["data"])
