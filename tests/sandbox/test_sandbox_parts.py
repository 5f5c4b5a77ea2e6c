"""The sandbox's parts without a server: processes, steps, ports, and how programs are built."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from core_support import marked, within

from sandbox import gobuild, parallel, places, ports, programs
from sandbox.errors import BuildError, KubectlError, SandboxError
from sandbox.kubectl import await_kinds
from sandbox.plan import PORTS
from sandbox.processes import Process, start, stop


def test_process_is_left_alone_when_its_id_was_reused(tmp_path: Path) -> None:
    bystander = start(["sleep", "60"], dict(os.environ), tmp_path / "log", tmp_path / "other")
    stale = Process(bystander.pid, "another boot 1")
    file = tmp_path / "pid"
    bystander.write(file)
    try:
        assert Process.read(file) == bystander
        assert bystander.alive()
        code = (
            "import sys; from pathlib import Path; from sandbox.processes import Process, stop\n"
            "stale = Process(int(sys.argv[1]), 'another boot 1'); stop([stale], 1); print(stale.alive())"
        )
        environment = {**os.environ, "PYTHONPATH": str(places.ROOT)}
        done = subprocess.run([sys.executable, "-c", code, str(stale.pid)], env=environment, capture_output=True, check=True)
        assert done.stdout == b"False\n"
        assert bystander.alive()
    finally:
        stop([bystander], 5)
    assert not bystander.alive()


def test_process_is_killed_with_its_children_when_it_ignores_termination(tmp_path: Path) -> None:
    mark = tmp_path / "stubborn"
    process = start(["bash", "-c", "trap '' TERM; sleep 60 & sleep 60"], dict(os.environ), tmp_path / "log", mark)
    assert within(5, lambda: len(marked(mark)) == 3)
    stop([process], 0.2)
    assert within(2, lambda: marked(mark) == [])


def test_steps_start_when_their_needs_are_done() -> None:
    done: list[str] = []
    both = threading.Barrier(2, timeout=10)

    def side() -> None:
        both.wait()
        done.append("side")

    steps = {
        "last": parallel.Step(lambda: done.append("last"), ("left", "right", "not a step")),
        "left": parallel.Step(side),
        "right": parallel.Step(side),
    }
    parallel.run(steps, threading.Event())
    assert done == ["side", "side", "last"]


def test_failed_step_ends_waits_and_starts_no_other() -> None:
    given_up, late = threading.Event(), []

    def fail() -> None:
        raise SandboxError("no")

    steps = {
        "failing": parallel.Step(fail),
        "waiting": parallel.Step(lambda: None if given_up.wait(10) else late.append("never reports")),
        "after": parallel.Step(lambda: late.append("begun"), ("waiting",)),
    }
    with pytest.raises(SandboxError, match="no"):
        parallel.run(steps, given_up)
    assert late == []


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        ("dial tcp: lookup elsewhere: no such host", "GOPROXY"),
        ("module lookup disabled by GOPROXY=off", "name another one with GOPROXY"),
        ("go: go.mod requires go >= 1.26.0 (running go 1.19)", "install 1.26 or newer.*GO="),
        ("link: signal: killed", "memory.*GOFLAGS"),
        ("write /x: no space left on device", "disk is full"),
        ("syntax error", "Output of Go:\nsyntax error"),
    ],
)
def test_failed_build_explains_what_to_do(output: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\necho '{output}' >&2; exit 1\n")
    go.chmod(0o755)
    monkeypatch.setenv("GO", str(go))
    monkeypatch.setenv("WINE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BuildError, match=f"(?s)could not be built.*{advice}"):
        programs.find(lambda _: None)
    assert not [path for path in (tmp_path / "cache" / "programs").rglob("*") if path.is_file() and path.name != ".lock"]


def _fake_go(go: Path, built: Path) -> None:
    """Write a Go that compiles two packages for each program and names the programs in a file."""
    go.write_text(f"""#!/bin/sh
if [ "$1" = list ]; then echo shared; echo other; exit; fi
while [ "$1" != -o ]; do shift; done
out=$2; shift 2
echo "go: downloading shared v1" >&2; echo shared >&2; sleep "${{SLOW:-0}}"; echo other >&2
for package in "$@"; do
  echo "$package" >>"{built}"
  case $out in */) echo program >"$out$(basename "${{package%/v[2-9]}}")" ;; *) echo program >"$out" ;; esac
