"""The operator's commands in its image, and the time until it is ready."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from images.conftest import ANYONE, ROOT
from support.containers import Engine

from sandbox.components import answers
from sandbox.platform import Sandbox

READY = 5.0  # seconds
NOWHERE = dict.fromkeys(("WINE_KFP_URL", "WINE_MLFLOW_URL", "WINE_S3_ENDPOINT_URL"), "http://127.0.0.1:1")


@pytest.fixture(scope="module")
def control_plane() -> Iterator[Sandbox]:
    """Run an API server without a platform."""
    others = {"store", "mlflow", "data", "kubeflow", "seldon", "operator"}
    with Sandbox("images", without=others) as sandbox:
        yield sandbox


@contextmanager
def operator(
    engine: Engine, image: str, sandbox: Sandbox, folder: Path, *command: str
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Return the operator's settings as in the chart, and the URL of its probe."""
    folder.chmod(0o755)
    shutil.copy(sandbox.info.operator_kubeconfig, folder / "kubeconfig")
    (folder / "kubeconfig").chmod(0o644)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **NOWHERE,
        "KUBECONFIG": "/mnt/kubernetes/kubeconfig",
        "WINE_PROBE_HOST": "127.0.0.1",
        "WINE_PROBE_PORT": str(port),
    }
    mounts = {folder: "/mnt/kubernetes"}
    with engine.start(image, *command, user=ANYONE[1], environment=environment, mounts=mounts) as process:
        yield process, f"http://127.0.0.1:{port}/healthz"


def wait_until_ready(process: "subprocess.Popen[str]", probe: str) -> None:
    while not answers(probe):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_operator_is_ready_in_seconds_and_ends_at_sigterm(
    engine: Engine, images: Mapping[str, str], control_plane: Sandbox, tmp_path: Path
) -> None:
    begun = time.monotonic()
    with operator(engine, images["operator"], control_plane, tmp_path) as (process, probe):
        wait_until_ready(process, probe)
        seconds = time.monotonic() - begun
        print(f"operator: ready {seconds:.1f} s after its container was made")
        assert seconds <= READY
        process.terminate()
        process.communicate(timeout=30)


def test_imported_modules_have_byte_code(
    engine: Engine, images: Mapping[str, str], control_plane: Sandbox, tmp_path: Path
) -> None:
    command = ("python", "-v", "-m", "winepipelines", "run")
    with operator(engine, images["operator"], control_plane, tmp_path, *command) as (process, probe):
        assert process.stderr is not None
        errors: list[str] = []
        while not answers(probe):  # read its output meanwhile, so that it does not block
            errors.append(process.stderr.readline())
            assert errors[-1], "it ended"
        process.terminate()
        errors += process.stderr.read().splitlines()
    assert any("winepipelines/handlers" in line for line in errors)
    compiled = [line for line in errors if line.startswith("# code object from ") and line.rstrip().endswith(".py'")]
    assert compiled == []


def test_render_prints_the_manifests(engine: Engine, images: Mapping[str, str]) -> None:
    command = ("python", "-m", "winepipelines", "render", "-f", "/mnt/examples/wine.yaml")
    done = engine.run(images["operator"], *command, user=ANYONE[0], mounts={ROOT / "deploy/examples": "/mnt/examples"})
    assert done.returncode == 0, done.stderr
    assert "kind: SeldonDeployment" in done.stdout


def test_doctor_reports_an_unreachable_platform(engine: Engine, images: Mapping[str, str]) -> None:
    command = ("python", "-m", "winepipelines", "doctor", "--timeout", "1")
    done = engine.run(images["operator"], *command, user=ANYONE[0], environment=NOWHERE)
    assert (done.returncode, done.stderr) == (1, "")
    assert "neither a service account of a pod nor a readable kubeconfig" in done.stdout


def test_missing_settings_are_named(engine: Engine, images: Mapping[str, str]) -> None:
    done = engine.run(images["operator"], user=ANYONE[0])  # the image's own command
    assert (done.returncode, done.stdout) == (2, "")
    assert "WINE_KFP_URL" in done.stderr
