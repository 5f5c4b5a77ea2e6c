"""`doctor` on an object store whose keys are limited to prefixes. It leaves nothing behind in the store."""

import base64
import dataclasses
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from minio import Minio
from support.cluster import Body
from support.doctor import BreakablePlatform
from support.s3 import Store

from sandbox.manifests import ARTIFACT_SECRET, SOURCE_SECRET

STEPS, OUTPUTS, SELDON = "steps can read and write artifacts", "steps can write outputs", "seldon can read artifacts"
KEY, PASSWORD = "limited-to-prefixes", "limited-password"
SHARED = "s3://mlpipeline/shared/mlflow/0"


@pytest.fixture(scope="module")
def profile(breakable: BreakablePlatform) -> str:
    return breakable.cluster.namespace("prefixes")


def statement(actions: list[str], *resources: str) -> Body:
    return {"Effect": "Allow", "Action": actions, "Resource": [f"arn:aws:s3:::{resource}" for resource in resources]}


def of_a_profile(namespace: str) -> Body:
    """Return the statement that Kubeflow's profile controller writes for a profile's keys."""
    prefixes = ("artifacts", f"private-artifacts/{namespace}", f"private/{namespace}", "shared")
    return statement(["s3:Put*", "s3:Get*", "s3:List*"], *(f"mlpipeline/{prefix}/*" for prefix in prefixes))


@contextmanager
def keys(breakable: BreakablePlatform, *statements: Body) -> Iterator[None]:
    """Make keys with a policy of each bucket, and delete them at exit."""
    info = breakable.cluster.info
    store = Store(info.s3_endpoint, info.s3_access_key, info.s3_secret_key)
    by_bucket = defaultdict(list)
    for one in statements:
        by_bucket[one["Resource"][0].removeprefix("arn:aws:s3:::").partition("/")[0]].append(one | {"Principal": {"AWS": KEY}})
    user = f"<Account><Access>{KEY}</Access><Secret>{PASSWORD}</Secret><Role>user</Role></Account>"
    assert store.request("PATCH", "create-user", body=user.encode()).status == 201  # versitygw's own API
    try:
        for bucket, granted in by_bucket.items():
            policy = json.dumps({"Version": "2012-10-17", "Statement": granted}).encode()
            answer = dataclasses.replace(store, bucket=bucket).request("PUT", query={"policy": ""}, body=policy)
            assert answer.status == 204, answer
        yield
    finally:
        for bucket in by_bucket:
            dataclasses.replace(store, bucket=bucket).request("DELETE", query={"policy": ""})
        assert store.request("PATCH", "delete-user", {"access": KEY}).status == 200


def with_keys(access: str, secret: str) -> Callable[[Body], None]:
    def change(body: Body) -> None:
        body["data"] |= {name: base64.b64encode(value.encode()).decode() for name, value in ((access, KEY), (secret, PASSWORD))}

    return change


STEPS_KEYS = with_keys("accesskey", "secretkey")
SERVER_KEYS = with_keys("RCLONE_CONFIG_S3_ACCESS_KEY_ID", "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY")


def contents(breakable: BreakablePlatform) -> list[str]:
    """List all objects and unfinished uploads."""
    info = breakable.cluster.info
    store = Minio(urlsplit(info.s3_endpoint).netloc, info.s3_access_key, info.s3_secret_key, secure=False)
    found = []
    for bucket in store.list_buckets():
        found += [f"{bucket.name}/{item.object_name}" for item in store.list_objects(bucket.name, recursive=True)]
        uploads = store._list_multipart_uploads(bucket.name).uploads  # no public method lists them
        found += [f"{bucket.name}/{upload.object_name} {upload.upload_id}" for upload in uploads]
    return found


