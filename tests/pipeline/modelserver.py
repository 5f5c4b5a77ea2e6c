"""Run the model server as a process, call it, and put it under load."""

import contextlib
import http.client
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LIMIT = 200_000


def variables(folder: Path, tmp: Path, port: int | str) -> dict[str, str]:
    """Build the environment in which Seldon starts the server of the model in a folder."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(str(ROOT / root) for root in ("pipeline", "contract")),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(tmp),
        "HOME": "/dev/null/home",
        "PREDICTIVE_UNIT_ID": "wine",
        "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(port),
        "PREDICTIVE_UNIT_PARAMETERS": json.dumps([{"name": "model_uri", "value": str(folder), "type": "STRING"}]),
    }


def start(folder: Path, tmp: Path, port: int | str, drain: int = 0) -> "subprocess.Popen[str]":
    environment = variables(folder, tmp, port) | {
        "WINE_MAX_BODY_BYTES": str(LIMIT),
        "WINE_DRAIN_SECONDS": str(drain),
        # What Seldon says to MLServer's own images and must not make ours another server.
        "MLSERVER_MODEL_NAME": "wine",
        "MLSERVER_MODEL_IMPLEMENTATION": "mlserver_mlflow.MLflowRuntime",
        "MLSERVER_MODEL_URI": "/mnt/models",
        "MLSERVER_METRICS_PORT": "6000",
        "MLSERVER_METRICS_ENDPOINT": "/prometheus",
        "MLSERVER_GRPC_PORT": "9500",
    }
    return subprocess.Popen([sys.executable, "-m", "wineserver"], cwd="/", env=environment, stderr=subprocess.PIPE, text=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def call(
    port: int, path: str, body: Any = None, headers: dict[str, str] | None = None, method: str | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        if isinstance(body, dict | list):
            body = json.dumps(body)
        method = method or ("GET" if body is None else "POST")
        connection.request(method, path, body, headers or {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()


def answer(port: int, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
    status, content = call(port, path, body, **more)
    return status, json.loads(content)


def wait_until_ready(process: "subprocess.Popen[str]", port: int) -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError):
            if call(port, "/health/status")[0] == 200:
                return
        time.sleep(0.02)
    raise AssertionError(process.communicate()[1])


def wait_until_refused(port: int) -> None:
    while True:
        try:
            call(port, "/health/ping")
        except OSError:
            return
        time.sleep(0.02)


def wait_until_draining(port: int) -> None:
    while call(port, "/ready")[0] != 503:
        time.sleep(0.01)


class Pod:
    """A server process that is started at once and waited for later."""

    def __init__(self, folder: Path, tmp: Path, port: int) -> None:
        self.port = port
        self.process = start(folder, tmp, port)

    def wait(self) -> None:
        wait_until_ready(self.process, self.port)


class Load:
    """Requests at a steady rate, each in a thread and on a connection of its own, to the endpoints in turn."""

    def __init__(self, endpoints: list[int], period: float) -> None:
        self.failures: list[str] = []
        self.answered: Counter[int] = Counter()
        self._endpoints, self._period = endpoints, period
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Load":
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if call(self._endpoints[0], "/ready")[0] == 200:
                    break
            time.sleep(0.02)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait_for(self, more: int) -> None:
        """Wait until so many more requests have been answered."""
        wanted, deadline = self.answered.total() + more, time.monotonic() + 60
        while self.answered.total() < wanted:
            assert time.monotonic() < deadline, self.failures[:3]
            time.sleep(0.01)

    def _run(self) -> None:
        with ThreadPoolExecutor(32) as pool:
            for number in itertools.count():
                if self._stop.wait(self._period):
                    return
                endpoints = list(self._endpoints)
                pool.submit(self._ask, endpoints[number % len(endpoints)])

    def _ask(self, port: int) -> None:
        try:
            status, content = call(port, "/api/v1.0/predictions", {"data": {"ndarray": [[1, 2, 3]]}})
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(f"{port}: {error!r}")
            return
        if status == 200:
            self.answered[port] += 1
        else:
            self.failures.append(f"{port}: {status} {content[:200]!r}")
