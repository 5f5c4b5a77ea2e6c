"""The model servers that bench/server.py compares, each started as its own project starts it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sandbox import ports

ROOT = Path(__file__).resolve().parents[1]
NAME = "wine"
START_SECONDS = 180.0
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
KSERVE = """
import sys
import joblib
from kserve import Model, ModelServer
from kserve.utils.utils import get_predict_input, get_predict_response

class SKLearnModel(Model):
    def predict(self, payload, headers=None):
        return get_predict_response(payload, self._model.predict(get_predict_input(payload)), self.name)

model = SKLearnModel("wine")
model._model = joblib.load(sys.argv[1])
model.ready = True
ModelServer(http_port=int(sys.argv[2]), enable_grpc=False, workers=1, enable_docs_url=False).start([model])
"""
"""What KServe's scikit-learn runtime, which is published as an image only, does with a request: its server and this model."""


@dataclass(frozen=True)
class Request:
    """A request in one protocol: its label, and its bytes."""

    protocol: str
    content: bytes

    @classmethod
    def of(cls, protocol: str, path: str, body: Mapping[str, Any]) -> Self:
        """Build a POST request with a JSON body."""
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        return cls(protocol, head.encode() + content)


class Server(ABC):
    """A server's process on a free port; `seconds` is how long it took from its start to its first answer."""

    name = ""
    environment = "pipeline"  # of dev/environment
    health = "/v2/health/ready"

    def __init__(self, folder: Path, work: Path) -> None:
        """Serve the model in an MLflow `folder`; `work` is a folder for the server's own files."""
        self.folder, self.work = folder, work
        self.seconds = 0.0
        self.port = ports.choose([self.name], {})[self.name]

    @abstractmethod
    def command(self, python: str) -> list[str]:
        """Return the command that starts the server."""

    def variables(self) -> Mapping[str, str]:
        """Return the server's own environment variables."""
        return {}

    def requests(self, rows: list[list[float]]) -> list[Request]:
        """Return a request for these rows in each protocol."""
        return [tensors(rows)]

    def values(self, body: Any) -> list[float]:
        """Return the predictions in an answer's JSON."""
        found = body["outputs"][0]["data"] if "outputs" in body else body.get("predictions") or body["data"]["ndarray"]
        return [float(value) for value in found]

    def __enter__(self) -> Self:
        done = subprocess.run([ROOT / "dev/environment", self.environment], stdout=subprocess.PIPE, text=True, check=True)
        python = done.stdout.strip()
        environment = {
            "PATH": f"{self.work}:{Path(python).parent}:/usr/bin:/bin",
            "HOME": str(self.work),
            "TMPDIR": str(self.work),
            "OMP_NUM_THREADS": "1",
            **self.variables(),
        }
        began = time.perf_counter()
        with (self.work / f"{self.name}.log").open("wb") as log:
            self._process = subprocess.Popen(
                self.command(python), cwd=self.work, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        while not self._answers():
            if self._process.poll() is not None or time.perf_counter() - began > START_SECONDS:
                self.__exit__(None, None, None)
                raise RuntimeError(f"{self.name} did not start: {(self.work / f'{self.name}.log').read_text()[-2000:]}")
            time.sleep(0.01)  # no event says that another program listens
        self.seconds = time.perf_counter() - began
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(f"GET {self.health} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                return connection.recv(12).endswith(b" 200")
        except OSError:
            return False

    def connect(self) -> socket.socket:
        """Open a connection."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def processor_seconds(self) -> float:
        """Return the processor time that all processes of the server have used."""
        return sum((int(fields[11]) + int(fields[12])) / TICK for fields in self._stats())

    def resident_megabytes(self) -> float:
        """Return the resident memory of all processes of the server."""
        return sum(int(fields[21]) * PAGE / 1e6 for fields in self._stats())

    def _stats(self) -> list[list[str]]:
        """Read /proc/<pid>/stat, without pid and name, of the server's session."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            if int(fields[3]) == self._process.pid:
                found.append(fields)
        return found


class Ours(Server):
    """The project's model server."""

    name = "wineserver"

    def command(self, python: str) -> list[str]:
        """Return the command of the server's image."""
        return [python, "-m", "wineserver"]

    def variables(self) -> Mapping[str, str]:
        """Return what Seldon sets."""
        return {
            "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("pipeline", "contract")),
            "PREDICTIVE_UNIT_ID": NAME,
            "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(self.port),
            "PREDICTIVE_UNIT_PARAMETERS": json.dumps([{"name": "model_uri", "value": str(self.folder), "type": "STRING"}]),
            "WINE_MAX_BODY_BYTES": str(1 << 24),
        }

    def requests(self, rows: list[list[float]]) -> list[Request]:
        """Return a request in Seldon's protocol, too."""
        return [Request.of("Seldon", "/api/v1.0/predictions", {"data": {"ndarray": rows}}), tensors(rows)]


class MLServer(Server):
    """MLServer with its scikit-learn runtime, without its pool of processes, which costs more."""

    name = environment = "mlserver"

    def command(self, python: str) -> list[str]:
        """Write the server's settings; return its command."""
        model = {
            "name": NAME,
            "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": str(self.folder / "model.pkl")},
        }
        settings = {"http_port": self.port, "host": "127.0.0.1", "parallel_workers": 0, "metrics_port": 0, "debug": False}
        settings |= {"grpc_port": 0, "metrics_endpoint": None}
        (self.work / "model-settings.json").write_text(json.dumps(model))
        (self.work / "settings.json").write_text(json.dumps(settings))
        return [python, "-c", "from mlserver.cli import main; main()", "start", str(self.work)]


class KServe(Server):
    """KServe's Python server with what its scikit-learn runtime does."""

    name = environment = "kserve"

    def command(self, python: str) -> list[str]:
        """Return the command of the program."""
        return [python, "-c", KSERVE, str(self.folder / "model.pkl"), str(self.port)]

    def requests(self, rows: list[list[float]]) -> list[Request]:
        """Return a request in TensorFlow's protocol, too, which is the runtime's default."""
        return [Request.of("v1", f"/v1/models/{NAME}:predict", {"instances": rows}), tensors(rows)]


class MLflow(Server):
    """`mlflow models serve` with one worker."""

    name = "mlflow"
    health = "/health"

    def command(self, python: str) -> list[str]:
        """Return MLflow's command. It runs the program uvicorn, whose own script does not know where its environment is."""
        (self.work / "uvicorn").write_text(f'#!/bin/sh\nexec "{python}" -m uvicorn "$@"\n')
        (self.work / "uvicorn").chmod(0o755)
        options = ["--port", str(self.port), "--host", "127.0.0.1", "--env-manager", "local", "--workers", "1"]
        return [python, "-m", "mlflow", "models", "serve", "--model-uri", str(self.folder), *options]

    def variables(self) -> Mapping[str, str]:
        """Return variables that keep MLflow to itself."""
        return {"MLFLOW_DISABLE_TELEMETRY": "true"}

    def requests(self, rows: list[list[float]]) -> list[Request]:
        """Return a request with a data frame."""
        columns = json.loads((self.folder / "serving_input_example.json").read_text())["dataframe_split"]["columns"]
        return [Request.of("data frame", "/invocations", {"dataframe_split": {"columns": columns, "data": rows}})]


SERVERS: tuple[type[Server], ...] = (Ours, MLServer, KServe, MLflow)


def tensors(rows: list[list[float]]) -> Request:
    """Return a request of the Open Inference Protocol, version 2."""
    data = [value for row in rows for value in row]
    tensor = {"name": "x", "shape": [len(rows), len(rows[0])], "datatype": "FP64", "data": data}
    return Request.of("v2", f"/v2/models/{NAME}/infer", {"inputs": [tensor]})
