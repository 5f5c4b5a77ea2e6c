"""Health that Argo CD, Flux and kstatus derive from the statuses that the operator writes."""

from pathlib import Path
from typing import Any

import celpy
import pytest
import yaml
from celpy.adapter import json_to_cel
from celpy.celtypes import BoolType
from celpy.evaluation import CELEvalError
from lupa.lua51 import LuaRuntime
from support.statuses import SITUATIONS, resource

GITOPS = Path(__file__).parents[2] / "deploy/gitops"
Body = dict[str, Any]

# situation: (Argo CD's health, Flux's status, kstatus without rules for the kind)
EXPECTED = {
    "untouched": ("Progressing", "InProgress", "Current"),
    "training": ("Progressing", "InProgress", "InProgress"),
    "deploying": ("Progressing", "InProgress", "InProgress"),
    "serving": ("Healthy", "Current", "Current"),
    "changed": ("Progressing", "InProgress", "InProgress"),
    "training_again": ("Progressing", "InProgress", "InProgress"),
    "bad_data": ("Degraded", "Failed", "Failed"),
    "source_secret_missing": ("Degraded", "Failed", "Failed"),
    "suspended": ("Suspended", "Current", "InProgress"),
    "serving_suspended": ("Healthy", "Current", "Current"),
    "rolled_back": ("Suspended", "Current", "InProgress"),
    "rolled_back_automatically": ("Degraded", "Failed", "Failed"),
    "kubeflow_down": ("Progressing", "InProgress", "InProgress"),
    "kubeflow_refuses": ("Degraded", "Failed", "Failed"),
    "answers_wrongly": ("Progressing", "InProgress", "InProgress"),
    "deleted": ("Progressing", "Terminating", "Terminating"),
}


def test_each_situation_has_an_expected_health() -> None:
    assert EXPECTED.keys() == SITUATIONS.keys()


@pytest.mark.parametrize("situation", EXPECTED)
def test_argo_cd_reports_the_expected_health(situation: str) -> None:
    body = resource(situation)
    health, message = _argo_cd(body)
    assert health == EXPECTED[situation][0]
    assert message
    if health in ("Degraded", "Healthy"):
        ready = next(one for one in body["status"]["conditions"] if one["type"] == "Ready")
        assert message == f"{ready['reason']}: {ready['message']}"


@pytest.mark.parametrize("situation", EXPECTED)
def test_flux_reports_the_expected_status(situation: str) -> None:
    assert _flux(resource(situation)) == EXPECTED[situation][1]


@pytest.mark.parametrize("situation", EXPECTED)
def test_kstatus_reports_the_expected_status(situation: str) -> None:
    assert _kstatus(resource(situation)) == EXPECTED[situation][2]


def _argo_cd(body: Body) -> tuple[str, str]:
    """Run the health script as Argo CD does: Lua 5.1, the resource as `obj`."""
    data = yaml.safe_load((GITOPS / "argocd/argocd-cm.yaml").read_text())["data"]
    (script,) = {data[f"resource.customizations.health.winepipelines.io_{kind}"] for kind in ("WinePipeline", "WinePrediction")}
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = lua.table_from(body, recursive=True)
    health = lua.execute(script)
    return health["status"], health["message"]


def _flux(body: Body) -> str:
    """Follow Flux's order: deletion, generation, each expression. One that cannot be evaluated means InProgress (RFC 0009)."""
    if "deletionTimestamp" in body["metadata"]:
        return "Terminating"
    if body.get("status", {}).get("observedGeneration", body["metadata"]["generation"]) != body["metadata"]["generation"]:
        return "InProgress"
    (expressions,) = yaml.safe_load((GITOPS / "flux/models.yaml").read_text())["spec"]["healthCheckExprs"]
    assert (expressions["apiVersion"], expressions["kind"]) == (body["apiVersion"], body["kind"])
    for name, outcome in (("inProgress", "InProgress"), ("failed", "Failed"), ("current", "Current")):
        if name in expressions and _cel(expressions[name], body):
            return outcome
    return "InProgress"


def _cel(expression: str, body: Body) -> bool:
    environment = celpy.Environment()
    program = environment.program(environment.compile(expression))
    try:
        result = program.evaluate({key: json_to_cel(value) for key, value in body.items()})
    except CELEvalError:
        assert "status" not in body, "expressions must evaluate for every status"
        return False
    assert isinstance(result, BoolType)
    return bool(result)


def _kstatus(body: Body) -> str:
    """Follow the documented rules of kstatus for a kind that it does not know."""
    metadata, status = body["metadata"], body.get("status", {})
    if "deletionTimestamp" in metadata:
        return "Terminating"
    if status.get("observedGeneration", metadata["generation"]) != metadata["generation"]:
        return "InProgress"
    conditions = {one["type"]: one["status"] for one in status.get("conditions", [])}
    assert not {"Reconciling", "Stalled"} <= conditions.keys(), "kstatus uses only the first of them"
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current" if conditions.get("Ready", "True") == "True" else "InProgress"
