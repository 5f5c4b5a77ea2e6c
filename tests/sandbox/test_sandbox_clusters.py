"""A sandbox on an API server that is there already, and on one that kind makes; and whose cluster it leaves alone.

There is no container engine here. The API server that is there is another sandbox's, bare: real, with the real controllers. In
place of kind there is a program that takes kind's arguments and hands that API server out.
"""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from core_support import STAND_INS, within

from sandbox import kubeconfigs, ownership, places, programs
from sandbox.errors import ClusterError, SandboxError
from sandbox.kubeconfigs import Access, is_on_this_machine
from sandbox.plan import load
from sandbox.platform import Sandbox

Json = dict[str, Any]
PROCESSES = STAND_INS | {"minio", "mlflow", "data"}
REQUEST = {"data": {"ndarray": [[5.6, 0.31, 0.37, 1.4, 0.074, 12.0, 96.0, 0.9954, 3.32, 0.58, 9.2]]}}
FAKE_KIND = r"""#!/bin/bash
# kind's command line, as far as the sandbox uses it; its cluster is the API server of FAKE_KUBECONFIG. Clusters are by engine.
echo "$*" >>"$0.calls"
engine=${KIND_EXPERIMENTAL_PROVIDER:-docker} clusters=$0.$engine
"$engine" info >/dev/null || { echo "ERROR: failed to list clusters" >&2; exit 1; }
while [ $# -gt 0 ]; do
  case $1 in --name) name=$2;; --kubeconfig) file=$2;; get | create | export | delete) verb=$1;; esac
  shift
done
case $verb in
  get) if [ -s "$clusters" ]; then cat "$clusters"; else echo "No kind clusters found." >&2; fi;;
  create) echo "$name" >>"$clusters"; cp "$FAKE_KUBECONFIG" "$file";;
  export) grep -qx "$name" "$clusters" && cp "$FAKE_KUBECONFIG" "$file";;
  delete) sed -i "/^$name\$/d" "$clusters" 2>/dev/null || true;; # that of a name it does not know is a success too
esac
"""
DOWN = """#!/bin/sh
[ "$1" = --version ] || { echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock.' >&2; exit 1; }
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A cluster that someone has, with something in it."""
    with Sandbox("base", tmp_path_factory.mktemp("base") / "base", without=PROCESSES | {"manifests"}) as sandbox:
        sandbox.kubectl("create", "namespace", "theirs")
        sandbox.kubectl("create", "clusterrole", "theirs", "--verb=get", "--resource=pods")
        yield sandbox


