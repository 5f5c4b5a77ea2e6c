"""Refusals of the model server: messages for requests that it cannot answer, and answers to arbitrary input."""

import asyncio
import gzip
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline.asgi import (
    COLUMNS,
    INFER,
    JSON,
    PREDICT,
    ROW,
    ask,
    make,
    multipart,
    post,
    seldon,
    tensor,
)

from wineserver import bodies
from wineserver.rows import MAX_ROWS, InputError, Schema


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/v2/models/nope/infer", "there is no model 'nope', this server has 'classifier'"),
        ("/v2/models/nope", "there is no model 'nope'"),
        ("/v2/models/classifier/versions/1/infer", "the model has no versions here"),
        ("/v2/models/classifier/explain", "explanations are not served"),
        ("/v2/models/classifier/generate_stream", "the server has a model for predictions only"),
        ("/v2/docs", "there is no page about the API"),
        ("/v2/repository/models/classifier/unload", "there is no such path"),
        ("/api/v1.0/explain", "explanations are not served"),
        ("/api/v1.0/metadata/nope", "there is no model 'nope'"),
        ("/api/v1.0/doc/", "there is no page about the API"),
        ("/seldon.json", "there is no page about the API"),
        ("/v1/models/classifier:predict", "the TensorFlow protocol is not served"),
        ("/v1/models:predict", "the TensorFlow protocol is not served"),
        ("/transform-input", "the server has a model for predictions only"),
        ("/invocations", "this is no MLflow server"),
        ("/api/v1.0/predictions/", "there is no such path"),
        ("/", "there is no such path"),
    ],
)
async def test_paths_that_are_not_served_are_refused_in_words(path: str, problem: str) -> None:
    for method in ("GET", "POST"):
        answer = await ask(make(), method, path, seldon())
        assert answer.code == 404
        assert answer.problem.startswith(problem)
        assert ("error" in answer.json) == path.startswith("/v2")


@pytest.mark.parametrize(
    ("body", "headers", "problem"),
    [
        ("", {}, "the body is empty"),
        ("[1, 2", JSON, "the body is not JSON"),
        ("[" * 100_000, JSON, "the body is not JSON"),
        ('{"data": {"ndarray": [[1, 2, NaN]]}}', JSON, "NaN and Infinity are no numbers of JSON"),
        ('{"data": {"ndarray": [[1, 2, -Infinity]]}}', JSON, "NaN and Infinity are no numbers of JSON"),
        ("{'data': {'ndarray': [[1, 2, 4]]}}", JSON, "single quotes"),
        (gzip.compress(b'{"data": 1}', mtime=0), JSON, "compressed by gzip"),
        ('{"data": 1}'.encode("utf-16"), JSON, "UTF-16"),
        ("fixed_acidity;ph;alcohol\n1;2;4\n", {"Content-Type": "text/csv"}, "sent as text/csv"),
        ([[1, 2, 4]], JSON, "the body is a list"),
        ("5", JSON, "the body is a number"),
        ("null", JSON, "the body is null"),
        ({}, JSON, 'the body has no "data"'),
        ({"data": [[1, 2, 4]]}, JSON, '"data" is a list'),
        ({"data": None}, JSON, '"data" is null'),
        ({"data": {}}, JSON, 'neither "ndarray" nor "tensor"'),
        ({"data": {"tftensor": {}}}, JSON, '"tftensor" is not read'),
        ({"data": {"ndarray": [ROW], "tensor": {}}}, JSON, 'both "ndarray" and "tensor"'),
        ({"data": {"tensor": [1]}}, JSON, '"tensor" is not {"shape"'),
        ({"strData": "1,2,4"}, JSON, '"strData" is not read'),
        ({"binData": "AAAA"}, JSON, '"binData" is not read'),
        ({"jsonData": {"data": [ROW]}}, JSON, '"jsonData" is not read'),
        ({"customData": {}}, JSON, '"customData" is not read'),
        ({"dataframe_split": {}}, JSON, "belongs to another server's requests"),
        ({"instances": [ROW]}, JSON, "belongs to another server's requests"),
        (tensor(), JSON, f"send it to {INFER}"),
        ({"data": {"ndarray": ROW}}, JSON, "put the row into a list of its own"),
        ({"data": {"ndarray": [{"ph": 1}]}}, JSON, "the data is not a list of rows"),
        ({"data": {"ndarray": [["1.5", 2, 4]]}}, JSON, '"1.5" is not a finite number: it is a text, send it without quotes'),
        ({"data": {"ndarray": [["red", 2, 4]]}}, JSON, '"red" is not a finite number: it is a text'),
        ({"data": {"ndarray": [[None, 2, 4]]}}, JSON, "needs a value in every column"),
        ({"data": {"ndarray": [[False, 2, 4]]}}, JSON, "send 1 or 0"),
        ({"data": {"ndarray": [[[1], 2, 4]]}}, JSON, "[1] is not a finite number"),
        ({"data": {"ndarray": [[1e39, 2, 4]]}}, JSON, "1e+39 is not a finite number of at most 3.403e+38"),
        ('{"data": {"ndarray": [[' + "9" * 500 + ", 2, 4]]}}", JSON, "expected rows of 3 numbers"),
        ('{"data": {"ndarray": [[' + "[" * 900 + "]" * 900 + ", 2, 4]]}}", JSON, "expected rows of 3 numbers"),
        ({"data": {"ndarray": [[1, 2]]}}, JSON, "row 1 has 2 values"),
        ({"data": {"ndarray": [[1, 2, 4, 8]]}}, JSON, "row 1 has 4 values"),
        ({"data": {"ndarray": [[]] * (MAX_ROWS + 1)}}, JSON, f"at most {MAX_ROWS} are read at a time"),
        ({"data": {"tensor": {"shape": [1, 3], "values": [1, 2]}}}, JSON, "needs 3 values, not 2"),
        ({"data": {"tensor": {"shape": [3], "values": ROW}}}, JSON, "the shape [3] is not [rows, columns]"),
    ],
)
async def test_a_message_that_cannot_be_answered_is_refused_with_what_to_send(body: Any, headers: Any, problem: str) -> None:
    answer = await post(PREDICT, body, headers)
    assert answer.code == 400
    assert problem in answer.problem
    assert "expected rows of 3 numbers: fixed_acidity, ph, alcohol; for example [7.4, 3.5, 9.4]" in answer.problem
    assert len(answer.problem) < 1000