done
""")
    go.chmod(0o755)


def test_programs_are_built_once_unless_they_are_supplied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, given, built = tmp_path / "go", tmp_path / "given", tmp_path / "built"
    _fake_go(go, built)
    given.mkdir()
    for name in ("etcd", "kube-apiserver", "kubectl"):
        (given / name).touch()
    monkeypatch.setenv("GO", str(go))
    monkeypatch.setenv("WINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(given))
    lines: list[str] = []
    first, second = programs.find(lines.append), programs.find(lines.append)
    assert first == second
    assert first["etcd"] == given / "etcd"
    assert first["versitygw"].read_text() == "program\n"
    assert sorted(built.read_text().split()) == [".", "./controllers"]
    assert any(line.startswith("built versitygw in") for line in lines)


def test_programs_of_one_module_are_built_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_go(tmp_path / "go", tmp_path / "built")
    monkeypatch.setenv("GO", str(tmp_path / "go"))
    monkeypatch.setenv("WINE_CACHE", str(tmp_path / "cache"))
    lines: list[str] = []
    found = programs.find(lines.append)
    assert {path.name: path.read_text() for path in found.values()} == dict.fromkeys(found, "program\n")
    assert [line for line in lines if line.startswith("built") and line.count(",") == 3], "all of Kubernetes"


def test_progress_of_a_build_is_reported_in_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_go(tmp_path / "go", tmp_path / "built")
    monkeypatch.setenv("GO", str(tmp_path / "go"))
    monkeypatch.setenv("SLOW", "1")
    monkeypatch.setenv("WINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gobuild, "SHOW_EVERY", 0.2)
    lines: list[str] = []
    programs.built("helm", lines.append)
    shown = [line for line in lines if line.startswith("building helm: 1 of 2 packages, 50 %, about ")]
    assert shown, lines


def test_all_or_some_can_be_built_before_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    go = tmp_path / "go"
    _fake_go(go, tmp_path / "built")
    monkeypatch.setenv("GO", str(go))
    monkeypatch.setenv("WINE_CACHE", str(tmp_path / "cache"))
    for names in ([], ["helm", "kubeconform"]):
        programs.main(names)
        paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
        assert [path.name for path in paths] == (names or [program.name for program in programs.PROGRAMS])
        assert all(path.read_text() == "program\n" for path in paths)
    monkeypatch.setenv("GO", str(tmp_path / "none"))
    monkeypatch.setenv("WINE_CACHE", str(tmp_path / "other"))
    with pytest.raises(SystemExit, match=r"Go 1\.26 or newer"):
        programs.main([])


def test_missing_go_is_reported_with_version_and_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GO", str(tmp_path / "none"))
    monkeypatch.setenv("WINE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BuildError, match=r"Go 1\.26 or newer.*GO=/path"):
        programs.find(lambda _: None)


def test_ports_stay_the_same_while_they_are_free() -> None:
    first = ports.choose(PORTS, {})
    assert ports.choose(PORTS, first) == first
    with socket.create_server(("127.0.0.1", first["store"])):
        second = ports.choose(PORTS, first)
    assert {name for name in PORTS if first[name] != second[name]} == {"store"}


def test_command_line_names_the_missing_sandbox(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sandbox", "info", "--name", "none", "--folder", str(tmp_path / "none")]
    done = subprocess.run(command, cwd=places.ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "sandbox: there is no sandbox 'none'; start it with: python -m sandbox up --name none\n"


def test_kinds_without_conditions_are_awaited() -> None:
    """kubectl fails at once on a CRD whose conditions are null, as those of a large one are for a moment."""
    answers: list[KubectlError | str] = [
        KubectlError("error: .status.conditions accessor error: <nil> is of the type <nil>, expected []interface{}"),
        "",
    ]
    asked: list[tuple[str, ...]] = []

    def run(*arguments: str) -> str:
        asked.append(arguments)
        answer = answers.pop(0)
        if isinstance(answer, KubectlError):
            raise answer
        return answer

    await_kinds(run, "crd", "--selector=a=b")
    assert len(asked) == 2
    assert {"crd", "--selector=a=b", "--for=condition=Established"} <= set(asked[1])


def test_other_failures_of_awaiting_kinds_are_raised() -> None:
    def run(*_: str) -> str:
        raise KubectlError("error: timed out waiting for the condition")

    with pytest.raises(KubectlError, match="timed out"):
        await_kinds(run, "crd/a")
