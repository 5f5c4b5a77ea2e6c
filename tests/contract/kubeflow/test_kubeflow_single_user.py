"""Kubeflow Pipelines in single-user mode: all users share one list, and a run needs no experiment."""

from contract.kubeflow.endpoint import Endpoint

MODE = "single-user"


def test_run_without_an_experiment_is_in_the_default_one(kfp: Endpoint) -> None:
    run = kfp.create()
    assert kfp.get(f"/experiments/{run['experiment_id']}").json()["display_name"] == "Default"


def test_namespace_is_ignored(kfp: Endpoint) -> None:
    """One list contains the runs of all users."""
    name = kfp.create()["display_name"]
    for query in ({}, {"namespace": "some"}):
        found = kfp.get("/runs", params={**query, "sort_by": "created_at desc"}).json()["runs"]
        assert name in [run["display_name"] for run in found]


def test_run_has_the_platforms_service_account(kfp: Endpoint) -> None:
    assert kfp.create()["service_account"] == "pipeline-runner"
