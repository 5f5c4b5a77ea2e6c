"""Selection of a container engine. Scripts on PATH stand in for docker, podman, nerdctl and buildah."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dev.version import version
from sandbox import engines
from sandbox.engines import BOTH, FOR_IMAGES, FOR_KIND, choose, for_images, for_kind, why_not
from sandbox.errors import EngineError

ROOT = Path(__file__).resolve().parents[2]
DOWN = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create an empty folder and make it the only one on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in ("KIND_EXPERIMENTAL_PROVIDER", "BUILDER"):
        monkeypatch.delenv(name, raising=False)
    return folder


def _engine(folder: Path, name: str, problem: str = "", version: str = "") -> None:
    fails = f"echo 'Client:'; echo '{problem}' >&2; exit 1" if problem else "echo all is well"
    (folder / name).write_text(f"#!/bin/sh\nif [ \"$1\" = --version ]; then echo '{version or name} 5.1'; exit; fi\n{fails}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("working", "engine"),
    [
        (("docker", "podman", "nerdctl"), "docker"),
        (("podman", "nerdctl"), "podman"),
        (("nerdctl",), "nerdctl"),
    ],
)
def test_for_kind_returns_the_first_working_engine(folder: Path, working: tuple[str, ...], engine: str) -> None:
    for name in working:
        _engine(folder, name)
    assert for_kind({}) == engine


def test_docker_command_without_a_daemon_is_skipped(folder: Path) -> None:
    _engine(folder, "docker", DOWN)
    _engine(folder, "podman")
    assert for_kind({}) == for_images({}) == choose(BOTH) == "podman"


def test_docker_alias_of_podman_is_used_as_podman(folder: Path) -> None:
    _engine(folder, "docker", version="podman version")
    assert "use podman" in why_not("docker")
    _engine(folder, "podman")
    assert for_kind({}) == "podman"


def test_error_lists_each_engine_with_its_problem_when_none_works(folder: Path) -> None:
    _engine(folder, "docker", DOWN)
    with pytest.raises(EngineError) as refused:
        for_kind({})
    message = str(refused.value)
    assert f"docker: {DOWN}" in message
    assert "podman: is not installed" in message
    assert "Start Docker, or install Podman" in message
    assert "docker, podman or nerdctl will do" in message


def test_configured_engine_is_used_or_rejected(folder: Path) -> None:
    _engine(folder, "docker")
    _engine(folder, "podman", "no machine")
    with pytest.raises(EngineError, match=r"(?s)podman: no machine\nStart podman"):
        for_kind({"KIND_EXPERIMENTAL_PROVIDER": "podman"})
    with pytest.raises(EngineError, match=r"'lima' cannot be used here\. Name one of docker, podman or nerdctl"):
        for_kind({"KIND_EXPERIMENTAL_PROVIDER": "lima"})
    assert for_images({"BUILDER": "docker", "KIND_EXPERIMENTAL_PROVIDER": "podman"}) == "docker"


def test_engine_that_does_not_answer_is_skipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _engine(folder, "podman")
    (folder / "docker").write_text('#!/bin/sh\n[ "$1" = --version ] || exec /bin/sleep 60\n')
    (folder / "docker").chmod(0o755)
    monkeypatch.setattr(engines, "SECONDS", 1)
    assert why_not("docker") == "did not answer within 1 s"
    assert for_kind({}) == "podman"


def test_for_images_returns_buildah_when_no_engine_runs_containers(folder: Path) -> None:
    _engine(folder, "docker", DOWN)
    _engine(folder, "buildah")
    assert for_images({}) == "buildah"
    with pytest.raises(EngineError):
        for_kind({})
    assert "buildah" not in FOR_KIND
    assert "nerdctl" not in FOR_IMAGES


@pytest.mark.parametrize(("docker", "podman", "built"), [("", "", "docker"), (DOWN, "", "podman")])
def test_make_images_builds_with_the_selected_engine(folder: Path, docker: str, podman: str, built: str) -> None:
    _engine(folder, "docker", docker)
    _engine(folder, "podman", podman)
    done = _images(folder)
    assert f"building winepipelines/operator:{version()} with {built}" in done.stderr
    assert done.returncode == 0


def test_make_images_fails_with_a_remedy_when_no_engine_works(folder: Path) -> None:
    _engine(folder, "docker", DOWN)
    done = _images(folder)
    assert done.returncode == 1
    assert f"docker: {DOWN}" in done.stderr
    assert "BUILDER=podman make images" in done.stderr


def _images(folder: Path) -> "subprocess.CompletedProcess[str]":
    for name in ("bash", "env", "dirname", "sed", "date", "git"):
        if (program := next((path for place in ("/usr/bin", "/bin") if (path := Path(place, name)).exists()), None)) is not None:
            (folder / name).symlink_to(program)
    environment = {"PATH": str(folder), "PYTHON": sys.executable, "SOURCE_DATE_EPOCH": "0", "HOME": os.environ.get("HOME", "/")}
    command = ["bash", str(ROOT / "dev/images"), "operator"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
