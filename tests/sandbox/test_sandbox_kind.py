"""A sandbox on a cluster that kind creates. A stand-in of the program kind makes a container engine unnecessary."""

import json
import os
import shutil
from pathlib import Path

import pytest
from cluster_support import DOWN, FAKE_KIND, PROCESSES

from sandbox import ownership
from sandbox.errors import ClusterError, SandboxError
from sandbox.plan import load
from sandbox.platform import Sandbox


class TestKind:
    """The sandbox with a stand-in of kind."""

    @pytest.fixture
    def kind(self, base: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        programs = tmp_path / "bin"
        programs.mkdir()
        for name, text in (("kind", FAKE_KIND), ("docker", "#!/bin/sh\n")):
            self.program(programs / name, text)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        monkeypatch.setenv("FAKE_KUBECONFIG", str(base.info.kubeconfig))
        monkeypatch.delenv("KIND_EXPERIMENTAL_PROVIDER", raising=False)
        return programs / "kind"

    def program(self, path: Path, text: str = "#!/bin/sh\n") -> None:
        path.write_text(text)
        path.chmod(0o755)

    def calls(self, kind: Path) -> list[str]:
        made = kind.with_name("kind.calls").read_text().splitlines()
        kind.with_name("kind.calls").unlink()
        return made

    def emptied(self, sandbox: Sandbox) -> None:
        """Remove the sandbox's objects from the cluster, which the stand-in of kind does not delete."""
        plan = load(sandbox.folder)
        assert plan is not None
        ownership.remove(plan)

    def test_cluster_is_created_kept_and_deleted(self, kind: Path, tmp_path: Path) -> None:
        sandbox = Sandbox("engine", tmp_path / "engine", without=PROCESSES, cluster="kind")
        file = f"--name wine-engine --kubeconfig {sandbox.folder / 'kind.kubeconfig'}"
        try:
            assert sandbox.up().cluster == "kind"
            assert self.calls(kind) == ["get clusters", "get clusters", f"create cluster {file} --wait 180s"]
            assert "admin" in sandbox.kubectl("get", "namespaces", "--output=name")
            sandbox.down(keep_state=True)
            sandbox.up()
            assert self.calls(kind) == ["get clusters", f"export kubeconfig {file}"]
            self.emptied(sandbox)
        finally:
            sandbox.down()
        assert self.calls(kind) == ["delete cluster --name wine-engine", "get clusters"]
        assert not sandbox.folder.exists()

    def test_cluster_is_deleted_with_the_engine_that_created_it(
        self, kind: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Docker has no running engine, so Podman creates the cluster. Later Docker runs, and another shell stops the sandbox."""
        docker, podman = kind.with_name("docker"), kind.with_name("podman")
        self.program(docker, DOWN)
        self.program(podman)
        reports: list[str] = []
        sandbox = Sandbox("engine", tmp_path / "engine", without=PROCESSES, cluster="kind", report=reports.append)
        sandbox.up()
        assert (
            "kind creates the cluster wine-engine with podman: this takes a minute or more, and pulls an image the first time"
            in reports
        )
        self.emptied(sandbox)
        assert kind.with_name("kind.podman").read_text() == "wine-engine\n"

        self.program(docker)
        self.program(podman, DOWN)
        monkeypatch.setenv("KIND_EXPERIMENTAL_PROVIDER", "docker")
        elsewhere = Sandbox("engine", sandbox.folder)
        with pytest.raises(SandboxError, match=r"(?s)wine-engine may still be there: .*failed with podman.*repeat"):
            elsewhere.down()
        assert sandbox.folder.exists(), "what is known of it stays until its cluster is gone"
        with pytest.raises(ClusterError, match=r"(?s)podman: Cannot connect.*Start podman"):
            elsewhere.up()

        self.program(podman)
        elsewhere.down()
        assert kind.with_name("kind.podman").read_text() == ""
        assert not sandbox.folder.exists()

    def test_cluster_is_found_when_the_plan_of_an_earlier_version_names_no_engine(self, kind: Path, tmp_path: Path) -> None:
        self.program(kind.with_name("podman"))
        kind.with_name("kind.podman").write_text("other\n")
        sandbox = Sandbox("engine", tmp_path / "engine", without=PROCESSES, cluster="kind")
        sandbox.up()
        self.emptied(sandbox)
        kind.with_name("kind.docker").rename(kind.with_name("kind.podman"))  # as if Podman had created it
        plan = json.loads((sandbox.folder / "plan.json").read_text())
        del plan["engine"]
        (sandbox.folder / "plan.json").write_text(json.dumps(plan))
        Sandbox("engine", sandbox.folder).down()
        assert kind.with_name("kind.podman").read_text() == ""

    def test_sandbox_is_kept_when_the_cluster_still_exists_after_its_deletion(self, kind: Path, tmp_path: Path) -> None:
        sandbox = Sandbox("engine", tmp_path / "engine", without=PROCESSES, cluster="kind")
        sandbox.up()
        self.emptied(sandbox)
        kind.write_text(FAKE_KIND.replace("delete) sed", "delete) : sed"))
        with pytest.raises(SandboxError, match="KIND_EXPERIMENTAL_PROVIDER=docker kind delete cluster --name wine-engine"):
            sandbox.down()
        assert sandbox.folder.exists()
        kind.write_text(FAKE_KIND)
        sandbox.down()
        assert not sandbox.folder.exists()

    def test_cluster_of_the_same_name_is_left_alone_when_the_sandbox_did_not_create_it(self, kind: Path, tmp_path: Path) -> None:
        kind.with_name("kind.docker").write_text("wine-engine\n")
        with pytest.raises(ClusterError, match="kind cluster wine-engine that this sandbox did not create"):
            Sandbox("engine", tmp_path / "engine", cluster="kind").up()
        Sandbox("engine", tmp_path / "engine").down()
        assert self.calls(kind) == ["get clusters"]

    def test_error_contains_the_output_of_kind_when_the_cluster_cannot_be_created(self, kind: Path, tmp_path: Path) -> None:
        kind.write_text(FAKE_KIND.replace("create) ", "create) echo 'ERROR: no space for the image' >&2; exit 1;"))
        sandbox = Sandbox("engine", tmp_path / "engine", cluster="kind")
        with pytest.raises(SandboxError, match="kind create cluster failed with docker:\nERROR: no space for the image"):
            sandbox.up()
        kind.write_text(FAKE_KIND)
        sandbox.down()
        assert not sandbox.folder.exists()

    def test_error_names_the_program_to_install_when_kind_or_an_engine_is_missing(
        self, kind: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(kind.parent))
        self.program(kind.with_name("docker"), DOWN)
        with pytest.raises(ClusterError) as refused:
            Sandbox("engine", tmp_path / "engine", cluster="kind").up()
        assert "docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock." in str(refused.value)
        assert "Start Docker, or install Podman" in str(refused.value)
        kind.unlink()
        with pytest.raises(ClusterError, match=r"needs the program kind: https://kind\.sigs\.k8s\.io"):
            Sandbox("engine", tmp_path / "engine", cluster="kind").up()
        assert shutil.which("kind") is None
        assert not (tmp_path / "engine").exists()
