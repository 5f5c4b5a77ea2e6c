"""The Kubeflow stand-in with a real API server: secrets, Workflows, and the processes behind them."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeflow_support import OVER, Server, compiled, error, eventually, serving, two_steps, with_last_words, with_secret
from support.files import contents

from sandbox.platform import Sandbox

VALUE = "a-value-that-nobody-may-see"
NAMESPACE = "admin"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("a sandbox") / "kubeflow"
    with Sandbox("kubeflow-test", folder, without={"mlflow", "data", "kubeflow", "seldon", "operator"}) as sandbox:
        secret(sandbox, "credentials", accesskey=VALUE)
        secret(sandbox, "wine-model-key", current=VALUE[::-1])
        yield sandbox


@pytest.fixture(scope="module")
def server(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    state = tmp_path_factory.mktemp("state")
    with serving(state, "--multi-user", "--kubeconfig", str(sandbox.info.kubeconfig), "--orphan-seconds", "30") as server:
        yield server


@pytest.fixture(scope="module")
def experiment(server: Server) -> str:
    return str(server.post("/experiments", {"display_name": "wine", "namespace": NAMESPACE}).json()["experiment_id"])


def secret(sandbox: Sandbox, name: str, **values: str) -> None:
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}}
    sandbox.kubectl("apply", "-f", "-", stdin=json.dumps({**manifest, "stringData": values}))


def workflow(sandbox: Sandbox, run_id: str) -> dict[str, Any] | None:
    """The Workflow of a run, if it has one."""
    listed = sandbox.kubectl("get", "workflows", "--namespace", NAMESPACE, "--selector", f"pipeline/runid={run_id}", "-o", "json")
    items: list[dict[str, Any]] = json.loads(listed)["items"]
    return items[0] if items else None


def phase(sandbox: Sandbox, run_id: str) -> str:
    found = workflow(sandbox, run_id)
    assert found is not None
    assert found["metadata"]["labels"]["workflows.argoproj.io/phase"] == found["status"]["phase"]
    return str(found["status"]["phase"])


def delete_workflow(sandbox: Sandbox, run_id: str) -> None:
    sandbox.kubectl("delete", "workflows", "--namespace", NAMESPACE, "--selector", f"pipeline/runid={run_id}")


def held(server: Server, folder: Path, experiment: str) -> tuple[str, int]:
    """A run whose second step waits: its id, and its worker's process."""
    (folder / "hold").touch()
    run_id = server.submit(two_steps, {"folder": str(folder), "text": "t"}, experiment_id=experiment)
    eventually(lambda: (folder / "pid").exists() and (folder / "pid").read_text(), "the second step waits")
    return run_id, os.getpgid(int((folder / "pid").read_text()))


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def executor(run: dict[str, Any]) -> str | None:
    """The state of the run's only pod."""
    nodes = run.get("run_details", {}).get("task_details", [])
    return next((node["state"] for node in nodes if node["display_name"] == "executor"), None)


# ---- secrets


def test_secret_reaches_only_its_step(server: Server, experiment: str, tmp_path: Path) -> None:
    run_id = server.submit(with_secret, {"folder": str(tmp_path)}, experiment_id=experiment)
    assert server.until(run_id, *OVER)["state"] == "SUCCEEDED", server.logs(run_id)
    seen = [json.loads(path.read_text()) for path in sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)]
    first, second = (step["environment"] for step in seen)
    assert first["AWS_ACCESS_KEY_ID"] == VALUE
    assert "NOT_THERE" not in first, "an optional secret may be missing"
    assert first["WINE_MODEL_KEY"] == VALUE[::-1], "a Secret that no parameter names"
    assert "WINE_MODEL_KEY_PREVIOUS" not in first, "an optional key may be missing from a Secret that is there"
    assert not {"AWS_ACCESS_KEY_ID", "WINE_MODEL_KEY"} & second.keys()
    assert all(VALUE not in step["command"] for step in seen)
    written = [path for path, content, _ in contents(server.state) if VALUE.encode() in content]
    assert not written, "never on disk, nor in a log"
    assert VALUE not in server.get(f"/runs/{run_id}").text


def test_step_waits_for_a_missing_secret(server: Server, sandbox: Sandbox, experiment: str, tmp_path: Path) -> None:
    parameters = {"folder": str(tmp_path), "secret": "late"}
    run_id = server.submit(with_secret, parameters, experiment_id=experiment)
    eventually(lambda: executor(server.run(run_id)), "there is a pod")
    eventually(lambda: waiting(sandbox, run_id), "the pod says why")
    assert (server.run(run_id)["state"], executor(server.run(run_id))) == ("RUNNING", "PENDING")
    assert waiting(sandbox, run_id) == {"reason": "CreateContainerConfigError", "message": 'secret "late" not found'}
    secret(sandbox, "late", other="x")
    time.sleep(0.5)
    assert executor(server.run(run_id)) == "PENDING", "nor is a secret enough that lacks the key"
    secret(sandbox, "late", accesskey="now")
    assert server.until(run_id, *OVER)["state"] == "SUCCEEDED", server.logs(run_id)


