"""What a decision may ask of the world, beside which runs there are. Answered by `observe`."""

from dataclasses import dataclass

from winepipelines.lifecycle.questions import Question
from winepipelines.resource.outcome import OutputUse, PipelineView, PredictionRecords


@dataclass(frozen=True)
class Pipeline(Question[PipelineView]):
    """Is there a WinePipeline of this name, and what does it serve?"""

    name: str


@dataclass(frozen=True)
class UsesOfOutput(Question[OutputUse]):
    """Which other resources read or write what this prediction will write?"""


@dataclass(frozen=True)
class Outcome(Question[PredictionRecords]):
    """What did the step of this Kubeflow run record in MLflow?"""

    run_id: str
