"""What the server answers on each of its paths, and how it refuses: in this process, with a model that adds up its columns."""

import asyncio
import gzip
import json
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wineserver.application import Application
from wineserver.environment import Environment, Identity
from wineserver.model import WineModel
from wineserver.rows import MAX_ROWS, Schema

COLUMNS = ("fixed_acidity", "ph", "alcohol")
SCHEMA = Schema(COLUMNS, (7.4, 3.5, 9.4))
IMAGE = "registry:5000/winepipelines/server:0.1.0"
IDENTITY = Identity("wine", "default", "v1", IMAGE)
LIMIT = 4_000_000
PREDICT, INFER = "/api/v1.0/predictions", "/v2/models/classifier/infer"
ROW = [1.0, 2.0, 4.0]
JSON = {"Content-Type": "application/json"}


class Answer:
    """A response as the server sent it."""

    def __init__(self, messages: list[Any]) -> None:
        self.code: int = messages[0]["status"]
        self.headers = {name.decode().lower(): value.decode() for name, value in messages[0]["headers"]}
        self.text = b"".join(message.get("body", b"") for message in messages[1:]).decode()

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def problem(self) -> str:
        return str(self.json["error"] if "error" in self.json else self.json["status"]["info"])


def make(port: int = 8000, predict: Any = None) -> Application:
    model = WineModel(SCHEMA, ("FP64",) * 3, predict or (lambda frame: frame.sum(axis=1)), "a" * 32)
    return Application(model, Environment(Path("/m"), "classifier", port, "0.0.0.0", LIMIT, identity=IDENTITY))


async def ask(
    app: Application, method: str, path: str, body: Any = b"", headers: Mapping[str, str] = JSON, parts: int = 1
) -> Answer:
    content = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    size = max(1, -(-len(content) // parts))
    chunks = [content[i : i + size] for i in range(0, len(content), size)] or [b""]
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": raw, "query_string": b""}
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return Answer(sent)


async def post(path: str, body: Any, headers: Mapping[str, str] = JSON) -> Answer:
    return await ask(make(), "POST", path, body, headers)


def seldon(**more: Any) -> dict[str, Any]:
    return {"data": {"ndarray": [ROW]}, **more}


def tensor(**more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": ROW, **more}]}


@pytest.mark.parametrize("path", [PREDICT, "/api/v0.1/predictions", "/predict"])
async def test_predictions_are_served_on_all_paths_of_the_executor(path: str) -> None:
    answer = await post(path, seldon())
    assert (answer.code, answer.json["data"]) == (200, {"names": [], "ndarray": [7.0]})


@pytest.mark.parametrize("path", [INFER, "/v2/models/infer"])
async def test_inference_is_served_on_both_paths_of_the_executor(path: str) -> None:
    answer = await post(path, {**tensor(), "id": "i-1", "outputs": [{"name": "predict", "parameters": {"binary_data": True}}]})
    assert (answer.code, answer.json["model_name"], answer.json["id"]) == (200, "classifier", "i-1")
    assert answer.json["outputs"] == [
        {"name": "predict", "shape": [1, 1], "datatype": "FP64", "parameters": {"content_type": "np"}, "data": [7.0]}
    ]


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/ready",
            "/live",
            "/health/ping",
            "/health/status",
            "/v2/health/live",
            "/v2/health/ready",
            "/v2/models/classifier/ready",
        ),
        *("/api/v1.0/status", "/api/v1.0/status/classifier", "/api/v0.1/status/classifier", "/api/v1.0/health/status"),
        *("/v2", "/v2/models/classifier", "/metadata", "/api/v1.0/metadata", "/api/v1.0/metadata/classifier", "/prometheus"),
        "/api/v0.1/metadata/classifier",
    ],
)
async def test_paths_to_get_answer_get_head_and_options(path: str) -> None:
    app = make()
    for method in ("GET", "HEAD", "OPTIONS"):
        assert (await ask(app, method, path)).code == 200, method
    refused = await ask(app, "POST", path)
    assert (refused.code, refused.headers["allow"]) == (405, "GET, OPTIONS")
    assert f"{path} is read with GET, not POST" in refused.problem