@pytest.mark.parametrize(
    ("payload", "headers", "problem"),
    [
        ("", {}, "the body is empty"),
        ("nonsense", {"Content-Type": "text/plain"}, "sent as text/plain"),
        ([], JSON, "the body is not an object"),
        ({}, JSON, 'the body has no "inputs"'),
        ({"inputs": []}, JSON, '"inputs" is not a list of tensors'),
        ({"inputs": {}}, JSON, '"inputs" is not a list of tensors'),
        ({"inputs": [5]}, JSON, "input 1 is not an object"),
        ({"inputs": [{"shape": [1, 3], "data": ROW}]}, JSON, 'input 1 needs the texts "name" and "datatype"'),
        ({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 3]}]}, JSON, 'input 1 has no "data"'),
        (seldon(), JSON, f"send it to {PREDICT}"),
        (tensor(datatype="BYTES", data=["a", "b", "c"]), JSON, 'has the datatype "BYTES": send FP64'),
        (tensor(datatype="BOOL", data=[True] * 3), JSON, 'has the datatype "BOOL": send FP64'),
        (tensor(datatype="float64"), JSON, 'has the datatype "float64": send FP64'),
        (tensor(data=["1", "2", "4"]), JSON, "send it without quotes"),
        (tensor(shape=[3]), JSON, "the shape [3] is not [rows, columns]: one row is [1, 3]"),
        (tensor(shape=[3, 1]), JSON, "row 1 has 1 values"),
        (tensor(shape=None), JSON, "the shape null is not"),
        (tensor(shape=[[[1]]]), JSON, "the shape a list is not"),
        ({**tensor(), "id": 7}, JSON, '"id" is not a text'),
        ({**tensor(), "id": "x" * 300}, JSON, '"id" is not a text of at most 256'),
        (
            {"inputs": [{"name": c, "shape": [1], "datatype": "FP64", "data": [1]} for c in COLUMNS[:2]]},
            JSON,
            "missing columns: alcohol",
        ),
    ],
)
async def test_an_inference_request_that_cannot_be_answered_is_refused(payload: Any, headers: Any, problem: str) -> None:
    answer = await post(INFER, payload, headers)
    assert (answer.code, list(answer.json)) == (400, ["error"])
    assert problem in answer.problem
    assert "expected rows of 3 numbers" in answer.problem


