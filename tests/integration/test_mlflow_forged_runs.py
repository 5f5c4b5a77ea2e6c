"""The operator's adapter ignores or refuses runs that others wrote or changed in MLflow."""

import pytest
from mlflow.entities import Metric, RunTag
from support.mlflow import expected
from support.mlflow_server import GROUP, MODEL_TAGS, YEAR_2100, Server

from winecontract.signatures import Keys
from winecontract.tags import Tag
from winepipelines.api.errors import Refused


async def test_malicious_run_is_ignored(server: Server) -> None:
    """Another user with write access to MLflow tags runs with a resource's uid and revision."""
    experiment = server.experiment("malicious")
    good = server.log(experiment, MODEL_TAGS, metrics={"r2": 0.5})
    many = {f"metric-{number:03}": float(number) for number in range(60)}
    for uri in (
        "s3,endpoint=http://evil.example:mlflow/model",
        ":http,url='http://evil.example':model",
        "s3://other-bucket/model",
        "{root}/../../secrets/model",
        "{root}/other/model",
        good.info.artifact_uri + "/model",  # another run's
        "http://evil.example/model",
        "/etc",
    ):
        tags = {**MODEL_TAGS, "model-uri": uri, "model-version": "9' OR"}
        server.log(experiment, tags, metrics={**many, "r2": float("nan")}, keys=None)
    server.log(
        experiment, {**MODEL_TAGS, "failure-reason": "Ready=True; x", "failure-message": "a\nb\x00" + "c" * 3000}, "FAILED"
    )
    records = await server.adapter().records("malicious", expected())
    assert records.model is not None
    assert records.model.mlflow_run == good.info.run_id
    assert records.failure is not None
    assert records.failure.reason == "UnexpectedError"
    assert len(records.failure.message) <= 1000
    assert records.failure.message.isprintable()


async def test_malicious_run_is_reported_when_there_is_no_other(server: Server) -> None:
    experiment = server.experiment("alone")
    run = server.log(experiment, {**MODEL_TAGS, "model-uri": "s3,endpoint=http://evil.example:mlflow/model"})
    records = await server.adapter().records("alone", expected())
    assert records.model is None
    assert run.info.run_id in records.refused


async def test_forged_run_is_ignored_despite_its_later_start_time(server: Server) -> None:
    """It has the victim's uid and revision and the id of the Kubeflow run, which every reader of MLflow can see."""
    experiment = server.experiment("forged")
    digest = {"digest": "sha256:" + "a" * 64}
    good = server.log(experiment, {**MODEL_TAGS, **digest}, metrics={"r2": 0.3})
    copied = server.runs.get_run(good.info.run_id).data.tags[Tag.SIGNATURE].removeprefix(f"{GROUP}/")
    forged = {**MODEL_TAGS, "digest": "sha256:" + "b" * 64}
    attacks = [
        server.log(experiment, forged, metrics={"r2": 0.9}, keys=None, start=YEAR_2100),
        server.log(experiment, {**forged, "signature": copied}, metrics={"r2": 0.9}, keys=None, start=YEAR_2100),
        server.log(experiment, forged, metrics={"r2": 0.9}, keys=Keys.parse({"current": "cd" * 32}), start=YEAR_2100),
        server.log(experiment, {**forged, "namespace": "theirs"}, metrics={"r2": 0.9}, start=YEAR_2100),
    ]
    records = await server.adapter().records("forged", expected())
    assert records.model is not None
    assert (records.model.mlflow_run, records.model.digest) == (good.info.run_id, digest["digest"])
    assert any(run.info.run_id in records.foreign for run in attacks), "the ignored run is reported"
    server.runs.delete_run(good.info.run_id)
    records = await server.adapter().records("forged", expected())
    assert (records.model, records.refused_reason) == (None, "ModelTampered")


