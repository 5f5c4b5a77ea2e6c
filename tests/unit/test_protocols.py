"""Prediction protocols: the operator encodes requests and decodes answers as the model server does."""

import pytest

from winecontract.protocols import NotAPredictionError, Protocol, decode, encode

LIMIT = 4096


def test_encode_sends_the_models_own_columns_in_either_protocol() -> None:
    names, rows = ["ph", "alcohol"], [[3.5, 9.4], [3.2, 9.8]]
    assert encode(Protocol.SELDON, names, rows) == {"data": {"names": names, "ndarray": rows}}
    assert encode(Protocol.V2, names, rows) == {
        "inputs": [
            {"name": "ph", "datatype": "FP64", "shape": [2, 1], "data": [3.5, 3.2]},
            {"name": "alcohol", "datatype": "FP64", "shape": [2, 1], "data": [9.4, 9.8]},
        ]
    }


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (b'{"data": {"ndarray": [5.7, 6]}}', [5.7, 6.0]),
        (b'{"data": {"ndarray": [[5.7], [6]]}}', [5.7, 6.0]),
        (b'{"data": {"tensor": {"shape": [1], "values": [5.7]}}}', [5.7]),
        (b'{"outputs": [{"name": "predict", "shape": [2, 1], "datatype": "FP64", "data": [5.7, 6]}]}', [5.7, 6.0]),
    ],
)
def test_decode_returns_the_predictions_of_either_protocol(body: bytes, values: list[float]) -> None:
    assert decode(body, LIMIT) == values


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"outputs": []}', "the JSON has another form"),
        (b'{"data": {"ndarray": ["red"]}}', "the list holds values other than numbers"),
        (b'{"data": {"ndarray": ["5.7"]}}', "the list holds values other than numbers"),
        (b'{"data": {}}', "the JSON has another form"),
        (b"<html>", "it is not JSON"),
        (b"[]", "it is JSON, but not an object"),
        (b'{"data": {"ndarray": [5.7]}}' + b" " * LIMIT, "it is longer than 4096 bytes"),
    ],
)
def test_decode_rejects_what_is_no_prediction(body: bytes, problem: str) -> None:
    with pytest.raises(NotAPredictionError, match=problem):
        decode(body, LIMIT)