# Field case c17: the names of the file's header, as data.target and WinePrediction read them.
@pytest.mark.parametrize(
    "names",
    [
        ["fixed acidity", "pH", "alcohol"],
        ["Fixed.Acidity", "PH", "ALCOHOL"],
        ["fixed_acidity", "ph", "alcohol"],
        [" fixed-acidity (g/l)".replace(" (g/l)", ""), "pH ", "_alcohol_"],
    ],
)
async def test_original_header_names_are_accepted_in_any_order(names: list[str]) -> None:
    app = make(predict=lambda frame: frame["fixed_acidity"] - frame["alcohol"])
    for order in ([0, 1, 2], [2, 0, 1]):
        labels, values = [names[i] for i in order], [ROW[i] for i in order]
        answer = await ask(app, "POST", PREDICT, {"data": {"names": labels, "ndarray": [values]}})
        assert answer.json["data"]["ndarray"] == [-3.0]
        answer = await ask(app, "POST", PREDICT, {"data": {"names": labels, "tensor": {"shape": [1, 3], "values": values}}})
        assert answer.json["data"]["tensor"] == {"shape": [1], "values": [-3.0]}
        inputs = [{"name": n, "shape": [1], "datatype": "FP32", "data": [v]} for n, v in zip(labels, values, strict=True)]
        assert (await ask(app, "POST", INFER, {"inputs": inputs})).json["outputs"][0]["data"] == [-3.0]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["fixed acidity", "fixed_acidity", "alcohol"], "missing columns: ph"),
        (["fixed acidity", "pH", "ph"], "missing columns: alcohol"),
        (["fixed acidity", "pH", "alcohol", "Alcohol"], 'repeated columns: "alcohol" and "Alcohol"'),
        (["fixed acidity", "pH", "alcohol", "quality"], "unknown columns: quality"),
        (["fixed acidity", "pH", ""], 'unknown columns: ""'),
        (["fixedAcidity", "pH", "alcohol"], "unknown columns: fixedAcidity"),
    ],
)
async def test_names_that_do_not_fit_are_named(names: list[str], problem: str) -> None:
    answer = await post(PREDICT, {"data": {"names": names, "ndarray": [[1] * len(names)]}})
    assert answer.code == 400
    assert answer.problem.startswith(problem)
    assert "expected rows of 3 numbers: fixed_acidity, ph, alcohol" in answer.problem


async def test_columns_that_are_one_after_normalizing_are_read_by_their_exact_names_only() -> None:
    schema = Schema(("pH", "ph"))
    assert schema.from_rows([[1, 2]], ["ph", "pH"]).tolist() == [[2.0, 1.0]]
    with pytest.raises(ValueError, match="unknown columns: PH"):
        schema.from_rows([[1, 2]], ["PH", "ph"])


async def test_meta_of_the_request_is_returned() -> None:
    meta = {
        "puid": "p-1",
        "tags": {"batch_id": "b", "batch_index": 3},
        "requestPath": {"transformer": "image"},
        "routing": {"a": 1},
    }
    answer = await post(PREDICT, seldon(meta=meta))
    assert answer.json["meta"] == {
        "puid": "p-1",
        "tags": {"batch_id": "b", "batch_index": 3},
        "requestPath": {"classifier": IMAGE, "transformer": "image"},
    }
    assert answer.headers["seldon-puid"] == "p-1"


async def test_the_request_id_is_the_headers_where_meta_has_none_else_a_new_one() -> None:
    answer = await post(PREDICT, seldon(), {"Seldon-Puid": "h-1"})
    assert (answer.json["meta"]["puid"], answer.headers["seldon-puid"]) == ("h-1", "h-1")
    answer = await post(PREDICT, seldon(meta={"puid": "p-1"}), {"Seldon-Puid": "h-1"})
    assert (answer.json["meta"]["puid"], answer.headers["seldon-puid"]) == ("p-1", "h-1")  # as with the executor
    first, second = [await post(PREDICT, seldon(meta=meta)) for meta in (None, {"puid": ""})]
    assert first.json["meta"]["puid"] == first.headers["seldon-puid"] != second.headers["seldon-puid"]
    assert uuid.UUID(first.headers["seldon-puid"])
    assert (await post(INFER, tensor(), {"Seldon-Puid": "h-1"})).json["id"] == "h-1"


