"""Where a model is for whoever copies it: a plain folder of a bucket, or a message that says what to set."""

from dataclasses import replace

import pytest

from winepipelines.platform.objectstore import ObjectStore
from winepipelines.settings import Settings

SETTINGS = Settings(kfp_url="http://kfp", mlflow_url="http://mlflow", s3_endpoint_url="http://minio")


@pytest.mark.parametrize("destination", ["s3://bucket", "s3://bucket/", "s3://bucket/deep/folder"])
def test_what_the_server_hands_on_is_where_the_administrator_says(destination: str) -> None:
    store = ObjectStore(replace(SETTINGS, artifacts_destination=destination))
    assert store.address("mlflow-artifacts:/1/a/artifacts/model") == f"{destination.rstrip('/')}/1/a/artifacts/model"
    assert store.address("s3://other/1/model") == "s3://other/1/model"


@pytest.mark.parametrize(
    ("uri", "destination", "said"),
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
        ("http://evil/model", "", "s3 only"),
        ("https://evil/model", "", "s3 only"),
        ("gs://bucket/model", "", "s3 only"),
        ("wasbs://box@account.blob/model", "", "s3 only"),
        ("dbfs:/mlflow/model", "", "s3 only"),
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
async def test_what_seldon_cannot_copy_is_said(uri: str, destination: str, said: str) -> None:
    stored = await ObjectStore(replace(SETTINGS, artifacts_destination=destination)).stored(uri, {})
    assert not stored.readable
    assert stored.reason == "ModelAddressUnusable"
    assert said in stored.message
    assert len(stored.message) < 1000
    assert stored.message.isprintable()
