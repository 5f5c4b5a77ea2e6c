"""What several tests of the pipeline need: a web server on this machine and an MLflow store."""

import http.server
import shutil
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mlflow import MlflowClient

RED_WINE = Path(__file__).resolve().parents[2] / "data" / "winequality-red.csv"


@dataclass
class Answer:
    """One answer; `length` is announced instead of the body's own, None announces nothing."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = -1


@dataclass
class Site:
    """Answers by path, the last of a list for good; what was asked is kept."""

    port: int
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    server_names: list[str | None] = field(default_factory=list)

    def give(self, path: str, *answers: Answer, host: str = "127.0.0.1") -> str:
        self.answers[path] = list(answers)
        return f"http://{host}:{self.port}{path}"


def _serve(tls: ssl.SSLContext | None = None) -> tuple[http.server.ThreadingHTTPServer, Site]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, dict(self.headers.items())))
            known = site.answers.get(self.path.partition("?")[0], [Answer(status=404)])
            answer = known.pop(0) if len(known) > 1 else known[0]
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.length is not None:
                self.send_header("Content-Length", str(len(answer.body) if answer.length < 0 else answer.length))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Keep quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Site(server.server_port)
    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: site.server_names.append(name)
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server, site


@pytest.fixture
def serve() -> Iterator[Callable[..., Site]]:
    """Starts web servers on this machine, with TLS where a context is given."""
    servers = []

    def start(tls: ssl.SSLContext | None = None) -> Site:
        server, site = _serve(tls)
        servers.append(server)
        return site

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def site(serve: Callable[..., Site]) -> Site:
    """A web server on this machine."""
    return serve()


@pytest.fixture(scope="session")
def _empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()  # makes the tables: seconds, so it is done once
    return file


@pytest.fixture
def store(_empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of an empty MLflow store; artifacts go below the test's folder, which is made the current one."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(_empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def wine(site: Site) -> str:
    """Address of the wine data."""
    return site.give("/winequality-red.csv", Answer(RED_WINE.read_bytes(), headers={"Content-Type": "text/plain; charset=utf-8"}))
