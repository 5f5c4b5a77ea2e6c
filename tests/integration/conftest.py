"""One sandbox for all integration tests; each test has a namespace of its own."""

import itertools
import os
from collections.abc import Iterator

import pytest
from support.cluster import Cluster
from support.doctor import BreakablePlatform
from support.mlflow import MLFLOW_ONLY
from support.mlflow_server import Server
from support.operator import OperatorProcess
from support.platforms import SELDON, Backend

from sandbox.mlflow_server import VARIANTS
from sandbox.plan import BOTH
from sandbox.platform import Sandbox

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Run the whole platform without an operator."""
    with Sandbox(f"test-{os.getpid()}", without={"operator"}, backend=BOTH, audit=True) as sandbox:
        yield sandbox


@pytest.fixture(scope="session", params=[SELDON], ids=str)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Return the backend that serves models; tests marked with `both_backends` run on each."""
    chosen: Backend = request.param
    return chosen


@pytest.fixture(scope="session")
def cluster(sandbox: Sandbox, backend: Backend) -> Cluster:
    return Cluster(sandbox, backend)


@pytest.fixture(scope="session")
def operator(sandbox: Sandbox) -> Iterator[OperatorProcess]:
    """Run the operator that most tests share. Tests that start their own kill it first."""
    with OperatorProcess(sandbox) as operator:
        yield operator


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """Create a user's namespace. Its WinePipelines are deleted after the test, even if the test fails."""
    name = cluster.namespace(f"team-{next(_numbers)}")
    yield name
    cluster.sandbox.kubectl("-n", name, "delete", "winepipelines", "--all", "--wait=false")


@pytest.fixture(scope="session")
def breakable() -> Iterator[BreakablePlatform]:
    """Run a second platform, which the tests of doctor break. Its Kubeflow Pipelines requires tokens."""
    with Sandbox(f"doctor-{os.getpid()}", without={"operator"}, authenticate=True) as sandbox:
        yield BreakablePlatform(sandbox)


@pytest.fixture(scope="session", params=list(VARIANTS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run an MLflow with its object store: 3, 3 with a password, a path prefix and proxied artifacts, and 2.22."""
    with Sandbox("mlflow", tmp_path_factory.mktemp("mlflow"), without=MLFLOW_ONLY, mlflow=request.param) as sandbox:
        yield Server(request.param, sandbox.info)
