"""What can be seen of a prediction's world, as plain values: `platform` makes them, `predictions` judges them."""

from dataclasses import dataclass

from winepipelines.resource.observed import StepFailure
from winepipelines.resource.prediction import ChosenModel, RejectedFor


@dataclass(frozen=True)
class PipelineView:
    """A WinePipeline, as far as it matters here: whether it is there, and the model that it serves."""

    exists: bool
    served: ChosenModel | None = None


@dataclass(frozen=True)
class Scored:
    """What the step recorded of its work."""

    output: str
    report: str
    rows: int
    rejected: tuple[RejectedFor, ...] = ()


@dataclass(frozen=True)
class PredictionRecords:
    """What MLflow knows of a run: its outcome, its newest failure, and why an outcome that is recorded is not believed in."""

    scored: Scored | None = None
    failure: StepFailure | None = None
    refused: str = ""
