"""What may be written where, on a real object store: nothing is lost that this prediction did not write itself."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from support.mlflow import MLFLOW_ONLY
from support.proxy import Call, Fault, Proxy
from support.website import Answer, Site

from sandbox.plan import Info
from sandbox.platform import Sandbox
from winecontract.reasons import Reason
from winesteps.failures import StepFailure
from winesteps.outputs import OWNER, RESOURCE, Owner, Place, Store, Upload

FIRST, SECOND = Owner("uid-1", "WinePrediction admin/first"), Owner("uid-2", "WinePrediction admin/second")
PLACE = Place("scores", "red.csv")


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Info]:
    with Sandbox("outputs", tmp_path_factory.mktemp("store"), without=MLFLOW_ONLY | {"mlflow"}) as sandbox:
        yield sandbox.info


@pytest.fixture(autouse=True)
def credentials(info: Info, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", info.s3_access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", info.s3_secret_key)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)


@pytest.fixture
def bucket(info: Info, credentials: None) -> Iterator[Any]:
    client = boto3.client("s3", endpoint_url=info.s3_endpoint, region_name="us-east-1")
    client.create_bucket(Bucket="scores")
    yield client
    for item in client.list_objects_v2(Bucket="scores").get("Contents", []):
        client.delete_object(Bucket="scores", Key=item["Key"])
    client.delete_bucket(Bucket="scores")


@pytest.fixture
def store(info: Info, bucket: Any) -> Callable[[Owner], Store]:
    return lambda owner: Store(info.s3_endpoint, owner)


def written(store: Store, text: str, *, overwrite: bool = False, place: Place = PLACE) -> None:
    upload = Upload(store, store.claim(place, overwrite=overwrite))
    upload.write(text.encode())
    upload.complete()


def content(bucket: Any, place: Place = PLACE) -> str:
    return str(bucket.get_object(Bucket=place.bucket, Key=place.key)["Body"].read().decode())


def refused(reason: Reason, call: Callable[..., object], *arguments: Any, **options: Any) -> str:
    with pytest.raises(StepFailure) as caught:
        call(*arguments, **options)
    assert caught.value.reason is reason, caught.value
    return caught.value.message


def uploads(bucket: Any, key: str = PLACE.key) -> list[Any]:
    return list(bucket.list_multipart_uploads(Bucket="scores", Prefix=key).get("Uploads", []))


def test_an_object_names_its_owner(store: Callable[[Owner], Store], bucket: Any) -> None:
    written(store(FIRST), "scores")
    metadata = bucket.head_object(Bucket="scores", Key="red.csv")["Metadata"]
    assert (metadata[OWNER], metadata[RESOURCE]) == ("uid-1", "WinePrediction admin/first")


def test_another_attempt_of_the_same_prediction_replaces_what_it_wrote(store: Callable[[Owner], Store], bucket: Any) -> None:
    written(store(FIRST), "once")
    written(store(FIRST), "again")
    assert content(bucket) == "again"


def test_what_another_prediction_wrote_is_kept_and_its_author_named(store: Callable[[Owner], Store], bucket: Any) -> None:
    written(store(FIRST), "first")
    message = refused(Reason.OUTPUT_EXISTS, store(SECOND).claim, PLACE)
    assert message.startswith(
        "s3://scores/red.csv exists, and WinePrediction admin/first wrote it. Create another WinePrediction"
    )
    assert "spec.overwrite: true" in message
    assert content(bucket) == "first"


def test_what_no_prediction_wrote_is_kept(store: Callable[[Owner], Store], bucket: Any) -> None:
    bucket.put_object(Bucket="scores", Key="red.csv", Body=b"precious")
    assert "no WinePrediction wrote it" in refused(Reason.OUTPUT_EXISTS, store(FIRST).claim, PLACE)
    assert content(bucket) == "precious"


def test_a_run_without_owner_owns_nothing(store: Callable[[Owner], Store], bucket: Any) -> None:
    written(store(Owner("")), "once")
    refused(Reason.OUTPUT_EXISTS, store(Owner("")).claim, PLACE)


def test_overwrite_replaces_it_and_takes_it_over(store: Callable[[Owner], Store], bucket: Any) -> None:
    bucket.put_object(Bucket="scores", Key="red.csv", Body=b"old")
    written(store(FIRST), "new", overwrite=True)
    assert content(bucket) == "new"
    written(store(FIRST), "newer")
    assert content(bucket) == "newer"


@pytest.mark.parametrize("overwrite", [False, True])
def test_of_two_at_once_the_second_to_finish_is_refused(store: Callable[[Owner], Store], bucket: Any, overwrite: bool) -> None:
    """Also where both may overwrite: what was written since they began is another's work."""
    begun = [Upload(one, one.claim(PLACE, overwrite=overwrite)) for one in (store(FIRST), store(SECOND))]
    for number, upload in enumerate(begun):
        upload.write(b"%d" % number)
    begun[0].complete()
    message = refused(Reason.OUTPUT_EXISTS, begun[1].complete)
    assert "was written while this ran, and WinePrediction admin/first wrote it" in message
    begun[1].abandon()
    assert content(bucket) == "0"
    assert uploads(bucket) == []


