"""Rollouts for tests of serving backends."""

from winepipelines.api.modelrecord import ModelRecord, ModelServer
from winepipelines.api.rollout import Rollout
from winepipelines.api.spec import Runtime


def model(
    revision: int, uri: str, runtime: str = Runtime.BUNDLED, image: str = "", executor: bool | None = None, digest: str = ""
) -> ModelRecord:
    """Describe a model. Without an image or `executor` its server is not recorded."""
    options = {} if executor is None else {"executor": str(executor).lower()}
    server = ModelServer(image=image, options=options)
    return ModelRecord(
        revision=revision, uri=uri, mlflow_run=f"mlflow-{revision}", runtime=Runtime(runtime), server=server, digest=digest
    )


def one(revision: int, uri: str, runtime: str = Runtime.BUNDLED, image: str = "", executor: bool | None = None) -> Rollout:
    """Describe a rollout of one model, without a canary."""
    return Rollout(revision, model(revision, uri, runtime, image, executor))
