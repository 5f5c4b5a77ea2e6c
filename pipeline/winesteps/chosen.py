"""The model that a file is scored with: found in MLflow, fetched, verified and loaded, in this order. Called by `predict`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winesteps import model, tracking
from winesteps.failures import Reason, StepFailure, describe
from winesteps.trackingerrors import tracking_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True)
class Chosen:
    """Which model: its MLflow run; the version and the owner that it must have, if given; the digest of its folder.

    `allow_unsigned`: it may be loaded without a digest.
    """

    mlflow_run: str
    version: str = ""
    owner_uid: str = ""
    digest: str = ""
    allow_unsigned: bool = False


def find(client: "MlflowClient", chosen: Chosen, tracking_uri: str) -> "Run":
    """The model's MLflow run; raises `StepFailure` ModelUnusable where it is gone, or is not the one that was chosen."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(chosen.mlflow_run)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            with tracking_errors(tracking_uri):
                raise
        raise _unusable(chosen, "it is no longer in MLflow") from None
    tags = run.data.tags
    if tags.get(f"{tracking.PREFIX}model-uri") != f"{run.info.artifact_uri}/{model.FOLDER}":
        raise _unusable(chosen, "it has no model of its own")
    for name, wanted in (("uid", chosen.owner_uid), ("model-version", chosen.version)):
        if wanted and tags.get(f"{tracking.PREFIX}{name}") != wanted:
            raise _unusable(chosen, f"its {name} is not {wanted}, which is the one that serves")
    return run


def load(run: "Run", chosen: Chosen, root: Path, tracking_uri: str) -> tuple[Any, list[str]]:
    """The model, and the columns that it needs, in its order. Nothing of it is read before its files are verified.

    Raises:
        StepFailure: ModelUnsigned, ModelTampered, ModelUnusable, or what MLflow and its store raise.

    """
    try:
        with tracking_errors(tracking_uri):
            folder = model.fetch(run, root, tracking_uri)
        model.verify(folder, chosen.digest, allow_unsigned=chosen.allow_unsigned)
    except model.ModelRefusedError as error:
        advice = "Train the WinePipeline again (annotation winepipelines.io/retrain), then make another WinePrediction."
        message = f"The model of MLflow run {chosen.mlflow_run} is not loaded: {error.why}. {advice}"
        raise StepFailure(Reason(error.fault.value), message) from None
    try:
        loaded = model.load(folder)
    except Exception as error:
        raise _unusable(chosen, f"it cannot be loaded: {describe(error)}") from None
    if not (columns := model.columns(loaded)):
        raise _unusable(chosen, "it does not name its columns")
    return loaded, columns


def _unusable(chosen: Chosen, why: str) -> StepFailure:
    return StepFailure(Reason.MODEL_UNUSABLE, f"The model of MLflow run {chosen.mlflow_run} cannot be used: {why}.")
