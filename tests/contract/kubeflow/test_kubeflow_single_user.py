"""Kubeflow Pipelines in single-user mode: one list for everybody, and no experiment needed."""

from contract.kubeflow.endpoint import Endpoint

MODE = "single-user"


def test_a_run_without_an_experiment_is_in_the_default_one(kfp: Endpoint) -> None:
    run = kfp.create()
    assert kfp.get(f"/experiments/{run['experiment_id']}").json()["display_name"] == "Default"


def test_a_namespace_is_left_aside(kfp: Endpoint) -> None:
    """So one list has the runs of all."""
    name = kfp.create()["display_name"]
    for query in ({}, {"namespace": "some"}):
        found = kfp.get("/runs", params={**query, "sort_by": "created_at desc"}).json()["runs"]
        assert name in [run["display_name"] for run in found]


def test_the_service_account_is_the_platforms(kfp: Endpoint) -> None:
    assert kfp.create()["service_account"] == "pipeline-runner"