def pods(sandbox: Sandbox, run_id: str) -> list[dict[str, Any]]:
    """The step pods of a run."""
    listed = sandbox.kubectl("get", "pods", "--namespace", NAMESPACE, "--selector", f"pipeline/runid={run_id}", "-o", "json")
    return list(json.loads(listed)["items"])


def waiting(sandbox: Sandbox, run_id: str) -> dict[str, str]:
    """What a run's only pod waits for."""
    statuses = [status for pod in pods(sandbox, run_id) for status in pod.get("status", {}).get("containerStatuses", [])]
    return dict(statuses[0]["state"].get("waiting", {})) if statuses else {}


# ---- pods


def test_each_step_has_a_pod(server: Server, sandbox: Sandbox, experiment: str, tmp_path: Path) -> None:
    run_id = server.submit(two_steps, {"folder": str(tmp_path), "text": "t"}, experiment_id=experiment)
    assert server.until(run_id, *OVER)["state"] == "SUCCEEDED", server.logs(run_id)
    found = pods(sandbox, run_id)
    names = sorted(pod["metadata"]["annotations"]["workflows.argoproj.io/node-name"].split(".", 1)[1] for pod in found)
    assert names == ["root.wait-and-check.executor", "root.write.executor"]
    assert {pod["status"]["phase"] for pod in found} == {"Succeeded"}
    delete_workflow(sandbox, run_id)
    eventually(lambda: not pods(sandbox, run_id), "they go with their Workflow")


def test_step_waits_for_a_missing_image(server: Server, sandbox: Sandbox, experiment: str, tmp_path: Path) -> None:
    for image, reason in (("registry.invalid/steps:1", "ErrImagePull"), ("Not an image", "InvalidImageName")):
        spec = json.loads(json.dumps(compiled(two_steps)).replace("python:3.11", image))
        body = {"display_name": "x", "experiment_id": experiment, "pipeline_spec": spec}
        body["runtime_config"] = {"parameters": {"folder": str(tmp_path), "text": "t"}}
        run_id = server.post("/runs", body).json()["run_id"]
        eventually(lambda run_id=run_id: waiting(sandbox, run_id), "the pod says why")
        assert waiting(sandbox, run_id)["reason"] == reason
        assert server.run(run_id)["state"] == "RUNNING"
        server.post(f"/runs/{run_id}:terminate")
        server.until(run_id, "FAILED")
        eventually(lambda run_id=run_id: not pods(sandbox, run_id), "a pod that never ran is gone")


def test_step_waits_while_a_quota_refuses_its_pod(server: Server, sandbox: Sandbox, experiment: str, tmp_path: Path) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": NAMESPACE}}
    sandbox.kubectl("apply", "-f", "-", stdin=json.dumps({**quota, "spec": {"hard": {"pods": "0"}}}))
    path = ("get", "resourcequota", "none", "--namespace", NAMESPACE, "-o", "jsonpath={.status.hard.pods}")
    eventually(lambda: sandbox.kubectl(*path) == "0", "the quota is known")
    run_id = server.submit(two_steps, {"folder": str(tmp_path), "text": "t"}, experiment_id=experiment)

    def messages() -> list[str]:
        found = workflow(sandbox, run_id)
        nodes = (found or {}).get("status", {}).get("nodes", {})
        return [node.get("message", "") for node in nodes.values() if node["phase"] == "Pending"]

    eventually(lambda: any("exceeded quota: none" in message for message in messages()), "the node says why")
    assert server.run(run_id)["state"] == "RUNNING"
    sandbox.kubectl("delete", "resourcequota", "none", "--namespace", NAMESPACE)
    assert server.until(run_id, *OVER)["state"] == "SUCCEEDED", server.logs(run_id)


def test_termination_message_is_in_the_pod_and_the_node(
    server: Server, sandbox: Sandbox, experiment: str, tmp_path: Path
) -> None:
    (tmp_path / "broken").touch()
    run_id = server.submit(with_last_words, {"folder": str(tmp_path)}, experiment_id=experiment)
    assert server.until(run_id, *OVER)["state"] == "FAILED", server.logs(run_id)
    (pod,) = pods(sandbox, run_id)
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (pod["status"]["phase"], ended["exitCode"], ended["message"]) == ("Failed", 1, "no more wine")
    found = workflow(sandbox, run_id)
    assert found is not None
    assert "main: Error (exit code 1): no more wine" in [node.get("message") for node in found["status"]["nodes"].values()]


