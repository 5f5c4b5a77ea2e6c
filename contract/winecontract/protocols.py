"""Prediction protocols: how a client encodes rows for the model server, and what it answers.

`seldon` is the message format of Seldon Core 1 in JSON, `v2` the Open Inference Protocol. The bundled model server speaks both.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from winecontract.parsing import UnreadableError, is_finite_number, parse_object


class Protocol(StrEnum):
    """A prediction protocol, by its name in `spec.serving.protocol`."""

    SELDON = "seldon"
    V2 = "v2"


DEFAULT = Protocol.SELDON


class NotAPredictionError(ValueError):
    """An answer that holds no predictions. The message says why and quotes nothing of it."""


def encode(protocol: Protocol, names: Sequence[str], rows: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Build the body of a request that predicts these rows, with one name per column."""
    if protocol is Protocol.SELDON:
        return {"data": {"names": list(names), "ndarray": [list(row) for row in rows]}}
    shape = [len(rows), 1]
    columns = zip(names, zip(*rows, strict=True), strict=True)
    return {"inputs": [{"name": name, "datatype": "FP64", "shape": shape, "data": list(data)} for name, data in columns]}


def decode(body: bytes, limit: int) -> list[float]:
    """Return the predictions of an answer in either protocol; of several outputs, those of the first.

    Raises NotAPredictionError if the body exceeds `limit` bytes, is not JSON, or holds no list of finite numbers.
    """
    try:
        answer = parse_object(body, limit)
        if "outputs" in answer:
            values = answer["outputs"][0]["data"]
        else:
            data = answer["data"]
            values = data["tensor"]["values"] if "tensor" in data else data["ndarray"]
        numbers = [value[0] if isinstance(value, list) else value for value in values]
    except UnreadableError as error:
        raise NotAPredictionError(str(error)) from None
    except (KeyError, TypeError, IndexError):
        raise NotAPredictionError("the JSON has another form") from None
    if not all(map(is_finite_number, numbers)):
        raise NotAPredictionError("the list holds values other than numbers")
    return list(map(float, numbers))
