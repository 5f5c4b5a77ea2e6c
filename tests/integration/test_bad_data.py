"""Invalid data: conditions explain what to do, and the served model keeps serving."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from minio import Minio
from support.cluster import Cluster, ready, says
from support.operator import OperatorProcess

from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import ConditionType, Stage

Change = Callable[[str], str]


@pytest.fixture(scope="module")
def table(cluster: Cluster) -> str:
    return (cluster.info.data_folder / "winequality-red.csv").read_text()


def _row(text: str, number: int, change: Change) -> str:
    lines = text.splitlines(keepends=True)
    lines[number - 1] = change(lines[number - 1])
    return "".join(lines)


def _without_alcohol(line: str) -> str:
    return re.sub(r";[^;]*;(?=\d$)", ";NaN;", line)


BAD: dict[str, tuple[str, str, Change]] = {
    "html": ("DataNotCsv", "web page", lambda _: "<!DOCTYPE html><html><body>Sign in</body></html>"),
    "empty": ("DataNotCsv", "empty", lambda _: ""),
    "no-target": ("ColumnMissing", "quality", lambda text: text.replace('"quality"', '"taste"')),
    "comma": ("ColumnMissing", "separator", lambda text: text.replace(";", ",")),
    "nan": (
        "DataInvalid",
        "alcohol.*17|17.*alcohol",
        lambda text: _row(text, 17, lambda line: re.sub(r";[^;]*;(?=\d$)", ";NaN;", line)),
    ),
    "text": ("DataInvalid", "23", lambda text: _row(text, 23, lambda line: "good" + line[line.index(";") :])),
    "ragged": ("DataInvalid", "31", lambda text: _row(text, 31, lambda line: line.strip() + ";1\n")),
    "short": ("TooFewRows", "rows", lambda text: "".join(text.splitlines(keepends=True)[:4])),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_file_stalls_the_pipeline(
    cluster: Cluster, operator: OperatorProcess, namespace: str, table: str, case: str
) -> None:
    reason, words, change = BAD[case]
    file = Path(cluster.info.data_folder, f"{case}.csv")
    file.write_text(change(table))
    cluster.apply(cluster.resource(namespace, url=f"{cluster.info.data_base_url}/{file.name}"))
    pipeline = cluster.wait(namespace, says(ConditionType.READY, reason))
    condition = pipeline.status.condition(ConditionType.STALLED)
    assert condition is not None
    assert re.search(words, condition.message), condition.message
    assert pipeline.status.stage is Stage.FAILED
    assert len(cluster.runs(namespace)) == 1


@pytest.mark.parametrize(
    ("data", "reason", "words"),
    [
        ({"url": "http://127.0.0.1:9/wine.csv"}, "DataUnreachable", "127.0.0.1:9"),
        ({"url": "http://no-such-host.invalid./wine.csv"}, "DataUnreachable", "no-such-host.invalid"),
        ({"sha256": "0" * 64}, "ChecksumMismatch", "sha256"),
    ],
)
def test_unreachable_url_or_wrong_checksum_stalls_the_pipeline(
    cluster: Cluster, operator: OperatorProcess, namespace: str, data: dict[str, str], reason: str, words: str
) -> None:
    cluster.apply(cluster.resource(namespace, data=data, training={"attempts": 1}))
    pipeline = cluster.wait(namespace, lambda pipeline: says(ConditionType.READY, reason)(pipeline) and _stalled(pipeline))
    message = pipeline.status.condition(ConditionType.READY)
    assert message is not None
    assert words in message.message


def test_missing_file_is_reported_with_the_http_status(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    cluster.apply(cluster.resource(namespace, url=f"{cluster.info.data_base_url}/no-such-file.csv?token=hush"))
    pipeline = cluster.wait(namespace, says(ConditionType.READY, "DataNotFound"))
    status = pipeline.status.model_dump_json()
    assert "404" in status
    assert "hush" not in status


def test_wrong_key_is_reported_but_never_shown(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    """The store refuses the profile's credentials. The step that needs them reports it."""
    patch = '{"stringData":{"secretkey":"not-the-key-of-this-store"}}'
    cluster.sandbox.kubectl("-n", namespace, "patch", "secret", "mlpipeline-minio-artifact", "-p", patch)
    cluster.apply(cluster.resource(namespace, training={"attempts": 1}))
    pipeline = cluster.wait(namespace, _stalled)
    condition = pipeline.status.condition(ConditionType.TRAINED)
    assert condition is not None
    assert condition.reason == "TrackingRejected"
    assert "not-the-key-of-this-store" not in pipeline.status.model_dump_json()


def test_incomplete_secret_is_reported(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    patch = '{"data":{"secretkey":null}}'
    cluster.sandbox.kubectl("-n", namespace, "patch", "secret", "mlpipeline-minio-artifact", "-p", patch)
    cluster.apply(cluster.resource(namespace))
    pipeline = cluster.wait(namespace, says(ConditionType.PREPARED, "ArtifactSecretIncomplete"))
    condition = pipeline.status.condition(ConditionType.PREPARED)
    assert condition is not None
    assert "secretkey" in condition.message
    assert cluster.runs(namespace) == []


def test_served_model_keeps_serving_when_new_data_are_invalid(
    cluster: Cluster, operator: OperatorProcess, namespace: str, table: str
) -> None:
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, ready)
    before = cluster.predict(namespace)
    Path(cluster.info.data_folder, "page.csv").write_text("<html></html>")
    cluster.apply(cluster.resource(namespace, url=f"{cluster.info.data_base_url}/page.csv"))
    pipeline = cluster.wait(namespace, says(ConditionType.READY, "DataNotCsv"))
    answering = pipeline.status.condition(ConditionType.ENDPOINT_VERIFIED)
    assert answering is not None
    assert answering.status == "True"
    assert pipeline.status.served is not None
    assert pipeline.status.served.revision == 1
    assert math.isclose(cluster.predict(namespace), before)
    cluster.apply(cluster.resource(namespace))  # the earlier spec again gives another revision with the same predictions
    cluster.wait(namespace, ready)
    assert math.isclose(cluster.predict(namespace), before)


def _stalled(pipeline: WinePipeline) -> bool:
    return pipeline.status.condition(ConditionType.STALLED) is not None


def test_incomplete_model_never_replaces_the_served_one(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    """Only `MLmodel` exists, so the new pod loads no model. The condition shows the server's message, and the old pod serves."""
    cluster.apply(cluster.resource(namespace))
    pipeline = cluster.wait(namespace, ready)
    before = cluster.predict(namespace)
    assert pipeline.status.served is not None
    bucket, _, folder = pipeline.status.served.model.uri.removeprefix("s3://").partition("/")
    endpoint = cluster.info.s3_endpoint.removeprefix("http://")
    store = Minio(endpoint, cluster.info.s3_access_key, cluster.info.s3_secret_key, secure=False)
    for item in store.list_objects(bucket, f"{folder}/", recursive=True):
        assert item.object_name is not None
        if not item.object_name.endswith("/MLmodel"):
            store.remove_object(bucket, item.object_name)
    cluster.apply(cluster.resource(namespace, serving={"resources": {"requests": {"cpu": "10m"}}}))  # another pod
    pipeline = cluster.wait(namespace, says(ConditionType.DEPLOYED, "ModelTampered"))
    assert cluster.predict(namespace) == before
    condition = pipeline.status.condition(ConditionType.DEPLOYED)
    assert condition is not None
    assert "was signed; restore them in the object store, or train again" in condition.message
