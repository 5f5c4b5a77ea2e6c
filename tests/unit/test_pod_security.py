"""The checker of the Pod Security Standard *restricted* finds each thing that the standard forbids."""

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


def _forbidden(**changes: object) -> list[str]:
    """What is found in the good pod with a change: `spec_x=…`, `pod_x=…` of its context, `own_x=…`, `container_x=…`."""
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


def test_a_pod_that_follows_it_has_no_finding() -> None:
    assert _forbidden() == []


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
def test_what_it_forbids_is_found(changes: dict[str, object]) -> None:
    assert _forbidden(**changes)


def test_init_containers_are_looked_at() -> None:
    assert _forbidden(spec_initContainers=[{"name": "first"}])


def test_a_container_may_say_for_itself_what_its_pod_leaves_out() -> None:
    own = {"own_runAsNonRoot": True, "own_seccompProfile": {"type": "Localhost", "localhostProfile": "wine.json"}}
    assert _forbidden(pod_runAsNonRoot=None, pod_seccompProfile=None, **own) == []


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Pod", GOOD["spec"]),
        ("Deployment", {"template": GOOD}),
        ("CronJob", {"jobTemplate": {"spec": {"template": GOOD}}}),
    ],
)
def test_pods_are_found_in_what_makes_them(kind: str, spec: Object) -> None:
    assert [pod["spec"] for pod in pods({"kind": kind, "spec": spec})] == [GOOD["spec"]]
    assert list(pods({"kind": "ConfigMap"})) == []
