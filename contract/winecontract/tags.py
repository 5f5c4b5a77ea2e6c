"""MLflow tags and metrics that the steps write and the operator reads: the record of a run.

Kubeflow Pipelines carries neither outputs nor failure reasons, so each step tags its MLflow run. The operator finds the run by
the identity tags and reads the others. Whoever can write to MLflow can write these tags: `signatures` lists the signed ones.
"""

from enum import StrEnum

PREFIX = "winepipelines.io/"
"""Prefix of every tag of the contract."""


class Tag(StrEnum):
    """A tag of an MLflow run or model version. The value is the whole key."""

    # Identity: whose run it is.
    NAMESPACE = f"{PREFIX}namespace"
    NAME = f"{PREFIX}name"
    UID = f"{PREFIX}uid"
    REVISION = f"{PREFIX}revision"
    CHECK = f"{PREFIX}check"
    KFP_RUN = f"{PREFIX}kfp-run"

    # The model. EXAMPLE is JSON, {"names": […], "ndarray": [[…]]}; PREDICTION is the JSON list of what the model answers to it.
    MODEL_URI = f"{PREFIX}model-uri"
    MODEL_VERSION = f"{PREFIX}model-version"
    REUSED_RUN = f"{PREFIX}reused-run"
    FINGERPRINT = f"{PREFIX}fingerprint"
    EXAMPLE = f"{PREFIX}example"
    PREDICTION = f"{PREFIX}prediction"
    SERVED_PROBLEM = f"{PREFIX}served-problem"
    DIGEST = f"{PREFIX}digest"
    SIGNATURE = f"{PREFIX}signature"
    TRIAL_PROBLEM = f"{PREFIX}trial-problem"
    LEFT_BY = f"{PREFIX}left-by"

    # The data. DATA is a JSON object with rows, rowsDropped, columnsDropped, format and warnings.
    DATA = f"{PREFIX}data"
    DATA_SHA256 = f"{PREFIX}data-sha256"
    DATA_ETAG = f"{PREFIX}data-etag"
    DATA_VERSION = f"{PREFIX}data-version"
    DATA_CHANGED = f"{PREFIX}data-changed"

    # A failed step.
    FAILED_STEP = f"{PREFIX}failed-step"
    FAILURE_REASON = f"{PREFIX}failure-reason"
    FAILURE_MESSAGE = f"{PREFIX}failure-message"
    FAILURE_PERMANENT = f"{PREFIX}failure-permanent"

    # Batch scoring. PREDICTION_REJECTED is a JSON list of {"reason": …, "rows": …}.
    PREDICTION_OUTPUT = f"{PREFIX}prediction-output"
    PREDICTION_REPORT = f"{PREFIX}prediction-report"
    PREDICTION_MODEL = f"{PREFIX}prediction-model"
    PREDICTION_ROWS = f"{PREFIX}prediction-rows"
    PREDICTION_SCORED = f"{PREFIX}prediction-scored"
    PREDICTION_REJECTED = f"{PREFIX}prediction-rejected"
    PREDICTION_UPLOAD = f"{PREFIX}prediction-upload"

    @property
    def short(self) -> str:
        """The key without the prefix."""
        return self.removeprefix(PREFIX)


TRUE, FALSE = "true", "false"
"""Values of the tags DATA_CHANGED and FAILURE_PERMANENT."""

MODEL_FOLDER = "model"
"""Artifact path of the model within its MLflow run."""

METRICS = ("r2", "rmse", "mae")
"""Metrics of a model on the test rows."""
SERVED = "served_"
"""Prefix of the same metrics of the model that is served, on the same rows."""
