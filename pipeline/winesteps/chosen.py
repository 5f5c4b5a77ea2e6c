"""Find the model of a prediction in MLflow, fetch, verify and load it, in this order."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winecontract.reasons import Reason
from winecontract.tags import MODEL_FOLDER, Tag
from winesteps import model
from winesteps.failures import StepFailure, describe
from winesteps.trackingerrors import tracking_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True)
class Chosen:
    """The model of a prediction: its MLflow run, the version and owner that it must have, if set, and its folder's digest.

    With `allow_unsigned` a model without a signed digest is loaded, too.
    """

    mlflow_run: str
    version: str = ""
    owner_uid: str = ""
    digest: str = ""
    allow_unsigned: bool = False


def find(client: "MlflowClient", chosen: Chosen, tracking_uri: str) -> "Run":
    """Return the model's MLflow run. Raise `StepFailure` ModelUnusable if it was deleted, or is another model's."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(chosen.mlflow_run)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            with tracking_errors(tracking_uri):
                raise
        raise _unusable(chosen, "the run is no longer in MLflow") from None
    tags = run.data.tags
    if tags.get(Tag.MODEL_URI) != f"{run.info.artifact_uri}/{MODEL_FOLDER}":
        raise _unusable(chosen, "the run has no model of its own")
    for tag, wanted in ((Tag.UID, chosen.owner_uid), (Tag.MODEL_VERSION, chosen.version)):
        if wanted and tags.get(tag) != wanted:
            raise _unusable(chosen, f"its {tag.short} is not {wanted}, that of the served model")
    return run


def load(run: "Run", chosen: Chosen, root: Path, tracking_uri: str) -> tuple[Any, list[str]]:
    """Load the model; return it and its columns, in its order. Nothing of it is read before its files are verified.

    Raises:
        StepFailure: ModelUnsigned, ModelTampered, ModelUnusable, or what MLflow and its store raise.

    """
    try:
        with tracking_errors(tracking_uri):
            folder = model.fetch(run, root, tracking_uri)
        model.verify(folder, chosen.digest, allow_unsigned=chosen.allow_unsigned)
    except model.ModelRefusedError as error:
        advice = "Train the WinePipeline again (annotation winepipelines.io/retrain), then create another WinePrediction."
        message = f"The model of MLflow run {chosen.mlflow_run} was not loaded: {error.why}. {advice}"
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
