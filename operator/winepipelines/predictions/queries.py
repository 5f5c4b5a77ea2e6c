"""Queries for a WinePrediction."""

from dataclasses import dataclass

from winepipelines.api.scoring import OutputUse, PipelineView, PredictionRecords
from winepipelines.engine.decision import Query


@dataclass(frozen=True)
class GetPipeline(Query[PipelineView]):
    """Is there a WinePipeline of this name, and what does it serve?"""

    name: str


@dataclass(frozen=True)
class GetOutputAddress(Query[str]):
    """Where does the administrator want the output of this prediction, whose spec has none?"""


@dataclass(frozen=True)
class ListOutputUses(Query[OutputUse]):
    """Which other resources read or write what this prediction will write?"""


@dataclass(frozen=True)
class GetScoringResult(Query[PredictionRecords]):
    """What did the step of this Kubeflow run record in MLflow?"""

    run_id: str
