"""The doctor foresees that Istio's policies in a namespace refuse the operator's check of a model."""

from dataclasses import replace
from typing import Any

import pytest
from support.survey import GOOD, NAMESPACE, find, observed

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused
from winepipelines.doctor.checks.mesh import admits, is_in_mesh
from winepipelines.doctor.finding import Finding, Result

CHECK = "mesh admits the operator"
PRINCIPAL = "cluster.local/ns/kubeflow/sa/wine-operator"
MESH = {"app.kubernetes.io/part-of": "kubeflow-profile", "istio-injection": "enabled"}


def policy(name: str, *rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"rules": list(rules), **spec}}


def of(**source: Any) -> dict[str, Any]:
    return {"from": [{"source": source}]}


PROFILE = policy(
    "ns-owner-access-istio",
    {"when": [{"key": "request.headers[kubeflow-userid]", "values": ["user@example.org"]}]},
    {"when": [{"key": "source.namespace", "values": ["admin"]}]},
    {"to": [{"operation": {"paths": ["/healthz", "/metrics"]}}]},
)
"""As Kubeflow's profile controller makes it."""
OURS = policy("wine-operator-models", of(principals=[PRINCIPAL]), selector={"matchLabels": {"a": "b"}}, action="ALLOW")


def finding(policies: Any, labels: Any = MESH) -> Finding:
    seen = replace(observed(mesh_policies=policies), namespace=replace(NAMESPACE, labels=labels))
    return find(seen, CHECK)


def test_profile_without_a_policy_for_the_operator_is_a_warning() -> None:
    found = finding((PROFILE,))
    assert found.result is Result.WARNING
    assert "ns-owner-access-istio" in found.message
    assert "kubeflow/wine-operator" in found.message
    assert "mesh.authorizationPolicy: {create: true, namespaces: [admin]}" in found.remedy


def test_policy_of_the_chart_admits_the_operator() -> None:
    found = finding((PROFILE, OURS))
    assert (found.result, found.message) == (Result.OK, "AuthorizationPolicy wine-operator-models admits kubeflow/wine-operator")


def test_namespace_without_policies_or_outside_of_the_mesh_passes() -> None:
    assert finding(()).result is Result.OK
    assert finding((policy("denies", action="DENY"),)).result is Result.OK
    assert finding((PROFILE,), {"istio-injection": "disabled"}).result is Result.OK
    assert find(GOOD, CHECK).message == "admin has no label of Istio"


def test_what_may_not_be_read_is_skipped() -> None:
    assert finding(None).result is Result.SKIPPED
    assert "ask an administrator" in finding(None).message
    assert finding(Refused(Reason.KUBERNETES_UNAVAILABLE, "no")).result is Result.SKIPPED
    assert finding((PROFILE,), None).result is Result.SKIPPED


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"istio-injection": "enabled"}, True),
        ({"istio.io/rev": "1-29"}, True),
        ({"istio.io/dataplane-mode": "ambient"}, True),
        ({"istio.io/dataplane-mode": "none"}, False),
        ({}, False),
    ],
)
def test_labels_of_sidecars_and_of_ambient_mode_are_known(labels: dict[str, str], expected: bool) -> None:
    assert is_in_mesh(labels) == expected


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (policy("a", of(principals=["*/sa/wine-operator"])), True),
        (policy("a", of(principals=["other.domain/ns/kubeflow/sa/wine-operator"])), True),
        (policy("a", of(principals=["cluster.local/ns/kubeflow/sa/other"])), False),
        (policy("a", of(principals=["*"])), True),
        (policy("a", of(namespaces=["kubeflow"])), True),
        (policy("a", of(namespaces=["kubeflow"]), selector={"matchLabels": {"app": "notebook"}}), False),
        (policy("a", {}), True),
        (policy("a", {**of(principals=[PRINCIPAL]), "to": [{"operation": {"paths": ["/x"]}}]}), False),
        (policy("a"), False),
        ({"metadata": None, "spec": None}, False),
    ],
)
def test_policies_are_read_as_istio_does(one: dict[str, Any], expected: bool) -> None:
    assert admits(one, "kubeflow", "wine-operator") == expected
