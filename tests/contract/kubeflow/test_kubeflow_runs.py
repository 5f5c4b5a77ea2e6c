"""Kubeflow Pipelines: creating, reading and deleting runs and experiments, and invalid requests."""

from datetime import UTC, datetime
from typing import Any

import pytest
from contract.kubeflow.endpoint import GIVEN, Endpoint, error, eventually, pipeline, unique, with_platform


def test_server_reports_its_version_and_mode(kfp: Endpoint) -> None:
    health = kfp.get("/healthz").json()
    assert health["multi_user"] is kfp.multi_user
    assert health.keys() >= {"commit_sha", "tag_name"}


def test_new_run_is_pending_with_its_input(kfp: Endpoint) -> None:
    run = kfp.create(description="why", display_name=unique("new"))
    created = datetime.fromisoformat(run["created_at"])
    assert abs((datetime.now(UTC) - created).total_seconds()) < 60
    assert (run["state"], run["storage_state"], run["description"]) == ("PENDING", "AVAILABLE", "why")
    assert [entry["state"] for entry in run["state_history"]] == ["PENDING"]
    assert run["runtime_config"] == {"parameters": GIVEN}
    assert run["pipeline_spec"] == pipeline(kfp.image)


def test_unset_time_is_1970(kfp: Endpoint) -> None:
    assert kfp.create()["finished_at"] == "1970-01-01T00:00:00Z"


def test_empty_fields_are_omitted(kfp: Endpoint) -> None:
    run = kfp.create()
    for left_out in ("description", "error", "run_details", "recurring_run_id", "pipeline_version_reference"):
        assert left_out not in run


def test_experiment_reports_its_last_run(kfp: Endpoint) -> None:
    run = kfp.create(experiment_id=kfp.experiment(unique("experiment")))
    assert kfp.get(f"/experiments/{run['experiment_id']}").json()["last_run_created_at"] == run["created_at"]


def test_pipeline_with_platform_document_is_returned_unchanged(kfp: Endpoint) -> None:
    assert kfp.create(pipeline_spec=with_platform(kfp.image))["pipeline_spec"] == with_platform(kfp.image)


def test_run_names_are_not_unique(kfp: Endpoint) -> None:
    name = unique("twice")
    ids = [kfp.create(display_name=name)["run_id"] for _ in range(2)]
    assert len(set(ids)) == 2


def test_both_spellings_of_a_field_are_accepted(kfp: Endpoint) -> None:
    body = kfp.body()
    camel = {"displayName": "c", "pipelineSpec": body["pipeline_spec"], "runtimeConfig": body["runtime_config"]}
    if kfp.multi_user:
        camel["experimentId"] = body["experiment_id"]
    assert kfp.post("/runs", camel).json()["display_name"] == "c"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "text"),
        ({**GIVEN, "colour": "red"}, "colour"),
        ({"text": 5}, "text"),
        ({**GIVEN, "number": "five"}, "number"),
        ({**GIVEN, "number": True}, "number"),
        ({**GIVEN, "broken": 1}, "broken"),
        ({**GIVEN, "about": [1]}, "about"),
        ({**GIVEN, "many": {}}, "many"),
    ],
)
def test_invalid_parameter_is_named(kfp: Endpoint, given: dict[str, Any], named: str) -> None:
    answer = kfp.post("/runs", kfp.body(runtime_config={"parameters": given}))
    assert named in error(answer, 400, 3)
    assert named in answer.json()["details"][0]["message"]


@pytest.mark.parametrize(
    "more", [{"colour": "red"}, {"runtime_config": {"colour": "red"}}, {"state_history": [{"colour": "red"}]}]
)
def test_unknown_field_is_named(kfp: Endpoint, more: dict[str, Any]) -> None:
    assert "colour" in error(kfp.post("/runs", kfp.body(**more)), 400, 3)


@pytest.mark.parametrize("sent", [b"{", b"[]", b"{'", b'{"display_name": 5}', b'{"runtime_config": "x"}'])
def test_invalid_body_is_refused(kfp: Endpoint, sent: bytes) -> None:
    answer = kfp.session.post(kfp.path("/runs"), data=sent, timeout=30)
    error(answer, 400, 3)
    assert "details" not in answer.json(), "the gateway's own error"


