"""Callers who mean harm, against the server as a process: its memory and its probes while they ask, and how long they may stay.

Memory is the peak that the kernel saw (VmHWM), above what the idle server has.
"""

import contextlib
import http.client
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from pipeline.modelserver import free_port, variables
from sklearn.linear_model import ElasticNet

from wineserver import limits
from wineserver.routes import PREDICT

COLUMNS = [f"column {number}" for number in range(11)]
LARGEST = 10 * limits.MEBIBYTE
ROOM = 300  # MiB above the idle server: 10 MiB of JSON are about ten times that as Python's objects
HEALTH_SECONDS = 1.0
INFER = "/v2/models/wine/infer"


@dataclass
class Server:
    """A server process, and what it costs."""

    process: "subprocess.Popen[bytes]"
    port: int
    idle: int = 0

    def memory(self, which: str = "VmHWM") -> int:
        """Resident memory in MiB."""
        found = re.search(rf"{which}:\s*(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found is not None
        return int(found[1]) // 1024

    def ask(self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST" if body is not None else "GET", path, body, headers or {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def connect(self, sent: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(sent)
        return connection


@dataclass
class Watch:
    """How long the health path took, asked all the while on connections of its own."""

    server: Server
    slowest: float = 0.0
    asked: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Watch":
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.01):
            began = time.monotonic()
            assert self.server.ask("/health/ping")[0] == 200
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.asked += 1


def start(folder: Path, tmp: Path) -> Server:
    port = free_port()
    log = (tmp / "log").open("wb")
    command = [sys.executable, "-m", "wineserver"]
    process = subprocess.Popen(command, cwd="/", env=variables(folder, tmp, port), stderr=log)
    server = Server(process, port)
    while process.poll() is None:
        with contextlib.suppress(OSError):
            assert server.ask(PREDICT, rows(1))[0] == 200
            server.idle = server.memory()
            return server
        time.sleep(0.05)
    raise AssertionError((tmp / "log").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frame = pd.DataFrame(np.random.default_rng(7).uniform(1, 10, (60, len(COLUMNS))), columns=COLUMNS)
    path = tmp_path_factory.mktemp("models") / "model"
    mlflow.sklearn.save_model(
        ElasticNet(alpha=0.01).fit(frame, frame["column 1"]),
        path,
        signature=infer_signature(frame, frame["column 1"]),
        serialization_format="cloudpickle",
        pip_requirements=["scikit-learn"],
    )
    return path


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[Server]:
    server = start(folder, tmp_path)
    yield server
    assert server.process.poll() is None, (tmp_path / "log").read_text()
    server.process.kill()
    server.process.wait()


def rows(number: int) -> bytes:
    """Rows of the longest numbers that fit into the largest body."""
    row = "[" + ",".join(["1.234567"] * len(COLUMNS)) + "]"
    return ('{"data":{"ndarray":[' + ",".join([row] * number) + "]}}").encode()


def filled(unit: str) -> bytes:
    """The largest body of one text repeated."""
    head, tail = '{"data":{"ndarray":[', '"x"]}}'
    return (head + unit * ((LARGEST - len(head) - len(tail)) // len(unit)) + tail).encode()


def repeated(times: int, ask: Callable[[], tuple[int, Any, bytes]]) -> list[tuple[int, Any, bytes]]:
    with ThreadPoolExecutor(times) as pool:
        return [answer.result() for answer in [pool.submit(ask) for _ in range(times)]]


def test_ten_largest_requests_at_once_leave_memory_and_probes_alone(server: Server) -> None:
    body = rows(99_000)
    assert 0.9 * LARGEST < len(body) <= LARGEST
    with Watch(server) as watch:
        answers = repeated(10, lambda: server.ask(PREDICT, body))
    codes = [code for code, _, _ in answers]
    assert set(codes) <= {200, 503}
    assert codes.count(200) >= 3
    assert all(int(headers["Retry-After"]) > 0 for code, headers, _ in answers if code == 503)
    assert watch.asked > 10
    assert watch.slowest < HEALTH_SECONDS
    assert server.memory() - server.idle < ROOM


def test_small_requests_are_answered_while_large_ones_wait(server: Server) -> None:
    stalled = [server.connect(head(LARGEST) + b'{"data":') for _ in range(6)]
    began = time.monotonic()
    assert server.ask(PREDICT, rows(10))[0] == 200
    assert time.monotonic() - began < HEALTH_SECONDS
    assert server.ask(PREDICT, rows(1000))[0] == 200  # large, and there is room for it
    code, headers, body = server.ask(PREDICT, rows(60_000))
    assert (code, headers["Retry-After"], b"send this one again" in body) == (503, "2", True)
    for connection in stalled:
        connection.close()
    assert server.ask(PREDICT, rows(60_000))[0] == 200


@pytest.mark.parametrize(
    "unit",
    ["[],", "{},", '{"a":1},', "1,", "1000000,", "1.5,", '"",', '"ab",', "null,", "[[],[]],", "[" * 1000 + "]" * 1000 + ","],
    ids=lambda unit: unit[:8],
)
def test_no_shape_of_json_takes_more_room_or_time(server: Server, unit: str) -> None:
    body = filled(unit)
    with Watch(server) as watch:
        answers = repeated(4, lambda: server.ask(PREDICT, body))
    assert {code for code, _, _ in answers} <= {400, 503}
    assert watch.slowest < HEALTH_SECONDS
    assert server.memory() - server.idle < ROOM


@pytest.mark.parametrize("path", [PREDICT, INFER])
def test_objects_of_many_names_take_no_more_room(server: Server, path: str) -> None:
    body = b"{" + b",".join(b'"%07d":1' % number for number in range(LARGEST // 12)) + b"}"
    with Watch(server) as watch:
        answers = repeated(4, lambda: server.ask(path, body))
    assert {code for code, _, _ in answers} <= {400, 503}
    assert watch.slowest < HEALTH_SECONDS
    assert server.memory() - server.idle < ROOM


@pytest.mark.parametrize("unit", [b"\r", b"\r\n--x", b"\r\n--b", b"1,"], ids=repr)
def test_forms_take_no_more_room_or_time(server: Server, unit: bytes) -> None:
    part = b'--boundary\r\nContent-Disposition: form-data; name="json"\r\n\r\n'
    body = part + unit * ((LARGEST - 200) // len(unit)) + b"\r\n--boundary--\r\n"
    with Watch(server) as watch:
        answers = repeated(4, lambda: server.ask(PREDICT, body, {"Content-Type": "multipart/form-data; boundary=boundary"}))
    assert {code for code, _, _ in answers} <= {400, 503}
    assert watch.slowest < HEALTH_SECONDS
    assert server.memory() - server.idle < ROOM


def test_a_form_of_ampersands_leaves_the_probes_alone(server: Server) -> None:
    body = b"json=" + b"&" * (LARGEST - 5)
    with Watch(server) as watch:
        assert server.ask(PREDICT, body, {"Content-Type": "application/x-www-form-urlencoded"})[0] == 400
    assert watch.slowest < HEALTH_SECONDS


def test_bodies_in_tiny_chunks_are_refused(server: Server) -> None:
    chunks = b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % PREDICT.encode() + b"1\r\nx\r\n" * 100_000
    with Watch(server) as watch, ThreadPoolExecutor(10) as pool:
        for answered in pool.map(lambda _: sent_whole(server, chunks), range(20)):
            assert answered is None or answered.startswith(b"HTTP/1.1 400")
    assert watch.slowest < HEALTH_SECONDS
    body = rows(300)
    pieces = (body[start : start + 100] for start in range(0, len(body), 100))
    assert server.ask(PREDICT, pieces)[0] == 200  # type: ignore[arg-type]  # http.client sends chunks


def sent_whole(server: Server, content: bytes) -> bytes | None:
    """What is answered to bytes of which not all may be taken; None: the connection was closed while they were sent."""
    try:
        with server.connect(content) as connection:
            return connection.recv(100)
    except (ConnectionResetError, BrokenPipeError):
        return None


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"GET /live HTTP/1.1\r\nX-A: " + b"a" * 1_000_000, id="one header"),
        pytest.param(b"GET /live HTTP/1.1\r\n" + b"X-A: b\r\n" * 100_000, id="many headers"),
        pytest.param(b"GET /" + b"a" * 1_000_000, id="path"),
        pytest.param(
            b"POST /live HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X-A: b\r\n" * 100_000, id="trailers"
        ),
        pytest.param(
            b"POST /live HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 1_000_000, id="chunk extension"
        ),
        pytest.param(
            b"GET /live HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", id="two lengths"
        ),
        pytest.param(b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", id="tunnel"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
    ],
)
def test_what_is_no_http_request_is_refused_and_the_connection_closed(server: Server, content: bytes) -> None:
    with Watch(server) as watch:
        received = received_until_closed(server, content)
    assert received is None or received.startswith((b"HTTP/1.1 400", b"HTTP/1.1 405"))
    assert watch.slowest < HEALTH_SECONDS


def received_until_closed(server: Server, content: bytes) -> bytes | None:
    """What is answered until the server closes the connection; None if it was closed before all was sent."""
    try:
        with server.connect(content) as connection:
            received = b""
            while part := connection.recv(65536):
                received += part
            return received
    except (ConnectionResetError, BrokenPipeError):
        return None


def test_a_request_to_change_the_protocol_is_answered_as_any_other(server: Server) -> None:
    """Java's and curl's clients offer HTTP/2 with their first request."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
    body = rows(1)
    request = head(len(body)).removesuffix(b"\r\n") + offer + body
    with server.connect() as connection:
        connection.settimeout(20)
        for number in (1, 2):
            connection.sendall(request * number)  # the second time two at once
            received = b""
            while received.count(b'"data"') < number:
                part = connection.recv(65536)
                assert part, received
                received += part
            assert received.count(b"HTTP/1.1 200") == number


def head(size: int) -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (
        PREDICT.encode(),
        size,
    )


def ended(connection: socket.socket, drip: bytes = b"") -> tuple[float, bytes]:
    """Wait, sending `drip` now and then, until the server has closed; return how long it took, and what it sent."""
    began, sent = time.monotonic(), b""
    connection.settimeout(1)
    while time.monotonic() - began < limits.BODY_TIME + limits.LINGER + 25:
        try:
            if drip:
                connection.sendall(drip)
            received = connection.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            received = b""
        sent += received
        if not received:
            return time.monotonic() - began, sent
    raise AssertionError("it stays for ever")


def test_slow_callers_are_not_waited_for(server: Server) -> None:
    """All at once, since each takes as long as it may."""
    late = 4.0  # the server checks every second, and is not alone here
    callers = {
        "says nothing": (server.connect(), b"", limits.HEADER_TIME),
        "begins": (server.connect(b"POST /predict HTTP/1.1\r\nHost: x\r\n"), b"", limits.HEADER_TIME),
        "drips headers": (server.connect(b"GET /live HTTP/1.1\r\nHost: x\r\n"), b"X-A: b\r\n", limits.HEADER_TIME),
        "drips its second request": (server.connect(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"), b"x", limits.HEADER_TIME),
        "sends no body": (server.connect(head(1000)), b"", limits.BODY_TIME + limits.LINGER),
        "drips its body": (server.connect(head(1000)), b" ", limits.BODY_TIME + limits.LINGER),
        "drips a large body": (server.connect(head(LARGEST)), b" " * 100, limits.BODY_TIME + limits.LINGER),
        "drips chunks": (
            server.connect(head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")),
            b"1\r\nx\r\n",
            limits.BODY_TIME + limits.LINGER,
        ),
        "drips what was refused": (server.connect(head(LARGEST + 1)), b" ", limits.LINGER),
    }
    with ThreadPoolExecutor(len(callers)) as pool:
        waits = {name: pool.submit(ended, connection, drip) for name, (connection, drip, _) in callers.items()}
    for name, (_, _, longest) in callers.items():
        took, sent = waits[name].result()
        assert took <= longest + late, name
        if "body" in name or "chunks" in name:
            assert sent.startswith(b"HTTP/1.1 408"), (name, sent[:100])
    assert server.ask(PREDICT, rows(1))[0] == 200


def test_answers_that_nobody_takes_are_dropped(server: Server) -> None:
    body = rows(60_000)
    greedy = []
    for _ in range(2):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(head(len(body)) + body)
        greedy.append(connection)
    deadline = time.monotonic() + limits.ANSWER_TIME / 2 + 20
    while established(server.port) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert established(server.port) == 0
    assert server.ask(PREDICT, rows(60_000))[0] == 200
    for connection in greedy:
        connection.close()


def established(port: int) -> int:
    """Connections that the server has open."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "01" for line in lines)


def test_connections_are_bounded_and_the_probe_always_finds_one(server: Server) -> None:
    number = limits.MAX_CONNECTIONS + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number + 200:
        pytest.skip("this machine lets a process open too few files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number + 200), hard))
    idle = []
    try:
        with Watch(server) as watch:
            for place in range(number):
                with contextlib.suppress(OSError):
                    idle.append(server.connect(head(100_000) + b"x" * 30_000 if place % 2 else b""))
            deadline = time.monotonic() + 30  # the kernel accepts them before the server does
            while established(server.port) > limits.MAX_CONNECTIONS + 1 and time.monotonic() < deadline:
                time.sleep(0.1)
            assert established(server.port) <= limits.MAX_CONNECTIONS + 1
            assert server.ask(PREDICT, rows(10))[0] == 200
        assert watch.slowest < HEALTH_SECONDS
        assert server.memory() - server.idle < ROOM
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/v2/docs", "/api/v1.0/doc/", "/openapi.json", "/seldon.json", "/v2/docs/dataplane.json"]
)
def test_there_is_no_page(server: Server, path: str) -> None:
    code, headers, body = server.ask(path)
    assert (code, headers["Content-Type"], b"<" in body) == (404, "application/json", False)
