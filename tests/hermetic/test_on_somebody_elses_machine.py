"""Parts of every suite on a machine in use: servers on all well-known ports, and settings of other tools for other hosts."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import foreign
from support.foreign import Listeners

from sandbox.components import base_environment
from sandbox.places import ROOT, cache_folder, interpreter

INSTALLED = "test_operator_works_in_its_namespaces_and_leaves_others_alone"
SERVED = "test_served_model_predicts_the_guides_example"
CHANGED = "test_spec_change_is_served_without_a_failed_request"
UNITS = ("audit", "mlflow_answers", "objectstore", "probes", "attacks")
# Tests of each suite that connect to servers, with their Python environment.
PARTS = [
    ("dev", *(f"unit/test_{name}.py" for name in UNITS)),
    ("pipeline-dev", "pipeline/test_download.py", "pipeline/test_server_process.py", "pipeline/test_server_environment.py"),
    ("pipeline-dev", "sandbox/test_sandbox_core.py"),
    ("dev", "contract/kubeflow/test_kubeflow_lists.py"),
    ("dev", f"chart/test_installed.py::{INSTALLED}"),
    ("dev", f"integration/test_whole_way.py::{SERVED}", f"integration/test_whole_way.py::{CHANGED}"),
]


@pytest.fixture(scope="module")
def listeners() -> Iterator[Listeners]:
    with foreign.listeners() as listeners:
        yield listeners


def _environment(folder: Path) -> dict[str, str]:
    """Return this process's variables, overridden by those of a user. The cache of `make` is used."""
    return {**os.environ, **foreign.environment(folder), "WINE_CACHE": str(cache_folder())}


def test_used_ports_include_those_of_charts_settings_and_sandbox(listeners: Listeners) -> None:
    assert {8000, 8080, 8888, 9000, 9090, 5000, 6443} <= foreign.ports()
    assert listeners.open | listeners.taken == foreign.ports()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", PARTS, ids=lambda part: "-".join(path.partition("/")[0] for path in part[:2]))
def test_suite_passes_without_a_connection_to_other_servers(listeners: Listeners, tmp_path: Path, part: tuple[str, ...]) -> None:
    environment, *paths = part
    before = len(listeners.connections)
    command = [interpreter(environment), "-m", "pytest", *(f"tests/{path}" for path in paths)]
    done = subprocess.run(command, cwd=ROOT, env=_environment(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert listeners.connections[before:] == []


def test_sandbox_ignores_the_users_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = foreign.environment(tmp_path)
    for name, value in theirs.items():
        monkeypatch.setenv(name, value)
    ours = base_environment()
    same = {name for name, value in theirs.items() if ours.get(name) == value}
    assert {name for name in same if not name.lower().endswith("_proxy")} == {"HOME", "TZ", "BUILDER"}
    for name in ("NO_PROXY", "no_proxy"):
        assert ours[name].endswith("127.0.0.1,localhost")
