"""What can be seen of a prediction's world, as plain values: `platform` makes them, `predictions` judges them."""

from dataclasses import dataclass
from datetime import datetime

from winecontract.text import Cleaned
from winepipelines.api.observed import StepFailure
from winepipelines.api.prediction import PredictionStage, RejectedRows
from winepipelines.api.status import ServedModel


@dataclass(frozen=True)
class PipelineView(Cleaned):
    """A WinePipeline: whether it exists, its uid, and the model that it serves.

    `takes_unsigned` says that a model without a signed record may be scored with.
    """

    exists: bool
    uid: str = ""
    served: ServedModel | None = None
    takes_unsigned: bool = False


@dataclass(frozen=True)
class OutputClaim(Cleaned):
    """Another WinePrediction with the same output. `begun`: it has chosen its model, so that it may write at any time."""

    namespace: str
    name: str
    uid: str
    created_at: datetime
    stage: PredictionStage | None = None
    begun: bool = False
    deleting: bool = False


@dataclass(frozen=True)
class OutputUse(Cleaned):
    """Who else has to do with a prediction's output or its report.

    `trained_on` lists the WinePipelines whose data it is, as `namespace/name`.
    """

    claims: tuple[OutputClaim, ...] = ()
    trained_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scored(Cleaned):
    """What the step recorded of its work."""

    output: str
    report: str
    rows: int
    rejected: tuple[RejectedRows, ...] = ()


@dataclass(frozen=True)
class PredictionRecords(Cleaned):
    """What MLflow knows of a run: its outcome, its newest failure, and why an outcome that is recorded is not believed in."""

    scored: Scored | None = None
    failure: StepFailure | None = None
    refused: str = ""
