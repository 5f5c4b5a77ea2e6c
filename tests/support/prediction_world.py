"""An in-memory platform for the decisions about predictions, as `world` is for pipelines."""

from dataclasses import dataclass, field, replace

from support.memory import InMemory

from winepipelines.api.modelrecord import ModelRecord
from winepipelines.api.observed import RunState, StepFailure
from winepipelines.api.prediction import PredictionSpec, PredictionStatus, RejectedRows, WinePrediction
from winepipelines.api.scoring import OutputUse, PipelineView, PredictionRecords, Scored
from winepipelines.api.status import ServedModel
from winepipelines.controllers import PREDICTIONS
from winepipelines.engine.decision import Query
from winepipelines.predictions.actions import Action, DeleteResource, SubmitPrediction
from winepipelines.predictions.queries import GetOutputAddress, GetPipeline, GetScoringResult, ListOutputUses

OUTPUT = "s3://scores/red.parquet"
SPEC = PredictionSpec.model_validate({"pipeline": "mlflow", "input": {"url": "http://data/new.csv"}, "output": OUTPUT})
MODEL = ModelRecord(revision=3, mlflow_run="abc", version="3", uri="s3://mlflow/1/model", digest="sha256:" + "d" * 64)
SERVING = PipelineView(exists=True, uid="0123456789ab", served=ServedModel(revision=3, model=MODEL))


def serving(revision: int, mlflow_run: str) -> PipelineView:
    """Describe a WinePipeline that serves another model."""
    return replace(SERVING, served=ServedModel(revision=revision, model=MODEL.with_(mlflow_run=mlflow_run)))


@dataclass
class PredictionWorld(InMemory[PredictionStatus]):
    """The environment of the operator. Tests set its fields to set up a state."""

    controller = PREDICTIONS
    prediction: WinePrediction = field(
        default_factory=lambda: WinePrediction("admin", "scores", "89abcdef0123", 1, "1", SPEC, PredictionStatus())
    )
    pipeline: PipelineView = SERVING
    output_use: OutputUse = OutputUse()
    output_address: str = "s3://mlpipeline/private/admin/predictions/scores-89abcdef.csv"
    scored_with: dict[str, ModelRecord] = field(default_factory=dict)  # model in the submission, by name of the run
    written_to: dict[str, str] = field(default_factory=dict)  # output in the submission, likewise
    records: dict[str, PredictionRecords] = field(default_factory=dict)  # by run id
    most_live: int = 0

    @property
    def status(self) -> PredictionStatus:
        """The stored status."""
        return self.prediction.status

    @property
    def resource(self) -> WinePrediction:
        """The stored resource."""
        return self.prediction

    @resource.setter
    def resource(self, resource: WinePrediction) -> None:
        self.prediction = resource

    def change(self, **spec: object) -> None:
        """Apply another spec. The API server allows only a change of `ttlAfterFinished`; this class allows any."""
        changed = PredictionSpec.model_validate({**self.prediction.spec.model_dump(by_alias=True), **spec})
        self.prediction = replace(self.prediction, spec=changed, generation=self.prediction.generation + 1)

    def succeed(self, rows: int = 100, **rejected: int) -> None:
        """Let the newest run succeed."""
        self.move_run(RunState.SUCCEEDED)
        reasons = tuple(RejectedRows(reason=reason, rows=count) for reason, count in rejected.items())
        self.records[self.runs[-1].id] = PredictionRecords(
            Scored(self.prediction.output, f"{self.prediction.output}.report.json", rows, reasons)
        )

    def fail(self, reason: str = "DataUnreachable", permanent: bool = False) -> None:
        """Let the step of the newest run fail and record the reason."""
        self.move_run(RunState.FAILED, failed_step="predict")
        failure = StepFailure("predict", reason, "no good", permanent, self.now)
        self.records[self.runs[-1].id] = PredictionRecords(failure=failure)

    def _answer_other(self, query: Query[object]) -> object:
        match query:
            case GetPipeline():
                return self.pipeline
            case GetOutputAddress():
                return self.output_address
            case ListOutputUses():
                return self.output_use
            case GetScoringResult(run_id):
                return self.records.get(run_id, PredictionRecords())
        raise AssertionError(query)

    def _perform_other(self, action: Action) -> None:
        match action:
            case SubmitPrediction(name):
                model = self.status.model
                assert model is not None, "the model is written before the run is submitted"
                self.scored_with[name] = model
                self.written_to[name] = self.prediction.output
                self.add_run(name)
            case DeleteResource():
                self.delete()

    def add_run(self, name: str) -> None:
        """Add a run with a name to Kubeflow Pipelines."""
        super().add_run(name)
        self.most_live = max(self.most_live, sum(run.live for run in self.runs))
