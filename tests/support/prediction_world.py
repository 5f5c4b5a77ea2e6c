"""A platform in memory, for the decisions about predictions: the counterpart of `world`."""

from dataclasses import dataclass, field, replace

from support.memory import InMemory

from winepipelines.lifecycle.questions import Question
from winepipelines.predictions.actions import Action, DeleteResource, SubmitPrediction
from winepipelines.predictions.questions import Outcome, Pipeline, UsesOfOutput
from winepipelines.resource.observed import RunState, StepFailure
from winepipelines.resource.outcome import OutputUse, PipelineView, PredictionRecords, Scored
from winepipelines.resource.prediction import ChosenModel, PredictionSpec, PredictionStatus, RejectedFor, WinePrediction
from winepipelines.subjects import PREDICTIONS

OUTPUT = "s3://scores/red.parquet"
SPEC = PredictionSpec.model_validate({"pipeline": "mlflow", "input": {"url": "http://data/new.csv"}, "output": OUTPUT})
CHAMPION = ChosenModel(
    revision=3, mlflow_run="abc", version="3", uri="s3://mlflow/1/model", digest="sha256:" + "d" * 64, pipeline_uid="0123456789ab"
)


@dataclass
class PredictionWorld(InMemory[PredictionStatus]):
    """Everything outside the operator. Tests set fields to say what is so."""

    subject = PREDICTIONS
    prediction: WinePrediction = field(
        default_factory=lambda: WinePrediction("admin", "scores", "89abcdef0123", 1, "1", SPEC, PredictionStatus())
    )
    pipeline: PipelineView = PipelineView(exists=True, served=CHAMPION)
    output_use: OutputUse = OutputUse()
    scored_with: dict[str, ChosenModel] = field(default_factory=dict)  # run name: the model that its submission named
    records: dict[str, PredictionRecords] = field(default_factory=dict)  # by run id
    most_live: int = 0

    @property
    def status(self) -> PredictionStatus:
        """The status as it is stored."""
        return self.prediction.status

    @property
    def resource(self) -> WinePrediction:
        """The resource as it is stored."""
        return self.prediction

    @resource.setter
    def resource(self, resource: WinePrediction) -> None:
        self.prediction = resource

    def change(self, **spec: object) -> None:
        """Apply another spec: only `ttlAfterFinished` can be, but that is the API server's to see to."""
        changed = PredictionSpec.model_validate({**self.prediction.spec.model_dump(by_alias=True), **spec})
        self.prediction = replace(self.prediction, spec=changed, generation=self.prediction.generation + 1)

    def succeed(self, rows: int = 100, **rejected: int) -> None:
        """Let the run succeed."""
        self.move_run(RunState.SUCCEEDED)
        reasons = tuple(RejectedFor(reason=reason, rows=count) for reason, count in rejected.items())
        self.records[self.runs[-1].id] = PredictionRecords(Scored(OUTPUT, f"{OUTPUT}.report.json", rows, reasons))

    def fail(self, reason: str = "DataUnreachable", permanent: bool = False) -> None:
        """Let the step fail, and say why."""
        self.move_run(RunState.FAILED, failed_step="predict")
        failure = StepFailure("predict", reason, "no good", permanent, self.now)
        self.records[self.runs[-1].id] = PredictionRecords(failure=failure)

    def _know(self, question: Question[object]) -> object:
        match question:
            case Pipeline():
                return self.pipeline
            case UsesOfOutput():
                return self.output_use
            case Outcome(run_id):
                return self.records.get(run_id, PredictionRecords())
        raise AssertionError(question)

    def _do(self, action: Action) -> None:
        match action:
            case SubmitPrediction(name):
                model = self.status.model
                assert model is not None, "the model is written before the run is submitted"
                self.scored_with[name] = model
                self.add_run(name)
            case DeleteResource():
                self.delete()

    def add_run(self, name: str) -> None:
        """Kubeflow Pipelines has another run of a name."""
        super().add_run(name)
        self.most_live = max(self.most_live, sum(run.live for run in self.runs))