@pytest.mark.parametrize("puid", ["a\r\nSet-Cookie: x", "ü", "x" * 200 + "\x7f"])
async def test_a_request_id_that_no_header_can_hold_stays_out_of_the_header(puid: str) -> None:
    answer = await post(PREDICT, seldon(meta={"puid": puid}))
    assert (answer.code, answer.json["meta"]["puid"]) == (200, puid)
    assert uuid.UUID(answer.headers["seldon-puid"])


@pytest.mark.parametrize(
    ("meta", "problem"),
    [
        ("text", '"meta" is not'),
        ({"puid": 5}, '"meta.puid" is not a text'),
        ({"puid": "x" * 300}, "at most 256 characters"),
        ({"tags": [1]}, '"meta.tags" is not an object'),
        ({"tags": {"a": "x" * 9000}}, '"meta.tags" is larger than 8192 bytes'),
        ({"requestPath": {"a": 1}}, '"meta.requestPath" is not an object of texts'),
        ({"requestPath": {"a": "x" * 9000}}, '"meta.requestPath" is larger'),
    ],
)
async def test_meta_that_cannot_be_returned_is_refused(meta: Any, problem: str) -> None:
    answer = await post(PREDICT, seldon(meta=meta))
    assert (answer.code, problem in answer.problem) == (400, True), answer.problem


async def test_tags_nested_too_deeply_are_refused() -> None:
    deep = '{"data": {"ndarray": [[1, 2, 4]]}, "meta": {"tags": {"a": ' + "[" * 400 + "]" * 400 + "}}}"
    assert (await post(PREDICT, deep)).code == 400


async def test_metadata_describes_the_model_and_its_graph() -> None:
    app = make()
    model = (await ask(app, "GET", "/api/v1.0/metadata/classifier")).json
    assert (model["name"], model["versions"], model["platform"]) == ("classifier", ["a" * 32], "mlflow")
    assert model["inputs"] == [{"messagetype": "ndarray", "schema": {"names": list(COLUMNS), "shape": [3]}}]
    graph = (await ask(app, "GET", "/api/v1.0/metadata")).json
    assert graph == {
        "name": "default",
        "models": {"classifier": model},
        "graphinputs": model["inputs"],
        "graphoutputs": model["outputs"],
    }
    tensors = (await ask(app, "GET", "/v2/models/classifier")).json
    assert [item["name"] for item in tensors["inputs"]] == list(COLUMNS)


@pytest.mark.parametrize("path", ["/api/v1.0/feedback", "/api/v0.1/feedback", "/send-feedback"])
async def test_feedback_is_counted_and_says_that_nothing_is_learned(path: str) -> None:
    app = make()
    answer = await ask(app, "POST", path, {"request": seldon(), "response": seldon(), "reward": -0.5, "truth": seldon()})
    assert (answer.code, "does not learn" in answer.problem) == (200, True)
    await ask(app, "POST", path, {"reward": 2})
    text = (await ask(app, "GET", "/prometheus")).text
    assert re.search(r'^seldon_api_model_feedback_total\{.*method="feedback".*\} 2.0$', text, re.M), text
    assert re.search(r"^seldon_api_model_feedback_reward_total\{.*\} 1.5$", text, re.M)
    for wrong in ({"reward": "much"}, {"reward": True}, [1], "nonsense"):
        assert (await ask(app, "POST", path, wrong)).code == 400


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
        (gzip.compress(b'{"data": 1}'), JSON, "compressed by gzip"),
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


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "INT8", "INT64", "UINT16"])
async def test_tensors_of_all_numeric_datatypes_are_read(datatype: str) -> None:
    assert (await post(INFER, tensor(datatype=datatype, data=[[1, 2, 4]]))).json["outputs"][0]["data"] == [7.0]


