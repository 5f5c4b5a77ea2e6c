"""Addresses of models: a plain folder of a bucket, or a message that names what to set."""

import pytest
from support.backends import SOURCE

from winepipelines.platform.objectstore import ObjectStore
from winepipelines.settings import Settings

SETTINGS = Settings(kfp_url="http://kfp", mlflow_url="http://mlflow", s3_endpoint_url="http://minio")


@pytest.mark.parametrize("destination", ["s3://bucket", "s3://bucket/", "s3://bucket/deep/folder"])
def test_proxied_artifact_is_in_the_configured_destination(destination: str) -> None:
    store = ObjectStore(SETTINGS.with_(artifacts_destination=destination))
    assert store.address("mlflow-artifacts:/1/a/artifacts/model") == f"{destination.rstrip('/')}/1/a/artifacts/model"
    assert store.address("s3://other/1/model") == "s3://other/1/model"


@pytest.mark.parametrize(
    ("uri", "destination", "problem"),
    [
        ("mlflow-artifacts:/1/a/model", "", "WINE_ARTIFACTS_DESTINATION"),
        ("mlflow-artifacts:/1/a/model", "gs://bucket", "WINE_ARTIFACTS_DESTINATION is gs://bucket"),
        ("mlflow-artifacts:/1/a/model", "s3,endpoint=http://evil:bucket", "WINE_ARTIFACTS_DESTINATION is s3,endpoint"),
        ("mlflow-artifacts:/../../secrets/model", "s3://bucket/x", "no plain s3://"),
        ("mlflow-artifacts://other:5000/1/a/model", "s3://bucket", "another MLflow server"),
        ("models:/wine/1", "", "a name in MLflow"),
        ("runs:/abc/model", "", "a name in MLflow"),
        ("file:///mlruns/1/a/model", "", "--default-artifact-root s3://"),
        ("/mlruns/1/a/model", "", "--artifacts-destination s3://"),
        ("./mlruns/1/a/model", "", "on a disk"),
        ("http://evil/model", "", "s3:// only"),
        ("https://evil/model", "", "s3:// only"),
        ("gs://bucket/model", "", "s3:// only"),
        ("wasbs://box@account.blob/model", "", "s3:// only"),
        ("dbfs:/mlflow/model", "", "s3:// only"),
        ("s3://bucket", "", "no plain s3://"),
        ("s3://bucket/", "", "no plain s3://"),
        ("s3://bucket//x", "", "no plain s3://"),
        ("s3://bucket/../x", "", "no plain s3://"),
        ("s3://bucket/./x", "", "no plain s3://"),
        ("s3://user:key@evil/x", "", "no plain s3://"),
        ("s3://evil:9000/bucket/x", "", "no plain s3://"),
        ("s3://bucket/x,endpoint=http://evil", "", "no plain s3://"),
        ("s3://bucket/x\n--config=/evil", "", "no plain s3://"),
        ("s3://bucket/-x y", "", "no plain s3://"),
        ("s3,endpoint=http://evil:bucket/x", "", "no plain s3://"),
        (":http,url=http://evil:model", "", "no plain s3://"),
        ("--config=/evil", "", "no plain s3://"),
        ("", "", "no plain s3://"),
        ("s3://bucket/" + "x/" * 2000 + "x", "", "no plain s3://"),
    ],
)
async def test_address_is_rejected_with_what_to_set(uri: str, destination: str, problem: str) -> None:
    stored = await ObjectStore(SETTINGS.with_(artifacts_destination=destination)).stored(uri, SOURCE.access({}))
    assert not stored.readable
    assert stored.reason == "ModelAddressUnusable"
    assert problem in stored.message
    assert len(stored.message) < 1000
    assert stored.message.isprintable()
