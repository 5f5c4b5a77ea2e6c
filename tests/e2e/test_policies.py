"""What the NetworkPolicy of the chart admits and blocks, and who notices when the operator is cut off. Comes after the life.

Only where something enforces policies, which not every cluster has: a probe shows it first.
"""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from e2e.conftest import PLATFORM, USER, Archives
from support.cluster import eventually
from support.kube import Kube, Object

from dev import helm
from dev.version import version

STRANGER, WALLED = "stranger", "walled"  # pods; the second one is for the probe
SECONDS = 3  # that a connection may take
CONNECT = f"""
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), {SECONDS}).close()
except OSError as error:
    print(repr(error))
else:
    print("connected")
"""
SERVE = "import http.server; http.server.ThreadingHTTPServer(('', 8080), http.server.SimpleHTTPRequestHandler).serve_forever()"


@pytest.fixture(autouse=True, scope="module")
def _installed(administrator: Kube, images: None, archives: Archives) -> None:
    """Both charts, where the life has not left them."""
    there = {one["metadata"]["name"] for one in administrator.items("deployments", "--all-namespaces")}
    for name, archive in (("wine-sandbox", archives.sandbox), ("wine-operator", archives.operator)):
        if ("seldon" if name == "wine-sandbox" else name) not in there:
            options = ("--namespace", PLATFORM, "--create-namespace", "--wait", "--timeout", "5m")
            helm.run("install", name, str(archive), *options, kubeconfig=str(administrator.kubeconfig))


@pytest.fixture(scope="module")
def stranger(administrator: Kube) -> Iterator[Kube]:
    """Somebody's pod in another namespace, from which connections are tried; and a second one that serves."""
    administrator.apply(_pod(STRANGER, ["sleep", "3600"]), _pod(WALLED, ["python", "-c", SERVE]))
    administrator("-n", USER, "wait", f"pod/{STRANGER}", f"pod/{WALLED}", "--for=condition=Ready", "--timeout=60s")
    yield administrator
    administrator("-n", USER, "delete", "pod", STRANGER, WALLED, "--wait=false")


@pytest.fixture(scope="module")
def enforced(stranger: Kube) -> None:
    """Policies are enforced here: one that admits nobody is noticed. The rest is skipped where not."""
    address = stranger.get("-n", USER, "pod", WALLED)["status"]["podIP"]
    eventually(lambda: _reaches(stranger, address, 8080))
    wall = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": WALLED, "namespace": USER},
        "spec": {"podSelector": {"matchLabels": {"app": WALLED}}, "policyTypes": ["Ingress"], "ingress": []},
    }
    stranger.apply(wall)
    try:
        deadline = time.monotonic() + 15
        while _reaches(stranger, address, 8080):
            if time.monotonic() > deadline:
                pytest.skip("this cluster enforces no NetworkPolicies: a pod that admits nobody was reached for 15 s")
    finally:
        stranger("-n", USER, "delete", "networkpolicy", WALLED)


def test_metrics_are_reached_and_the_probe_port_is_not(stranger: Kube, enforced: None) -> None:
    address = _operator(stranger)["status"]["podIP"]
    assert _reaches(stranger, address, 9090)
    assert not _reaches(stranger, address, 8080)


def test_an_operator_that_is_cut_off_is_not_ready_and_helm_test_fails(stranger: Kube, enforced: None) -> None:
    before = _operator(stranger)
    _helm_test(stranger)
    with _cut_off(stranger):
        stranger("-n", PLATFORM, "wait", f"pod/{before['metadata']['name']}", "--for=condition=Ready=false", "--timeout=120s")
        with pytest.raises(helm.HelmError):
            _helm_test(stranger)
        now = _operator(stranger)
        assert now["metadata"]["uid"] == before["metadata"]["uid"]
        assert _restarts(now) == _restarts(before), "a new process would not help"
    stranger("-n", PLATFORM, "wait", f"pod/{before['metadata']['name']}", "--for=condition=Ready", "--timeout=120s")
    log = stranger("-n", PLATFORM, "logs", before["metadata"]["name"])
    assert re.search(r"WARNING winepipelines\.probes Lost the API server", log)
    assert "Reached the API server again" in log
    _helm_test(stranger)


@contextmanager
def _cut_off(kube: Kube) -> Iterator[None]:
    """Have the chart's policy let nothing out, as a mistake in `networkPolicy.egress` would."""
    spec = kube.get("-n", PLATFORM, "networkpolicy", "wine-operator")["spec"]
    _replace(kube, {**spec, "policyTypes": ["Ingress", "Egress"], "egress": []})
    try:
        yield
    finally:
        _replace(kube, {"egress": None, **spec})


def _replace(kube: Kube, spec: Object) -> None:
    kube("-n", PLATFORM, "patch", "networkpolicy", "wine-operator", "--type=merge", "--patch", json.dumps({"spec": spec}))


def _helm_test(kube: Kube) -> None:
    helm.run("test", "wine-operator", "--namespace", PLATFORM, "--timeout", "3m", kubeconfig=str(kube.kubeconfig))


def _operator(kube: Kube) -> Object:
    [pod] = kube.items("-n", PLATFORM, "pods", "--selector=app.kubernetes.io/component=operator")
    return pod


def _restarts(pod: Object) -> int:
    return sum(int(one["restartCount"]) for one in pod["status"]["containerStatuses"])


def _reaches(kube: Kube, address: str, port: int) -> bool:
    said = kube("-n", USER, "exec", STRANGER, "--", "python", "-c", CONNECT, address, str(port)).strip()
    assert said == "connected" or "timed out" in said or "refused" in said or "unreachable" in said.lower(), said
    return said == "connected"


def _pod(name: str, command: list[str]) -> Object:
    container = {
        "name": name,
        "image": f"winepipelines/sandbox:{version()}",
        "imagePullPolicy": "IfNotPresent",
        "command": command,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": USER, "labels": {"app": name}},
        "spec": {"automountServiceAccountToken": False, "terminationGracePeriodSeconds": 1, "containers": [container]},
    }
