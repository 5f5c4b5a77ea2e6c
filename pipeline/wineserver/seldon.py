"""The Seldon protocol: messages in, messages out.

Messages: seldon-core 1.18, `proto/prediction.proto` in its JSON form, and what Seldon's own servers make of `meta`
(`construct_response_json`): `puid` and `tags` are returned, `requestPath` names the image that answered.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from numpy.typing import NDArray

from wineserver.model import WineModel
from wineserver.rows import Matrix, Schema

FORM = '{"data": {"names": [...], "ndarray": [[...]]}}'
META_BYTES = 8192
PUID_LENGTH = 256
OTHER_DATA = ("strData", "binData", "jsonData", "customData")
MLFLOW_KEYS = ("dataframe_split", "dataframe_records", "instances")


@dataclass(frozen=True)
class Request:
    """A message that the model can answer; `meta` is what an answer returns of the request's."""

    matrix: Matrix
    is_tensor: bool
    meta: Mapping[str, Any]


def read(schema: Schema, message: object, infer_path: str) -> Request:
    """Read a message. Raises InputError."""
    if not isinstance(message, dict):
        raise schema.refuse(f"the body is {_kind(message)}: send {FORM}")
    data = message.get("data")
    if not isinstance(data, dict):
        raise schema.refuse(_no_data(message, data, infer_path))
    if ("ndarray" in data) == ("tensor" in data):
        raise schema.refuse(_no_array(data))
    meta = _meta(schema, message.get("meta"))
    if "ndarray" in data:
        return Request(schema.from_rows(data["ndarray"], data.get("names")), False, meta)
    tensor = data["tensor"]
    if not isinstance(tensor, dict):
        raise schema.refuse('"tensor" is not {"shape": [...], "values": [...]}')
    return Request(schema.from_tensor(tensor.get("shape"), tensor.get("values"), data.get("names")), True, meta)


def answer(request: Request, values: NDArray[Any], puid: str, request_path: Mapping[str, str]) -> dict[str, Any]:
    """Return the message for the predicted values."""
    if request.is_tensor:
        data: dict[str, Any] = {"tensor": {"shape": list(values.shape), "values": values.ravel().tolist()}}
    else:
        data = {"ndarray": values.tolist()}
    meta = {**request.meta, "puid": request.meta.get("puid") or puid}
    if path := {**request_path, **request.meta.get("requestPath", {})}:
        meta["requestPath"] = path
    return {"data": {"names": [], **data}, "meta": meta}


def reward(schema: Schema, message: object) -> float:
    """Read the reward of a feedback message. Raises InputError."""
    if not isinstance(message, dict):
        raise schema.refuse(f'the body is {_kind(message)}: send {{"request": ..., "response": ..., "reward": 1.0}}')
    value = message.get("reward")
    if value is None:
        return 0.0
    if type(value) not in (int, float) or not math.isfinite(value):
        raise schema.refuse('"reward" is not a finite number')
    return float(value)


def metadata(model: WineModel, name: str) -> dict[str, Any]:
    """Return the model's metadata in Seldon's form."""
    columns = list(model.schema.columns)
    return {
        "name": name,
        "versions": [model.run] if model.run else [],
        "platform": "mlflow",
        "inputs": [{"messagetype": "ndarray", "schema": {"names": columns, "shape": [len(columns)]}}],
        "outputs": [{"messagetype": "ndarray", "schema": {"shape": [1]}}],
    }


def graph_metadata(model: WineModel, name: str, predictor: str) -> dict[str, Any]:
    """Return what the executor says of a graph of one model."""
    described = metadata(model, name)
    return {
        "name": predictor,
        "models": {name: described},
        "graphinputs": described["inputs"],
        "graphoutputs": described["outputs"],
    }


def _no_data(message: Mapping[str, Any], data: object, infer_path: str) -> str:
    if "data" in message:
        return f'"data" is {_kind(data)}: send {FORM}'
    if isinstance(message.get("inputs"), list):
        return f"this is a request of the Open Inference Protocol: send it to {infer_path}, or here {FORM}"
    for key in OTHER_DATA:
        if key in message:
            return f'"{key}" is not read, the model takes numbers: send {FORM}'
    for key in MLFLOW_KEYS:
        if key in message:
            return f'"{key}" belongs to another server\'s requests: send {FORM}'
    return f'the body has no "data": send {FORM}'


def _no_array(data: Mapping[str, Any]) -> str:
    if "ndarray" in data:
        return '"data" has both "ndarray" and "tensor": send one of them'
    if "tftensor" in data:
        return f'"tftensor" is not read: send {FORM}'
    return f'"data" has neither "ndarray" nor "tensor": send {FORM}'


def _meta(schema: Schema, meta: object) -> dict[str, Any]:
    """What is returned of the request's `meta`."""
    if not meta:
        return {}
    if not isinstance(meta, dict):
        raise schema.refuse('"meta" is not {"puid": "...", "tags": {...}}')
    kept = {name: meta[name] for name in ("puid", "tags", "requestPath") if meta.get(name)}
    puid = kept.get("puid", "")
    if not isinstance(puid, str) or len(puid) > PUID_LENGTH:
        raise schema.refuse(f'"meta.puid" is not a text of at most {PUID_LENGTH} characters')
    if not isinstance(kept.get("tags", {}), dict):
        raise schema.refuse('"meta.tags" is not an object')
    path = kept.get("requestPath", {})
    if not isinstance(path, dict) or not all(isinstance(image, str) for image in path.values()):
        raise schema.refuse('"meta.requestPath" is not an object of texts')
    for name in ("tags", "requestPath"):
        if name in kept and _size(kept[name]) > META_BYTES:
            raise schema.refuse(f'"meta.{name}" is larger than {META_BYTES} bytes, and is returned with the answer: send less')
    return kept


def _size(value: object) -> float:
    try:
        return len(orjson.dumps(value))
    except orjson.JSONEncodeError:  # nested more deeply than it would be written
        return math.inf


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
