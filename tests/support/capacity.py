"""What a cluster has to spare, and what pods ask for: as the scheduler counts, by requests."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from support.kube import Kube
from support.nodes import NodesError

Object = dict[str, Any]
QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
FINISHED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Amount:
    """CPU in thousandths of a processor, memory in MiB."""

    cpu: int = 0
    memory: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.cpu + other.cpu, self.memory + other.memory)

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(self.cpu - other.cpu, self.memory - other.memory)

    def __mul__(self, times: int) -> "Amount":
        return Amount(self.cpu * times, self.memory * times)

    def __str__(self) -> str:
        return f"{self.cpu / 1000:.2f} CPU and {self.memory} MiB"


def amount(resources: Mapping[str, Any]) -> Amount:
    """Read `requests`, or a node's `allocatable`."""
    return Amount(round(_quantity(resources.get("cpu", 0)) * 1000), round(_quantity(resources.get("memory", 0)) / UNITS["Mi"]))


def requested(spec: Object) -> Amount:
    """Add up what a pod asks for: its containers together, or one init container, whichever is more."""
    containers = sum((_of(container) for container in spec["containers"]), Amount())
    first = [_of(container) for container in spec.get("initContainers") or []]
    return Amount(
        max([containers.cpu, *(one.cpu for one in first)]),
        max([containers.memory, *(one.memory for one in first)]),
    )


def of_manifests(manifests: Iterable[Object]) -> Amount:
    """Add up what the pods of manifests ask for: Deployments with their replicas, and Pods."""
    total = Amount()
    for one in manifests:
        if one["kind"] == "Deployment":
            total += requested(one["spec"]["template"]["spec"]) * int(one["spec"].get("replicas", 1))
        elif one["kind"] == "Pod":
            total += requested(one["spec"])
    return total


def spare(nodes: Iterable[Object], pods: Iterable[Object]) -> Amount:
    """What nodes that take pods have left beside the pods that are there."""
    open_nodes = [node for node in nodes if not node["spec"].get("unschedulable") and not _refuses(node)]
    names = {node["metadata"]["name"] for node in open_nodes}
    total = sum((amount(node["status"]["allocatable"]) for node in open_nodes), Amount())
    for pod in pods:
        if pod["spec"].get("nodeName") in names and pod["status"].get("phase") not in FINISHED:
            total -= requested(pod["spec"])
    return total


def starting(node: Object) -> bool:
    """Tell whether Kubernetes itself still keeps pods off a node: it is not ready, or was not a moment ago."""
    return any(taint["key"] == "node.kubernetes.io/not-ready" for taint in node["spec"].get("taints") or [])


def check(kube: Kube, needed: Amount) -> Amount:
    """See that a cluster has room for pods, before anything is built for them; return what it has to spare.

    Raises NodesError.
    """
    there = spare(kube.items("nodes"), kube.items("pods", "--all-namespaces"))
    if there.cpu < needed.cpu or there.memory < needed.memory:
        raise NodesError(
            f"The cluster has too little room. Pods of make e2e request {needed}; beside what runs already {there} are free. "
            "Give the machine, or the container engine's virtual machine, more processors or memory; or reduce the requests of "
            "other pods, on kind for instance: kubectl -n kube-system set resources deployment/coredns --requests=cpu=10m"
        )
    return there


def _of(container: Object) -> Amount:
    resources = container.get("resources") or {}
    return amount({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _quantity(text: str | int) -> float:
    found = QUANTITY.fullmatch(str(text))
    assert found, f"{text!r} is no quantity"
    return float(found[1]) * UNITS[found[2] or ""]


def _refuses(node: Object) -> bool:
    return any(taint["effect"] in ("NoSchedule", "NoExecute") for taint in node["spec"].get("taints") or [])
