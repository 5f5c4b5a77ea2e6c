"""A sandbox without its stand-ins: real servers, who may do what, outages, and that nothing is left behind."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from sandbox import parallel, places, ports, programs
from sandbox.components import components
from sandbox.errors import BuildError, ComponentError, KubectlError, SandboxError
from sandbox.plan import PORTS, Info, load
from sandbox.platform import Sandbox
from sandbox.processes import MARK, Process, start, stop

STAND_INS = {"kubeflow", "seldon", "operator"}
ALL_BUT_STORE = {"kubeflow", "seldon", "operator", "mlflow", "data", "etcd", "apiserver", "controller-manager"}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("a folder") / "core"
    with Sandbox("core", folder, without=STAND_INS) as sandbox:
        yield sandbox


def within(seconds: float, true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not (reached := true()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return reached


def get(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        content: bytes = answer.read()
        return content


def mlflow(info: Info, call: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{info.mlflow_url}/api/2.0/mlflow/{call}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        answered: dict[str, Any] = json.loads(answer.read())
        return answered


def buckets(info: Info) -> set[str]:
    session = boto3.Session(info.s3_access_key, info.s3_secret_key, region_name="us-east-1")
    store = session.client("s3", endpoint_url=info.s3_endpoint)
    return {bucket["Name"] for bucket in store.list_buckets()["Buckets"]}


def marked(folder: Path) -> list[str]:
    """Command lines of the processes that belong to a sandbox; those of which only the exit code is left have none."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={folder}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return found


def pids(sandbox: Sandbox) -> dict[str, str]:
    return {path.name: path.read_text() for path in (sandbox.folder / "run").iterdir()}


# -- what is there --


def test_the_api_server_serves_the_kinds_of_the_platform(sandbox: Sandbox) -> None:
    names = sandbox.kubectl("get", "customresourcedefinitions", "-o", "name")
    for kind in ("poddefaults.kubeflow.org", "seldondeployments.machinelearning.seldon.io", "workflows.argoproj.io"):
        assert f"/{kind}" in names
    assert "/winepipelines.winepipelines.io" in names


def test_a_seldondeployment_is_checked_and_pruned(sandbox: Sandbox) -> None:
    graph = {"name": "classifier", "implementation": "MLFLOW_SERVER", "modelUri": "s3://mlflow/0", "noSuchField": 1}
    manifest = {
        "apiVersion": "machinelearning.seldon.io/v1",
        "kind": "SeldonDeployment",
        "metadata": {"name": "checked", "namespace": "admin"},
        "spec": {"predictors": [{"name": "p", "graph": graph, "componentSpecs": [{"spec": {"containers": [{"name": "c"}]}}]}]},
    }
    sandbox.kubectl("apply", "--validate=false", "-f", "-", stdin=json.dumps(manifest))
    stored = json.loads(sandbox.kubectl("-n", "admin", "get", "sdep", "checked", "-o", "json"))["spec"]["predictors"][0]
    assert "noSuchField" not in stored["graph"]
    assert stored["componentSpecs"][0]["spec"] == {"containers": [{"name": "c"}]}
    graph["implementation"] = "MY_SERVER"
    with pytest.raises(KubectlError, match="Unsupported value"):
        sandbox.kubectl("apply", "--validate=false", "-f", "-", stdin=json.dumps(manifest))


def test_the_operator_may_read_its_resources_but_no_ones_secrets(sandbox: Sandbox) -> None:
    sandbox.kubectl("get", "winepipelines", "--all-namespaces", as_operator=True)
    for namespace in ("admin", "kubeflow", "kube-system"):
        with pytest.raises(KubectlError, match="Forbidden"):
            sandbox.kubectl("get", "secrets", "-n", namespace, as_operator=True)
    with pytest.raises(KubectlError, match="Forbidden"):
        sandbox.kubectl("create", "namespace", "theirs", as_operator=True)