@pytest.mark.parametrize(
    "headers", [{}, JSON, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}]
)
async def test_json_is_read_whatever_its_media_type(headers: Mapping[str, str]) -> None:
    assert (await post(PREDICT, seldon(), headers)).json["data"]["ndarray"] == [7.0]
    assert (await post(PREDICT, b"\xef\xbb\xbf" + json.dumps(seldon()).encode(), headers)).code == 200
    assert (await post(INFER, tensor(), headers)).code == 200


def multipart(fields: Mapping[str, str], file: str = "") -> tuple[bytes, Mapping[str, str]]:
    parts = [f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in fields.items()]
    if file:
        parts.append(f'--b\r\nContent-Disposition: form-data; name="{file}"; filename="a.csv"\r\n\r\n1,2,4\r\n')
    return "".join([*parts, "--b--\r\n"]).encode(), {"Content-Type": "multipart/form-data; boundary=b"}


async def test_forms_are_read_as_seldons_servers_read_them() -> None:
    for body, headers in (
        multipart({"data": json.dumps(seldon()["data"]), "meta": '{"puid": "p-1"}'}),
        multipart({"json": json.dumps(seldon(meta={"puid": "p-1"}))}),
        (b"json=%7B%22data%22%3A%7B%22ndarray%22%3A%5B%5B1%2C2%2C4%5D%5D%7D%2C%22meta%22%3A%7B%22puid%22%3A%22p-1%22%7D%7D",
         {"Content-Type": "application/x-www-form-urlencoded"}),
    ):  # fmt: skip
        answer = await post(PREDICT, body, headers)
        assert (answer.code, answer.json["data"]["ndarray"], answer.json["meta"]["puid"]) == (200, [7.0], "p-1")


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


async def test_large_fields_of_a_form_are_read() -> None:
    rows = {"data": {"ndarray": [ROW] * 50_000}}
    answer = await post(PREDICT, *multipart({"json": json.dumps(rows, indent=1)}))
    assert (answer.code, len(answer.json["data"]["ndarray"])) == (200, 50_000)


async def test_bodies_are_bounded_and_not_compressed() -> None:
    for path in (PREDICT, INFER):
        announced = await ask(make(), "POST", path, b"{}", {"Content-Length": str(LIMIT + 1)})
        counted = await ask(make(), "POST", path, b"x" * (LIMIT + 1), parts=9)
        for answer in (announced, counted):
            assert (answer.code, "send fewer rows" in answer.problem) == (413, True)
        zipped = await ask(make(), "POST", path, gzip.compress(b"{}"), {"Content-Encoding": "gzip"})
        assert (zipped.code, "Content-Encoding: gzip" in zipped.problem) == (415, True)
    assert (await ask(make(), "POST", PREDICT, seldon(), parts=5)).code == 200
    for encoding in ("", "identity", "Identity "):
        assert (await ask(make(), "POST", PREDICT, seldon(), {"Content-Encoding": encoding})).code == 200