@pytest.fixture
def kubeconfig(base: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its user's kubeconfig: the cluster is its current context, and there are others."""
    own = json.loads(base.info.kubeconfig.read_text())
    token = base.kubectl("create", "token", "default", "--namespace=default").strip()
    server = own["clusters"][0]["cluster"]["server"]
    clusters = {
        "sandbox": {},
        "far": {"server": "https://wine.invalid:6443", "insecure-skip-tls-verify": True},
        "named": {"server": server, "tls-server-name": "kubernetes"},
        "proxied": {"server": server, "proxy-url": "http://127.0.0.1:9"},
    }
    users = {"user": {}, "nobody": {"token": token}, "plugin": {"exec": {"apiVersion": "client.authentication.k8s.io/v1"}}}
    own["clusters"] += [{"name": name, "cluster": cluster} for name, cluster in clusters.items() if cluster]
    own["users"] += [{"name": name, "user": user} for name, user in users.items() if user]
    pairs = {name: (name, "user") for name in clusters} | {name: ("sandbox", name) for name in users}
    own["contexts"] = [
        {"name": name, "context": {"cluster": c, "user": u, "namespace": "theirs"}} for name, (c, u) in pairs.items()
    ]
    path = tmp_path / "a user's config"
    path.write_text(json.dumps(own))
    monkeypatch.setenv("KUBECONFIG", str(path))
    return path


def names(base: Sandbox) -> set[str]:
    """Kind, namespace and name of all that is in the cluster, but Events."""
    kinds = base.kubectl("api-resources", "--verbs=list", "--output=name").split()
    listed = ",".join(kind for kind in kinds if not kind.startswith("events"))
    each = '{range .items[*]}{.kind} {.metadata.namespace} {.metadata.name}{"\\n"}{end}'
    return set(base.kubectl("get", listed, "--all-namespaces", f"--output=jsonpath={each}").splitlines())


def refused(context: str = "", **options: Any) -> str:
    with pytest.raises(ClusterError) as refusal:
        Sandbox("guest", cluster="current", context=context, **options).up()
    return str(refusal.value)


def test_the_whole_way_on_a_cluster_that_is_there_and_nothing_is_left_of_it(
    base: Sandbox, kubeconfig: Path, tmp_path: Path
) -> None:
    before = names(base)
    told: list[str] = []
    with Sandbox("guest", tmp_path / "guest", cluster="current", report=told.append) as guest:
        server = Access.read(base.info.kubeconfig).server
        assert told[0] == f"the platform's objects are made on context sandbox, {server}"
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


def test_what_is_kept_is_gone_on_with_whatever_the_users_context_is_now(
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


def test_a_cluster_with_a_kubeflow_of_someones_is_left_alone(base: Sandbox, kubeconfig: Path, tmp_path: Path) -> None:
    workflows = places.ROOT / "sandbox" / "manifests" / "20-workflows.yaml"
    base.kubectl("create", "namespace", "kubeflow")
    base.kubectl("create", "--filename", str(workflows))
    try:
        before = base.kubectl("get", "namespaces,customresourcedefinitions", "--output=json")
        said = refused(folder=tmp_path / "guest")
        assert "has already: Namespace kubeflow, CustomResourceDefinition workflows.argoproj.io. The sandbox would" in said
        assert "Use a cluster without them" in said
        assert not (tmp_path / "guest").exists()
        Sandbox("guest", tmp_path / "guest").down()
        assert base.kubectl("get", "namespaces,customresourcedefinitions", "--output=json") == before
    finally:
        base.kubectl("delete", "namespace", "kubeflow")
        base.kubectl("delete", "--filename", str(workflows))


def test_another_sandboxs_objects_are_not_taken_even_under_its_name(base: Sandbox, kubeconfig: Path, tmp_path: Path) -> None:
    first = Sandbox("guest", tmp_path / "first", without=PROCESSES, cluster="current")
    try:
        first.up()
        said = refused(folder=tmp_path / "second", without=PROCESSES)
        assert "Another sandbox has made them: take it down" in said
        mark = getattr(load(first.folder), "mark", "")
        assert said.endswith(f"kubectl delete {ownership.REMOVED} -l '{ownership.LABEL} in ({mark})'")
        assert "kubeflow" in base.kubectl("get", "namespaces", "--output=name")
    finally:
        first.down()


def test_a_sandbox_with_its_own_control_plane_is_not_moved(base: Sandbox, kubeconfig: Path) -> None:
    with pytest.raises(ClusterError, match=r"Sandbox 'base' is on its own control plane\. Take it down first"):
        Sandbox("base", base.folder, cluster="current").up()
    assert base.running()["apiserver"]


def test_a_server_that_may_be_elsewhere_is_used_only_by_name(kubeconfig: Path, tmp_path: Path) -> None:
    kubeconfig.write_text(json.dumps({**json.loads(kubeconfig.read_text()), "current-context": "far"}))
    said = refused(folder=tmp_path / "guest")
    assert "https://wine.invalid:6443, which is not obviously on this machine" in said
    assert "make demo CLUSTER=current CLUSTER_CONTEXT='far'" in said
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
def test_which_servers_are_obviously_on_this_machine(server: str, here: bool) -> None:
    assert is_on_this_machine(server) is here


@pytest.mark.parametrize(
    ("context", "why"),
    [
        ("nobody", "no administrator of the cluster"),
        ("plugin", "signs in by exec"),
        ("named", "uses tls-server-name, which kopf does not know"),
        ("proxied", "uses proxy-url"),
        ("none", "no context to use: .*kubectl config get-contexts"),
    ],
)
def test_a_context_that_cannot_be_used_is_refused(kubeconfig: Path, tmp_path: Path, context: str, why: str) -> None:
    with pytest.raises(ClusterError, match=why):
        Sandbox("guest", tmp_path / "guest", cluster="current", context=context).up()
    assert not (tmp_path / "guest").exists()


def test_the_command_line_says_so_too(kubeconfig: Path, tmp_path: Path) -> None:
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
    assert done.stderr.startswith("sandbox: Context plugin signs in by exec")


def test_a_context_is_copied_whole_and_nothing_else(base: Sandbox, kubeconfig: Path, tmp_path: Path) -> None:
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


def test_a_cluster_and_a_context_have_to_make_sense() -> None:
    with pytest.raises(SandboxError, match="'k3d' is no cluster; there are builtin, kind, current"):
        Sandbox("guest", cluster="k3d")
    with pytest.raises(SandboxError, match="for the cluster 'current' only"):
        Sandbox("guest", context="any")


def test_on_a_cluster_that_is_there_no_control_plane_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, built, kubectl = tmp_path / "go", tmp_path / "built", tmp_path / "kubectl"
    go.write_text(f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done; echo program >"$2"; echo "$3" >>"{built}"\n')
    for program in (go, kubectl):
        program.touch()
        program.chmod(0o755)
    monkeypatch.setenv("GO", str(go))
    monkeypatch.setenv("WINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = programs.find(lambda _: None, control_plane=False)
    assert found.keys() == {"kubectl", "minio"}
    assert found["kubectl"] == kubectl
    assert built.read_text() == "github.com/minio/minio\n"


class TestKind:
    """With a program that takes kind's arguments, and no container behind it."""

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
        """Remove what is in the cluster: with this kind no cluster goes."""
        plan = load(sandbox.folder)
        assert plan is not None
        ownership.remove(plan)

    def test_its_cluster_is_made_kept_and_deleted(self, kind: Path, tmp_path: Path) -> None:
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

    def test_its_cluster_is_deleted_with_the_engine_that_made_it(
        self, kind: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A docker command without an engine: Podman makes the cluster. Later Docker runs, and another shell ends the sandbox."""
        docker, podman = kind.with_name("docker"), kind.with_name("podman")
        self.program(docker, DOWN)
        self.program(podman)
        told: list[str] = []
        sandbox = Sandbox("engine", tmp_path / "engine", without=PROCESSES, cluster="kind", report=told.append)
        sandbox.up()
        assert "kind makes the cluster wine-engine with podman: a minute or more, and an image the first time" in told
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

    def test_a_plan_of_an_earlier_version_names_no_engine_and_its_cluster_is_found(self, kind: Path, tmp_path: Path) -> None:
        self.program(kind.with_name("podman"))
        kind.with_name("kind.podman").write_text("other\n")
        sandbox = Sandbox("engine", tmp_path / "engine", without=PROCESSES, cluster="kind")
        sandbox.up()
        self.emptied(sandbox)
        kind.with_name("kind.docker").rename(kind.with_name("kind.podman"))  # as if Podman had made it
        plan = json.loads((sandbox.folder / "plan.json").read_text())
        del plan["engine"]
        (sandbox.folder / "plan.json").write_text(json.dumps(plan))
        Sandbox("engine", sandbox.folder).down()
        assert kind.with_name("kind.podman").read_text() == ""

    def test_a_cluster_that_is_there_after_its_deletion_is_not_forgotten(self, kind: Path, tmp_path: Path) -> None:
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

    def test_a_cluster_of_that_name_that_is_not_the_sandboxs_is_left_alone(self, kind: Path, tmp_path: Path) -> None:
        kind.with_name("kind.docker").write_text("wine-engine\n")
        with pytest.raises(ClusterError, match="kind cluster wine-engine that this sandbox has not made"):
            Sandbox("engine", tmp_path / "engine", cluster="kind").up()
        Sandbox("engine", tmp_path / "engine").down()
        assert self.calls(kind) == ["get clusters"]

    def test_a_cluster_that_cannot_be_made_says_what_kind_said(self, kind: Path, tmp_path: Path) -> None:
        kind.write_text(FAKE_KIND.replace("create) ", "create) echo 'ERROR: no space for the image' >&2; exit 1;"))
        sandbox = Sandbox("engine", tmp_path / "engine", cluster="kind")
        with pytest.raises(SandboxError, match="kind create cluster failed with docker:\nERROR: no space for the image"):
            sandbox.up()
        kind.write_text(FAKE_KIND)
        sandbox.down()
        assert not sandbox.folder.exists()

    def test_without_kind_or_an_engine_it_says_what_to_install(
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
