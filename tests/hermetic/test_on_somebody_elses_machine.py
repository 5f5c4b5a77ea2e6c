"""Parts of every suite on a machine in use: servers on all well-known ports, settings of other tools that lead elsewhere."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import foreign
from support.foreign import Listeners

from sandbox.components import base_environment
from sandbox.places import ROOT, cache_folder, interpreter

INSTALLED = "test_in_its_namespaces_the_operator_gets_as_far_as_its_platform_and_no_other_is_touched"
SERVED = "test_the_guides_wine_gets_its_number"
CHANGED = "test_a_spec_change_is_served_without_a_gap"
UNITS = ("audit", "mlflow_answers", "objectstore", "probes", "attacks")
# By Python environment: what talks to servers, in each suite.
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
    """Somebody's variables, over those of this process; what `make` has made already is used."""
    return {**os.environ, **foreign.environment(folder), "WINE_CACHE": str(cache_folder())}


def test_the_ports_of_charts_settings_and_sandbox_are_among_those_in_use(listeners: Listeners) -> None:
    assert {8000, 8080, 8888, 9000, 9090, 5000, 6443} <= foreign.ports()
    assert listeners.open | listeners.taken == foreign.ports()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", PARTS, ids=lambda part: "-".join(path.partition("/")[0] for path in part[:2]))
def test_a_suite_passes_and_asks_nobody_elses_server(listeners: Listeners, tmp_path: Path, part: tuple[str, ...]) -> None:
    environment, *paths = part
    before = len(listeners.asked)
    command = [interpreter(environment), "-m", "pytest", *(f"tests/{path}" for path in paths)]
    done = subprocess.run(command, cwd=ROOT, env=_environment(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert listeners.asked[before:] == []


def test_the_sandbox_takes_nothing_of_its_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = foreign.environment(tmp_path)
    for name, value in theirs.items():
        monkeypatch.setenv(name, value)
    ours = base_environment()
    same = {name for name, value in theirs.items() if ours.get(name) == value}
    assert {name for name in same if not name.lower().endswith("_proxy")} == {"HOME", "TZ", "BUILDER"}
    for name in ("NO_PROXY", "no_proxy"):
        assert ours[name].endswith("127.0.0.1,localhost")
