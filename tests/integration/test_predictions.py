"""WinePrediction on the sandbox: a whole file scored by a run of Kubeflow Pipelines with the model that serves."""

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
from winepipelines.resource.prediction import PredictionStage, WinePrediction
from winepipelines.resource.status import ConditionType

ROOT = Path(__file__).parents[2]
WINE = (ROOT / "data" / "winequality-red.csv").read_bytes()


@pytest.fixture(autouse=True)
def predictions_go(namespace: str, cluster: Cluster) -> Iterator[None]:
    yield
    cluster.sandbox.kubectl("-n", namespace, "delete", "winepredictions", "--all", "--wait=false")


@pytest.fixture
def served(cluster: Cluster, operator: OperatorProcess, namespace: str) -> str:
    """A namespace with a WinePipeline that serves."""
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


def reason(word: str) -> Callable[[WinePrediction], bool]:
    def so(prediction: WinePrediction) -> bool:
        condition = prediction.status.condition(ConditionType.READY)
        return condition is not None and condition.reason == word

    return so


def stored(cluster: Cluster, uri: str) -> bytes:
    """Read an object as its owner would."""
    info = cluster.info
    store = Minio(urlsplit(info.s3_endpoint).netloc, info.s3_access_key, info.s3_secret_key, secure=False)
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bytes(store.get_object(bucket, key).read())


def asked(cluster: Cluster, namespace: str, rows: list[list[float]]) -> list[float]:
    """What the endpoint says of rows."""
    url = f"{cluster.info.gateway_url}/seldon/{namespace}/mlflow/api/v1.0/predictions"
    return [float(value) for value in cluster.http(url, {"data": {"ndarray": rows}})["data"]["ndarray"]]


def batches(cluster: Cluster, namespace: str) -> list[Body]:
    return [run for run in cluster.runs(namespace) if run["display_name"].endswith("-batch")]


def test_the_example_is_scored_as_the_endpoint_would(cluster: Cluster, served: str) -> None:
    example = yaml.safe_load((ROOT / "deploy" / "examples" / "batch.yaml").read_text())
    example["metadata"]["namespace"] = served
    example["spec"]["input"]["url"] = cluster.info.data_url  # no test needs the network
    example["spec"]["output"] = f"s3://mlpipeline/{served}/wine.csv"  # which this environment can read
    cluster.apply(example)
    prediction = cluster.wait_for_prediction(served, over, "batch")
    status = prediction.status
    assert status.stage is PredictionStage.SUCCEEDED, status
    assert (status.rows, status.rejected and status.rejected.rows) == (1599, 0)
    assert status.model is not None
    pipeline = cluster.wait(served, ready)
    assert pipeline.status.served is not None
    assert (status.model.revision, status.model.mlflow_run) == (1, pipeline.status.served.mlflow_run)
    assert status.run is not None
    assert status.run.state == "SUCCEEDED"
    assert status.duration
    assert status.output == example["spec"]["output"]

    scored = list(csv.DictReader(io.StringIO(stored(cluster, status.output).decode()), delimiter=";"))
    features = [name for name in scored[0] if name not in {"row", "quality", "prediction"}]
    expected = asked(cluster, served, [[float(row[name]) for name in features] for row in scored])
    assert [float(row["prediction"]) for row in scored] == pytest.approx(expected)
    report = json.loads(stored(cluster, status.report))
    assert (report["rows"], report["scored"]) == (1599, 1599)

    table = cluster.sandbox.kubectl("-n", served, "get", "wpred")
    assert table.splitlines()[0].split() == ["NAME", "READY", "STAGE", "PIPELINE", "ROWS", "REJECTED", "MODEL", "AGE"]
    assert "s3://mlpipeline" in cluster.sandbox.kubectl("-n", served, "get", "wpred", "-o", "wide")
    cluster.sandbox.kubectl("-n", served, "wait", "--for=condition=Ready", "wineprediction/batch", "--timeout=10s")
    assert [word for word, _ in cluster.events(served)].count("Scored") == 1
    version = prediction.resource_version
    cluster.apply({**example, "metadata": {**example["metadata"], "labels": {"looked": "again"}}})
    eventually(lambda: (cluster.get("wpred", served, "batch") or {})["metadata"]["resourceVersion"] != version)
    assert len(batches(cluster, served)) == 1


def test_a_prediction_may_have_the_name_of_its_pipeline_and_bad_rows_are_told(cluster: Cluster, served: str, site: Site) -> None:
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


