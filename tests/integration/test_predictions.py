"""WinePredictions in the sandbox: a run of Kubeflow Pipelines scores a file with the served model."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from minio import Minio
from support.cluster import Body, Cluster, eventually, ready, says
from support.operator import OperatorProcess
from support.website import Answer, Site

from sandbox.errors import KubectlError
from winepipelines.api.prediction import PredictionStage, WinePrediction
from winepipelines.api.status import ConditionType

ROOT = Path(__file__).parents[2]
WINE = (ROOT / "data" / "winequality-red.csv").read_bytes()


@pytest.fixture(autouse=True)
def delete_predictions(namespace: str, cluster: Cluster) -> Iterator[None]:
    yield
    cluster.sandbox.kubectl("-n", namespace, "delete", "winepredictions", "--all", "--wait=false")


@pytest.fixture
def served(cluster: Cluster, operator: OperatorProcess, namespace: str) -> str:
    """Return a namespace with a WinePipeline that serves a model."""
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, ready)
    return namespace


def resource(namespace: str, url: str, output: str = "", name: str = "scores", **spec: Any) -> Body:
    return {
        "apiVersion": "winepipelines.io/v1alpha1",
        "kind": "WinePrediction",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"pipeline": "mlflow", "input": {"url": url}, "output": output or f"s3://mlpipeline/{namespace}/out.csv", **spec},
    }


def over(prediction: WinePrediction) -> bool:
    return prediction.status.is_over


def begun(prediction: WinePrediction) -> bool:
    return prediction.status.run is not None


def reason(expected: str) -> Callable[[WinePrediction], bool]:
    def matches(prediction: WinePrediction) -> bool:
        condition = prediction.status.condition(ConditionType.READY)
        return condition is not None and condition.reason == expected

    return matches


def stored(cluster: Cluster, uri: str) -> bytes:
    """Read an object with the store's own credentials."""
    info = cluster.info
    store = Minio(urlsplit(info.s3_endpoint).netloc, info.s3_access_key, info.s3_secret_key, secure=False)
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bytes(store.get_object(bucket, key).read())


def online_predictions(cluster: Cluster, namespace: str, rows: list[list[float]]) -> list[float]:
    """Return the endpoint's predictions for rows."""
    url = f"{cluster.info.gateway_url}/seldon/{namespace}/mlflow/api/v1.0/predictions"
    return [float(value) for value in cluster.http(url, {"data": {"ndarray": rows}})["data"]["ndarray"]]


def batches(cluster: Cluster, namespace: str) -> list[Body]:
    return [run for run in cluster.runs(namespace) if run["display_name"].endswith("-batch")]


def test_example_gives_the_same_predictions_as_the_endpoint(cluster: Cluster, served: str) -> None:
    example = yaml.safe_load((ROOT / "deploy" / "examples" / "batch.yaml").read_text())
    example["metadata"]["namespace"] = served
    example["spec"]["input"]["url"] = cluster.info.data_url  # tests do not use the network
    cluster.apply(example)
    prediction = cluster.wait_for_prediction(served, over, "batch")
    status = prediction.status
    assert status.stage is PredictionStage.SUCCEEDED, status
    assert (status.rows, status.rejected and status.rejected.rows) == (1599, 0)
    assert status.model is not None
    pipeline = cluster.wait(served, ready)
    assert pipeline.status.served is not None
    assert (status.model.revision, status.model.mlflow_run) == (1, pipeline.status.served.model.mlflow_run)
    assert status.run is not None
    assert status.run.state == "SUCCEEDED"
    assert status.duration
    assert status.output == f"s3://mlpipeline/private/{served}/predictions/batch-{prediction.uid[:8]}.csv"

    scored = list(csv.DictReader(io.StringIO(stored(cluster, status.output).decode()), delimiter=";"))
    features = [name for name in scored[0] if name not in {"row", "quality", "prediction"}]
    expected = online_predictions(cluster, served, [[float(row[name]) for name in features] for row in scored])
    assert [float(row["prediction"]) for row in scored] == pytest.approx(expected)
    report = json.loads(stored(cluster, status.report))
    assert (report["rows"], report["scored"]) == (1599, 1599)

    table = cluster.sandbox.kubectl("-n", served, "get", "wpred")
    assert table.splitlines()[0].split() == ["NAME", "READY", "STAGE", "PIPELINE", "ROWS", "REJECTED", "MODEL", "AGE"]
    assert "s3://mlpipeline" in cluster.sandbox.kubectl("-n", served, "get", "wpred", "-o", "wide")
    cluster.sandbox.kubectl("-n", served, "wait", "--for=condition=Ready", "wineprediction/batch", "--timeout=10s")
    assert [event for event, _ in cluster.events(served)].count("Scored") == 1
    version = prediction.resource_version
    cluster.apply({**example, "metadata": {**example["metadata"], "labels": {"reconcile": "again"}}})
    eventually(lambda: (cluster.get("wpred", served, "batch") or {})["metadata"]["resourceVersion"] != version)
    assert len(batches(cluster, served)) == 1


