"""Answers of the model server on each of its paths, in this process, with a model that adds up its columns."""

import gzip
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from pipeline.asgi import COLUMNS, IMAGE, INFER, JSON, LIMIT, PREDICT, ROW, SCHEMA, ask, make, multipart, post, seldon, tensor

from wineserver.application import Application
from wineserver.environment import Environment
from wineserver.model import WineModel
from wineserver.rows import Schema


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
    app = make(predict=lambda matrix: matrix[:, 0] - matrix[:, 2])
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


async def test_forms_are_read_as_seldons_servers_read_them() -> None:
    for body, headers in (
        multipart({"data": json.dumps(seldon()["data"]), "meta": '{"puid": "p-1"}'}),
        multipart({"json": json.dumps(seldon(meta={"puid": "p-1"}))}),
        (b"json=%7B%22data%22%3A%7B%22ndarray%22%3A%5B%5B1%2C2%2C4%5D%5D%7D%2C%22meta%22%3A%7B%22puid%22%3A%22p-1%22%7D%7D",
         {"Content-Type": "application/x-www-form-urlencoded"}),
    ):  # fmt: skip
        answer = await post(PREDICT, body, headers)
        assert (answer.code, answer.json["data"]["ndarray"], answer.json["meta"]["puid"]) == (200, [7.0], "p-1")


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


async def test_metrics_are_also_at_the_path_that_seldon_sets() -> None:
    model = WineModel(SCHEMA, ("FP64",) * 3, lambda matrix: matrix.sum(axis=1))
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
