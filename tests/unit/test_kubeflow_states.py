"""States of runs in Kubeflow Pipelines, and their RunState."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from kfp_server_api import V2beta1ListRunsResponse, V2beta1Run
from support.settings import SETTINGS

from winepipelines.api.observed import RunState
from winepipelines.platform.kubeflow import Kubeflow


@pytest.fixture
def kubeflow() -> Kubeflow:
    return Kubeflow(SETTINGS)


def test_run_without_a_state_is_pending_and_listed(kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch) -> None:
    queries: list[dict[str, Any]] = []

    def list_runs(**query: Any) -> V2beta1ListRunsResponse:
        queries.append(query)
        return V2beta1ListRunsResponse(runs=[V2beta1Run(run_id="r", display_name="mlflow-1")])  # no state

    monkeypatch.setattr(kubeflow._client, "runs", SimpleNamespace(run_service_list_runs=list_runs))
    monkeypatch.setattr(kubeflow._client, "_multi_user", False)
    [view] = asyncio.run(kubeflow.active_runs("admin"))
    assert view.state is RunState.PENDING
    [predicate] = json.loads(unquote(queries[0]["filter"]))["predicates"]
    assert "RUNTIME_STATE_UNSPECIFIED" in predicate["string_values"]["values"], "the filter includes runs without a state"