async def test_signed_run_is_preferred_when_unsigned_models_are_allowed(server: Server) -> None:
    experiment, adapter = server.experiment("transition"), server.adapter(unsigned_models="serve")
    server.log(experiment, {**MODEL_TAGS, "digest": "sha256:" + "b" * 64}, keys=None, start=YEAR_2100)
    records = await adapter.records("transition", expected())
    assert records.model is not None
    assert records.model.digest == "", "the digest is not signed"
    good = server.log(experiment, {**MODEL_TAGS, "digest": "sha256:" + "a" * 64})
    records = await adapter.records("transition", expected())
    assert records.model is not None
    assert (records.model.mlflow_run, records.model.digest) == (good.info.run_id, "sha256:" + "a" * 64)
    server.runs.set_tag(good.info.run_id, RunTag(f"{GROUP}/digest", "sha256:" + "c" * 64))
    records = await adapter.records("transition", expected())
    assert records.model is not None
    assert records.model.digest == "", "the digest of a changed record is not used"


@pytest.mark.parametrize("change", ["metric", "new metric", "digest", "model-uri", "example", "data-sha256", "revision"])
async def test_record_is_refused_when_it_was_changed_after_signing(server: Server, change: str) -> None:
    experiment = server.experiment(f"changed {change}")
    run_id = server.log(
        experiment, {**MODEL_TAGS, "digest": "sha256:" + "a" * 64, "revision": "6"}, metrics={"r2": 0.3}
    ).info.run_id
    revision = 6
    if "metric" in change:
        server.runs.log_metric(run_id, Metric("r2" if change == "metric" else "mae", 0.9, YEAR_2100, 1))
    elif change == "revision":  # replayed for the next revision
        revision = 7
        server.runs.set_tag(run_id, RunTag(f"{GROUP}/revision", "7"))
    else:
        server.runs.set_tag(run_id, RunTag(f"{GROUP}/{change}", "sha256:" + "b" * 64))
    records = await server.adapter().records(f"changed {change}", expected(revision=revision))
    assert (records.model, records.refused_reason) == (None, "ModelTampered")
    assert run_id in records.refused


async def test_replaced_key_verifies_while_it_is_the_previous_one(server: Server) -> None:
    server.log(server.experiment("rotated"), {**MODEL_TAGS, "digest": "sha256:" + "a" * 64})
    new, old = "ef" * 32, "ab" * 32
    replaced, lost = Keys.parse({"current": new, "previous": old}), Keys.parse({"current": new})
    assert (await server.adapter().records("rotated", expected(keys=replaced))).model is not None
    records = await server.adapter().records("rotated", expected(keys=lost))
    assert (records.model, records.refused_reason) == (None, "ModelUnsigned")
    assert "wine-model-key" in records.refused


async def test_signed_run_is_found_among_many_forged_ones(server: Server) -> None:
    experiment = server.experiment("flood")
    good = server.log(experiment, {**MODEL_TAGS, "digest": "sha256:" + "a" * 64})
    for _ in range(60):
        server.log(experiment, MODEL_TAGS, keys=None, start=YEAR_2100)
    records = await server.adapter().records("flood", expected())
    assert records.model is not None
    assert records.model.mlflow_run == good.info.run_id


async def test_changed_example_is_refused(server: Server) -> None:
    tags = {**MODEL_TAGS, "example": '{"names": ["a"], "ndarray": [[1]]}', "prediction": "[5.7]"}
    run_id = server.log(server.experiment("swapped"), tags).info.run_id
    records, adapter = await server.adapter().records("swapped", expected()), server.adapter()
    assert records.model is not None
    assert (await adapter.example(run_id, records.model.example_digest)).predictions == [5.7]
    server.runs.set_tag(run_id, RunTag(f"{GROUP}/prediction", "[6.6]"))
    with pytest.raises(Refused, match=run_id) as caught:
        await adapter.example(run_id, records.model.example_digest)
    assert caught.value.reason == "ModelTampered"
