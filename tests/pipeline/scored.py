"""Owners of predictions, and their results in the object store and in MLflow."""

from collections.abc import Callable
from typing import Any

import pytest
from mlflow import MlflowClient

from sandbox.plan import Info
from winecontract.reasons import Reason
from winesteps.failures import StepFailure

OWNER = {"namespace": "admin", "name": "mlflow", "uid": "1f0c", "revision": 7.0}
ASKER = {"namespace": "admin", "name": "scores", "uid": "2b77"}


def body(store: Any, uri: str) -> bytes:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    content: bytes = store.get_object(Bucket=bucket, Key=key)["Body"].read()
    return content


def refused(reason: Reason, call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    with pytest.raises(StepFailure) as caught:
        call(*arguments, **options)
    assert caught.value.reason is reason, caught.value
    return caught.value.message


def newest(info: Info) -> Any:
    client = MlflowClient(info.mlflow_url)
    experiment = client.get_experiment_by_name("wine-predictions")
    assert experiment is not None
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])[0]