def test_doctor_leaves_nothing_in_the_store(breakable: BreakablePlatform, profile: str) -> None:
    before = contents(breakable)
    diagnosis = breakable.doctor.diagnose("-n", profile)
    assert {diagnosis.findings[check]["result"] for check in (STEPS, OUTPUTS, SELDON)} == {"ok"}
    outputs = f"s3://mlpipeline/private/{profile}/predictions"
    assert diagnosis.findings[OUTPUTS]["message"] == f"{outputs} at {breakable.cluster.info.s3_endpoint}"
    assert contents(breakable) == before


def test_doctor_reports_artifacts_outside_the_prefixes_of_a_profile(breakable: BreakablePlatform, profile: str) -> None:
    with keys(breakable, of_a_profile(profile)), breakable.changed("secret", ARTIFACT_SECRET, STEPS_KEYS, profile):
        diagnosis = breakable.doctor.diagnose("-n", profile)
    assert diagnosis.of("failed") == {STEPS}
    finding = diagnosis.findings[STEPS]
    assert f"the Secret {ARTIFACT_SECRET} in namespace {profile} to list, read and write below s3://mlflow/" in finding["message"]
    assert "s3:GetObject and s3:PutObject on arn:aws:s3:::mlflow/*" in finding["remedy"]
    assert PASSWORD not in str(diagnosis.findings)
    assert diagnosis.findings[OUTPUTS]["result"] == "ok"


def test_doctor_accepts_artifacts_below_a_prefix_of_a_profile(breakable: BreakablePlatform, profile: str) -> None:
    allowed = (of_a_profile(profile), statement(["s3:ListBucket"], "mlpipeline"))
    with (
        keys(breakable, *allowed),
        breakable.changed("secret", ARTIFACT_SECRET, STEPS_KEYS, profile),
        breakable.artifacts_at(SHARED),
    ):
        diagnosis = breakable.doctor.diagnose("-n", profile)
    assert diagnosis.of("failed") == set()
    assert diagnosis.findings[STEPS]["message"].startswith("s3://mlpipeline/shared/mlflow at ")


def test_doctor_reports_keys_that_may_only_read(breakable: BreakablePlatform, profile: str) -> None:
    allowed = (statement(["s3:GetObject"], "mlflow/*"), statement(["s3:ListBucket"], "mlflow"))
    with keys(breakable, *allowed), breakable.changed("secret", ARTIFACT_SECRET, STEPS_KEYS, profile):
        diagnosis = breakable.doctor.diagnose("-n", profile)
    assert diagnosis.of("failed") == {STEPS}
    assert " to write below s3://mlflow/ (AccessDenied)" in diagnosis.findings[STEPS]["message"]


def test_doctor_warns_of_default_outputs_outside_the_prefixes(breakable: BreakablePlatform, profile: str) -> None:
    allowed = (of_a_profile(profile), statement(["s3:*"], "mlflow", "mlflow/*"))
    with keys(breakable, *allowed), breakable.changed("secret", ARTIFACT_SECRET, STEPS_KEYS, profile):
        changes = {"WINE_PREDICTION_OUTPUT_FOLDER": "s3://mlpipeline/scores"}
        diagnosis = breakable.doctor.diagnose("-n", profile, changes=changes)
    assert diagnosis.of("failed") == set()
    finding = diagnosis.findings[OUTPUTS]
    assert finding["result"] == "warning"
    assert f"to read and write below s3://mlpipeline/scores/{profile}/predictions/" in finding["message"]


def test_doctor_reports_keys_of_servers_that_may_not_list(breakable: BreakablePlatform) -> None:
    with (
        keys(breakable, statement(["s3:GetObject"], "mlflow/*")),
        breakable.changed("secret", SOURCE_SECRET, SERVER_KEYS),
    ):
        diagnosis = breakable.doctor.diagnose()
    assert diagnosis.of("failed") == {SELDON}
    finding = diagnosis.findings[SELDON]
    assert f"the Secret {SOURCE_SECRET} in namespace kubeflow to list below s3://mlflow/ (AccessDenied)" in finding["message"]
    assert "s3:ListBucket on arn:aws:s3:::mlflow (SeaweedFS: List:mlflow/*)" in finding["remedy"]
