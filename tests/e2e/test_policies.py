"""The chart's NetworkPolicy: which connections it allows, and how the operator reports that it is cut off.

These tests are skipped if the cluster does not enforce policies. They run after test_life.py.
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

CLIENT, CLOSED = "policy-client", "policy-closed"  # pods; the second one shows whether policies are enforced
SECONDS = 3  # timeout of a connection
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
    """Install both charts, unless test_life.py left them installed."""
    there = {one["metadata"]["name"] for one in administrator.items("deployments", "--all-namespaces")}
    for name, archive in (("wine-sandbox", archives.sandbox), ("wine-operator", archives.operator)):
        if ("seldon" if name == "wine-sandbox" else name) not in there:
            options = ("--namespace", PLATFORM, "--create-namespace", "--wait", "--timeout", "5m")
            helm.run("install", name, str(archive), *options, kubeconfig=str(administrator.kubeconfig))


@pytest.fixture(scope="module")
def client(administrator: Kube) -> Iterator[Kube]:
    """Run two pods of a user in another namespace: one opens connections, the other accepts them."""
    administrator.apply(_pod(CLIENT, ["sleep", "3600"]), _pod(CLOSED, ["python", "-c", SERVE]))
    administrator("-n", USER, "wait", f"pod/{CLIENT}", f"pod/{CLOSED}", "--for=condition=Ready", "--timeout=60s")
    yield administrator
    administrator("-n", USER, "delete", "pod", CLIENT, CLOSED, "--wait=false")


@pytest.fixture(scope="module")
def enforced(client: Kube) -> None:
    """Skip the tests unless a policy that allows no connection takes effect."""
    address = client.get("-n", USER, "pod", CLOSED)["status"]["podIP"]
    eventually(lambda: _reaches(client, address, 8080))
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": CLOSED, "namespace": USER},
        "spec": {"podSelector": {"matchLabels": {"app": CLOSED}}, "policyTypes": ["Ingress"], "ingress": []},
    }
    client.apply(policy)
    try:
        deadline = time.monotonic() + 15
        while _reaches(client, address, 8080):
            if time.monotonic() > deadline:
                pytest.skip("this cluster does not enforce NetworkPolicies: a pod that allows no connection was reached for 15 s")
    finally:
        client("-n", USER, "delete", "networkpolicy", CLOSED)


def test_metrics_port_is_reachable_but_the_probe_port_is_not(client: Kube, enforced: None) -> None:
    address = _operator(client)["status"]["podIP"]
    assert _reaches(client, address, 9090)
    assert not _reaches(client, address, 8080)


def test_operator_is_not_ready_and_helm_test_fails_when_it_is_cut_off(client: Kube, enforced: None) -> None:
    before = _operator(client)
    _helm_test(client)
    with _cut_off(client):
        client("-n", PLATFORM, "wait", f"pod/{before['metadata']['name']}", "--for=condition=Ready=false", "--timeout=120s")
        with pytest.raises(helm.HelmError):
            _helm_test(client)
        now = _operator(client)
        assert now["metadata"]["uid"] == before["metadata"]["uid"]
        assert _restarts(now) == _restarts(before), "a restart would not help"
    client("-n", PLATFORM, "wait", f"pod/{before['metadata']['name']}", "--for=condition=Ready", "--timeout=120s")
    log = client("-n", PLATFORM, "logs", before["metadata"]["name"])
    assert re.search(r"WARNING winepipelines\.probes Lost the API server", log)
    assert "Reached the API server again" in log
    _helm_test(client)


@contextmanager
def _cut_off(kube: Kube) -> Iterator[None]:
    """Make the chart's policy block all egress, as a mistake in `networkPolicy.egress` would."""
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
    output = kube("-n", USER, "exec", CLIENT, "--", "python", "-c", CONNECT, address, str(port)).strip()
    assert output == "connected" or "timed out" in output or "refused" in output or "unreachable" in output.lower(), output
    return output == "connected"


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
