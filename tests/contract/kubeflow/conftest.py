"""The endpoint under test: the one that CONTRACT_KFP_URL names, else the stand-in, once in each of its two modes."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.kubeflow.endpoint import AUDIENCE, Cluster, Endpoint, Runs, cleaned, eventually, given
from contract.kubeflow.proxied import ProxiedEndpoint

from sandbox.components import answers, base_environment, python_environment
from sandbox.plan import load
from sandbox.platform import Sandbox
from sandbox.ports import choose

SINGLE, MULTI = "single-user", "multi-user"
NAMESPACE = "team-contract"
REAL = given()
MODES = [SINGLE, MULTI] if REAL is None else [MULTI if REAL.multi_user else SINGLE]
# Tests of the other mode are not collected, so that they do not appear as skipped.
collect_ignore = [f"test_kubeflow_{mode.replace('-', '_')}.py" for mode in (SINGLE, MULTI) if mode not in MODES]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kfp" in metafunc.fixturenames:
        only = getattr(metafunc.module, "MODE", None)
        metafunc.parametrize("kfp", [only] if only else MODES, indirect=True, scope="session")


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Run a real API server below the stand-ins."""
    without = {"store", "mlflow", "data", "kubeflow", "seldon", "operator"}
    with Sandbox(f"contract-{os.getpid()}", without=without) as sandbox:
        yield sandbox


@contextlib.contextmanager
def stand_in(sandbox: Sandbox, state: Path, *flags: str) -> Iterator[str]:
    """Run the stand-in as a process. Yield its address."""
    plan = load(sandbox.folder)
    assert plan is not None
    port = choose(("contract",), {})["contract"]
    command = [plan.pipeline_python, "-m", "sandbox.kubeflow", "--port", str(port), "--state", str(state)]
    command += ["--kubeconfig", str(plan.kubeconfig), "--orphan-seconds", "2", "--cold", *flags]
    environment = {**base_environment(), **python_environment("", "pipeline")}
    with subprocess.Popen(command, env=environment) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            eventually(lambda: answers(f"{url}/apis/v2beta1/healthz") or process.poll() is not None, "the stand-in answers")
            assert process.poll() is None
            yield url
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def kfp(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """The endpoint under test."""
    if REAL is not None:
        yield from cleaned(REAL)
        return
    sandbox: Sandbox = request.getfixturevalue("sandbox")
    multi_user = request.param == MULTI
    cluster = Cluster(str(sandbox.info.kubeconfig))
    cluster.admit(NAMESPACE)
    token = cluster.token(NAMESPACE, AUDIENCE) if multi_user else ""
    flags = ["--authenticate"] if multi_user else ["--namespace", "kubeflow"]
    with stand_in(sandbox, tmp_path_factory.mktemp("state"), *flags) as url:
        yield from cleaned(Endpoint(url, NAMESPACE, multi_user, Runs.EXECUTED, "any", token, cluster=cluster))


@pytest.fixture
def proxied(kfp: Endpoint, tmp_path: Path) -> Iterator[ProxiedEndpoint]:
    """Connect the operator's adapter to the endpoint through a proxy."""
    proxied = ProxiedEndpoint(kfp, tmp_path)
    with proxied.proxy:
        yield proxied
    sent = {name.lower() for call in proxied.calls for name in call.headers}
    assert "kubeflow-userid" not in sent, "the mesh accepts this header from the gateway only"
    assert kfp.multi_user or "authorization" not in sent
