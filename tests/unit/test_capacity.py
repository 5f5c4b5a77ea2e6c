"""Free capacity of a cluster for the pods of `make e2e`, computed as the scheduler does."""

from typing import Any, cast

import pytest
from e2e.room import MODELS, charts, model, needed
from support.capacity import Amount, amount, check, of_manifests, requested, spare, starting
from support.kube import Kube
from support.nodes import NodesError

Object = dict[str, Any]


def _container(cpu: str, memory: str = "") -> Object:
    return {"name": "c", "resources": {"requests": {"cpu": cpu, **({"memory": memory} if memory else {})}}}


def _node(name: str, cpu: str, memory: str, **spec: Any) -> Object:
    return {"metadata": {"name": name}, "spec": spec, "status": {"allocatable": {"cpu": cpu, "memory": memory}}}


def _pod(node: str, cpu: str, phase: str = "Running") -> Object:
    return {"spec": {"nodeName": node, "containers": [_container(cpu)]}, "status": {"phase": phase}}


class Cluster:
    """A kubectl that lists these objects."""

    def __init__(self, nodes: list[Object], pods: list[Object]) -> None:
        self._items = {"nodes": nodes, "pods": pods}

    def items(self, kind: str, *_: str) -> list[Object]:
        return self._items[kind]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"cpu": "250m", "memory": "64Mi"}, Amount(250, 64)),
        ({"cpu": "2", "memory": "8123456Ki"}, Amount(2000, 7933)),
        ({"cpu": 1.5, "memory": "1G"}, Amount(1500, 954)),
        ({"memory": 1048576}, Amount(0, 1)),
        ({}, Amount()),
    ],
)
def test_amount_parses_quantities(resources: Object, expected: Amount) -> None:
    assert amount(resources) == expected


def test_pod_requests_the_sum_of_containers_or_its_largest_init_container() -> None:
    pod = {
        "containers": [_container("50m", "100Mi"), _container("10m")],
        "initContainers": [_container("100m"), _container("1m", "1Gi")],
    }
    assert requested(pod) == Amount(100, 1024)
    limited = {"name": "c", "resources": {"limits": {"cpu": "1"}}}
    assert requested({"containers": [limited, {"name": "d"}]}) == Amount(1000, 0), (
        "a limit without a request counts as the request"
    )


def test_spare_counts_schedulable_nodes_only() -> None:
    nodes = [
        _node("a", "2", "2Gi"),
        _node("b", "1", "1Gi"),
        _node("cordoned", "8", "8Gi", unschedulable=True),
        _node("tainted", "8", "8Gi", taints=[{"key": "x", "effect": "NoSchedule"}]),
    ]
    pods = [_pod("a", "500m"), _pod("a", "1", "Succeeded"), _pod("tainted", "4"), _pod("b", "250m")]
    assert spare(nodes, pods) == Amount(2250, 3072)


def test_node_with_a_not_ready_taint_is_starting() -> None:
    taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    assert starting(_node("new", "2", "2Gi", taints=[taint]))
    assert not starting(_node("kept", "2", "2Gi", taints=[{"key": "x", "effect": "NoSchedule"}]))
    assert not starting(_node("ready", "2", "2Gi"))


def test_check_fails_with_the_amounts_when_the_cluster_is_too_small() -> None:
    small = Cluster([_node("kind", "2", "4Gi")], [_pod("kind", "950m")])
    with pytest.raises(NodesError) as refused:
        check(cast("Kube", small), Amount(1500, 2000))
    assert "request 1.50 CPU and 2000 MiB" in str(refused.value)
    assert "1.05 CPU and 4096 MiB are free" in str(refused.value)
    assert check(cast("Kube", small), Amount(1000, 2000)) == Amount(1050, 4096)


def test_deployment_counts_with_its_replicas() -> None:
    template = {"spec": {"containers": [_container("1")]}}
    pod = {"kind": "Pod", "spec": {"containers": [_container("5m", "1Mi")]}}
    deployment = {"kind": "Deployment", "spec": {"replicas": 2, "template": template}}
    assert of_manifests([deployment, pod, {"kind": "Secret"}]) == Amount(2005, 1)


def test_needed_capacity_is_the_sum_of_charts_and_models() -> None:
    assert charts().cpu <= 250, "kind's own pods request 950m already"
    assert needed() == charts() + model() * MODELS
    assert model() != Amount()


def test_needed_capacity_fits_two_cpus_beside_kinds_pods() -> None:
    kinds_own = Amount(950, 290)
    assert (needed() + kinds_own).cpu <= 2000
    assert (needed() + kinds_own).memory <= 4096
