"""Runs on the Kubeflow stand-in, without a cluster: what happens to them, to their processes, and across restarts."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest
import requests
from kfp import dsl
from kubeflow_support import (
    OVER,
    Server,
    compiled,
    error,
    eventually,
    look_around,
    serving,
    two_steps,
    with_limit,
    with_loop,
    with_secret,
    with_volume,
)

from sandbox.kubeflow.auth import Caller, Gate
from sandbox.kubeflow.execution import Execution
from sandbox.kubeflow.experiments import Experiments
from sandbox.kubeflow.runs import Runs, Settings
from sandbox.kubeflow.store import ACTIVE, Store


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    stray = {"AWS_ACCESS_KEY_ID": "stray", "MLFLOW_S3_ENDPOINT_URL": "stray", "WINE_KFP_URL": "stray"}
    with serving(tmp_path_factory.mktemp("runs of many"), warm=True, environment=stray) as server:
        yield server


@dsl.pipeline(name="surroundings")
def surroundings(folder: str) -> None:
    """One step that looks around."""
    look_around(folder=folder).set_caching_options(False).set_env_variable("COMPILED_IN", "yes")


def parameters(folder: Path, **more: Any) -> dict[str, Any]:
    return {"folder": str(folder), "text": "hello", **more}


def tasks(run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The nodes of a run by name; a step's pod as `<task>/executor`."""
    nodes = run.get("run_details", {}).get("task_details", [])
    found = {node["display_name"]: node for node in nodes if node["display_name"] != "executor"}
    for task in ("write", "wait-and-check", "look-around"):
        for node in nodes:
            if task in found and f"{task}-driver" in found and node["display_name"] == "executor":
                index = [one["display_name"] for one in nodes].index(task)
                found[f"{task}/executor"] = nodes[index + 1]
    return found


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """The processes that any thread of a process has started. Threads may end meanwhile."""
    found = list[int]()
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, listed.read_text().split())
    return found


def held(server: Server, folder: Path, **more: Any) -> tuple[str, int]:
    """A run whose second step waits: its id, and the step's process."""
    (folder / "hold").touch()
    run_id = server.submit(two_steps, parameters(folder), **more)
    eventually(lambda: (folder / "pid").exists() and (folder / "pid").read_text(), "the second step waits")
    return run_id, int((folder / "pid").read_text())


def test_run_succeeds(server: Server, tmp_path: Path) -> None:
    run_id, _ = held(server, tmp_path)
    run = server.run(run_id)
    assert (run["state"], run["finished_at"]) == ("RUNNING", "1970-01-01T00:00:00Z")
    assert tasks(run)["wait-and-check"]["end_time"] == "0001-01-01T00:00:00Z"
    assert tasks(run)["write"]["state"] == "SUCCEEDED"
    (tmp_path / "hold").unlink()
    run = server.until(run_id, *OVER)
    assert run["state"] == "SUCCEEDED", server.logs(run_id)
    assert [entry["state"] for entry in run["state_history"]] == ["PENDING", "RUNNING", "SUCCEEDED"]
    assert run["finished_at"] >= run["created_at"] > "2000"
    message = json.loads((tmp_path / "message").read_text())
    assert message == {"data": "hello", "shout": "HELLO", "run": run_id, "about": {"revision": 3}}
    assert isinstance(message["about"]["revision"], int), "numbers come as Kubeflow writes them"


def test_nodes_of_a_run_are_shown(server: Server, tmp_path: Path) -> None:
    run_id = server.submit(two_steps, parameters(tmp_path))
    run = server.until(run_id, *OVER)
    found = tasks(run)
    drivers = {"root-driver", "write-driver", "wait-and-check-driver"}
    assert found.keys() - {"root", "write", "wait-and-check", "write/executor", "wait-and-check/executor", *drivers} == {
        name for name in found if name.startswith("two-steps-")
    }
    for node in found.values():
        assert (node["run_id"], node["state"]) == (run_id, "SUCCEEDED")
        assert "error" not in node, "a failed task says nothing in the API"
        assert "outputs" not in node
    assert len(found["root"]["child_tasks"]) == 2
    assert all(child["pod_name"].startswith("two-steps-") for child in found["root"]["child_tasks"])
    assert len({node["task_id"] for node in found.values()}) == len(found)


