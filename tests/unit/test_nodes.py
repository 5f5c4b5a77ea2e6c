"""The choice of the cluster for `make e2e`, and the commands for kind. Scripts stand in for kind, Docker and Podman."""

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
    """Scripts named kind, docker and podman in the PATH. The parameter is the exit status of `info`: 0 if the engine runs."""
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


def _commands(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines() if not line.endswith((" info", " --version"))]


def test_find_prefers_kind_when_an_engine_runs(programs: Path, tmp_path: Path) -> None:
    assert find({}, tmp_path / "none") == KindNodes("docker")


@pytest.mark.parametrize("programs", [1], indirect=True)
def test_find_uses_the_program_beside_the_project_when_no_engine_runs(programs: Path, tmp_path: Path) -> None:
    assert find({}, _program(tmp_path / "cluster")) == OneNode(tmp_path / "cluster")


@pytest.mark.parametrize("programs", [1], indirect=True)
def test_find_says_what_to_install_when_nothing_is_available(programs: Path, tmp_path: Path) -> None:
    with pytest.raises(NodesError, match=rf"(?s)Install kind and Docker or Podman.*{PROGRAM}=.*docker: does not answer"):
        find({}, tmp_path / "none")


def test_find_uses_podman_when_docker_has_no_engine(programs: Path, tmp_path: Path) -> None:
    _program(programs / "docker", "#!/bin/sh\n[ $1 = --version ] && exit\necho Cannot connect to the Docker daemon >&2\nexit 1\n")
    assert find({}, tmp_path / "none") == KindNodes("podman")


def test_find_uses_the_engine_that_the_environment_names(programs: Path, tmp_path: Path) -> None:
    assert find({"KIND_EXPERIMENTAL_PROVIDER": "podman"}, tmp_path / "none") == KindNodes("podman")


def test_find_prefers_the_program_that_the_environment_names(programs: Path, tmp_path: Path) -> None:
    assert find({PROGRAM: str(_program(tmp_path / "mine"))}, tmp_path / "none") == OneNode(tmp_path / "mine")
    with pytest.raises(NodesError, match="is not an executable file"):
        find({PROGRAM: str(tmp_path / "none")}, tmp_path / "none")


def test_kind_nodes_create_a_cluster_load_all_images_in_one_archive_and_delete_it(
    programs: Path, tmp_path: Path, log: Path
) -> None:
    nodes = KindNodes("docker")
    kubeconfig = nodes.up(tmp_path)
    nodes.load(["a/b:1", "c/d:2"])
    nodes.down()
    clusters, create, save, load, delete, left = _commands(log)
    assert clusters == "kind get clusters"
    assert create.startswith(f"kind create cluster --name {KIND_NAME} --kubeconfig {kubeconfig} --wait ")
    assert save.startswith("docker save --output ")
    assert save.endswith(" a/b:1 c/d:2")
    assert load == f"kind load image-archive {save.split()[3]} --name {KIND_NAME}"
    assert delete == f"kind delete cluster --name {KIND_NAME}"
    assert left == "kind get clusters", "kind delete reports no error for an unknown cluster, so the list must be read"


def test_podman_saves_a_multi_image_archive(programs: Path, log: Path) -> None:
    KindNodes("podman").load(["a/b:1"])
    assert _commands(log)[0].startswith("podman save --multi-image-archive --output ")


def test_kind_nodes_do_not_touch_an_existing_cluster(programs: Path, tmp_path: Path, clusters: Path, log: Path) -> None:
    clusters.write_text(f"other\n{KIND_NAME}\n")
    with pytest.raises(NodesError, match=f"kind delete cluster --name {KIND_NAME}"):
        KindNodes("docker").up(tmp_path)
    assert _commands(log) == ["kind get clusters"]


def test_kind_error_contains_the_output_of_the_program(programs: Path) -> None:
    _program(programs / "kind", "#!/bin/sh\necho no space left >&2\nexit 1\n")
    with pytest.raises(SandboxError, match="kind delete cluster failed with docker:\nno space left"):
        KindNodes("docker").down()


def test_one_node_imports_the_base_image_before_other_images(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = _program(tmp_path / "cluster", f'#!/bin/sh\necho "$*" >> "{log}"\n[ "$1" != up ] || echo /pki/admin.conf\n')
    nodes = OneNode(program)
    assert nodes.up(tmp_path) == Path("/pki/admin.conf")
    nodes.load(["a/b:1", "c/d:2"])
    nodes.down()
    assert log.read_text().splitlines() == ["up", "base", "load a/b:1 c/d:2", "down"]
