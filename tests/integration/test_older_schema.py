"""Resources that were stored under another schema can be deleted: the operator removes its finalizer."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cluster import Cluster, eventually
from support.operator import OperatorProcess

from sandbox.errors import KubectlError
from winepipelines.api.pipeline import API_VERSION, FINALIZER

CRDS = Path(__file__).parents[2] / "crds"
RELAXED = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
SPECS: dict[str, dict[str, dict[str, Any]]] = {
    "WinePipeline": {
        "a-rule": {"data": {"url": "http://data/{{workflow.name}}.csv"}},
        "an-enum": {"data": {"url": "http://data/wine.csv"}, "training": {"algorithm": "Astrology"}},
        "a-required-field": {"data": {"credentialsSecret": "wine-data"}},
        "a-spec": {},
        "a.name": {"data": {"url": "http://data/wine.csv"}},
    },
    "WinePrediction": {
        "a-rule": {"pipeline": "wine", "input": {"url": "http://data/{{x}}.csv"}, "output": "s3://scores/a.csv"},
        "a-required-field": {"pipeline": "wine"},
        "an-address": {"pipeline": "wine", "input": {"credentialsSecret": "wine-data"}, "output": "s3://scores/c.csv"},
        "a.name": {"pipeline": "wine", "input": {"url": "http://data/wine.csv"}, "output": "s3://scores/b.csv"},
    },
}


@pytest.fixture
def older(cluster: Cluster, namespace: str) -> Iterator[str]:
    """Create a namespace with resources that were stored under a schema without limits."""
    for kind, specs in SPECS.items():
        crd = yaml.safe_load((CRDS / f"{kind.lower()}s.yaml").read_text())
        version = crd["spec"]["versions"][0]
        real = version["schema"]
        version["schema"] = {"openAPIV3Schema": {"type": "object", "properties": {"spec": RELAXED, "status": RELAXED}}}
        _apply(cluster, crd)
        for name, spec in specs.items():
            metadata = {"name": name, "namespace": namespace, "finalizers": [FINALIZER]}
            body = {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
            eventually(lambda body=body: _is_applied(cluster, body))  # type: ignore[misc] # the new schema is served with a delay
        version["schema"] = real
        _apply(cluster, crd)
        eventually(lambda kind=kind: _refuses(cluster, namespace, kind))  # type: ignore[misc]
    yield namespace
    for kind, specs in SPECS.items():
        for name in specs:
            cluster.sandbox.kubectl("-n", namespace, "delete", kind.lower(), name, "--wait=false", "--ignore-not-found")


def _apply(cluster: Cluster, crd: dict[str, Any]) -> None:
    cluster.sandbox.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(crd))


def _is_applied(cluster: Cluster, body: dict[str, Any]) -> bool:
    try:
        cluster.apply(body)
    except KubectlError:
        return False
    return True


def _refuses(cluster: Cluster, namespace: str, kind: str) -> bool:
    body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "probe", "namespace": namespace}, "spec": {}}
    try:
        cluster.sandbox.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(body))
    except KubectlError:
        return True
    return False


def test_resource_stored_under_an_older_schema_can_be_deleted(cluster: Cluster, older: str, operator: OperatorProcess) -> None:
    for kind, specs in SPECS.items():
        for name in specs:
            cluster.sandbox.kubectl("-n", older, "delete", kind.lower(), name, "--wait=false")
    left: list[str] = []

    def are_gone() -> bool:
        left[:] = [f"{kind} {name}" for kind, specs in SPECS.items() for name in specs if cluster.get(kind.lower(), older, name)]
        return not left

    try:
        eventually(are_gone, seconds=60)
    except AssertionError:
        raise AssertionError(f"keep their finalizers: {left}") from None
