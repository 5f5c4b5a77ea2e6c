"""A sandbox on an API server that exists already: that of another sandbox, with the real controllers."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from cluster_support import PROCESSES, REQUEST, names, refused
from core_support import within

from sandbox import kubeconfigs, ownership, places, programs
from sandbox.errors import ClusterError, SandboxError
from sandbox.kubeconfigs import Access, is_on_this_machine
from sandbox.plan import load
from sandbox.platform import Sandbox


def test_sandbox_serves_a_prediction_on_an_existing_cluster_and_leaves_nothing(
    base: Sandbox, kubeconfig: Path, tmp_path: Path
) -> None:
    before = names(base)
    reports: list[str] = []
    with Sandbox("guest", tmp_path / "guest", cluster="current", report=reports.append) as guest:
        server = Access.read(base.info.kubeconfig).server
        assert reports[0] == f"creating the platform's objects on context sandbox, {server}"
        assert not {"etcd", "apiserver", "controller-manager"} & guest.running().keys()
        assert Access.read(guest.info.operator_kubeconfig).user.keys() == {"token"}
        example = (places.ROOT / "deploy" / "examples" / "wine.yaml").read_text().splitlines()
        manifest = "\n".join(f"    url: {guest.info.data_url}" if line.strip().startswith("url:") else line for line in example)
        guest.kubectl("apply", "--filename=-", stdin=manifest)
        guest.kubectl("wait", "--namespace=admin", "--for=condition=Ready", "winepipeline/mlflow", "--timeout=120s")
        url = f"{guest.info.gateway_url}/seldon/admin/mlflow/api/v1.0/predictions"
        request = urllib.request.Request(url, json.dumps(REQUEST).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert 3 < json.load(answer)["data"]["ndarray"][0] < 8
        # A resource in a namespace that is not the sandbox's: the operator keeps it until it has cleaned up.
        guest.kubectl("apply", "--namespace=theirs", "--filename=-", stdin=manifest.replace("namespace: admin", ""))
        kept = ("get", "winepipelines", "mlflow", "--namespace=theirs", "--output=jsonpath={.metadata.finalizers}")
        assert within(10, lambda: bool(guest.kubectl(*kept)))
        with pytest.raises(ClusterError, match="Namespace theirs"):
            guest.add_namespace("theirs")
        guest.add_namespace("team-a")
        assert kubeconfig.read_text().count("sandbox") == 7, "the user's file is as it was"
    assert within(20, lambda: names(base) == before), names(base) ^ before
    assert not guest.folder.exists()


def test_kept_state_continues_on_its_cluster_when_the_context_changed(
    base: Sandbox, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = names(base)
    first = Sandbox("guest", tmp_path / "guest", without=PROCESSES, cluster="current")
    try:
        first.up()
        first.kubectl("create", "configmap", "kept", "--namespace=admin")
        first.down(keep_state=True)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
        again = Sandbox("guest", first.folder, without=PROCESSES)
        assert again.up().cluster == "current"
        assert "kept" in again.kubectl("get", "configmaps", "--namespace=admin", "--output=name")
        with pytest.raises(
            ClusterError, match=r"is on context sandbox, .*Take it down first: python -m sandbox down --name guest"
        ):
            Sandbox("guest", first.folder, cluster="builtin").up()
    finally:
        first.down()
    assert within(20, lambda: names(base) == before)


def test_cluster_with_kubeflow_is_not_changed(base: Sandbox, kubeconfig: Path, tmp_path: Path) -> None:
    workflows = places.ROOT / "sandbox" / "manifests" / "20-workflows.yaml"
    base.kubectl("create", "namespace", "kubeflow")
    base.kubectl("create", "--filename", str(workflows))
    try:
        before = base.kubectl("get", "namespaces,customresourcedefinitions", "--output=json")
        message = refused(folder=tmp_path / "guest")
        assert "already has: Namespace kubeflow, CustomResourceDefinition workflows.argoproj.io. They belong" in message
        assert "Use a cluster without them" in message
        assert not (tmp_path / "guest").exists()
        Sandbox("guest", tmp_path / "guest").down()
        assert base.kubectl("get", "namespaces,customresourcedefinitions", "--output=json") == before
    finally:
        base.kubectl("delete", "namespace", "kubeflow")
        base.kubectl("delete", "--filename", str(workflows))


def test_objects_of_another_sandbox_of_the_same_name_are_not_adopted(base: Sandbox, kubeconfig: Path, tmp_path: Path) -> None:
    first = Sandbox("guest", tmp_path / "first", without=PROCESSES, cluster="current")
    try:
        first.up()
        message = refused(folder=tmp_path / "second", without=PROCESSES)
        assert "Another sandbox created them: stop it with `down`" in message
        mark = getattr(load(first.folder), "mark", "")
        assert message.endswith(f"kubectl delete {ownership.REMOVED} -l '{ownership.LABEL} in ({mark})'")
        assert "kubeflow" in base.kubectl("get", "namespaces", "--output=name")
    finally:
        first.down()


def test_sandbox_with_its_own_control_plane_is_not_moved(base: Sandbox, kubeconfig: Path) -> None:
    with pytest.raises(ClusterError, match=r"Sandbox 'base' is on its own control plane\. Take it down first"):
        Sandbox("base", base.folder, cluster="current").up()
    assert base.running()["apiserver"]


def test_remote_server_needs_an_explicit_context(kubeconfig: Path, tmp_path: Path) -> None:
    kubeconfig.write_text(json.dumps({**json.loads(kubeconfig.read_text()), "current-context": "far"}))
    message = refused(folder=tmp_path / "guest")
    assert "https://wine.invalid:6443, which is not obviously on this machine" in message
    assert "make demo CLUSTER=current CLUSTER_CONTEXT='far'" in message
    assert "The API server cannot be used" in refused("far", folder=tmp_path / "guest")
    assert not (tmp_path / "guest").exists()


@pytest.mark.parametrize(
    ("server", "here"),
    [
        ("https://127.0.0.1:6443", True),
        ("https://[::1]:6443", True),
        ("https://localhost:6443", True),
        ("https://kubernetes.docker.internal:6443", True),
        ("https://k3d.localhost:6443", True),
        ("https://192.168.49.2:8443", False),
        ("https://localhost.example.com", False),
        ("https://127.0.0.1.example.com", False),
    ],
)
def test_local_servers_are_recognized(server: str, here: bool) -> None:
    assert is_on_this_machine(server) is here


@pytest.mark.parametrize(
    ("context", "why"),
    [
        ("nobody", "no administrator of the cluster"),
        ("plugin", "authenticates by exec"),
        ("named", "uses tls-server-name, which kopf does not know"),
        ("proxied", "uses proxy-url"),
        ("none", "no context to use: .*kubectl config get-contexts"),
    ],
)
def test_unusable_context_is_rejected(kubeconfig: Path, tmp_path: Path, context: str, why: str) -> None:
    with pytest.raises(ClusterError, match=why):
        Sandbox("guest", tmp_path / "guest", cluster="current", context=context).up()
    assert not (tmp_path / "guest").exists()


def test_command_line_reports_the_rejection(kubeconfig: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "sandbox",
        "up",
        "--folder",
        str(tmp_path / "guest"),
        "--cluster",
        "current",
        "--context",
        "plugin",
    ]
    done = subprocess.run(command, cwd=places.ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("sandbox: Context plugin authenticates by exec")


def test_only_the_context_is_copied(base: Sandbox, kubeconfig: Path, tmp_path: Path) -> None:
    config = json.loads(kubeconfig.read_text())
    certificate = tmp_path / "ca.crt"
    certificate.write_bytes(b"the authority")
    config["clusters"][0]["cluster"] |= {"certificate-authority": str(certificate), "extensions": []}
    del config["clusters"][0]["cluster"]["certificate-authority-data"]
    kubeconfig.write_text(json.dumps(config))
    access = kubeconfigs.of_context(base.info.kubectl)
    assert access.cluster.keys() == {"server", "certificate-authority-data"}
    far = kubeconfigs.of_context(base.info.kubectl, "far")
    assert far.cluster == {"server": "https://wine.invalid:6443", "insecure-skip-tls-verify": True}
    access.write(copy := tmp_path / "copy")
    assert Access.read(copy) == access
    assert "wine.invalid" not in copy.read_text()
    assert copy.stat().st_mode & 0o077 == 0


def test_inconsistent_cluster_and_context_are_rejected() -> None:
    with pytest.raises(SandboxError, match="'k3d' is no cluster; there are builtin, kind, current"):
        Sandbox("guest", cluster="k3d")
    with pytest.raises(SandboxError, match="for the cluster 'current' only"):
        Sandbox("guest", context="any")


def test_no_control_plane_is_built_for_an_existing_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, built, kubectl = tmp_path / "go", tmp_path / "built", tmp_path / "kubectl"
    go.write_text(f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done; echo program >"$2"; echo "$3" >>"{built}"\n')
    for program in (go, kubectl):
        program.touch()
        program.chmod(0o755)
    monkeypatch.setenv("GO", str(go))
    monkeypatch.setenv("WINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = programs.find(lambda _: None, control_plane=False)
    assert found.keys() == {"kubectl", "versitygw"}
    assert found["kubectl"] == kubectl
    assert built.read_text() == ".\n"
