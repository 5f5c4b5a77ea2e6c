"""The server as a process: it loads a model saved by MLflow, answers both protocols, refuses bad requests, and stops."""

import contextlib
import http.client
import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from pipeline.modelserver import (
    LIMIT,
    Load,
    Pod,
    answer,
    call,
    free_port,
    start,
    wait_until_draining,
    wait_until_ready,
    wait_until_refused,
)
from sklearn.linear_model import ElasticNet

COLUMNS = ["fixed acidity", "sulphates", "alcohol"]
Table = tuple[pd.DataFrame, "pd.Series[float]"]


@pytest.fixture(scope="module")
def table() -> Table:
    generator = np.random.default_rng(7)
    frame = pd.DataFrame(generator.uniform(1, 10, (60, 3)), columns=COLUMNS)
    return frame, frame["alcohol"] * 2 - frame["sulphates"]


@pytest.fixture(scope="module")
def estimator(table: Table) -> Any:
    return ElasticNet(alpha=0.01).fit(*table)


@pytest.fixture(scope="module", params=["cloudpickle", "skops"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, table: Table, estimator: Any) -> Path:
    frame, _ = table
    path = tmp_path_factory.mktemp("models") / "with a space"
    mlflow.sklearn.save_model(
        estimator,
        path,
        signature=infer_signature(frame, estimator.predict(frame)),
        input_example=frame.head(2),
        serialization_format=request.param,
        pip_requirements=["scikit-learn"],
    )
    for item in [*path.rglob("*"), path]:
        item.chmod(0o555 if item.is_dir() else 0o444)
    return path


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    process = start(folder, tmp_path_factory.mktemp("tmp"), port)
    wait_until_ready(process, port)
    yield port
    process.terminate()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_both_seldon_paths_predict(server: int, table: Table, estimator: Any) -> None:
    rows = table[0].head(5)
    for path in ("/predict", "/api/v1.0/predictions"):
        status, body = answer(server, path, {"data": {"ndarray": rows.to_numpy().tolist()}})
        assert (status, body["data"]["names"], list(body["meta"])) == (200, [], ["puid"])
        np.testing.assert_allclose(body["data"]["ndarray"], estimator.predict(rows), rtol=1e-12)


def test_names_reorder_columns(server: int, table: Table, estimator: Any) -> None:
    rows = table[0].head(5)
    names = COLUMNS[::-1]
    status, body = answer(server, "/predict", {"data": {"names": names, "ndarray": rows[names].to_numpy().tolist()}})
    assert status == 200
    np.testing.assert_allclose(body["data"]["ndarray"], estimator.predict(rows), rtol=1e-12)


def test_a_tensor_is_answered_with_a_tensor(server: int, table: Table, estimator: Any) -> None:
    rows = table[0].head(2)
    data = {"tensor": {"shape": [2, 3], "values": rows.to_numpy().ravel().tolist()}}
    status, body = answer(server, "/predict", {"data": data})
    assert (status, body["data"]["tensor"]["shape"]) == (200, [2])
    np.testing.assert_allclose(body["data"]["tensor"]["values"], estimator.predict(rows), rtol=1e-12)


def test_more_rows_than_the_event_loop_should_wait_for(server: int) -> None:
    status, body = answer(server, "/predict", {"data": {"ndarray": [[1, 2, 3]] * 5000}})
    assert (status, len(body["data"]["ndarray"])) == (200, 5000)


def test_the_open_inference_protocol_predicts(server: int, table: Table, estimator: Any) -> None:
    rows = table[0].head(4)
    whole = [{"name": "x", "shape": [4, 3], "datatype": "FP64", "data": rows.to_numpy().ravel().tolist()}]
    by_column = [{"name": c, "shape": [4], "datatype": "FP64", "data": rows[c].tolist()} for c in COLUMNS[::-1]]
    for inputs in (whole, by_column):
        status, body = answer(server, "/v2/models/wine/infer", {"id": "7", "inputs": inputs})
        assert (status, body["id"], body["model_name"]) == (200, "7", "wine")
        (output,) = body["outputs"]
        assert (output["name"], output["datatype"], output["shape"]) == ("predict", "FP64", [4, 1])
        np.testing.assert_allclose(output["data"], estimator.predict(rows), rtol=1e-12)


def test_the_model_describes_itself(server: int) -> None:
    status, body = answer(server, "/v2/models/wine")
    assert (status, [tensor["name"] for tensor in body["inputs"]]) == (200, COLUMNS)
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/wine/ready", "/health/ping", "/health/status"):
        assert call(server, path)[0] == 200


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "the body is empty"),
        ("{nonsense", "the body is not JSON"),
        ("[]", "the body is a list"),
        ({"data": {}}, "neither"),
        ({"data": {"tensor": 5}}, '"tensor" is not'),
        ({"jsonData": {}}, '"jsonData" is not read'),
        ({"data": {"ndarray": []}}, "there are no rows"),
        ({"data": {"ndarray": [[1, 2]]}}, "row 1 has 2 values"),
        ({"data": {"ndarray": [[1, 2, 3], [1]]}}, "row 2 has 1 values"),
        ({"data": {"ndarray": [[1, 2, "a"]]}}, 'column "alcohol"'),
        ('{"data": {"ndarray": [[1, 2, NaN]]}}', "the body is not JSON"),
        ('{"data": {"ndarray": [[1, 2, 1e999]]}}', "expected rows of 3"),
        ({"data": {"ndarray": [[1, None, 3]]}}, 'column "sulphates"'),
        ({"data": {"names": ["x", "sulphates", "alcohol"], "ndarray": [[1, 2, 3]]}}, "unknown columns: x"),
        ("[" * 100_000, "the body is not JSON"),
    ],
)
def test_a_bad_seldon_message_is_refused_with_what_is_expected(server: int, body: Any, problem: str) -> None:
    status, refused = answer(server, "/predict", body, method="POST")
    details = refused["status"]
    assert (status, details["status"], details["code"], details["reason"]) == (400, "FAILURE", 400, "BAD_REQUEST")
    assert problem in details["info"]
    assert "expected rows of 3 numbers: fixed acidity, sulphates, alcohol; for example [" in details["info"]