async def test_the_headers_of_the_executor_are_sent() -> None:
    app = make()
    for answer in (await ask(app, "POST", PREDICT, seldon()), await ask(app, "GET", "/nope")):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "Content-Type" in answer.headers["access-control-allow-headers"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    asked = await ask(app, "OPTIONS", PREDICT)
    assert (asked.code, asked.headers["access-control-allow-methods"], asked.text) == (200, "OPTIONS, POST", "")


async def test_a_model_that_predicts_no_number_is_an_error_and_not_null() -> None:
    app = make(predict=lambda frame: [1.0, float("nan"), float("inf")])
    for path, body in ((PREDICT, seldon()), (INFER, tensor())):
        answer = await ask(app, "POST", path, body)
        assert (answer.code, answer.problem) == (500, "the model predicts no finite number for row 2")


async def test_a_defect_is_told_without_its_details(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Any) -> Any:
        raise RuntimeError("/secret/path")

    answer = await ask(make(predict=fail), "POST", PREDICT, seldon())
    assert (answer.code, answer.problem) == (500, "the model could not answer: RuntimeError; see the server's log")
    assert "/secret/path" in caplog.text


def series(text: str, name: str) -> dict[tuple[str, ...], float]:
    """The values of a metric by service, method and code."""
    found = {}
    for labels, value in re.findall(rf"^{name}\{{(.*)\}} (\S+)$", text, re.M):
        pairs = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        assert (pairs["deployment_name"], pairs["predictor_name"], pairs["predictor_version"]) == ("wine", "default", "v1")
        key = tuple(pairs[label] for label in ("service", "method", "code"))
        assert key not in found
        found[key] = float(value)
    return found


async def test_requests_are_counted_under_the_executors_names() -> None:
    app = make()
    for path in (PREDICT, "/predict"):
        await ask(app, "POST", path, seldon())
    await ask(app, "POST", PREDICT, "nonsense")
    await ask(app, "POST", INFER, tensor())
    await ask(app, "GET", "/api/v1.0/metadata")
    await ask(app, "GET", "/v2/health/ready")
    for path in ("/ready", "/nope", *(f"/v2/models/{i}/infer" for i in range(50))):
        await ask(app, "GET", path)
    await ask(app, "BREW" + "X" * 100, PREDICT)
    answer = await ask(app, "GET", "/prometheus")
    assert answer.headers["content-type"].startswith("text/plain")
    assert series(answer.text, "seldon_api_executor_server_requests_seconds_count") == {
        ("predictions", "post", "200"): 3,
        ("predictions", "post", "400"): 1,
        ("predictions", "other", "405"): 1,
        ("metadata", "get", "200"): 1,
        ("status", "get", "200"): 1,
    }
    client = series(answer.text, "seldon_api_executor_client_requests_seconds_count")
    assert client[("/predict", "post", "200")] == 2
    assert client[(INFER, "post", "200")] == 1
    assert 'model_image="registry:5000/winepipelines/server",model_name="classifier",model_version="0.1.0"' in ",".join(
        sorted(re.findall(r'model_\w+="[^"]*"', answer.text)[:3])
    )
    buckets = re.findall(r'requests_seconds_bucket\{.*service="predictions".*code="200".*le="(\S+)"\}|le="(\S+)"', answer.text)
    assert len(buckets) % 15 == 0
    assert 'le="+Inf"' in answer.text
    assert "process_resident_memory_bytes" in answer.text


async def test_metrics_are_at_the_path_that_seldon_was_told_too() -> None:
    model = WineModel(SCHEMA, ("FP64",) * 3, lambda frame: frame.sum(axis=1))
    for path in ("/metrics", "/prometheus", PREDICT):
        app = Application(model, Environment.read({"PREDICTIVE_UNIT_METRICS_ENDPOINT": path}))
        for found in {path, "/prometheus"} - {PREDICT}:
            assert "process_cpu_seconds_total" in (await ask(app, "GET", found)).text
        assert (await ask(app, "POST", PREDICT, seldon())).code == 200


async def test_behind_the_executor_requests_are_left_to_it_to_count() -> None:
    app = make(port=9000)
    await ask(app, "POST", "/predict", seldon())
    text = (await ask(app, "GET", "/prometheus")).text
    assert "seldon_api_executor" not in text
    assert "process_resident_memory_bytes" in text


async def test_a_server_that_drains_answers_and_closes_and_is_not_ready() -> None:
    app = make()
    app.drain()
    answer = await ask(app, "POST", PREDICT, seldon())
    assert (answer.code, answer.headers["connection"]) == (200, "close")
    for path in ("/ready", "/v2/health/ready", "/health/status", "/api/v1.0/health/status"):
        assert (await ask(app, "GET", path)).code == 503
    assert (await ask(app, "GET", "/live")).code == 200


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
