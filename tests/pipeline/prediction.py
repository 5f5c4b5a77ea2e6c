"""Fixtures for the predict step: a real MLflow and object store with a trained model, and a function that scores a file."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from botocore.config import Config
from mlflow import MlflowClient
from mlflow.store.artifact.s3_artifact_repo import _cached_get_s3_client
from pipeline.scored import ASKER, OWNER
from support.mlflow import MLFLOW_ONLY

from sandbox.plan import Info
from sandbox.platform import Sandbox
from winecontract.tags import Tag
from winesteps import predict, tracking
from winesteps.failures import Attempt, reporting
from winesteps.predict import Predicted, Task
from winesteps.preprocess import preprocess
from winesteps.train import Task as Training
from winesteps.train import Trained, train


@pytest.fixture(scope="module", params=["direct", "proxied"])
def info(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Info]:
    with Sandbox("predict", tmp_path_factory.mktemp("mlflow"), without=MLFLOW_ONLY, mlflow=request.param) as sandbox:
        yield sandbox.info


@pytest.fixture(scope="module")
def step_environment(info: Info) -> Iterator[None]:
    """The variables that a step's pod has from its Secrets, and none of this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("MLFLOW_", "AWS_")):
                patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", info.s3_access_key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", info.s3_secret_key)
        patch.setattr("boto3.DEFAULT_SESSION", None)
        _cached_get_s3_client.cache_clear()
        patch.setenv("MLFLOW_S3_ENDPOINT_URL", "")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        if info.mlflow_user:
            patch.setenv("MLFLOW_TRACKING_USERNAME", info.mlflow_user)
            patch.setenv("MLFLOW_TRACKING_PASSWORD", info.mlflow_password)
        yield


@pytest.fixture(scope="module")
def s3(info: Info, step_environment: None) -> Any:
    signed = Config(signature_version="s3v4")  # also the addresses: boto3 signs them with version 2 otherwise
    client = boto3.client("s3", endpoint_url=info.s3_endpoint, region_name="us-east-1", config=signed)
    client.create_bucket(Bucket="scores")
    return client


@pytest.fixture(scope="module")
def trained(info: Info, s3: Any, red_wine: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    table = tmp_path_factory.mktemp("table") / "table"
    preprocess(red_wine, table)
    return train(table, Training(), tracking.Record(info.mlflow_url, "wine", info.s3_endpoint, OWNER, "run-1"), Attempt())


@pytest.fixture(scope="module")
def digest(info: Info, trained: Trained) -> str:
    """The digest of the model, as the operator passes it."""
    return MlflowClient(info.mlflow_url).get_run(trained.run_id).data.tags[Tag.DIGEST]


@pytest.fixture
def score(info: Info, trained: Trained, digest: str) -> Callable[..., Predicted]:
    def score(url: str, output: str = "s3://scores/a folder/red.parquet", **changes: Any) -> Predicted:
        task = Task(url, output, trained.run_id, model_version=trained.version, pipeline_uid="1f0c", model_digest=digest)
        record = tracking.Record(info.mlflow_url, "wine-predictions", info.s3_endpoint, ASKER, "run-2")
        with reporting("predict", record) as attempt:
            return predict.predict(replace(task, **changes), info.s3_endpoint, record, attempt)

    return score


@pytest.fixture(scope="module")
def expected(trained: Trained, red_wine: Path, info: Info, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Predictions of the model itself."""
    client = tracking.connect(tracking.Record(info.mlflow_url, "wine", info.s3_endpoint))
    folder = client.download_artifacts(trained.run_id, "model", str(tmp_path_factory.mktemp("model")))
    frame = pd.read_csv(red_wine, sep=";").rename(columns=lambda name: name.replace(" ", "_").lower())
    values: np.ndarray = mlflow.pyfunc.load_model(folder).predict(frame.drop(columns="quality").astype(float))
    return values
