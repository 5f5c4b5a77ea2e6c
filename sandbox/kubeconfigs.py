"""Kubeconfigs of the sandbox's own control plane, or of a context of the user."""

import base64
import ipaddress
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sandbox.certificates import write_secret
from sandbox.components import base_environment
from sandbox.errors import ClusterError

CREDENTIALS = {"token", "client-certificate-data", "client-key-data"}
TRUST = ("server", "certificate-authority-data", "insecure-skip-tls-verify")
# Fields that some of the clients do not support: connections would fail, or reach another server.
UNKNOWN = {"tls-server-name": "which kopf does not know", "proxy-url": "which the stand-ins do not know"}
LOCAL_NAMES = ("localhost", "kubernetes.docker.internal", "host.docker.internal")


@dataclass(frozen=True)
class Access:
    """Access to an API server: a context's name, and the self-contained `cluster` and `user` of a kubeconfig."""

    context: str
    cluster: dict[str, Any]
    user: dict[str, Any]

    @property
    def server(self) -> str:
        """Return the API server's address."""
        return str(self.cluster["server"])

    def write(self, path: Path) -> None:
        """Write it as a kubeconfig (in JSON, which is YAML too) that only its owner may read."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "sandbox", "cluster": self.cluster}],
            "users": [{"name": "user", "user": self.user}],
            "contexts": [{"name": self.context, "context": {"cluster": "sandbox", "user": "user"}}],
            "current-context": self.context,
        }
        write_secret(path, json.dumps(config, indent=1).encode())

    @classmethod
    def read(cls, path: Path) -> "Access":
        """Read what `write` wrote."""
        config = json.loads(path.read_text())
        return cls(config["current-context"], config["clusters"][0]["cluster"], config["users"][0]["user"])

    def with_token(self, token: str) -> "Access":
        """Return access to the same API server with a token."""
        return Access(self.context, self.cluster, {"token": token})


def of_control_plane(certificates: Path, server: str, user: str) -> Access:
    """Return access to the sandbox's own API server by client certificate. `user` is the certificate's name."""

    def data(file: str) -> str:
        return base64.b64encode((certificates / file).read_bytes()).decode()

    who = {"client-certificate-data": data(f"{user}.crt"), "client-key-data": data(f"{user}.key")}
    return Access("sandbox", {"server": server, "certificate-authority-data": data("ca.crt")}, who)


def of_context(kubectl: Path, context: str = "", kubeconfig: Path | None = None) -> Access:
    """Return a context of $KUBECONFIG, else ~/.kube/config, or of a file; by default the current one. Contacts no server.

    Raises ClusterError where there is none, or it needs what the sandbox's processes cannot do.
    """
    chosen = str(kubeconfig or os.environ.get("KUBECONFIG", ""))
    done = subprocess.run(
        [str(kubectl), "config", "view", "--minify", "--flatten", "--raw", "--output=json", f"--context={context}"],
        env={**base_environment(), **({"KUBECONFIG": chosen} if chosen else {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ClusterError(
            f"There is no context to use: {done.stderr.strip()}. `kubectl config get-contexts` lists those there are; "
            "`kubectl config use-context NAME` makes one the current one."
        )
    view = json.loads(done.stdout)
    name, cluster, user = view["current-context"], _only(view, "cluster"), _only(view, "user")
    if not cluster.get("server"):
        raise ClusterError(f"Context {name} names no server.")
    for field, why in UNKNOWN.items():
        if cluster.get(field):
            raise ClusterError(f"Context {name} uses {field}, {why}: use a context without it.")
    if not user.keys() <= CREDENTIALS:
        other = ", ".join(sorted(user.keys() - CREDENTIALS))
        raise ClusterError(
            f"Context {name} authenticates by {other}, which the sandbox's processes do not support: they need a token or a "
            "client certificate. Create a context with one of these, for instance with a token from `kubectl create token`."
        )
    return Access(name, {field: cluster[field] for field in TRUST if cluster.get(field)}, user)


def _only(view: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the only cluster or user of a minified kubeconfig, or an empty one."""
    return next((dict(entry[kind]) for entry in view.get(f"{kind}s") or []), {})


def is_on_this_machine(server: str) -> bool:
    """Report whether an API server's address is obviously on this machine."""
    host = urlsplit(server).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOCAL_NAMES or host.endswith(".localhost")
