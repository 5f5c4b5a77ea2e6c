"""What several tests of the pipeline need: a web server on this machine and an MLflow store."""

import shutil
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from support import website
from support.website import Answer, Site

from winesteps.preprocess import preprocess

RED_WINE = Path(__file__).resolve().parents[2] / "data" / "winequality-red.csv"


@pytest.fixture
def serve() -> Iterator[Callable[..., Site]]:
    """Starts web servers on this machine, with TLS where a context is given."""
    servers = []

    def start(tls: ssl.SSLContext | None = None) -> Site:
        server, site = website.start(tls)
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


@pytest.fixture(scope="session")
def red_wine() -> Path:
    """The wine data."""
    return RED_WINE


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wine data as parquet."""
    file = tmp_path_factory.mktemp("table") / "table"
    preprocess(RED_WINE, file)
    return file


@pytest.fixture
def wine(site: Site) -> str:
    """Address that the wine data is served at."""
    return site.give("/winequality-red.csv", Answer(RED_WINE.read_bytes(), headers={"Content-Type": "text/plain; charset=utf-8"}))


@pytest.fixture(autouse=True)
def _allow_this_machine() -> Iterator[None]:
    """Let data come from the web servers that tests start: a step would not fetch from its own pod."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINE_DATA_ALLOWED_NETWORKS", "127.0.0.0/8,::1/128")
        yield
