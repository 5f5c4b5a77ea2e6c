"""Kubeflow Pipelines: how a run ends. The tests need runs that are executed or played."""

import json

from contract.kubeflow.endpoint import OVER, Endpoint, Json, error, eventually


def test_succeeded_run_has_its_history_and_end(kfp: Endpoint) -> None:
    run = kfp.run(kfp.ended("SUCCEEDED"))
    assert [entry["state"] for entry in run["state_history"]] == ["PENDING", "RUNNING", "SUCCEEDED"]
    assert run["finished_at"] >= run["created_at"] > "2000"


def test_running_run_has_no_end(kfp: Endpoint) -> None:
    assert kfp.run(kfp.underway())["finished_at"] == "1970-01-01T00:00:00Z"


def test_failed_task_reports_its_state_but_no_reason(kfp: Endpoint) -> None:
    run_id = kfp.ended("FAILED")

    def tasks() -> dict[str, Json]:
        return {task["display_name"]: task for task in kfp.run(run_id)["run_details"]["task_details"]}

    eventually(lambda: tasks()["wait"]["state"] == "FAILED", "the task's state follows the run's")
    run = kfp.run(run_id)
    assert "error" not in run
    assert all("error" not in task and "outputs" not in task for task in tasks().values())
    without_spec = {name: value for name, value in run.items() if name != "pipeline_spec"}
    assert "failed as requested" not in json.dumps(without_spec)


def test_terminated_run_is_canceling_and_then_failed(kfp: Endpoint) -> None:
    run_id = kfp.underway()
    assert kfp.post(f"/runs/{run_id}:terminate").json() == {}
    assert kfp.run(run_id)["state"] == "CANCELING"
    assert kfp.stopped(run_id)["state"] == "FAILED", "not CANCELED"
    error(kfp.post(f"/runs/{run_id}:terminate"), 400, 3)


def test_pending_run_can_be_terminated(kfp: Endpoint) -> None:
    run_id = kfp.create(runtime_config={"parameters": {"text": "t", "seconds": 600}})["run_id"]
    assert kfp.post(f"/runs/{run_id}:terminate").json() == {}
    assert kfp.run(run_id)["state"] in ("CANCELING", "FAILED")


def test_finished_run_cannot_be_terminated(kfp: Endpoint) -> None:
    for state in ("SUCCEEDED", "FAILED"):
        error(kfp.post(f"/runs/{kfp.ended(state)}:terminate"), 400, 3)


def test_retry_restarts_a_failed_run(kfp: Endpoint) -> None:
    run_id = kfp.ended("FAILED")
    kfp.retry(run_id)
    run = kfp.run(run_id)
    assert run["state"] in ("RUNNING", "FAILED"), "FAILED if its step has failed again"
    assert "RUNNING" in [entry["state"] for entry in run["state_history"][-2:]]


def test_retry_clears_the_end_of_the_earlier_attempt(kfp: Endpoint) -> None:
    run_id = kfp.underway()
    kfp.post(f"/runs/{run_id}:terminate")
    kfp.stopped(run_id)
    kfp.retry(run_id)
    assert kfp.run(run_id)["state"] == "RUNNING"
    assert kfp.run(run_id)["finished_at"] == "1970-01-01T00:00:00Z"


def test_retry_is_refused_when_the_run_has_not_failed(kfp: Endpoint) -> None:
    for run_id in (kfp.underway(), kfp.ended("SUCCEEDED")):
        assert "Failed/Error" in error(kfp.post(f"/runs/{run_id}:retry"), 409, 10)


def test_running_run_is_deleted_with_its_workflow(kfp: Endpoint) -> None:
    run_id = kfp.underway()
    assert kfp.delete(f"/runs/{run_id}").json() == {}
    eventually(lambda: kfp.below().workflow(run_id) is None, "the Workflow is deleted")


def test_workflow_labels_report_the_phase_of_the_run(kfp: Endpoint) -> None:
    """Another label is set when Kubeflow has recorded the end of the run."""
    running = kfp.below().workflow(kfp.underway())
    assert running is not None
    assert running["metadata"]["labels"]["workflows.argoproj.io/phase"] == "Running"
    assert "pipeline/persistedFinalState" not in running["metadata"]["labels"]
    run_id = kfp.ended("FAILED")

    def labels() -> dict[str, str]:
        workflow = kfp.below().workflow(run_id)
        return dict(workflow["metadata"]["labels"]) if workflow else {}

    eventually(lambda: labels().get("pipeline/persistedFinalState") == "true", "the end is recorded")
    assert labels()["workflows.argoproj.io/phase"] == "Failed"
    assert labels()["workflows.argoproj.io/completed"] == "true"


def test_run_never_ends_by_itself_when_its_workflow_was_deleted(kfp: Endpoint) -> None:
    run_id = kfp.underway()
    kfp.below().delete_workflow(run_id)
    eventually(lambda: kfp.below().workflow(run_id) is None, "the Workflow is deleted")
    assert kfp.run(run_id)["state"] == "RUNNING"
    error(kfp.post(f"/runs/{run_id}:terminate"), 500, 13)
    assert kfp.run(run_id)["state"] not in OVER
    assert kfp.delete(f"/runs/{run_id}").json() == {}


def test_new_run_stays_pending_when_its_workflow_was_deleted(kfp: Endpoint) -> None:
    run_id = kfp.create(runtime_config={"parameters": {"text": "t", "seconds": 600}})["run_id"]
    state = kfp.run(run_id)["state"]
    kfp.below().delete_workflow(run_id)
    eventually(lambda: kfp.below().workflow(run_id) is None, "the Workflow is deleted")
    assert kfp.run(run_id)["state"] in (state, "RUNNING")