def test_run_fails_with_its_step(server: Server, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    run_id = server.submit(two_steps, parameters(tmp_path))
    run = server.until(run_id, *OVER)
    assert run["state"] == "FAILED"
    assert "error" not in run
    found = tasks(run)
    states = {name: found[name]["state"] for name in ("write", "wait-and-check", "wait-and-check/executor", "root")}
    assert states == {"write": "SUCCEEDED", **dict.fromkeys(("wait-and-check", "wait-and-check/executor", "root"), "FAILED")}
    assert "failed as requested" in server.logs(run_id)
    assert "failed as requested" not in json.dumps({name: value for name, value in run.items() if name != "pipeline_spec"})


def test_terminate_ends_a_run(server: Server, tmp_path: Path) -> None:
    run_id, step = held(server, tmp_path)
    began = time.monotonic()
    assert server.post(f"/runs/{run_id}:terminate").json() == {}
    assert server.run(run_id)["state"] == "CANCELING"
    error(server.post(f"/runs/{run_id}:terminate"), 400, 3)
    run = server.until(run_id, *OVER, "CANCELED")
    assert run["state"] == "FAILED", "not CANCELED"
    assert time.monotonic() - began >= 1
    assert not lives(step)
    assert tasks(run)["wait-and-check"]["state"] == "FAILED"
    error(server.post(f"/runs/{run_id}:terminate"), 400, 3)


def test_retry_keeps_succeeded_steps(server: Server, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    run_id = server.submit(two_steps, parameters(tmp_path))
    server.until(run_id, "FAILED")
    (tmp_path / "broken").unlink()
    (tmp_path / "hold").touch()
    assert server.post(f"/runs/{run_id}:retry").json() == {}
    run = server.run(run_id)
    assert (run["state"], run["finished_at"]) == ("RUNNING", "1970-01-01T00:00:00Z")
    assert "Failed/Error" in error(server.post(f"/runs/{run_id}:retry"), 409, 10)
    (tmp_path / "hold").unlink()
    run = server.until(run_id, *OVER)
    assert run["state"] == "SUCCEEDED", server.logs(run_id)
    assert (tmp_path / "wrote").read_text() == "x", "the first step ran once"
    assert json.loads((tmp_path / "message").read_text())["shout"] == "HELLO"
    assert [entry["state"] for entry in run["state_history"]] == ["PENDING", "RUNNING", "FAILED", "RUNNING", "SUCCEEDED"]
    assert "Failed/Error" in error(server.post(f"/runs/{run_id}:retry"), 409, 10), "what succeeded is not repeated"


def test_late_end_of_an_earlier_attempt_does_not_end_the_run(tmp_path: Path) -> None:
    """A worker records FAILED shortly before it ends. A retry in between has no worker yet, but has not ended."""
    store, gate, execution = Store(tmp_path), Gate(multi_user=False, reviewer=None), create_autospec(Execution)
    with contextlib.closing(store.create()):
        runs = Runs(tmp_path, store, gate, Experiments(store, gate), execution, None, Settings("admin", 1))
        body = {"display_name": "x", "pipeline_spec": compiled(surroundings), "runtime_config": {"parameters": {"folder": "f"}}}
        run_id = runs.create(Caller([]), json.dumps(body).encode())["run_id"]
        assert store.claim(run_id, 1, 4711, 0)
        assert store.move(run_id, "FAILED", ACTIVE, 1)
        runs.retry(Caller([]), run_id)
        runs.worker_ended(run_id, 1, 4711)
        assert runs.get(Caller([]), run_id)["state"] == "RUNNING"
        runs.worker_ended(run_id, 2, 4712)
        assert runs.get(Caller([]), run_id)["state"] == "FAILED", "a worker that ends before it has message who it is"


def test_delete_ends_a_run(server: Server, tmp_path: Path) -> None:
    run_id, step = held(server, tmp_path)
    assert server.delete(f"/runs/{run_id}").json() == {}
    eventually(lambda: not lives(step), "the step has ended")
    error(server.get(f"/runs/{run_id}"), 404, 5)


def test_killed_worker_fails_its_run(server: Server, tmp_path: Path) -> None:
    run_id, step = held(server, tmp_path)
    os.killpg(os.getpgid(step), signal.SIGKILL)
    assert server.until(run_id, *OVER)["state"] == "FAILED"


def test_killed_step_fails_its_run(server: Server, tmp_path: Path) -> None:
    run_id, step = held(server, tmp_path)
    os.kill(step, signal.SIGKILL)
    assert server.until(run_id, *OVER)["state"] == "FAILED"


def test_step_has_its_own_environment_and_folder(server: Server, tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        run_id = server.submit(surroundings, {"folder": str(tmp_path)})
        assert server.until(run_id, *OVER)["state"] == "SUCCEEDED", server.logs(run_id)
        (report,) = tmp_path.iterdir()
        seen.append(json.loads(report.read_text()))
        report.unlink()
    first, second = seen
    assert first["environment"]["COMPILED_IN"] == "yes"
    assert "stray" not in first["environment"].values(), "nothing leaks in from the server's own environment"
    assert first["environment"]["HOME"] == first["cwd"] != second["cwd"]
    assert first["random"] != second["random"]
    assert len(first["open"]) <= 4, "nothing of the worker is open but standard input, output and error"


def test_loops_and_conditions_are_supported(server: Server, tmp_path: Path) -> None:
    run_id = server.submit(with_loop, {"folder": str(tmp_path)})
    assert server.until(run_id, *OVER)["state"] == "SUCCEEDED", server.logs(run_id)
    assert len(list(tmp_path.iterdir())) == 3
    assert "Traceback" not in server.logs(run_id)


def test_step_fails_at_its_time_limit(server: Server, tmp_path: Path) -> None:
    (tmp_path / "hold").touch()
    run_id = server.submit(with_limit, {"folder": str(tmp_path)})
    assert server.until(run_id, *OVER)["state"] == "FAILED"
    pid = tmp_path / "pid"  # on a busy machine the step ends before it has written it
    eventually(lambda: not pid.exists() or not lives(int(pid.read_text())), "the step has ended")


def test_step_that_needs_a_pod_fails_with_a_message(server: Server, tmp_path: Path) -> None:
    run_id = server.submit(with_volume, {"folder": str(tmp_path)})
    assert server.until(run_id, *OVER)["state"] == "FAILED"
    assert "only a real Kubeflow can do this: pvcMount" in server.logs(run_id)


def test_step_waits_for_a_secret_without_a_cluster(server: Server, tmp_path: Path) -> None:
    run_id = server.submit(with_secret, {"folder": str(tmp_path)})
    eventually(lambda: "look-around/executor" in tasks(server.run(run_id)), "the step is there")
    assert tasks(server.run(run_id))["look-around/executor"]["state"] == "PENDING"
    assert server.run(run_id)["state"] == "RUNNING"
    server.post(f"/runs/{run_id}:terminate")
    assert server.until(run_id, *OVER)["state"] == "FAILED"
    assert not list(tmp_path.iterdir())


def test_step_that_installs_packages_runs_its_command(server: Server, tmp_path: Path) -> None:
    spec = json.loads(json.dumps(compiled(surroundings)))
    container = spec["deploymentSpec"]["executors"]["exec-look-around"]["container"]
    # as the compiler writes it for packages to install; pip itself is not asked, for it would need a network
    container["command"] = ["sh", "-c", 'true "pip install" && "$0" "$@"', *container["command"]]
    body = {"display_name": "x", "pipeline_spec": spec, "runtime_config": {"parameters": {"folder": str(tmp_path)}}}
    run_id = server.post("/runs", body).json()["run_id"]
    assert server.until(run_id, *OVER)["state"] == "SUCCEEDED", server.logs(run_id)
    (seen,) = tmp_path.iterdir()
    assert "kfp.dsl.executor_main" in json.loads(seen.read_text())["command"], "a new interpreter, not a fork"


# ---- restarts


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_run_continues_while_the_server_is_stopped(tmp_path: Path, sent: signal.Signals) -> None:
    (tmp_path / "steps").mkdir()
    with serving(tmp_path / "state", "--orphan-seconds", "30") as server:
        run_id, step = held(server, tmp_path / "steps")
        server.stop(sent)
        server.start()
        assert server.run(run_id)["state"] == "RUNNING"
        assert lives(step)
        (tmp_path / "steps" / "hold").unlink()
        assert server.until(run_id, *OVER)["state"] == "SUCCEEDED", server.logs(run_id)
        assert (tmp_path / "steps" / "wrote").read_text() == "x"


def test_end_of_a_run_is_recorded_while_the_server_is_stopped(tmp_path: Path) -> None:
    """One run ends by itself; another one is killed and cannot record its end."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    bad.mkdir()
    with serving(tmp_path / "state", "--orphan-seconds", "30") as server:
        (ended, step), (killed, other) = held(server, good), held(server, bad)
        server.stop(signal.SIGKILL)
        (good / "hold").unlink()
        os.killpg(os.getpgid(other), signal.SIGKILL)
        eventually(lambda: not lives(step), "the first has ended")
        server.start()
        assert server.until(ended, *OVER)["state"] == "SUCCEEDED"
        assert server.until(killed, *OVER)["state"] == "FAILED"


def test_pending_run_starts_after_a_restart(tmp_path: Path) -> None:
    with serving(tmp_path / "state", "--orphan-seconds", "30") as server:
        run_id = server.submit(two_steps, parameters(tmp_path))  # the node is still importing
        server.stop(signal.SIGKILL)
        server.start()
        assert server.until(run_id, *OVER)["state"] == "SUCCEEDED", server.logs(run_id)
        assert (tmp_path / "wrote").read_text() == "x", "both nodes were reports, one worker did it"


def test_termination_is_completed_after_a_restart(tmp_path: Path) -> None:
    with serving(tmp_path / "state", "--terminate-seconds", "5", "--orphan-seconds", "30") as server:
        run_id, step = held(server, tmp_path)
        server.post(f"/runs/{run_id}:terminate")
        server.stop(signal.SIGKILL)
        server.start()
        assert server.run(run_id)["state"] == "CANCELING"
        assert server.until(run_id, *OVER)["state"] == "FAILED"
        assert not lives(step)


def test_dead_node_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path / "state") as server:
        first = server.submit(surroundings, {"folder": str(tmp_path)})
        server.until(first, *OVER)
        (node,) = children(server.process.pid)
        os.kill(node, signal.SIGKILL)
        second = server.submit(surroundings, {"folder": str(tmp_path)})
        assert server.until(second, *OVER)["state"] == "SUCCEEDED", server.logs(second)


def test_worker_and_step_end_when_the_server_stays_stopped(tmp_path: Path) -> None:
    with serving(tmp_path / "state") as server:  # half a second
        _, step = held(server, tmp_path)
        worker = os.getpgid(step)
        server.stop(signal.SIGKILL)
        eventually(lambda: not lives(step) and not lives(worker), "the worker and its step have ended")
        server.start()


def test_server_answers_before_its_node_is_warm(tmp_path: Path) -> None:
    began = time.monotonic()
    with serving(tmp_path / "state") as server:
        assert requests.get(server.url("/healthz"), timeout=5).ok
        assert time.monotonic() - began < 5, "1 s on a quiet machine"
