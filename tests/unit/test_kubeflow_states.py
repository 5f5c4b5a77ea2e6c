"""Runs as Kubeflow Pipelines shows them, and as the operator takes them."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from kfp_server_api import V2beta1ListRunsResponse, V2beta1Run

from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.resource.observed import RunState
from winepipelines.settings import Settings


@pytest.fixture
def kubeflow() -> Kubeflow:
    return Kubeflow(Settings("http://kfp", "http://mlflow", "http://minio"))


def test_a_run_whose_workflow_has_not_begun_is_pending_and_listed(kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def list_runs(**query: Any) -> V2beta1ListRunsResponse:
        asked.append(query)
        return V2beta1ListRunsResponse(runs=[V2beta1Run(run_id="r", display_name="mlflow-1")])  # no state

    monkeypatch.setattr(kubeflow, "_runs", SimpleNamespace(run_service_list_runs=list_runs))
    monkeypatch.setattr(kubeflow, "_multi_user", False)
    [view] = asyncio.run(kubeflow.active_runs("admin"))
    assert view.state is RunState.PENDING
    [predicate] = json.loads(unquote(asked[0]["filter"]))["predicates"]
    assert "RUNTIME_STATE_UNSPECIFIED" in predicate["string_values"]["values"], "the name by which the server filters it"
