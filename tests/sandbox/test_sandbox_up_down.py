"""Start and stop of sandboxes: side by side, with kept state, killed and failing. Nothing is left behind."""

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from core_support import ALL_BUT_STORE, STAND_INS, buckets, get, marked, store, within

from sandbox import places, ports
from sandbox.components import components
from sandbox.errors import ComponentError
from sandbox.plan import PORTS, load
from sandbox.platform import Sandbox
from sandbox.processes import Process, start


def test_two_sandboxes_run_side_by_side_and_leave_nothing(tmp_path: Path) -> None:
    without = STAND_INS | {"mlflow", "data"}
    with Sandbox("first", tmp_path / "first", without=without) as first:
        with Sandbox("second", tmp_path / "second", without=without) as second:
            taken = [set(plan.ports.values()) for each in (first, second) if (plan := load(each.folder))]
            assert len(taken[0] | taken[1]) == 2 * len(PORTS)
            second.kubectl("create", "namespace", "only-here")
            assert "only-here" not in first.kubectl("get", "namespaces", "-o", "name")
            assert second.info.s3_secret_key != first.info.s3_secret_key
            assert len(marked(second.folder)) == 4
        assert within(2, lambda: marked(second.folder) == [])
        assert all(ports.is_free(port) for port in taken[1])
        assert not second.folder.exists()
        assert {name for name, alive in first.running().items() if alive} == first.running().keys() - without


def test_kubeflow_requires_tokens_and_the_operator_has_one(tmp_path: Path) -> None:
    without = {"seldon", "operator", "mlflow", "data"}
    with Sandbox("tokens", tmp_path / "tokens", without=without, authenticate=True) as sandbox:
        runs = f"{sandbox.info.kfp_url}/apis/v2beta1/runs?namespace=admin"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(runs)
        plan = load(sandbox.folder)
        assert plan is not None
        assert components(plan)["operator"].environment["WINE_KFP_TOKEN_FILE"] == str(plan.kfp_token)
        assert json.loads(get(runs, Authorization=f"Bearer {plan.kfp_token.read_text()}")) == {}


def test_kept_state_is_restored(tmp_path: Path) -> None:
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


def test_up_after_a_crash_cleans_up_and_keeps_the_data(tmp_path: Path) -> None:
    sandbox = Sandbox("crashed", tmp_path / "crashed", without=ALL_BUT_STORE)
    try:
        first = sandbox.up()
        store(first).put_object(Bucket="mlflow", Key="kept", Body=b"kept")
        stray = start(["sleep", "60"], dict(os.environ), tmp_path / "log", sandbox.folder)  # as a step, in a group of its own
        sandbox.stop("store", kill=True)
        crashed = Process.read(sandbox.folder / "run" / "store")
        assert crashed is not None
        Process(os.getpid(), crashed.birth).write(sandbox.folder / "run" / "store")  # its id has gone to someone else
        assert not sandbox.running()["store"]
        second = Sandbox("crashed", sandbox.folder, without=ALL_BUT_STORE).up()
        assert not stray.alive()
        assert store(second).get_object(Bucket="mlflow", Key="kept")["Body"].read() == b"kept"
    finally:
        sandbox.down()
    assert marked(sandbox.folder) == []
    assert not sandbox.folder.exists()


def test_sandbox_stops_when_its_test_is_killed(tmp_path: Path) -> None:
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


def test_used_port_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    choose, asked = ports.choose, []

    def unlucky(names: tuple[str, ...], previous: dict[str, int]) -> dict[str, int]:
        asked.append(choose(names, previous))
        return {**asked[0], "store": taken.getsockname()[1]} if len(asked) == 1 else asked[-1]

    monkeypatch.setattr(ports, "choose", unlucky)
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        Sandbox("unlucky", tmp_path / "unlucky", without=ALL_BUT_STORE, report=lines.append) as sandbox,
    ):
        assert buckets(sandbox.info) == {"mlflow", "mlpipeline"}
    assert len(asked) == 2
    assert any("Its port was taken" in line for line in lines)


def test_failed_component_shows_the_end_of_its_log(tmp_path: Path) -> None:
    environment = {"store": {"ROOT_SECRET_KEY": ""}}
    sandbox = Sandbox("failing", tmp_path / "failing", without=ALL_BUT_STORE, environment=environment)
    message = r"(?s)store ended after .*secret key must be provided.*All of its log: .*store\.log.*sandbox down"
    with pytest.raises(ComponentError, match=message):
        sandbox.up()
    assert marked(sandbox.folder) == []
    sandbox.down()
    assert not sandbox.folder.exists()
    assert not list(tmp_path.glob(".*"))
