"""A `WinePrediction` as the API server holds it: a file that is scored, once, with the model that a WinePipeline serves.

Called by `reconciler`, which reads bodies, and by everything that decides on or acts for one. `crds/winepredictions.yaml` is the
source of truth for ranges and defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from winepipelines.resource.body import Resource
from winepipelines.resource.model import Model, Sha256, StatusModel, Time
from winepipelines.resource.spec import Columns, Resources, parse_duration
from winepipelines.resource.status import Run, Stated

PREDICTION_KIND = "WinePrediction"
PREDICTION_PLURAL = "winepredictions"
REPORT_SUFFIX = ".report.json"  # the report's address is the output's, and this behind it
EXPERIMENT = "wine-predictions"  # that its runs are kept under, in Kubeflow Pipelines and in MLflow
BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


class Input(Model):
    """The file to score. Without a format its content says which it has."""

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
        """`columns` as the step takes it; empty: all."""
        return self.columns.selection if self.columns else {}


class PredictionSpec(Model):
    """What shall be scored, and where it goes."""

    LEAST: ClassVar[Mapping[str, Any]] = {"pipeline": "", "input": {"url": ""}, "output": ""}

    pipeline: str
    input: Input
    output: str
    overwrite: bool = False
    escape_formulas: bool = True
    timeout: str = "1h"
    attempts: int = 3
    ttl_after_finished: str | None = None
    resources: Resources = Resources()

    @property
    def timeout_duration(self) -> timedelta:
        """`timeout` as a duration."""
        return parse_duration(self.timeout)

    @property
    def ttl(self) -> timedelta | None:
        """`ttl_after_finished` as a duration."""
        return None if self.ttl_after_finished is None else parse_duration(self.ttl_after_finished)


class PredictionStage(StrEnum):
    """How far a prediction is."""

    WAITING = "Waiting"
    SCORING = "Scoring"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class ChosenModel(StatusModel):
    """The model that is scored with: what the WinePipeline served when it was chosen. `uri` is for a person to read.

    `digest` is that of its files, which the step compares before it loads them; empty where no train step has signed one.
    """

    revision: int
    mlflow_run: str
    version: str = ""
    uri: str = ""
    digest: str = ""
    pipeline_uid: str = ""


class RejectedFor(StatusModel):
    """How many rows were rejected for a reason, in the step's own word."""

    reason: str
    rows: int


class Rejected(StatusModel):
    """Rows that could not be scored, most frequent reason first."""

    rows: int = 0
    reasons: tuple[RejectedFor, ...] = ()


class PredictionStatus(Stated):
    """What is. Written by the operator alone."""

    stage: PredictionStage | None = None
    model: ChosenModel | None = None
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
        """Whether it has come to its end, good or bad."""
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
