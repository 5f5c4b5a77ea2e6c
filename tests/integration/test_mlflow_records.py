"""The operator's adapter reads models, failures and examples from real MLflow servers."""

import pytest
from support.mlflow import expected
from support.mlflow_server import MODEL_TAGS, Server

from winepipelines.api.errors import Refused


async def test_model_and_failure_are_found_by_uid_and_revision(server: Server) -> None:
    experiment = server.experiment("found")
    server.log(experiment, {**MODEL_TAGS, "revision": "6"}, metrics={"r2": 0.1})
    server.log(experiment, {**MODEL_TAGS, "uid": "uid-2"}, metrics={"r2": 0.2})
    failed = {"uid": "uid-1", "revision": "7", "kfp-run": "kfp-1", "failed-step": "train", "failure-reason": "TrainingFailed"}
    server.log(experiment, {**failed, "failure-message": "no", "failure-permanent": "true"}, "FAILED")
    run = server.log(experiment, MODEL_TAGS, metrics={"r2": 0.3, "rmse": 0.7})
    records = await server.adapter().records("found", expected())
    assert records.model is not None
    assert records.model.uri == f"{run.info.artifact_uri}/model"
    assert records.model.mlflow_run == run.info.run_id
    assert records.model.metrics == {"r2": 0.3, "rmse": 0.7}
    assert records.failure is not None
    assert (records.failure.step, records.failure.reason, records.failure.permanent) == ("train", "TrainingFailed", True)


async def test_records_of_a_cloned_run_are_ignored_and_reported(server: Server) -> None:
    """A clone copies the parameters of a run, including the resource's uid and revision, but not the run's id."""
    experiment, clone = server.experiment("cloned"), {**MODEL_TAGS, "kfp-run": "kfp-2"}
    records = await server.adapter().records("cloned", expected())
    assert (records.model, records.foreign) == (None, "")
    server.log(experiment, clone, metrics={"r2": 0.1})
    records = await server.adapter().records("cloned", expected())
    assert (records.model, records.failure, records.refused) == (None, None, "")
    assert "Kubeflow run kfp-2" in records.foreign
    own = server.log(experiment, MODEL_TAGS, metrics={"r2": 0.3})
    newest = server.log(experiment, clone, metrics={"r2": 0.1})
    failed = {"failed-step": "train", "failure-reason": "TrainingFailed", "failure-permanent": "true"}
    server.log(experiment, {**clone, **failed}, "FAILED")
    for _ in range(25):
        server.log(experiment, {**clone, "model-uri": ""}, "FAILED")
    records = await server.adapter().records("cloned", expected())
    assert records.model is not None
    assert records.model.mlflow_run == own.info.run_id
    assert records.failure is None
    assert newest.info.run_id not in (records.model.mlflow_run, "")
    for checked in ("kfp-1", "kfp-2"):
        tags = {"uid": "uid-1", "check": "3", "kfp-run": checked, "data-changed": str(checked == "kfp-2").lower()}
        server.log(experiment, tags)
    found = await server.adapter().check_record("cloned", "uid-1", "3", "kfp-1")
    assert found is not None
    assert not found.changed


async def test_model_is_reused_only_from_a_run_of_the_resource(server: Server) -> None:
    experiment = server.experiment("reused")
    original = server.log(experiment, {**MODEL_TAGS, "revision": "6", "kfp-run": "kfp-0"})
    uri = f"{original.info.artifact_uri}/model"
    server.log(experiment, {**MODEL_TAGS, "model-uri": uri, "reused-run": original.info.run_id})
    known = await server.adapter().records("reused", expected(), (original.info.run_id,))
    assert known.model is not None
    assert known.model.mlflow_run == original.info.run_id
    records = await server.adapter().records("reused", expected(), ("another",))
    assert records.model is None
    assert "which no run of this resource has made" in records.refused


@pytest.mark.parametrize("name", ["it's", 'the "wine" \\ experiment', "x' OR tags.`a` = 'b"])
async def test_experiment_name_may_contain_quotes(server: Server, name: str) -> None:
    server.log(server.experiment(name), MODEL_TAGS)
    assert (await server.adapter().records(name, expected())).model is not None
    assert (await server.adapter().records(name + "'", expected())).model is None
    assert await server.adapter().aliased(name, "champion") is None


async def test_missing_experiment_has_no_records(server: Server) -> None:
    records = await server.adapter().records("never", expected())
    assert (records.model, records.failure, records.refused) == (None, None, "")


async def test_deleted_experiment_is_reported_until_it_is_restored(server: Server) -> None:
    experiment = server.experiment("deleted")
    server.log(experiment, MODEL_TAGS)
    server.runs.delete_experiment(experiment)
    with pytest.raises(Refused, match=f"restore --experiment-id {experiment}") as caught:
        await server.adapter().records("deleted", expected())
    assert caught.value.reason == "ExperimentDeleted"
    server.runs.restore_experiment(experiment)
    assert (await server.adapter().records("deleted", expected())).model is not None


async def test_example_is_read(server: Server) -> None:
    tags = {"example": '{"names": ["a", "b"], "ndarray": [[1, 2.5]]}', "prediction": "[5.7]"}
    run = server.log(server.experiment("example"), tags)
    example = await server.adapter().example(run.info.run_id)
    assert (example.names, example.rows, example.predictions) == (["a", "b"], [[1, 2.5]], [5.7])


async def test_missing_example_is_reported(server: Server) -> None:
    run = server.log(server.experiment("example"), {"example": "[[[", "prediction": "[NaN]"})
    with pytest.raises(Refused, match=run.info.run_id) as caught:
        await server.adapter().example(run.info.run_id)
    assert caught.value.reason == "InputExampleMissing"


async def test_metrics_are_omitted_when_a_status_cannot_hold_them(server: Server) -> None:
    many = {f"metric-{number:03}": float(number) for number in range(60)}
    odd = {"nan": float("nan"), "inf": float("inf"), "x" * 200: 1.0, "r2": 0.5}
    server.log(server.experiment("metrics"), MODEL_TAGS, metrics={**many, **odd})
    records = await server.adapter().records("metrics", expected())
    assert records.model is not None
    assert len(records.model.metrics) == 32
    assert records.model.metrics["r2"] == 0.5
    assert not {"nan", "inf", "x" * 200} & set(records.model.metrics)