def test_the_object_store_has_both_buckets_and_refuses_strangers(sandbox: Sandbox) -> None:
    assert buckets(sandbox.info) == {"mlflow", "mlpipeline"}
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(f"{sandbox.info.s3_endpoint}/mlflow")


def test_mlflow_keeps_artifacts_in_the_object_store_and_knows_its_names(sandbox: Sandbox) -> None:
    created = mlflow(sandbox.info, "experiments/create", {"name": "core"})
    found = json.loads(get(f"{sandbox.info.mlflow_url}/api/2.0/mlflow/experiments/get?experiment_id={created['experiment_id']}"))
    assert found["experiment"]["artifact_location"] == f"s3://mlflow/{created['experiment_id']}"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(f"{sandbox.info.mlflow_url}/api/2.0/mlflow/experiments/get?experiment_id=0", Host="elsewhere.example")


def test_the_data_server_serves_the_wine_table_and_what_a_test_adds(sandbox: Sandbox) -> None:
    assert get(sandbox.info.data_url) == (places.ROOT / "data" / "winequality-red.csv").read_bytes()
    (sandbox.info.data_folder / "bad.csv").write_text("no;wine\n")
    assert get(f"{sandbox.info.data_base_url}/bad.csv") == b"no;wine\n"


def test_secrets_carry_the_credentials_of_this_object_store(sandbox: Sandbox) -> None:
    def secret(namespace: str, name: str) -> dict[str, str]:
        template = "go-template={{range $key, $value := .data}}{{$key}}={{$value | base64decode}}\n{{end}}"
        lines = sandbox.kubectl("-n", namespace, "get", "secret", name, "-o", template).split()
        return dict(line.split("=", 1) for line in lines)

    info = sandbox.info
    source = secret("kubeflow", "mlflow-server-seldon-init-container-s3-credentials")
    assert source == {
        "RCLONE_CONFIG_S3_TYPE": "s3",
        "RCLONE_CONFIG_S3_PROVIDER": "minio",
        "RCLONE_CONFIG_S3_ENV_AUTH": "false",
        "RCLONE_CONFIG_S3_ACCESS_KEY_ID": info.s3_access_key,
        "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": info.s3_secret_key,
        "RCLONE_CONFIG_S3_ENDPOINT": info.s3_endpoint,
    }
    sandbox.add_namespace("team-a", "team-b")
    for namespace in ("admin", "team-a", "team-b"):
        steps = secret(namespace, "mlpipeline-minio-artifact")
        assert steps == {"accesskey": info.s3_access_key, "secretkey": info.s3_secret_key}
    profiles = sandbox.kubectl("get", "namespaces", "-l", "app.kubernetes.io/part-of=kubeflow-profile", "-o", "name").split()
    assert {"namespace/admin", "namespace/team-a", "namespace/team-b"} <= set(profiles)


