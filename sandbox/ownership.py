"""What in a cluster is this sandbox's: marked when it is made, never taken from others, removed in the end.

Called by `manifests` and `clusters`. The mark is a label whose value no other sandbox has, not one of the same name either. On a
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
CLUSTER_WIDE = {  # in the order in which they are removed: what acts on others before what it acts on
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
    """The same object with the sandbox's mark."""
    meta = manifest["metadata"]
    return {**manifest, "metadata": {**meta, "labels": {**(meta.get("labels") or {}), LABEL: plan.mark}}}


def check_access(plan: Plan) -> None:
    """See that the API server answers, and lets us do what we must.

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
    """See that nothing that the sandbox would make is there already, but what it has made itself.

    Raises ClusterError with what is there.
    """
    names = [f"{CLUSTER_WIDE[m['kind']]}/{m['metadata']['name']}" for m in manifests if "namespace" not in m["metadata"]]
    try:
        found = _items(kubectl(plan, "get", *names, "--ignore-not-found", "--output=json"))
    except KubectlError as error:
        raise ClusterError(f"The API server has not what the sandbox needs: {error}") from error
    others = [item for item in found if _mark(item) != plan.mark]
    if not others:
        return
    told = [f"{item['kind']} {item['metadata']['name']}" for item in others]
    advice = "The sandbox would change what is someone's. Use a cluster without them, a new kind cluster for instance."
    marks = sorted(filter(None, map(_mark, others)))
    if len(marks) == len(others):
        advice = f"Another sandbox has made them: take it down. Is it gone, then: kubectl delete {REMOVED} -l '{LABEL} in "
        advice += f"({','.join(dict.fromkeys(marks))})'"
    raise ClusterError(f"The cluster has already: {', '.join(told)}. {advice}")


def remove(plan: Plan) -> None:
    """Remove all that carries the sandbox's mark, and every object of the kinds among it. Raises KubectlError."""
    selector = f"--selector={LABEL}={plan.mark}"
    listed = kubectl(plan, "get", "customresourcedefinitions", selector, "--output=name").split()
    for kind in (name.partition("/")[2] for name in listed):
        kubectl(plan, "delete", kind, "--all", "--all-namespaces", "--wait=false")
        for item in _items(kubectl(plan, "get", kind, "--all-namespaces", "--output=json")):
            if item["metadata"].get("finalizers"):  # who would have removed them has been stopped
                where = ("--namespace", item["metadata"]["namespace"])
                patch = ("patch", kind, item["metadata"]["name"], "--type=merge", '--patch={"metadata":{"finalizers":null}}')
                with contextlib.suppress(KubectlError):  # gone meanwhile; were it not, removing the kind would say so
                    kubectl(plan, *where, *patch)
    kubectl(plan, "delete", REMOVED, selector, "--timeout=120s")


def _items(text: str) -> list[Manifest]:
    """The objects of kubectl's answer: none, one, or a list."""
    answer: Manifest = json.loads(text or '{"items": []}')
    return list(answer.get("items", [answer]))


def _mark(item: Manifest) -> str:
    return str((item["metadata"].get("labels") or {}).get(LABEL, ""))
