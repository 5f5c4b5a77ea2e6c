"""A platform in memory, for the decisions about predictions: the counterpart of `world`. It can be crashed around any call."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from support.world import START, Crash

from winepipelines.lifecycle.actions import AddFinalizer, DeleteRun, RemoveFinalizer, RetryRun, TerminateRun
from winepipelines.lifecycle.decision import Decision
from winepipelines.lifecycle.events import Event
from winepipelines.lifecycle.questions import Question, Runs
from winepipelines.predictions.actions import Action, DeleteResource, SubmitPrediction
from winepipelines.predictions.decide import decide, events
from winepipelines.predictions.questions import Outcome, Pipeline
from winepipelines.resource.errors import PlatformError, Unavailable
from winepipelines.resource.observed import RunState, RunView, StepFailure
from winepipelines.resource.outcome import PipelineView, PredictionRecords, Scored
from winepipelines.resource.pipeline import FINALIZER
from winepipelines.resource.policy import Policy
from winepipelines.resource.prediction import ChosenModel, PredictionSpec, PredictionStatus, RejectedFor, WinePrediction
from winepipelines.resource.status import Condition, ConditionType

OUTPUT = "s3://scores/red.parquet"
SPEC = PredictionSpec.model_validate({"pipeline": "mlflow", "input": {"url": "http://data/new.csv"}, "output": OUTPUT})
CHAMPION = ChosenModel(revision=3, mlflow_run="abc", version="3", uri="s3://mlflow/1/model", pipeline_uid="0123456789ab")


@dataclass
class PredictionWorld:
    """Everything outside the operator. Tests set fields to say what is so."""

    now: datetime = START
    policy: Policy = field(default_factory=Policy)
    prediction: WinePrediction = field(
        default_factory=lambda: WinePrediction("admin", "scores", "89abcdef0123", 1, "1", SPEC, PredictionStatus())
    )
    exists: bool = True
    pipeline: PipelineView = PipelineView(exists=True, served=CHAMPION)
    runs: list[RunView] = field(default_factory=list)
    scored_with: dict[str, ChosenModel] = field(default_factory=dict)  # run name: the model that its submission named
    workflows_gone: bool = False  # then a run can be asked to end, and never does
    records: dict[str, PredictionRecords] = field(default_factory=dict)  # by run id
    down: dict[type, PlatformError] = field(default_factory=dict)  # question or action type: error
    crash_in: int | None = None  # calls until the operator dies
    writes: int = 0
    calls: list[str] = field(default_factory=list)
    told: list[Event] = field(default_factory=list)
    left_behind: tuple[str, ...] = ()
    created: list[str] = field(default_factory=list)
    most_live: int = 0

    @property
    def status(self) -> PredictionStatus:
        """The status as it is stored."""
        return self.prediction.status

    def condition(self, kind: ConditionType = ConditionType.READY) -> Condition:
        """A condition that must be there."""
        found = self.status.condition(kind)
        assert found is not None, f"no condition {kind} in {self.status.conditions}"
        return found

    def pass_time(self, **duration: float) -> None:
        """Let time pass."""
        self.now += timedelta(**duration)

    def change(self, **spec: object) -> None:
        """Apply another spec: only `ttlAfterFinished` can be, but that is the API server's to see to."""
        changed = PredictionSpec.model_validate({**self.prediction.spec.model_dump(by_alias=True), **spec})
        self.prediction = replace(self.prediction, spec=changed, generation=self.prediction.generation + 1)

    def delete(self) -> None:
        """Ask for its deletion."""
        self.prediction = replace(self.prediction, deleted_at=self.now)
        self.exists = bool(self.prediction.finalizers)

    def move_run(self, state: RunState, **changes: object) -> None:
        """Move the newest run."""
        finished = None if RunView("", "", state, self.now).live else self.now
        self.runs[-1] = replace(self.runs[-1], state=state, finished_at=finished, **changes)  # type: ignore[arg-type]

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

    def reconcile(self) -> Decision[PredictionStatus, Action]:
        """Observe, decide, write, act, until nothing is left to do."""
        answers: dict[Question[object], object] = {}
        failures: dict[Action, PlatformError] = {}
        for _ in range(100):
            decision = decide(self.prediction, answers, failures, self.now, self.policy)
            if decision.question is not None:
                answers[decision.question] = self._answer(decision.question)
                continue
            self._write(decision.status)
            if not decision.actions:
                return decision
            for action in decision.actions:
                try:
                    self._perform(action)
                except PlatformError as error:
                    failures[action] = error
                    break
            if not self.exists:
                return decision
            answers = {}
        raise AssertionError(f"no end: {self.calls[-20:]}")

    def _write(self, status: PredictionStatus) -> None:
        if status == self.prediction.status:
            return
        self._call(f"write {status.stage}")
        self.told += events(self.prediction.status, status)
        stored = PredictionStatus.model_validate(status.to_body())
        assert stored == status, "a status must survive the API"
        self.prediction = self.prediction.with_status(stored)
        self.writes += 1
        self._maybe_crash()

    def _call(self, what: str) -> None:
        self.calls.append(what)
        self._maybe_crash()

    def _maybe_crash(self) -> None:
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in < 0:
                self.crash_in = None
                raise Crash

    def _answer(self, question: Question[object]) -> object:
        self._call(type(question).__name__)
        if type(question) in self.down:
            return self.down[type(question)]
        match question:
            case Pipeline():
                return self.pipeline
            case Runs(name):
                return tuple(run for run in self.runs if run.name == name)
            case Outcome(run_id):
                return self.records.get(run_id, PredictionRecords())
        raise AssertionError(question)

    def _perform(self, action: Action) -> None:
        self._call(type(action).__name__)
        if type(action) in self.down:
            raise self.down[type(action)]
        match action:
            case AddFinalizer():
                self.prediction = replace(self.prediction, finalizers=(FINALIZER,))
            case RemoveFinalizer(left_behind):
                self.prediction = replace(self.prediction, finalizers=())
                self.left_behind = left_behind
                self.exists = self.prediction.deleted_at is None
            case SubmitPrediction(name):
                model = self.status.model
                assert model is not None, "the model is written before the run is submitted"
                self.scored_with[name] = model
                self.add_run(name)
            case RetryRun(run_id):
                self._set_run(run_id, RunState.RUNNING)
            case TerminateRun(run_id):
                self._set_run(run_id, RunState.CANCELING)
                if self.workflows_gone:
                    raise Unavailable("KubeflowUnavailable", "answered 500")
            case DeleteRun(run_id):
                self.runs = [run for run in self.runs if run.id != run_id]
            case DeleteResource():
                self.delete()
        self._maybe_crash()

    def add_run(self, name: str) -> None:
        """Kubeflow Pipelines has another run of a name."""
        self.created.append(name)
        self.runs.append(RunView(f"run-{len(self.created)}", name, RunState.PENDING, self.now, url="http://kfp/run"))
        self.most_live = max(self.most_live, sum(run.live for run in self.runs))

    def _set_run(self, run_id: str, state: RunState) -> None:
        self.runs = [replace(run, state=state, finished_at=None) if run.id == run_id else run for run in self.runs]