def test_run_that_waits_for_a_secret_can_be_terminated(server: Server, experiment: str, tmp_path: Path) -> None:
    parameters = {"folder": str(tmp_path), "secret": "never"}
    run_id = server.submit(with_secret, parameters, experiment_id=experiment)
    eventually(lambda: executor(server.run(run_id)), "there is a pod")
    server.post(f"/runs/{run_id}:terminate")
    assert server.until(run_id, *OVER)["state"] == "FAILED"


# ---- Workflows


def test_workflow_reports_where_its_run_failed(server: Server, sandbox: Sandbox, experiment: str, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    run_id = server.submit(two_steps, {"folder": str(tmp_path), "text": "t"}, experiment_id=experiment)
    server.until(run_id, "FAILED")
    eventually(lambda: phase(sandbox, run_id) == "Failed", "the Workflow says so")
    found = workflow(sandbox, run_id)
    assert found is not None
    assert "main: Error (exit code 1)" in [node.get("message") for node in found["status"]["nodes"].values()]


def test_workflow_of_a_terminated_run_is_failed(server: Server, sandbox: Sandbox, experiment: str, tmp_path: Path) -> None:
    run_id, worker = held(server, tmp_path, experiment)
    server.post(f"/runs/{run_id}:terminate")
    found = workflow(sandbox, run_id)
    assert found is not None
    assert found["spec"]["activeDeadlineSeconds"] == 0
    server.until(run_id, "FAILED")
    eventually(lambda: phase(sandbox, run_id) == "Failed", "the Workflow says so")
    assert not lives(worker)


@pytest.mark.parametrize("gone", [False, True])
def test_retry_updates_the_workflow(server: Server, sandbox: Sandbox, experiment: str, tmp_path: Path, gone: bool) -> None:
    (tmp_path / "broken").touch()
    run_id = server.submit(two_steps, {"folder": str(tmp_path), "text": "t"}, experiment_id=experiment)
    server.until(run_id, "FAILED")
    eventually(lambda: phase(sandbox, run_id) == "Failed", "the Workflow says so")
    if gone:
        delete_workflow(sandbox, run_id)
    (tmp_path / "broken").unlink()
    server.post(f"/runs/{run_id}:retry")
    assert server.until(run_id, *OVER)["state"] == "SUCCEEDED", server.logs(run_id)
    eventually(lambda: phase(sandbox, run_id) == "Succeeded", "the Workflow says so")


def test_run_stays_running_when_its_workflow_is_deleted(
    server: Server, sandbox: Sandbox, experiment: str, tmp_path: Path
) -> None:
    run_id, worker = held(server, tmp_path, experiment)
    delete_workflow(sandbox, run_id)
    eventually(lambda: not lives(worker), "its pods are gone")
    time.sleep(0.5)
    assert server.run(run_id)["state"] == "RUNNING", "nobody reports its end"
    error(server.post(f"/runs/{run_id}:retry"), 409, 10)
    error(server.post(f"/runs/{run_id}:terminate"), 500, 13)
    time.sleep(1.5)
    assert server.run(run_id)["state"] == "CANCELING", "now and for ever"
    assert server.delete(f"/runs/{run_id}").json() == {}


def test_workflow_deletion_is_noticed_after_a_restart(server: Server, sandbox: Sandbox, experiment: str, tmp_path: Path) -> None:
    run_id, worker = held(server, tmp_path, experiment)
    server.stop()
    delete_workflow(sandbox, run_id)
    server.start()
    eventually(lambda: not lives(worker), "its pods are gone")
    assert server.run(run_id)["state"] == "RUNNING"


def test_watch_survives_a_restart_of_the_api_server(server: Server, sandbox: Sandbox, experiment: str, tmp_path: Path) -> None:
    run_id, worker = held(server, tmp_path, experiment)
    sandbox.restart("apiserver", kill=True)
    delete_workflow(sandbox, run_id)
    eventually(lambda: not lives(worker), "its pods are gone")
    assert server.run(run_id)["state"] == "RUNNING"


def test_run_in_a_missing_namespace_is_refused(server: Server) -> None:
    made = server.post("/experiments", {"display_name": "wine", "namespace": "nowhere"}).json()
    body = {"display_name": "x", "pipeline_spec": compiled(two_steps), "experiment_id": made["experiment_id"]}
    answer = server.post("/runs", {**body, "runtime_config": {"parameters": {"folder": "f", "text": "t"}}})
    error(answer, 500, 13)
    assert server.get("/runs", params={"namespace": "nowhere"}).json() == {}


def test_runs_need_no_workflows_when_the_kind_is_missing(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.kubectl("delete", "crd", "workflows.argoproj.io")
    with serving(tmp_path / "state", "--namespace", NAMESPACE, "--kubeconfig", str(sandbox.info.kubeconfig)) as server:
        run_id = server.submit(with_secret, {"folder": str(tmp_path)})
        assert server.until(run_id, *OVER)["state"] == "SUCCEEDED", server.logs(run_id)
