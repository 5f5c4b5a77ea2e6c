"""Free capacity of a cluster and requests of pods, computed as the scheduler does."""

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
    """An amount of CPU, in millicores, and of memory, in MiB."""

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
    """Parse `requests` of a container or `allocatable` of a node."""
    return Amount(round(_quantity(resources.get("cpu", 0)) * 1000), round(_quantity(resources.get("memory", 0)) / UNITS["Mi"]))


def requested(spec: Object) -> Amount:
    """Compute the requests of a pod: the sum of its containers, or the largest init container if that is more."""
    containers = sum((_of(container) for container in spec["containers"]), Amount())
    init = [_of(container) for container in spec.get("initContainers") or []]
    return Amount(
        max([containers.cpu, *(one.cpu for one in init)]),
        max([containers.memory, *(one.memory for one in init)]),
    )


def of_manifests(manifests: Iterable[Object]) -> Amount:
    """Add up the requests of the Pods, and of the Deployments with their replicas, in manifests."""
    total = Amount()
    for one in manifests:
        if one["kind"] == "Deployment":
            total += requested(one["spec"]["template"]["spec"]) * int(one["spec"].get("replicas", 1))
        elif one["kind"] == "Pod":
            total += requested(one["spec"])
    return total


def spare(nodes: Iterable[Object], pods: Iterable[Object]) -> Amount:
    """Compute the free capacity of the schedulable nodes, beside the pods that run on them."""
    schedulable = [node for node in nodes if not node["spec"].get("unschedulable") and not _has_taint(node)]
    names = {node["metadata"]["name"] for node in schedulable}
    total = sum((amount(node["status"]["allocatable"]) for node in schedulable), Amount())
    for pod in pods:
        if pod["spec"].get("nodeName") in names and pod["status"].get("phase") not in FINISHED:
            total -= requested(pod["spec"])
    return total


def starting(node: Object) -> bool:
    """Whether a node still has the taint of a node that is not ready. Kubernetes removes it shortly after the node is ready."""
    return any(taint["key"] == "node.kubernetes.io/not-ready" for taint in node["spec"].get("taints") or [])


def check(kube: Kube, needed: Amount) -> Amount:
    """Return the free capacity of a cluster.

    Raises NodesError if it is less than `needed`.
    """
    free = spare(kube.items("nodes"), kube.items("pods", "--all-namespaces"))
    if free.cpu < needed.cpu or free.memory < needed.memory:
        raise NodesError(
            f"The cluster has too little free capacity. The pods of make e2e request {needed}; {free} are free. "
            "Give the machine, or the container engine's virtual machine, more CPU or memory, or reduce the requests of "
            "other pods. On kind, for example: kubectl -n kube-system set resources deployment/coredns --requests=cpu=10m"
        )
    return free


def _of(container: Object) -> Amount:
    resources = container.get("resources") or {}
    return amount({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _quantity(text: str | int) -> float:
    found = QUANTITY.fullmatch(str(text))
    assert found, f"{text!r} is not a quantity"
    return float(found[1]) * UNITS[found[2] or ""]


def _has_taint(node: Object) -> bool:
    return any(taint["effect"] in ("NoSchedule", "NoExecute") for taint in node["spec"].get("taints") or [])
