"""The sandbox's objects in a cluster: labelled when they are created, never taken from others, removed at the end.

The mark is a label whose value no other sandbox has, not one of the same name either. On a
cluster of someone's nothing is changed or deleted that does not carry it.
"""

import contextlib
import json
from collections.abc import Iterable
from typing import Any

from sandbox.errors import ClusterError, KubectlError
from sandbox.kubectl import kubectl
from sandbox.plan import Plan

LABEL = "winepipelines.io/sandbox"
CLUSTER_WIDE = {  # in the order of removal: controllers and webhooks before their objects
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ClusterRoleBinding": "clusterrolebindings",
    "ClusterRole": "clusterroles",
    "Namespace": "namespaces",
    "CustomResourceDefinition": "customresourcedefinitions",
}
REMOVED = ",".join(CLUSTER_WIDE.values())

Manifest = dict[str, Any]


def marked(plan: Plan, manifest: Manifest) -> Manifest:
    """Return the object with the sandbox's label."""
    meta = manifest["metadata"]
    return {**manifest, "metadata": {**meta, "labels": {**(meta.get("labels") or {}), LABEL: plan.mark}}}


def check_access(plan: Plan) -> None:
    """Check that the API server answers and grants the necessary rights.

    Raises ClusterError.
    """
    try:
        kubectl(plan, "get", "--raw", "/version", "--request-timeout=10s")
    except KubectlError as error:
        raise ClusterError(f"The API server cannot be used: {error}") from error
    try:
        kubectl(plan, "auth", "can-i", "*", "*", "--all-namespaces", "--request-timeout=10s")
    except KubectlError as error:
        raise ClusterError(
            "This context's user is no administrator of the cluster (kubectl auth can-i '*' '*' --all-namespaces), and the "
            "sandbox makes kinds, namespaces and cluster roles. Use a context of one who is."
        ) from error


def check(plan: Plan, manifests: Iterable[Manifest]) -> None:
    """Check that no object that the sandbox would create exists already, except its own.

    Raises ClusterError with what is there.
    """
    names = [f"{CLUSTER_WIDE[m['kind']]}/{m['metadata']['name']}" for m in manifests if "namespace" not in m["metadata"]]
    try:
        found = _items(kubectl(plan, "get", *names, "--ignore-not-found", "--output=json"))
    except KubectlError as error:
        raise ClusterError(f"The API server lacks what the sandbox needs: {error}") from error
    others = [item for item in found if _mark(item) != plan.mark]
    if not others:
        return
    names = [f"{item['kind']} {item['metadata']['name']}" for item in others]
    advice = "They belong to someone else. Use a cluster without them, for example a new kind cluster."
    marks = sorted(filter(None, map(_mark, others)))
    if len(marks) == len(others):
        advice = (
            f"Another sandbox created them: stop it with `down`. If it no longer exists: kubectl delete {REMOVED} -l '{LABEL} in "
        )
        advice += f"({','.join(dict.fromkeys(marks))})'"
    raise ClusterError(f"The cluster already has: {', '.join(names)}. {advice}")


def remove(plan: Plan) -> None:
    """Remove all objects with the sandbox's label, and all objects of the kinds among them. Raises KubectlError."""
    selector = f"--selector={LABEL}={plan.mark}"
    listed = kubectl(plan, "get", "customresourcedefinitions", selector, "--output=name").split()
    for kind in (name.partition("/")[2] for name in listed):
        kubectl(plan, "delete", kind, "--all", "--all-namespaces", "--wait=false")
        for item in _items(kubectl(plan, "get", kind, "--all-namespaces", "--output=json")):
            if item["metadata"].get("finalizers"):  # the controller that would remove them is stopped
                where = ("--namespace", item["metadata"]["namespace"])
                patch = ("patch", kind, item["metadata"]["name"], "--type=merge", '--patch={"metadata":{"finalizers":null}}')
                with contextlib.suppress(KubectlError):  # deleted meanwhile; otherwise removing the kind reports the error
                    kubectl(plan, *where, *patch)
    kubectl(plan, "delete", REMOVED, selector, "--timeout=120s")


def _items(text: str) -> list[Manifest]:
    """Return the objects of kubectl's answer: none, one, or a list."""
    answer: Manifest = json.loads(text or '{"items": []}')
    return list(answer.get("items", [answer]))


def _mark(item: Manifest) -> str:
    return str((item["metadata"].get("labels") or {}).get(LABEL, ""))
