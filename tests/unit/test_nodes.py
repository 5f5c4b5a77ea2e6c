"""Which cluster `make e2e` takes, and what it asks of kind. Programs that take kind's and Docker's arguments stand in."""

from pathlib import Path

import pytest
from support.nodes import KIND_NAME, PROGRAM, KindNodes, NodesError, OneNode, find

from sandbox.errors import SandboxError

LOGS = """#!/bin/sh
echo "$(basename "$0") $*" >> "{log}"
case "$*" in "get clusters") cat "{clusters}" ;; info) exit {engine} ;; esac
"""


@pytest.fixture
def clusters(tmp_path: Path) -> Path:
    file = tmp_path / "clusters"
    file.write_text("other\n")
    return file


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def programs(tmp_path: Path, clusters: Path, log: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """kind, and a Docker that runs unless the test says otherwise."""
    folder = tmp_path / "bin"
    folder.mkdir()
    engine = int(getattr(request, "param", 0))
    for name in ("kind", "docker", "podman"):
        _program(folder / name, LOGS.format(log=log, clusters=clusters, engine=engine))
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def _program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def _said(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines() if not line.endswith((" info", " --version"))]


def test_with_an_engine_it_is_kind(programs: Path, tmp_path: Path) -> None:
    assert find({}, tmp_path / "none") == KindNodes("docker")


@pytest.mark.parametrize("programs", [1], indirect=True)
def test_without_one_it_is_the_program_beside_the_project(programs: Path, tmp_path: Path) -> None:
    assert find({}, _program(tmp_path / "cluster")) == OneNode(tmp_path / "cluster")


@pytest.mark.parametrize("programs", [1], indirect=True)
def test_without_either_it_says_what_to_do(programs: Path, tmp_path: Path) -> None:
    with pytest.raises(NodesError, match=rf"(?s)Install kind and Docker or Podman.*{PROGRAM}=.*docker: does not answer"):
        find({}, tmp_path / "none")


def test_with_a_docker_command_without_an_engine_it_is_podman(programs: Path, tmp_path: Path) -> None:
    _program(programs / "docker", "#!/bin/sh\n[ $1 = --version ] && exit\necho Cannot connect to the Docker daemon >&2\nexit 1\n")
    assert find({}, tmp_path / "none") == KindNodes("podman")


def test_an_engine_that_is_named_is_the_one(programs: Path, tmp_path: Path) -> None:
    assert find({"KIND_EXPERIMENTAL_PROVIDER": "podman"}, tmp_path / "none") == KindNodes("podman")


def test_a_program_that_is_named_is_taken_before_all(programs: Path, tmp_path: Path) -> None:
    assert find({PROGRAM: str(_program(tmp_path / "mine"))}, tmp_path / "none") == OneNode(tmp_path / "mine")
    with pytest.raises(NodesError, match="is no program"):
        find({PROGRAM: str(tmp_path / "none")}, tmp_path / "none")


def test_kind_makes_a_cluster_of_its_own_gets_all_images_at_once_and_deletes_it(
    programs: Path, tmp_path: Path, log: Path
) -> None:
    nodes = KindNodes("docker")
    kubeconfig = nodes.up(tmp_path)
    nodes.load(["a/b:1", "c/d:2"])
    nodes.down()
    clusters, create, save, load, delete, left = _said(log)
    assert clusters == "kind get clusters"
    assert create.startswith(f"kind create cluster --name {KIND_NAME} --kubeconfig {kubeconfig} --wait ")
    assert save.startswith("docker save --output ")
    assert save.endswith(" a/b:1 c/d:2")
    assert load == f"kind load image-archive {save.split()[3]} --name {KIND_NAME}"
    assert delete == f"kind delete cluster --name {KIND_NAME}"
    assert left == "kind get clusters", "kind says nothing of a name that it does not know"


def test_podman_is_told_that_there_are_several_images(programs: Path, log: Path) -> None:
    KindNodes("podman").load(["a/b:1"])
    assert _said(log)[0].startswith("podman save --multi-image-archive --output ")


def test_a_cluster_that_is_there_is_left_alone(programs: Path, tmp_path: Path, clusters: Path, log: Path) -> None:
    clusters.write_text(f"other\n{KIND_NAME}\n")
    with pytest.raises(NodesError, match=f"kind delete cluster --name {KIND_NAME}"):
        KindNodes("docker").up(tmp_path)
    assert _said(log) == ["kind get clusters"]


def test_what_a_program_says_when_it_fails_is_passed_on(programs: Path) -> None:
    _program(programs / "kind", "#!/bin/sh\necho no space left >&2\nexit 1\n")
    with pytest.raises(SandboxError, match="kind delete cluster failed with docker:\nno space left"):
        KindNodes("docker").down()


def test_the_one_node_has_a_base_image_before_images_are_built(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = _program(tmp_path / "cluster", f'#!/bin/sh\necho "$*" >> "{log}"\n[ "$1" != up ] || echo /pki/admin.conf\n')
    nodes = OneNode(program)
    assert nodes.up(tmp_path) == Path("/pki/admin.conf")
    nodes.load(["a/b:1", "c/d:2"])
    nodes.down()
    assert log.read_text().splitlines() == ["up", "base", "load a/b:1 c/d:2", "down"]