def test_write_keeps_an_object_that_changed_after_the_last_check(
    info: Info, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store itself judges the condition: no look can be so late that nothing happens after it."""

    def intrudes(call: Call) -> None:
        if call.method == "POST" and "uploadId" in call.path:
            bucket.put_object(Bucket="scores", Key="red.csv", Body=b"precious")

    with Proxy(info.s3_endpoint, before=intrudes, keep_host=True) as proxy:
        upload = Upload(mine := Store(proxy.url, FIRST), mine.claim(PLACE))
        upload.write(b"scores")
        refused(Reason.OUTPUT_EXISTS, upload.complete)
    assert content(bucket) == "precious"


def test_write_checks_first_when_the_store_has_no_conditional_writes(info: Info, bucket: Any) -> None:
    asked = []

    def knows_none(call: Call) -> int | None:
        names = {name.lower() for name in call.headers}
        asked.append((call.method, "if-none-match" in names))
        return 501 if "if-none-match" in names else None

    with Proxy(info.s3_endpoint, before=knows_none, keep_host=True) as proxy:
        mine = Store(proxy.url, FIRST)
        written(mine, "scores")
        bucket.put_object(Bucket="scores", Key="late.csv", Body=b"precious")
    assert content(bucket) == "scores"
    assert ("POST", True) in asked
    assert asked[-1] == ("POST", False)
    assert asked[-2] == ("GET", False)


def test_write_recognizes_its_own_object_when_the_answer_was_lost(info: Info, bucket: Any) -> None:
    lost = []

    def loses(call: Call) -> Fault | None:
        if call.method in ("POST", "PUT") and (("uploadId" in call.path and call.method == "POST") or "report" in call.path):
            lost.append(call.path)
            return Fault.CUT_AFTER if lost.count(call.path) == 1 else None
        return None

    with Proxy(info.s3_endpoint, before=loses, keep_host=True) as proxy:
        mine = Store(proxy.url, FIRST)
        report = mine.claim(PLACE.report)
        written(mine, "scores")
        mine.put_json(report, {"rows": 1})
    assert len(set(lost)) == 2
    assert content(bucket) == "scores"
    assert json.loads(content(bucket, PLACE.report)) == {"rows": 1}


def test_upload_fails_when_someone_removed_it(store: Callable[[Owner], Store], bucket: Any) -> None:
    mine = store(FIRST)
    upload = Upload(mine, mine.claim(PLACE))
    upload.write(b"scores")
    mine.abort(PLACE, upload.id)
    refused(Reason.OUTPUT_UNAVAILABLE, upload.complete)


@pytest.mark.parametrize(("key", "objects"), [("predictions/red.csv", "mlpipeline/predictions/*"), ("red.csv", "mlpipeline/*")])
def test_denied_output_names_prefix_and_policy(site: Site, key: str, objects: str) -> None:
    site.give(f"/mlpipeline/{key}", Answer(b"<Error><Code>AccessDenied</Code></Error>", 403))
    denied = Store(f"http://127.0.0.1:{site.port}", FIRST)
    message = refused(Reason.OUTPUT_REJECTED, denied.claim, Place("mlpipeline", key))
    assert f"s3://mlpipeline/{key} cannot be written: the object store answered AccessDenied." in message
    assert f"mlpipeline-minio-artifact s3:GetObject and s3:PutObject on arn:aws:s3:::{objects}" in message


def test_a_report_of_another_run_is_kept(store: Callable[[Owner], Store], bucket: Any) -> None:
    bucket.put_object(Bucket="scores", Key="red.csv.report.json", Body=b"precious")
    assert "red.csv.report.json exists" in refused(Reason.OUTPUT_EXISTS, store(FIRST).claim, PLACE.report)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://scores/red.txt", "or .csv"),
        ("http://scores/red.csv", "or .csv"),
        ("s3://scores/red.csv?versionId=1", "or .csv"),
        ("s3://scores/a//red.csv", "an empty part"),
        ("s3://scores//red.csv", "an empty part"),
        ("s3://scores/a/../red.csv", "an empty part"),
        ("s3://scores/./red.csv", "an empty part"),
        ("s3://mlflow/1/0123456789abcdef0123456789abcdef/artifacts/model/red.csv", "where MLflow or Kubeflow Pipelines keep"),
        ("s3://mlflow/1/models/m-0123456789abcdef0123456789abcdef/artifacts/red.csv", "where MLflow or Kubeflow Pipelines keep"),
        ("s3://mlpipeline/v2/artifacts/wine-training/run/red.csv", "where MLflow or Kubeflow Pipelines keep"),
    ],
)
def test_place_rejects_an_invalid_address(uri: str, expected: str) -> None:
    assert expected in refused(Reason.PARAMETERS_INVALID, Place.of, uri)


def test_a_key_is_written_literally(store: Callable[[Owner], Store], bucket: Any) -> None:
    written(store(FIRST), "scores", place=Place.of("s3://scores/a%20b +c.csv"))
    assert [item["Key"] for item in bucket.list_objects_v2(Bucket="scores")["Contents"]] == ["a%20b +c.csv"]
