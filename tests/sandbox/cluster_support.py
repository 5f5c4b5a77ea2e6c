"""An API server that exists already, with the kubeconfig of its user, and a program that takes the arguments of kind."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from core_support import STAND_INS

from sandbox.errors import ClusterError
from sandbox.platform import Sandbox

Json = dict[str, Any]
PROCESSES = STAND_INS | {"store", "mlflow", "data"}
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
    """A cluster of a user, with some objects."""
    with Sandbox("base", tmp_path_factory.mktemp("base") / "base", without=PROCESSES | {"manifests"}) as sandbox:
        sandbox.kubectl("create", "namespace", "theirs")
        sandbox.kubectl("create", "clusterrole", "theirs", "--verb=get", "--resource=pods")
        yield sandbox


@pytest.fixture
def kubeconfig(base: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's kubeconfig: the cluster is its current context, beside others."""
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
    """Kind, namespace and name of all objects in the cluster, except Events."""
    kinds = base.kubectl("api-resources", "--verbs=list", "--output=name").split()
    listed = ",".join(kind for kind in kinds if not kind.startswith("events"))
    each = '{range .items[*]}{.kind} {.metadata.namespace} {.metadata.name}{"\\n"}{end}'
    return set(base.kubectl("get", listed, "--all-namespaces", f"--output=jsonpath={each}").splitlines())


def refused(context: str = "", **options: Any) -> str:
    with pytest.raises(ClusterError) as refusal:
        Sandbox("guest", cluster="current", context=context, **options).up()
    return str(refusal.value)