def test_no_one_else_can_read_a_credential(sandbox: Sandbox) -> None:
    secret = sandbox.info.s3_secret_key.encode()
    assert any(b"minio" in line.encode() for line in marked(sandbox.folder)), "the processes are found"
    assert not any(secret in line.encode() for line in marked(sandbox.folder))
    readable = [path for path in sandbox.folder.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    private = b"BEGIN EC PRIVATE KEY"
    assert not [path for path in readable if secret in (content := path.read_bytes()) or private in content]
    assert sandbox.folder.stat().st_mode & 0o077 == 0


def test_what_an_owner_leaves_is_collected_at_once(sandbox: Sandbox) -> None:
    """Of a kind that a CRD brought: a garbage collector that started before the CRD would need half a minute."""
    owner = {"apiVersion": "kubeflow.org/v1alpha1", "kind": "PodDefault", "metadata": {"name": "owner"}, "spec": {"selector": {}}}
    sandbox.kubectl("-n", "admin", "apply", "-f", "-", stdin=json.dumps(owner))
    uid = sandbox.kubectl("-n", "admin", "get", "poddefault", "owner", "-o", "jsonpath={.metadata.uid}")
    reference = {"apiVersion": "kubeflow.org/v1alpha1", "kind": "PodDefault", "name": "owner", "uid": uid}
    owned = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owned", "ownerReferences": [reference]}}
    sandbox.kubectl("-n", "admin", "apply", "-f", "-", stdin=json.dumps(owned))
    sandbox.kubectl("-n", "admin", "delete", "poddefault", "owner")
    assert within(10, lambda: not sandbox.kubectl("-n", "admin", "get", "configmaps", "owned", "--ignore-not-found"))


def test_a_namespace_can_be_deleted(sandbox: Sandbox) -> None:
    sandbox.add_namespace("passing")
    sandbox.kubectl("delete", "namespace", "passing", "--timeout=20s")


# -- outages --


def test_a_stopped_component_comes_back_on_its_port_with_its_data(sandbox: Sandbox) -> None:
    created = mlflow(sandbox.info, "experiments/create", {"name": "before"})
    sandbox.stop("mlflow")
    assert not sandbox.running()["mlflow"]
    with pytest.raises(urllib.error.URLError, match="refused"):
        get(f"{sandbox.info.mlflow_url}/health")
    sandbox.start("mlflow")
    found = json.loads(get(f"{sandbox.info.mlflow_url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=before"))
    assert found["experiment"]["experiment_id"] == created["experiment_id"]


def test_up_starts_what_has_died_and_nothing_else(sandbox: Sandbox) -> None:
    sandbox.kubectl("-n", "admin", "create", "configmap", "survivor")
    sandbox.stop("apiserver", kill=True)
    before = pids(sandbox)
    again = Sandbox("core", sandbox.folder, without=STAND_INS)
    assert again.up() == sandbox.info
    after = pids(sandbox)
    assert {name for name in after if after[name] != before[name]} == {"apiserver"}
    assert "survivor" in sandbox.kubectl("-n", "admin", "get", "configmaps", "-o", "name")
    again.up()
    assert pids(sandbox) == after


def test_an_unknown_component_is_named_with_those_there_are(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match=r"no component 'mlfow'; there are etcd, .*mlflow"):
        sandbox.stop("mlfow")


# -- up and down --


def test_two_side_by_side_and_down_leaves_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    folder = tmp_path / "second"
    with Sandbox("second", folder, without=STAND_INS | {"mlflow"}) as second:
        plans = [load(each.folder) for each in (sandbox, second)]
        taken = [set(plan.ports.values()) for plan in plans if plan]
        assert len(taken[0] | taken[1]) == 2 * len(PORTS)
        second.kubectl("create", "namespace", "only-here")
        assert "only-here" not in sandbox.kubectl("get", "namespaces", "-o", "name")
        assert second.info.s3_secret_key != sandbox.info.s3_secret_key
        assert len(marked(folder)) == 5
    assert within(2, lambda: marked(folder) == [])
    assert all(ports.is_free(port) for port in taken[1])
    assert not folder.exists()
    assert all(alive for name, alive in sandbox.running().items() if name not in STAND_INS)


def test_kubeflow_can_be_made_to_ask_for_tokens_and_the_operator_has_one(tmp_path: Path) -> None:
    without = {"seldon", "operator", "mlflow", "data"}
    with Sandbox("tokens", tmp_path / "tokens", without=without, authenticate=True) as sandbox:
        runs = f"{sandbox.info.kfp_url}/apis/v2beta1/runs?namespace=admin"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(runs)
        plan = load(sandbox.folder)
        assert plan is not None
        assert components(plan)["operator"].environment["WINE_KFP_TOKEN_FILE"] == str(plan.kfp_token)
        assert json.loads(get(runs, Authorization=f"Bearer {plan.kfp_token.read_text()}")) == {}


def test_state_that_is_kept_comes_back(tmp_path: Path) -> None:
    without = STAND_INS | {"mlflow", "data"}
    sandbox = Sandbox("kept", tmp_path / "kept", without=without)
    try:
        first = sandbox.up()
        sandbox.kubectl("create", "namespace", "kept")
        sandbox.down(keep_state=True)
        assert marked(sandbox.folder) == []
        second = sandbox.up()
        assert "namespace/kept" in sandbox.kubectl("get", "namespaces", "-o", "name")
        assert second.s3_secret_key == first.s3_secret_key
        assert buckets(second) == {"mlflow", "mlpipeline"}
    finally:
        sandbox.down()


def test_a_sandbox_goes_down_with_the_test_that_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "orphan"
    program = (
        "import sys, time; from pathlib import Path; from sandbox.platform import Sandbox\n"
        f"with Sandbox('orphan', Path({str(folder)!r}), without={ALL_BUT_STORE!r}): print('up', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(places.ROOT)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True) as test:
        assert test.stdout is not None
        assert test.stdout.readline() == "up\n"
        assert len(marked(folder)) == 1
        test.kill()
    assert within(20, lambda: not folder.exists())
    assert marked(folder) == []


def test_a_port_that_someone_took_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    choose, asked = ports.choose, []

    def unlucky(names: tuple[str, ...], previous: dict[str, int]) -> dict[str, int]:
        asked.append(choose(names, previous))
        return {**asked[0], "minio": taken.getsockname()[1]} if len(asked) == 1 else asked[-1]

    monkeypatch.setattr(ports, "choose", unlucky)
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        Sandbox("unlucky", tmp_path / "unlucky", without=ALL_BUT_STORE, report=lines.append) as sandbox,
    ):
        assert buckets(sandbox.info) == {"mlflow", "mlpipeline"}
    assert len(asked) == 2
    assert any("Its port was taken" in line for line in lines)


def test_a_component_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    environment = {"minio": {"MINIO_ROOT_PASSWORD": "short"}}
    sandbox = Sandbox("failing", tmp_path / "failing", without=ALL_BUT_STORE, environment=environment)
    with pytest.raises(ComponentError, match=r"(?s)minio ended after .*credentials.*All of its log: .*minio\.log.*sandbox down"):
        sandbox.up()
    assert marked(sandbox.folder) == []
    sandbox.down()
    assert not sandbox.folder.exists()


# -- the parts --


def test_a_process_id_of_a_stale_file_is_left_alone(tmp_path: Path) -> None:
    bystander = start(["sleep", "60"], dict(os.environ), tmp_path / "log", tmp_path / "other")
    stale = Process(bystander.pid, "another boot 1")
    file = tmp_path / "pid"
    bystander.write(file)
    try:
        assert Process.read(file) == bystander
        assert bystander.alive()
        code = (
            "import sys; from pathlib import Path; from sandbox.processes import Process, stop\n"
            "stale = Process(int(sys.argv[1]), 'another boot 1'); stop([stale], 1); print(stale.alive())"
        )
        environment = {**os.environ, "PYTHONPATH": str(places.ROOT)}
        done = subprocess.run([sys.executable, "-c", code, str(stale.pid)], env=environment, capture_output=True, check=True)
        assert done.stdout == b"False\n"
        assert bystander.alive()
    finally:
        stop([bystander], 5)
    assert not bystander.alive()


def test_a_process_that_does_not_listen_is_killed_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "stubborn"
    process = start(["bash", "-c", "trap '' TERM; sleep 60 & sleep 60"], dict(os.environ), tmp_path / "log", mark)
    assert within(5, lambda: len(marked(mark)) == 3)
    stop([process], 0.2)
    assert within(2, lambda: marked(mark) == [])


def test_steps_begin_when_what_they_need_is_done() -> None:
    done: list[str] = []
    both = threading.Barrier(2, timeout=10)

    def side() -> None:
        both.wait()
        done.append("side")

    steps = {
        "last": parallel.Step(lambda: done.append("last"), ("left", "right", "not a step")),
        "left": parallel.Step(side),
        "right": parallel.Step(side),
    }
    parallel.run(steps, threading.Event())
    assert done == ["side", "side", "last"]


def test_after_a_failed_step_those_that_wait_give_up_and_none_begins() -> None:
    given_up, late = threading.Event(), []

    def fail() -> None:
        raise SandboxError("no")

    steps = {
        "failing": parallel.Step(fail),
        "waiting": parallel.Step(lambda: None if given_up.wait(10) else late.append("never told")),
        "after": parallel.Step(lambda: late.append("begun"), ("waiting",)),
    }
    with pytest.raises(SandboxError, match="no"):
        parallel.run(steps, given_up)
    assert late == []


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("dial tcp: lookup elsewhere: no such host", "GOPROXY"),
        ("module lookup disabled by GOPROXY=off", "name another one with GOPROXY"),
        ("go: go.mod requires go >= 1.26.0 (running go 1.19)", "install 1.26 or newer.*GO="),
        ("link: signal: killed", "memory.*GOFLAGS"),
        ("write /x: no space left on device", "disk is full"),
        ("syntax error", "Go said:\nsyntax error"),
    ],
)
def test_a_failed_build_says_what_to_do(said: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\necho '{said}' >&2; exit 1\n")
    go.chmod(0o755)
    monkeypatch.setenv("GO", str(go))
    monkeypatch.setenv("WINE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BuildError, match=f"(?s)could not be built.*{advice}"):
        programs.find(lambda _: None)
    assert not [path for path in (tmp_path / "cache" / "programs").rglob("*") if path.is_file() and path.name != ".lock"]


def test_programs_are_built_once_and_those_that_are_given_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, given, built = tmp_path / "go", tmp_path / "given", tmp_path / "built"
    go.write_text(f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done; echo program >"$2"; echo "$3" >>"{built}"\n')
    go.chmod(0o755)
    given.mkdir()
    for name in ("etcd", "kube-apiserver", "kubectl"):
        (given / name).touch()
    monkeypatch.setenv("GO", str(go))
    monkeypatch.setenv("WINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(given))
    lines: list[str] = []
    first, second = programs.find(lines.append), programs.find(lines.append)
    assert first == second
    assert first["etcd"] == given / "etcd"
    assert first["minio"].read_text() == "program\n"
    assert sorted(built.read_text().split()) == ["github.com/minio/minio", "k8s.io/kubernetes/cmd/kube-controller-manager"]
    assert any(line.startswith("built minio in") for line in lines)


def test_without_go_it_says_which_and_where_to_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GO", str(tmp_path / "none"))
    monkeypatch.setenv("WINE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BuildError, match=r"Go 1\.26 or newer.*GO=/path"):
        programs.find(lambda _: None)


def test_ports_stay_the_same_while_they_are_free() -> None:
    first = ports.choose(PORTS, {})
    assert ports.choose(PORTS, first) == first
    with socket.create_server(("127.0.0.1", first["minio"])):
        second = ports.choose(PORTS, first)
    assert {name for name in PORTS if first[name] != second[name]} == {"minio"}


def test_the_command_line_names_the_sandbox_that_is_not_there(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sandbox", "info", "--name", "none", "--folder", str(tmp_path / "none")]
    done = subprocess.run(command, cwd=places.ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "sandbox: there is no sandbox 'none'; start it with: python -m sandbox up --name none\n"


def test_the_guard_does_nothing_when_it_is_told_that_all_is_well(sandbox: Sandbox) -> None:
    command = [sys.executable, "-m", "sandbox", "guard", "--name", "core", "--folder", str(sandbox.folder)]
    subprocess.run(command, cwd=places.ROOT, input=b"done", check=True)
    assert sandbox.running()["apiserver"]