def test_prediction_named_like_its_pipeline_reports_rejected_rows(cluster: Cluster, served: str, site: Site) -> None:
    lines = WINE.splitlines()
    lines[5] = b";".join([b""] * 12)
    lines[6] = b"not a row"
    url = site.give("/bad.csv", Answer(b"\n".join(lines)))
    cluster.apply(resource(served, url, name="mlflow"))
    status = cluster.wait_for_prediction(served, over, "mlflow").status
    assert status.stage is PredictionStage.SUCCEEDED, status
    assert status.rows == 1599
    assert status.rejected is not None
    assert {item.reason: item.rows for item in status.rejected.reasons} == {"MissingValue": 1, "FieldCount": 1}
    assert [item["firstRows"] for item in json.loads(stored(cluster, status.report))["rejected"]] == [[6], [5]]
    assert len(stored(cluster, status.output).splitlines()) == 1598


def test_prediction_waits_until_its_pipeline_serves(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    cluster.apply(resource(namespace, cluster.info.data_url))
    waiting = cluster.wait_for_prediction(namespace, reason("PipelineMissing"))
    assert waiting.status.stage is PredictionStage.WAITING
    assert batches(cluster, namespace) == []
    cluster.apply(cluster.resource(namespace))
    cluster.wait_for_prediction(namespace, reason("NothingServed"))
    assert cluster.wait_for_prediction(namespace, over).status.stage is PredictionStage.SUCCEEDED


def test_permanent_failure_is_reported_with_the_reason_of_the_step(cluster: Cluster, served: str, site: Site) -> None:
    cluster.apply(resource(served, site.give("/few.csv", Answer(b"alcohol;ph\n9.4;3.5\n"))))
    status = cluster.wait_for_prediction(served, over).status
    assert status.stage is PredictionStage.FAILED
    stalled = status.condition(ConditionType.STALLED)
    assert stalled is not None
    assert stalled.reason == "ColumnMissing"
    assert "'fixed_acidity'" in stalled.message
    assert "which the model needs" in stalled.message


def test_run_ends_when_the_prediction_is_deleted(cluster: Cluster, served: str) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        cluster.apply(resource(served, f"http://127.0.0.1:{silent.getsockname()[1]}/wine.csv"))
        cluster.wait_for_prediction(
            served, lambda prediction: prediction.status.run is not None and prediction.status.run.state == "RUNNING"
        )
        cluster.delete("winepredictions", served, "scores")
    eventually(lambda: all(run["state"] in ("FAILED", "CANCELED") for run in batches(cluster, served)))
    assert len(batches(cluster, served)) == 1


def test_prediction_is_deleted_after_its_ttl_and_the_output_stays(cluster: Cluster, served: str) -> None:
    cluster.apply(resource(served, cluster.info.data_url, ttlAfterFinished="1s"))
    eventually(lambda: cluster.get("wpred", served, "scores") is None, 90)
    assert len(stored(cluster, f"s3://mlpipeline/{served}/out.csv").splitlines()) == 1600


def test_killed_operator_leaves_one_run_and_one_result(cluster: Cluster, operator: OperatorProcess, served: str) -> None:
    moments = {"pending": reason("RunPending"), "running": reason("RunInProgress"), "over": over}
    for name, moment in moments.items():
        cluster.apply(resource(served, cluster.info.data_url, f"s3://mlpipeline/{served}/{name}.csv", name))
        cluster.wait_for_prediction(served, lambda seen, moment=moment: moment(seen) or over(seen), name)  # type: ignore[misc] # bound now
        operator.kill()
        operator.start()
        assert cluster.wait_for_prediction(served, over, name).status.stage is PredictionStage.SUCCEEDED
        assert len([run for run in batches(cluster, served) if run["display_name"].startswith(f"{name}-")]) == 1


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"pipeline": "Mlflow"}, "spec.pipeline"),
        ({"input": {"url": "ftp://data/wine.csv"}}, "spec.input.url"),
        ({"input": {"url": "http://data/wine.csv", "format": "xlsx"}}, "spec.input.format"),
        ({"output": "s3://mlpipeline/out.txt"}, "spec.output"),
        ({"output": "s3://mlpipeline/a/../out.csv"}, "must not contain"),
        ({"output": "https://elsewhere/out.csv"}, "spec.output"),
        ({"timeout": "1s"}, "between 10s and 48h"),
        ({"ttlAfterFinished": "9999h"}, "at most 8760h"),
        (
            {"input": {"url": "s3://mlpipeline/in/own.csv"}, "output": "s3://mlpipeline/in/own.csv"},
            "must not be the input",
        ),
    ],
)
def test_invalid_prediction_is_refused_with_the_field(cluster: Cluster, namespace: str, spec: dict[str, Any], named: str) -> None:
    body = resource(namespace, "http://data/wine.csv")
    with pytest.raises(KubectlError, match=named.replace(".", r"\.")):
        cluster.apply({**body, "spec": {**body["spec"], **spec}})