def test_run_with_two_pipeline_sources_is_refused(kfp: Endpoint) -> None:
    assert "pipeline_source is already set" in error(kfp.post("/runs", kfp.body(pipeline_version_reference={})), 400, 3)


def test_run_without_a_name_is_refused(kfp: Endpoint) -> None:
    assert "name" in error(kfp.post("/runs", kfp.body(display_name="")), 500, 13)


@pytest.mark.parametrize("case", ["empty", "no root", "schema", "unknown field"])
def test_invalid_pipeline_is_refused(kfp: Endpoint, case: str) -> None:
    good = pipeline(kfp.image)
    bad = {
        "empty": {},
        "no root": {"pipelineInfo": {"name": "x"}},
        "schema": pipeline(kfp.image, schema="2.0.0"),
        "unknown field": {**good, "colour": "red"},
    }[case]
    answer = kfp.post("/runs", kfp.body(pipeline_spec=bad))
    error(answer, 500, 13)
    assert answer.json()["details"][0]["message"] == "Internal Server Error"


def test_missing_objects_are_not_found(kfp: Endpoint) -> None:
    missing = "0c1f0c1e-0000-4000-8000-00000000dead"
    for answer in (kfp.get(f"/runs/{missing}"), kfp.delete(f"/runs/{missing}"), kfp.get(f"/experiments/{missing}")):
        assert f"{missing} not found" in error(answer, 404, 5)
    for verb in ("terminate", "retry", "archive", "unarchive"):
        error(kfp.post(f"/runs/{missing}:{verb}"), 404, 5)
    error(kfp.get("/colours"), 404, 5)
    error(kfp.session.put(kfp.path("/runs"), timeout=30), 501, 12)
    error(kfp.post("/runs", kfp.body(experiment_id=missing)), 404, 5)


def test_run_can_be_archived_and_unarchived(kfp: Endpoint) -> None:
    run_id = kfp.create()["run_id"]
    for verb, state in (("archive", "ARCHIVED"), ("unarchive", "AVAILABLE")):
        answer = kfp.post(f"/runs/{run_id}:{verb}")
        if verb == "unarchive" and kfp.multi_user:
            error(answer, 403, 7)  # the role of these tests has no such verb
            continue
        assert answer.json() == {}
        assert kfp.run(run_id)["storage_state"] == state


def test_deleted_run_is_not_found(kfp: Endpoint) -> None:
    run_id = kfp.create()["run_id"]
    assert kfp.delete(f"/runs/{run_id}").json() == {}
    error(kfp.get(f"/runs/{run_id}"), 404, 5)
    error(kfp.delete(f"/runs/{run_id}"), 404, 5)


def test_workflow_is_deleted_with_its_run(kfp: Endpoint) -> None:
    run = kfp.create()
    workflow = kfp.below().workflow(run["run_id"])
    assert workflow is not None
    assert workflow["spec"]["serviceAccountName"] == run["service_account"]
    assert workflow["metadata"]["name"].startswith("kfp-contract-")
    kfp.delete(f"/runs/{run['run_id']}")
    eventually(lambda: kfp.below().workflow(run["run_id"]) is None, "the Workflow is deleted")


def test_run_uses_the_named_service_account(kfp: Endpoint) -> None:
    run = kfp.create(service_account="someone-else")
    assert run["service_account"] == "someone-else"
    workflow = kfp.below().workflow(run["run_id"])
    assert workflow is not None
    assert workflow["spec"]["serviceAccountName"] == "someone-else"


def test_experiment_names_are_unique(kfp: Endpoint) -> None:
    name = unique("experiment")
    made = kfp.post("/experiments", {"display_name": name, "description": "d", **kfp.here}).json()
    assert (made["display_name"], made["description"], made["storage_state"]) == (name, "d", "AVAILABLE")
    assert made["last_run_created_at"] == "1970-01-01T00:00:00Z"
    assert made.get("namespace") == (kfp.namespace if kfp.multi_user else None)
    assert kfp.get(f"/experiments/{made['experiment_id']}").json() == made
    assert "already exists" in error(kfp.post("/experiments", {"display_name": name, **kfp.here}), 409, 6)


def test_experiment_needs_a_name_and_known_fields(kfp: Endpoint) -> None:
    error(kfp.post("/experiments", {"display_name": "", **kfp.here}), 500, 13)
    assert "colour" in error(kfp.post("/experiments", {"display_name": "y", "colour": 1, **kfp.here}), 400, 3)