@pytest.mark.parametrize(
    "body",
    [
        "{nonsense",
        {},
        {"inputs": []},
        {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]},
        {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, None]}]},
        {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "BYTES", "data": ["a", "b", "c"]}]},
    ],
)
def test_a_bad_inference_request_is_refused_in_its_protocols_form(server: int, body: Any) -> None:
    status, refused = answer(server, "/v2/models/wine/infer", body)
    assert (status, list(refused)) == (400, ["error"])
    assert "expected rows of 3 numbers: fixed acidity, sulphates, alcohol" in refused["error"]


def test_other_refusals_are_json_of_the_paths_protocol(server: int) -> None:
    assert answer(server, "/v2/models/nope")[0] == 404
    assert "error" in answer(server, "/v2/nope")[1]
    assert answer(server, "/nope")[1]["status"]["code"] == 404
    assert answer(server, "/predict")[1]["status"]["code"] == 405
    status, refused = answer(server, "/predict", b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert (status, refused["status"]["code"]) == (415, 415)


def test_nobody_can_unload_the_model(server: int) -> None:
    assert answer(server, "/v2/repository/models/wine/unload", {})[0] == 404
    assert call(server, "/health/status")[0] == 200


def test_a_body_too_large_is_refused(server: int) -> None:
    status, refused = answer(server, "/predict", "x" * (LIMIT + 1))
    assert (status, refused["status"]["reason"]) == (413, "REQUEST_ENTITY_TOO_LARGE")
    chunks = (b"x" * 1000 for _ in range(LIMIT // 1000 + 1))
    status, refused = answer(server, "/v2/models/wine/infer", chunks)
    assert (status, list(refused)) == (413, ["error"])


def test_sigterm_finishes_what_is_in_flight(folder: Path, tmp_path: Path) -> None:
    port = free_port()
    process = start(folder, tmp_path, port)
    wait_until_ready(process, port)
    body = json.dumps({"data": {"ndarray": [[1, 2, 3]] * 20}}).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:50])
        call(port, "/health/ping")  # one process, one loop: the half request has been read before this one
        process.send_signal(signal.SIGTERM)
        wait_until_refused(port)
        connection.sendall(body[50:])
        received = connection.makefile("rb").read()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert len(json.loads(received.partition(b"\r\n\r\n")[2])["data"]["ndarray"]) == 20
    assert list(tmp_path.iterdir()) == []


def test_a_connection_that_is_kept_open_over_a_stop_loses_no_request(folder: Path, tmp_path: Path) -> None:
    """Callers of the pod's last seconds: an answer asks each to reconnect, never by a connection closed in between."""
    port = free_port()
    process = start(folder, tmp_path, port)
    wait_until_ready(process, port)
    body = json.dumps({"data": {"ndarray": [[1, 2, 3]]}})
    callers = [http.client.HTTPConnection("127.0.0.1", port, timeout=20) for _ in range(3)]
    for caller in callers:
        caller.request("POST", "/predict", body)
        assert caller.getresponse().read()
    process.send_signal(signal.SIGTERM)
    wait_until_draining(port)
    ended = 0
    for caller in callers:
        caller.request("POST", "/predict", body)
        response = caller.getresponse()
        assert (response.status, len(json.loads(response.read())["data"]["ndarray"])) == (200, 1)
        ended += response.getheader("Connection") == "close"
    assert ended == len(callers)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors


def test_a_server_that_is_to_end_is_not_ready_and_still_takes_requests(folder: Path, tmp_path: Path) -> None:
    """Where no other pod is ready, the callers of an ending one are turned away by its endpoint first, then by the server."""
    port = free_port()
    process = start(folder, tmp_path, port, drain=2)
    wait_until_ready(process, port)
    process.send_signal(signal.SIGTERM)
    wait_until_draining(port)
    begun, answered = time.monotonic(), 0
    with contextlib.suppress(ConnectionError):
        while True:  # new connections: none is open in between
            assert call(port, "/ready")[0] == 503
            assert call(port, "/predict", {"data": {"ndarray": [[1, 2, 3]]}})[0] == 200
            answered += 1
    assert time.monotonic() - begun > 1.5
    assert answered > 10
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors


def test_no_request_is_lost_at_a_swap_under_open_load(folder: Path, tmp_path: Path) -> None:
    """As a rolling update goes: the old pod leaves the endpoints, callers learn of it late, preStop ends, SIGTERM comes.

    The load is open (it does not wait for answers), on new connections, and each request is judged.
    """
    old, new = (Pod(folder, tmp_path, free_port()) for _ in range(2))
    endpoints = [old.port]
    with Load(endpoints, period=0.01) as load:
        load.wait_for(20)
        new.wait()
        endpoints.append(new.port)
        load.wait_for(50)
        endpoints.remove(old.port)  # what a caller chose a moment before is still in transit to the old one
        load.wait_for(10)  # preStop
        old.process.send_signal(signal.SIGTERM)
        old.process.wait(timeout=20)
        load.wait_for(50)
    new.process.terminate()
    new.process.wait(timeout=20)
    assert load.failures == []
    assert load.answered[old.port] > 20
    assert load.answered[new.port] > 60


def test_an_unfit_folder_ends_the_process_with_one_clear_line(tmp_path: Path, table: Table, estimator: Any) -> None:
    frame, _ = table
    models = {name: tmp_path / name for name in ("empty", "other", "unsigned", "textual", "broken", "unable")}
    models["empty"].mkdir()
    models["other"].mkdir()
    (models["other"] / "notes.txt").touch()
    mlflow.sklearn.save_model(estimator, models["unsigned"], pip_requirements=[], serialization_format="cloudpickle")
    signed = {"pip_requirements": [], "serialization_format": "cloudpickle"}
    textual = infer_signature(frame.assign(colour="red"), frame["alcohol"])
    mlflow.sklearn.save_model(estimator, models["textual"], signature=textual, **signed)
    mlflow.sklearn.save_model(estimator, models["broken"], signature=infer_signature(frame, frame["alcohol"]), **signed)
    (models["broken"] / "model.pkl").write_bytes(b"not a pickle")
    mlflow.sklearn.save_model(estimator, models["unable"], signature=infer_signature(frame, frame["alcohol"]), **signed)
    mlflow.sklearn.save_model(
        ElasticNet().fit(frame[["alcohol"]], frame["alcohol"]),
        models["unable"] / "other",
        pip_requirements=[],
        serialization_format="cloudpickle",
    )
    (models["unable"] / "other" / "model.pkl").rename(models["unable"] / "model.pkl")  # learned from other columns
    example = {"columns": COLUMNS, "data": [[1.0, 2.0, 3.0]]}
    (models["unable"] / "input_example.json").write_text(json.dumps(example))
    described = models["unable"] / "MLmodel"
    described.write_text(
        described.read_text()
        + "saved_input_example_info:\n  artifact_path: input_example.json\n  pandas_orient: split\n  type: dataframe\n"
    )
    problems = {
        "unable": "cannot answer its own input example: ValueError",
        "empty": "there is no MLmodel file in",
        "other": "it holds notes.txt",
        "unsigned": "has no signature with named columns",
        "textual": "the column colour",
        "broken": "cannot be loaded: UnpicklingError",
    }
    for name, problem in problems.items():
        process = start(models[name], tmp_path, free_port())
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1, name
        last = errors.strip().splitlines()[-1]
        assert last.startswith("wineserver: "), errors
        assert problem in last
        assert str(models[name]) in last
        assert "Traceback" not in errors


def test_a_nonsensical_environment_ends_the_process_likewise(tmp_path: Path) -> None:
    process = start(tmp_path, tmp_path, "nine thousand")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "PREDICTIVE_UNIT_HTTP_SERVICE_PORT" in errors.strip().splitlines()[-1]