def put(cluster: Cluster, key: str, content: bytes) -> None:
    info = cluster.info
    store = Minio(urlsplit(info.s3_endpoint).netloc, info.s3_access_key, info.s3_secret_key, secure=False)
    store.put_object("mlpipeline", key, io.BytesIO(content), len(content))


def failed_with(cluster: Cluster, namespace: str, name: str = "scores") -> tuple[str, str]:
    status = cluster.wait_for_prediction(namespace, over, name).status
    assert status.stage is PredictionStage.FAILED, status
    stalled = status.condition(ConditionType.STALLED)
    assert stalled is not None
    return stalled.reason, stalled.message


@pytest.mark.parametrize("spelling", ["s3://mlpipeline//{key}", "{endpoint}/mlpipeline/{quoted}"])
def test_input_is_never_overwritten(cluster: Cluster, served: str, spelling: str) -> None:
    """The operator detects spellings that the schema does not, before it submits a run."""
    key = f"{served}/in/own.csv"
    put(cluster, key, WINE)
    url = spelling.format(key=key, endpoint=cluster.info.s3_endpoint, quoted=key.replace("own", "%6Fwn"))
    cluster.apply(resource(served, url, f"s3://mlpipeline/{key}", overwrite=True))
    reason, message = failed_with(cluster, served)
    assert reason == "OutputIsSource", message
    assert batches(cluster, served) == []
    assert stored(cluster, f"s3://mlpipeline/{key}") == WINE


def test_training_data_of_a_pipeline_are_never_overwritten(cluster: Cluster, served: str) -> None:
    key = f"{served}/train.csv"
    put(cluster, key, WINE)
    cluster.apply(cluster.resource(served, "other", f"s3://mlpipeline/{key}", suspend=True))
    cluster.apply(resource(served, cluster.info.data_url, f"s3://mlpipeline/{key}", overwrite=True))
    reason, message = failed_with(cluster, served)
    assert (reason, f"WinePipeline {served}/other" in message) == ("OutputIsSource", True), message
    assert stored(cluster, f"s3://mlpipeline/{key}") == WINE


