"""A `WinePrediction` as the API server holds it: one file to score, once, with the model that a WinePipeline serves.

`crds/winepredictions.yaml` is the source of truth for ranges and defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from winepipelines.api.body import Resource
from winepipelines.api.model import Model, Sha256, StatusModel, Time
from winepipelines.api.modelrecord import ModelRecord
from winepipelines.api.spec import Columns, Resources, parse_duration
from winepipelines.api.status import Run, StatusBase

PREDICTION_KIND = "WinePrediction"
PREDICTION_PLURAL = "winepredictions"
PARQUET = ".parquet"
OUTPUTS = "predictions"  # folder of a namespace's default outputs
REPORT_SUFFIX = ".report.json"  # the report's address is the output's, and this behind it
EXPERIMENT = "wine-predictions"  # that its runs are kept under, in Kubeflow Pipelines and in MLflow
BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


class Input(Model):
    """The file to score. Without a format, the content determines it."""

    url: str
    sha256: Sha256 = ""
    format: Literal["csv", "parquet"] | None = None
    separator: str = ";"
    credentials_secret: str = ""
    credentials_over_http: bool = Field(default=False, alias="credentialsOverHTTP")
    decimal: Literal[".", ","] = "."
    columns: Columns | None = None

    @property
    def selection(self) -> dict[str, list[int | str]]:
        """Return `columns` as the step takes it. Empty selects all columns."""
        return self.columns.selection if self.columns else {}


class PredictionSpec(Model):
    """The file to score, the model and where the result is written."""

    LEAST: ClassVar[Mapping[str, Any]] = {"pipeline": "", "input": {"url": ""}}

    pipeline: str
    input: Input
    output: str = ""  # empty: below the administrator's folder, see `default_output`
    overwrite: bool = False
    escape_formulas: bool = True
    timeout: str = "1h"
    attempts: int = 3
    ttl_after_finished: str | None = None
    resources: Resources = Resources()

    @property
    def ttl(self) -> timedelta | None:
        """Return `ttl_after_finished` as a duration."""
        return None if self.ttl_after_finished is None else parse_duration(self.ttl_after_finished)


class PredictionStage(StrEnum):
    """The current stage of a prediction."""

    WAITING = "Waiting"
    SCORING = "Scoring"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class RejectedRows(StatusModel):
    """How many rows were rejected for a reason of the step's."""

    reason: str
    rows: int


class Rejected(StatusModel):
    """The rows that could not be scored, most frequent reason first."""

    rows: int = 0
    reasons: tuple[RejectedRows, ...] = ()


class PredictionStatus(StatusBase):
    """The observed state of a WinePrediction.

    `revision` and `model` are those that the WinePipeline with the uid `pipeline_uid` served when they were chosen. `output` is
    chosen before the run, and its object exists once the prediction has succeeded.
    """

    stage: PredictionStage | None = None
    pipeline_uid: str = ""
    revision: int | None = None
    model: ModelRecord | None = None
    run: Run | None = None
    rows: int | None = None
    rejected: Rejected | None = None
    output: str = ""
    report: str = ""
    started_at: Time | None = None
    finished_at: Time | None = None
    duration: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it has succeeded or failed."""
        return self.stage in (PredictionStage.SUCCEEDED, PredictionStage.FAILED)


@dataclass(frozen=True)
class WinePrediction(Resource[PredictionSpec, PredictionStatus]):
    """The resource: its identity, what is asked, what is."""

    created_at: datetime = BEFORE_ALL

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Read a body of the API, see `Resource.read`."""
        created = body["metadata"].get("creationTimestamp")
        return cls.read(
            body, PredictionSpec, PredictionStatus, created_at=datetime.fromisoformat(created) if created else BEFORE_ALL
        )

    @property
    def run_name(self) -> str:
        """Name of its one run. The uid tells a resource from an earlier one of the same name."""
        return f"{self.name}-{self.uid[:8]}-batch"

    @property
    def output(self) -> str:
        """Address of the scored rows: that of the spec, else the chosen one; empty before one is chosen."""
        return self.spec.output or self.status.output


def default_output(folder: str, namespace: str, name: str, uid: str, source: Input) -> str:
    """Build the address of the output of a prediction whose spec has none, below the administrator's folder.

    Its format is that of the input, as far as the spec tells it: CSV unless the input is Parquet.
    """
    path = source.url.partition("?")[0]
    is_parquet = source.format == "parquet" or (source.format is None and path.lower().endswith(PARQUET))
    return f"{folder}/{namespace}/{OUTPUTS}/{name}-{uid[:8]}{PARQUET if is_parquet else '.csv'}"
