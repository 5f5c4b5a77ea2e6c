"""The operator exits within seconds if a requirement is missing, with one line that explains what to do."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import yaml
from support.cluster import eventually

from sandbox.components import answers, base_environment, python_environment
from sandbox.kubeconfigs import Access
from sandbox.kubectl import await_kinds, kubectl
from sandbox.places import interpreter
from sandbox.plan import Plan, load
from sandbox.platform import Sandbox

ROOT = Path(__file__).parents[2]
SECONDS = 10
ABSENT = Path("/proc/absent")  # nothing can be created there
COMMAND = [interpreter("operator"), "-m", "winepipelines", "run"]  # the pinned environment of its image
CRDS = (ROOT / "crds/winepipelines.yaml", ROOT / "crds/winepredictions.yaml")
ADDRESSES = {f"WINE_{name}_URL": "http://127.0.0.1:1" for name in ("KFP", "MLFLOW", "S3_ENDPOINT")}
SETTINGS = {**ADDRESSES, "WINE_PROBE_HOST": "127.0.0.1", "WINE_METRICS_HOST": "127.0.0.1"}


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    """Run an API server without the CRDs of the operator."""
    without = {"store", "mlflow", "data", "kubeflow", "seldon", "operator", "manifests", "controller-manager"}
    with Sandbox(f"start-{os.getpid()}", without=without) as sandbox:
        plan = load(sandbox.folder)
        assert plan is not None
        yield plan


def _environment(kubeconfig: Path | str, changes: Mapping[str, str]) -> dict[str, str]:
    own = {"KUBECONFIG": str(kubeconfig), "HOME": str(ABSENT), **SETTINGS}
    return {**base_environment(), **python_environment("operator"), **own, **changes}


def _ends(kubeconfig: Path | str = ABSENT, **changes: str) -> str:
    """Start the operator. Return the only line that it prints before it exits."""
    begun = time.monotonic()
    done = subprocess.run(
        COMMAND,
        env=_environment(kubeconfig, changes),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    took, stretched = time.monotonic() - begun, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert done.returncode not in (0, -signal.SIGKILL), done.stderr
    lines = (done.stdout + done.stderr).strip().splitlines()
    assert len(lines) == 1, "\n".join(lines)
    assert took < SECONDS * stretched, "the time limit is scaled by the load of the machine"
    return lines[0]


@pytest.fixture
def used_port() -> Iterator[str]:
    """Yield a port that another process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield str(server.getsockname()[1])


def test_missing_setting_is_named() -> None:
    assert "WINE_KFP_URL (chart value kubeflow.url)" in _ends(WINE_KFP_URL="")


def test_invalid_setting_is_named() -> None:
    line = _ends(WINE_REQUEST_SECONDS="nan", WINE_WORKERS="0")
    assert "WINE_REQUEST_SECONDS (chart value limits.requestSeconds)" in line
    assert "WINE_WORKERS (chart value limits.workers)" in line


@pytest.mark.parametrize(("variable", "value"), [("WINE_METRICS_PORT", "metrics.port"), ("WINE_PROBE_PORT", "")])
def test_used_port_is_named(variable: str, value: str, used_port: str) -> None:
    line = _ends(**{variable: used_port})
    assert f"{variable}{f' (chart value {value})' if value else ''}: another process listens on 127.0.0.1:{used_port}" in line


def test_address_of_another_machine_is_named() -> None:
    assert "WINE_METRICS_HOST: cannot listen on 192.0.2.1:" in _ends(WINE_METRICS_HOST="192.0.2.1", WINE_METRICS_PORT="9090")


def _copy_templates(folder: Path) -> Path:
    subprocess.run(["cp", "-r", str(ROOT / "templates"), str(folder)], check=True)
    return folder / "templates"


def test_missing_templates_are_named(tmp_path: Path) -> None:
    line = _ends(WINE_TEMPLATES=str(tmp_path / "none"))
    assert f"WINE_TEMPLATES is {tmp_path / 'none'}" in line
    assert "Set it to the folder templates of this release" in line


@pytest.mark.parametrize(
    "name",
    ["pipelines/wine-prediction.yaml", "pipelines/wine-training-single.yaml", "manifests/seldondeployment.yaml.j2"],
)
def test_missing_template_is_named(tmp_path: Path, name: str) -> None:
    folder = _copy_templates(tmp_path)
    (folder / name).unlink()
    assert Path(name).name in _ends(WINE_TEMPLATES=str(folder))


def test_invalid_template_is_reported(tmp_path: Path) -> None:
    folder = _copy_templates(tmp_path)
    (folder / "pipelines/wine-training.yaml").write_text("not: a pipeline\n")
    assert "is not what this release wrote" in _ends(WINE_TEMPLATES=str(folder))


