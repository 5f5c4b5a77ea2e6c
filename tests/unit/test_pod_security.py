"""The checker for the Pod Security Standard *restricted* finds each violation."""

import copy
from typing import Any

import pytest

from dev.pod_security import pods, violations

Object = dict[str, Any]
GOOD: Object = {
    "metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/main": "runtime/default"}},
    "spec": {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 8888,
            "seccompProfile": {"type": "RuntimeDefault"},
            "seLinuxOptions": {"type": "container_t", "level": "s0"},
            "sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}],
        },
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "token", "projected": {"sources": []}}],
        "containers": [
            {
                "name": "main",
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
                },
                "ports": [{"containerPort": 80}],
                "livenessProbe": {"httpGet": {"path": "/", "port": 80}},
            }
        ],
    },
}


def _violations(**changes: object) -> list[str]:
    """Check a compliant pod with changed fields.

    The prefix of a name is the place of the field: `spec`, `pod` (its security context), `container`, `own` (the container's
    security context) or `metadata`.
    """
    pod = copy.deepcopy(GOOD)
    container = pod["spec"]["containers"][0]
    places: dict[str, Object] = {
        "spec": pod["spec"],
        "pod": pod["spec"]["securityContext"],
        "own": container["securityContext"],
        "container": container,
        "metadata": pod["metadata"],
    }
    for name, value in changes.items():
        place, _, field = name.partition("_")
        places[place][field] = value
    return list(violations(pod))


def test_violations_are_empty_for_a_compliant_pod() -> None:
    assert _violations() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"spec_hostNetwork": True},
        {"spec_hostPID": True},
        {"spec_hostIPC": True},
        {"spec_volumes": [{"name": "root", "hostPath": {"path": "/"}}]},
        {"spec_volumes": [{"name": "share", "nfs": {"server": "nas", "path": "/"}}]},
        {"pod_sysctls": [{"name": "kernel.msgmax", "value": "1"}]},
        {"pod_runAsUser": 0},
        {"pod_runAsNonRoot": False},
        {"pod_runAsNonRoot": None},
        {"pod_seccompProfile": None},
        {"pod_seccompProfile": {"type": "Unconfined"}},
        {"pod_appArmorProfile": {"type": "Unconfined"}},
        {"pod_seLinuxOptions": {"type": "spc_t"}},
        {"pod_seLinuxOptions": {"user": "system_u"}},
        {"pod_windowsOptions": {"hostProcess": True}},
        {"metadata_annotations": {"container.apparmor.security.beta.kubernetes.io/main": "unconfined"}},
        {"own_privileged": True},
        {"own_allowPrivilegeEscalation": True},
        {"own_allowPrivilegeEscalation": None},
        {"own_procMount": "Unmasked"},
        {"own_capabilities": {}},
        {"own_capabilities": {"drop": ["NET_RAW"]}},
        {"own_capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}},
        {"own_runAsNonRoot": False},
        {"own_runAsUser": 0},
        {"own_seccompProfile": {"type": "Unconfined"}},
        {"container_ports": [{"containerPort": 80, "hostPort": 80}]},
        {"container_livenessProbe": {"httpGet": {"path": "/", "port": 80, "host": "10.0.0.1"}}},
        {"container_lifecycle": {"preStop": {"tcpSocket": {"port": 80, "host": "10.0.0.1"}}}},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_violations_are_found_for_each_forbidden_field(changes: dict[str, object]) -> None:
    assert _violations(**changes)


def test_violations_are_found_in_init_containers() -> None:
    assert _violations(spec_initContainers=[{"name": "first"}])


def test_violations_are_empty_when_the_container_sets_what_its_pod_omits() -> None:
    own = {"own_runAsNonRoot": True, "own_seccompProfile": {"type": "Localhost", "localhostProfile": "wine.json"}}
    assert _violations(pod_runAsNonRoot=None, pod_seccompProfile=None, **own) == []


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Pod", GOOD["spec"]),
        ("Deployment", {"template": GOOD}),
        ("CronJob", {"jobTemplate": {"spec": {"template": GOOD}}}),
    ],
)
def test_pods_are_found_in_workloads(kind: str, spec: Object) -> None:
    assert [pod["spec"] for pod in pods({"kind": kind, "spec": spec})] == [GOOD["spec"]]
    assert list(pods({"kind": "ConfigMap"})) == []