def test_second_prediction_with_the_same_output_is_refused(cluster: Cluster, served: str, site: Site) -> None:
    output = f"s3://mlpipeline/{served}/same.csv"
    cluster.apply(resource(served, cluster.info.data_url, output, "first"))
    cluster.wait_for_prediction(served, begun, "first")  # of two that are created within one second, either may be refused
    cluster.apply(resource(served, site.give("/short.csv", Answer(b"\n".join(WINE.splitlines()[:10]))), output, "second"))
    reason, message = failed_with(cluster, served, "second")
    assert reason == "OutputClaimed"
    assert f"WinePrediction {served}/first" in message
    assert cluster.wait_for_prediction(served, over, "first").status.stage is PredictionStage.SUCCEEDED
    assert len(stored(cluster, output).splitlines()) == 1600

    cluster.apply(resource(served, cluster.info.data_url, output, "third"))
    assert failed_with(cluster, served, "third")[0] == "OutputClaimed"
    cluster.delete("winepredictions", served, "first")
    cluster.apply(resource(served, cluster.info.data_url, output, "fourth"))
    reason, message = failed_with(cluster, served, "fourth")
    assert (reason, f"WinePrediction {served}/first wrote it" in message) == ("OutputExists", True), message
    short = site.give("/short.csv", Answer(b"\n".join(WINE.splitlines()[:10])))
    cluster.apply(resource(served, short, output, "fifth", overwrite=True))
    assert cluster.wait_for_prediction(served, over, "fifth").status.stage is PredictionStage.SUCCEEDED
    assert len(stored(cluster, output).splitlines()) == 10


def test_foreign_object_at_the_output_is_kept(cluster: Cluster, served: str) -> None:
    put(cluster, f"{served}/precious.csv", b"precious")
    cluster.apply(resource(served, cluster.info.data_url, f"s3://mlpipeline/{served}/precious.csv"))
    assert failed_with(cluster, served)[0] == "OutputExists"
    assert stored(cluster, f"s3://mlpipeline/{served}/precious.csv") == b"precious"


def test_only_the_ttl_of_a_prediction_can_be_changed(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    cluster.apply(resource(namespace, "http://data/wine.csv"))
    for change in ({"attempts": 5}, {"pipeline": "other"}, {"output": "s3://mlpipeline/other.csv"}, {"timeout": "2h"}):
        body = resource(namespace, "http://data/wine.csv")
        with pytest.raises(KubectlError, match="create another WinePrediction"):
            cluster.apply({**body, "spec": {**body["spec"], **change}})
    with pytest.raises(KubectlError, match="create another WinePrediction"):
        cluster.apply(resource(namespace, "http://data/other.csv"))
    without = resource(namespace, "http://data/wine.csv")
    del without["spec"]["output"]
    with pytest.raises(KubectlError, match="output is immutable"):
        cluster.apply(without)
    cluster.apply(resource(namespace, "http://data/wine.csv", ttlAfterFinished="1h"))


def test_output_cannot_be_added_to_a_prediction_without_one(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    body = resource(namespace, "http://data/wine.csv")
    without = {**body, "spec": {name: value for name, value in body["spec"].items() if name != "output"}}
    cluster.apply(without)
    waiting = cluster.wait_for_prediction(namespace, reason("PipelineMissing"))
    assert waiting.status.output == f"s3://mlpipeline/private/{namespace}/predictions/scores-{waiting.uid[:8]}.csv"
    with pytest.raises(KubectlError, match="output is immutable"):
        cluster.apply(body)


def test_prediction_does_not_change_its_pipeline(cluster: Cluster, served: str) -> None:
    before = cluster.get("winepipelines", served, "mlflow")
    cluster.apply(resource(served, cluster.info.data_url))
    cluster.wait_for_prediction(served, over)
    cluster.wait(served, says(ConditionType.READY, "Serving"))
    after = cluster.get("winepipelines", served, "mlflow")
    assert before is not None
    assert after is not None
    assert before["status"]["served"]["model"] == after["status"]["served"]["model"]
    assert before["status"]["run"] == after["status"]["run"]