@pytest.mark.parametrize(
    ("variable", "value"),
    [("WINE_KFP_TOKEN_FILE", "kubeflow.token"), ("WINE_KFP_CA_FILE", "kubeflow.ca"), ("WINE_MLFLOW_CA_FILE", "mlflow.ca")],
)
@pytest.mark.parametrize("content", [None, "two words\n"])
def test_unreadable_file_is_named(tmp_path: Path, variable: str, value: str, content: str | None) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_text(content)
    line = _ends(**{variable: str(path)})
    assert f"{variable} (chart value {value}): {path}" in line


def test_missing_kubeconfig_is_reported() -> None:
    assert "KUBECONFIG" in _ends()


def test_start_writes_nothing_to_the_home(tmp_path: Path) -> None:
    _ends(HOME=str(tmp_path))
    assert list(tmp_path.rglob("*")) == []  # MLflow keeps an installation id there for what it sends home


def test_invalid_kubeconfig_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("apiVersion: v1\nkind: Config\n")
    assert "KUBECONFIG" in _ends(path)
    path.write_text("{")
    assert "KUBECONFIG" in _ends(path)


def test_unreachable_api_server_is_reported(plan: Plan, tmp_path: Path) -> None:
    config = json.loads(plan.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    assert "the API server cannot be reached" in _ends(path)


def test_hanging_api_server_is_reported(plan: Plan, tmp_path: Path) -> None:
    config = json.loads(plan.kubeconfig.read_text())
    with socket.create_server(("127.0.0.1", 0), backlog=10) as server:
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{server.getsockname()[1]}"
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(config))
        assert "the API server did not answer within" in _ends(path)


def test_rejected_credentials_are_reported(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    Access.read(plan.kubeconfig).with_token("nobody").write(path)
    line = _ends(path)
    assert "the API server answered 401" in line
    assert "nobody" not in line


def test_missing_crd_is_reported(plan: Plan) -> None:
    line = _ends(plan.kubeconfig)
    assert "does not serve winepipelines.winepipelines.io and winepredictions.winepipelines.io" in line
    assert "kubectl apply --server-side -f crds/" in line


@pytest.fixture(scope="module")
def crds(plan: Plan) -> Plan:
    for path in CRDS:
        _kubectl(plan, "apply", "--server-side", "-f", str(path))
        await_kinds(partial(kubectl, plan), "-f", str(path))
    return plan


def _kubectl(plan: Plan, *arguments: str, stdin: str = "") -> str:
    command = [str(plan.programs["kubectl"]), f"--kubeconfig={plan.kubeconfig}", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def unauthorized(crds: Plan, tmp_path: Path) -> Path:
    """Return the kubeconfig of a service account without any right."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "unauthorized", "namespace": "default"}}
    _kubectl(crds, "apply", "-f", "-", stdin=yaml.safe_dump(account))
    path = tmp_path / "unauthorized"
    Access.read(crds.kubeconfig).with_token(_kubectl(crds, "-n", "default", "create", "token", "unauthorized").strip()).write(
        path
    )
    return path


def test_missing_right_is_reported_with_the_rule_that_grants_it(unauthorized: Path) -> None:
    line = _ends(unauthorized)
    assert "no right to list winepipelines.winepipelines.io" in line
    assert "{apiGroups: [winepipelines.io], resources: [winepipelines], verbs: [list]}" in line


def test_missing_right_to_watch_deployments_is_reported(unauthorized: Path, crds: Plan) -> None:
    rules = [
        {"apiGroups": ["winepipelines.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": ["machinelearning.seldon.io"], "resources": ["seldondeployments"], "verbs": ["list"]},
    ]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "half"}, "rules": rules}
    _kubectl(crds, "apply", "-f", "-", stdin=yaml.safe_dump(role))
    _kubectl(crds, "create", "clusterrolebinding", "half", "--clusterrole=half", "--serviceaccount=default:unauthorized")
    try:
        assert "no right to watch seldondeployments.machinelearning.seldon.io" in _ends(unauthorized)
    finally:
        _kubectl(crds, "delete", "clusterrolebinding", "half")


def test_missing_right_in_one_of_several_namespaces_is_reported(unauthorized: Path) -> None:
    assert "the Role wine-operator in default" in _ends(unauthorized, WINE_NAMESPACES="default,other")


def test_operator_starts_without_its_platform_and_does_not_log_probes(crds: Plan, tmp_path: Path) -> None:
    """The start needs neither Kubeflow, MLflow, an object store nor Seldon."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    log = tmp_path / "log"
    environment = _environment(crds.kubeconfig, {"WINE_PROBE_PORT": str(port), "WINE_KFP_ULR": "http://kfp"})
    with (
        log.open("wb") as out,
        subprocess.Popen(COMMAND, env=environment, stdout=out, stderr=out) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}/healthz"
            eventually(lambda: process.poll() is None and answers(url), 60)
            before = log.read_text()
            assert "WINE_KFP_ULR" in before
            assert all(answers(url) for _ in range(20))
            assert "longestReconcileSeconds" not in log.read_text()
            assert "Activity" not in log.read_text()
        finally:
            process.terminate()
        assert process.wait(30) == 0, log.read_text()