# Field case c17: tritonclient's default. The JSON comes first, then the numbers.
async def test_binary_tensors_are_named_as_such() -> None:
    described = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "parameters": {"binary_data_size": 24}}]}
    head = json.dumps(described).encode()
    framed = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    for body, headers in ((head + np.array(ROW).tobytes(), framed), (described, JSON)):
        answer = await post(INFER, body, headers)
        assert answer.code == 400
        assert "binary tensors are not read" in answer.problem
        assert "binary_data=False" in answer.problem


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        (multipart({}, file="binData"), "no files"),
        (multipart({"strData": "1,2,4"}), '"strData" is not read'),
        (multipart({"data": "nonsense"}), "the body is not JSON"),
        (multipart({f"field {i}": "1" for i in range(30)}), "at most 20 fields"),
        ((b"nonsense", {"Content-Type": "multipart/form-data"}), "the form cannot be read"),
        ((b"nonsense", {"Content-Type": "multipart/form-data; boundary=b"}), "the form cannot be read"),
    ],
)
async def test_forms_that_cannot_be_answered_are_refused(form: tuple[bytes, Mapping[str, str]], problem: str) -> None:
    answer = await post(PREDICT, *form)
    assert (answer.code, problem in answer.problem) == (400, True), answer.problem


async def test_a_model_that_predicts_no_number_is_an_error_and_not_null() -> None:
    app = make(predict=lambda _: [1.0, float("nan"), float("inf")])
    for path, body in ((PREDICT, seldon()), (INFER, tensor())):
        answer = await ask(app, "POST", path, body)
        assert (answer.code, answer.problem) == (500, "the model predicts no finite number for row 2")


async def test_unexpected_error_is_reported_without_details(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Any) -> Any:
        raise RuntimeError("/secret/path")

    answer = await ask(make(predict=fail), "POST", PREDICT, seldon())
    assert (answer.code, answer.problem) == (500, "the model could not answer: RuntimeError; see the server's log")
    assert "/secret/path" in caplog.text


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([*COLUMNS, "pH", "FP64", ""])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
ROWS = st.lists(st.lists(st.floats() | st.integers() | VALUES, min_size=3, max_size=3) | VALUES, max_size=3)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with some of the fields, each as it ought to be or anything."""
    return st.fixed_dictionaries({}, optional={name: value | VALUES for name, value in fields.items()})


MESSAGES = some(
    data=some(names=st.lists(SCALARS, max_size=4), ndarray=ROWS, tensor=some(shape=st.just([1, 3]), values=st.just(ROW))),
    meta=some(puid=st.text(), tags=st.dictionaries(st.text(), VALUES), requestPath=st.dictionaries(st.text(), st.text())),
    inputs=st.lists(
        some(name=st.sampled_from([*COLUMNS, "pH"]), shape=st.just([1, 3]) | st.just([1]), datatype=st.just("FP64"), data=ROWS),
        max_size=4,
    ),
    id=st.text(),
    reward=st.floats(),
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([PREDICT, INFER, "/api/v1.0/feedback"]), MESSAGES | VALUES | st.binary() | st.text())
def test_whatever_is_sent_is_answered_or_refused_in_words(path: str, body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = asyncio.run(ask(make(), "POST", path, content))
    assert answer.code in (200, 400), answer.text
    assert answer.code == 200 or answer.problem
    assert len(answer.problem if answer.code == 400 else "") < 2500


async def test_what_a_caller_sends_forges_no_line_of_the_log_and_no_problem() -> None:
    attack = "/x\n2026-01-05 12:00:00,000 INFO wineserver: serving\x1b[2K\u202e\u2028\u200b"
    for answer in (await ask(make(), "GET", attack), await ask(make(), "GET", f"/v2/models/{attack}/infer")):
        assert answer.code == 404
        assert answer.problem.isprintable()
    assert (await ask(make(), "PUT\n", PREDICT)).problem.isprintable()


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "0x10", "\xb2"])
async def test_an_announced_length_that_is_no_number_is_left_to_the_body(length: str) -> None:
    answer = await ask(make(), "POST", PREDICT, seldon(), {**JSON, "Content-Length": length})
    assert answer.code == 200


@pytest.mark.parametrize(
    ("unit", "number", "problem"),
    [(b"[],", bodies.MAX_NESTED + 1, "lists and objects"), (b'"a":1,', bodies.MAX_NAMES + 1, "names")],
)
def test_as_many_objects_as_no_request_needs_are_refused_at_any_size(unit: bytes, number: int, problem: str) -> None:
    body = b"{" + unit * number
    assert len(body) < 1 << 20
    with pytest.raises(InputError, match=f"the body has more than [0-9]+ {problem}"):
        bodies.load(Schema(COLUMNS, ()), body, "application/json", "a form")
