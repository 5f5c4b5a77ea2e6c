"""The REST API of the Kubeflow stand-in, beyond its contract with the real one, which tests/contract covers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeflow_support import Server, compiled, error, serving, two_steps

# No step can write to this folder: these runs fail at once, and need do no more.
PARAMETERS = {"folder": "/dev/null/folder", "text": "t"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("single user")) as server:
        yield server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("multi"), "--multi-user") as server:
        yield server


def body(**more: Any) -> dict[str, Any]:
    return {"display_name": "x", "pipeline_spec": compiled(two_steps), "runtime_config": {"parameters": PARAMETERS}} | more


def test_delete_removes_all_parts_of_a_run(server: Server) -> None:
    run_id = server.submit(two_steps, PARAMETERS)
    server.until(run_id, "FAILED")
    folder = server.state / "runs" / run_id
    assert folder.exists()
    assert server.delete(f"/runs/{run_id}").json() == {}
    assert not folder.exists()


def test_forged_page_token_is_refused(shared: Server) -> None:
    for forged in ("x", "e30=", "eyJzb3J0IjpbIjEiLCJBU0MiXX0="):
        answer = shared.get("/runs", params={"namespace": "ada", "page_token": forged})
        assert "Invalid page token" in error(answer, 400, 3)


# ---- many users without tokens


def names(server: Server, **query: Any) -> list[str]:
    answer = server.get("/runs", params=query)
    assert answer.status_code == 200, answer.text
    return [run["display_name"] for run in answer.json().get("runs", [])]


def test_experiment_determines_the_namespace_in_multi_user_mode(shared: Server) -> None:
    ids = {}
    for namespace in ("ada", "bob"):
        made = shared.post("/experiments", {"display_name": "wine", "namespace": namespace}).json()
        assert made["namespace"] == namespace
        ids[namespace] = made["experiment_id"]
        shared.submit(two_steps, PARAMETERS, display_name=f"of {namespace}", experiment_id=ids[namespace])
    assert names(shared, namespace="ada") == ["of ada"]
    assert names(shared, experiment_id=ids["bob"]) == ["of bob"]
    assert shared.get("/experiments", params={"namespace": "ada"}).json()["total_size"] == 1
    error(shared.post("/experiments", {"display_name": "wine", "namespace": "ada"}), 409, 6)


def test_user_header_is_refused(shared: Server) -> None:
    answer = shared.get("/runs", params={"namespace": "ada"}, headers={"kubeflow-userid": "ada"})
    assert (answer.status_code, answer.text) == (403, "RBAC: access denied")


def test_client_may_choose_the_id_of_a_run(server: Server) -> None:
    """As on the real server, where a second run with that id fails in the database."""
    chosen = "0c1f0c1e-0000-4000-8000-000000000001"
    assert server.submit(two_steps, PARAMETERS, run_id=chosen) == chosen
    error(server.post("/runs", body(run_id=chosen)), 500, 13)


def test_two_servers_do_not_share_a_state(server: Server, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="ended at once"):
        Server(server.state)
    assert server.answers()