def test_it_waits_for_its_pipeline_to_serve(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    cluster.apply(resource(namespace, cluster.info.data_url))
    waiting = cluster.wait_for_prediction(namespace, reason("PipelineMissing"))
    assert waiting.status.stage is PredictionStage.WAITING
    assert batches(cluster, namespace) == []
    cluster.apply(cluster.resource(namespace))
    cluster.wait_for_prediction(namespace, reason("NothingServed"))
    assert cluster.wait_for_prediction(namespace, over).status.stage is PredictionStage.SUCCEEDED


def test_what_only_a_person_can_mend_is_told_with_the_steps_own_reason(cluster: Cluster, served: str, site: Site) -> None:
    cluster.apply(resource(served, site.give("/few.csv", Answer(b"alcohol;ph\n9.4;3.5\n"))))
    status = cluster.wait_for_prediction(served, over).status
    assert status.stage is PredictionStage.FAILED
    stalled = status.condition(ConditionType.STALLED)
    assert stalled is not None
    assert stalled.reason == "ColumnMissing"
    assert "'fixed_acidity'" in stalled.message
    assert "which the model needs" in stalled.message


def test_deleted_in_flight_its_run_ends(cluster: Cluster, served: str) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        cluster.apply(resource(served, f"http://127.0.0.1:{silent.getsockname()[1]}/wine.csv"))
        cluster.wait_for_prediction(
            served, lambda prediction: prediction.status.run is not None and prediction.status.run.state == "RUNNING"
        )
        cluster.delete("winepredictions", served, "scores")
    eventually(lambda: all(run["state"] in ("FAILED", "CANCELED") for run in batches(cluster, served)))
    assert len(batches(cluster, served)) == 1


def test_it_goes_when_its_time_is_over_and_leaves_the_output(cluster: Cluster, served: str) -> None:
    cluster.apply(resource(served, cluster.info.data_url, ttlAfterFinished="1s"))
    eventually(lambda: cluster.get("wpred", served, "scores") is None, 90)
    assert len(stored(cluster, f"s3://mlpipeline/{served}/out.csv").splitlines()) == 1600


def test_a_killed_operator_leaves_one_run_and_one_result(cluster: Cluster, operator: OperatorProcess, served: str) -> None:
    moments = {"pending": reason("RunPending"), "running": reason("RunRunning"), "over": over}
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
            "must not be the input itself",
        ),
    ],
)
def test_a_bad_spec_is_refused_by_name(cluster: Cluster, namespace: str, spec: dict[str, Any], named: str) -> None:
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
def test_the_input_is_not_lost(cluster: Cluster, served: str, spelling: str) -> None:
    """Where the schema does not see it, the operator does, before a run is submitted."""
    key = f"{served}/in/own.csv"
    put(cluster, key, WINE)
    url = spelling.format(key=key, endpoint=cluster.info.s3_endpoint, quoted=key.replace("own", "%6Fwn"))
    cluster.apply(resource(served, url, f"s3://mlpipeline/{key}", overwrite=True))
    reason, message = failed_with(cluster, served)
    assert reason == "OutputIsSource", message
    assert batches(cluster, served) == []
    assert stored(cluster, f"s3://mlpipeline/{key}") == WINE


def test_a_pipelines_training_data_are_not_lost(cluster: Cluster, served: str) -> None:
    key = f"{served}/train.csv"
    put(cluster, key, WINE)
    cluster.apply(cluster.resource(served, "other", f"s3://mlpipeline/{key}", suspend=True))
    cluster.apply(resource(served, cluster.info.data_url, f"s3://mlpipeline/{key}", overwrite=True))
    reason, message = failed_with(cluster, served)
    assert (reason, f"WinePipeline {served}/other" in message) == ("OutputIsSource", True), message
    assert stored(cluster, f"s3://mlpipeline/{key}") == WINE


def test_of_two_with_one_output_the_second_is_refused(cluster: Cluster, served: str, site: Site) -> None:
    output = f"s3://mlpipeline/{served}/same.csv"
    cluster.apply(resource(served, cluster.info.data_url, output, "first"))
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


def test_what_nobody_of_ours_wrote_is_kept(cluster: Cluster, served: str) -> None:
    put(cluster, f"{served}/precious.csv", b"precious")
    cluster.apply(resource(served, cluster.info.data_url, f"s3://mlpipeline/{served}/precious.csv"))
    assert failed_with(cluster, served)[0] == "OutputExists"
    assert stored(cluster, f"s3://mlpipeline/{served}/precious.csv") == b"precious"


def test_only_its_time_can_be_changed(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    cluster.apply(resource(namespace, "http://data/wine.csv"))
    for change in ({"attempts": 5}, {"pipeline": "other"}, {"output": "s3://mlpipeline/other.csv"}, {"timeout": "2h"}):
        body = resource(namespace, "http://data/wine.csv")
        with pytest.raises(KubectlError, match="make another one"):
            cluster.apply({**body, "spec": {**body["spec"], **change}})
    with pytest.raises(KubectlError, match="make another one"):
        cluster.apply(resource(namespace, "http://data/other.csv"))
    cluster.apply(resource(namespace, "http://data/wine.csv", ttlAfterFinished="1h"))


def test_the_pipelines_own_conditions_are_none_of_its(cluster: Cluster, served: str) -> None:
    """A prediction changes nothing of the WinePipeline that it uses."""
    before = cluster.get("winepipelines", served, "mlflow")
    cluster.apply(resource(served, cluster.info.data_url))
    cluster.wait_for_prediction(served, over)
    cluster.wait(served, says(ConditionType.READY, "Serving"))
    after = cluster.get("winepipelines", served, "mlflow")
    assert before is not None
    assert after is not None
    assert before["status"].get("served", {}).get("mlflowRun") == after["status"]["served"]["mlflowRun"]
    assert before["status"]["run"] == after["status"]["run"]
