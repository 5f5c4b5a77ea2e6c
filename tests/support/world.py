"""A platform in memory, for the decisions: it answers their questions and carries out their actions.

`World.reconcile` does what `reconciler` does, against this platform; it can be crashed before or after any call. Time stands
still unless `pass_time` moves it.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from winepipelines.lifecycle.actions import (
    Action,
    AddFinalizer,
    ApplyChildren,
    ApplyDeployment,
    CreateRun,
    DeleteDeployment,
    DeleteRun,
    ReleaseDeployment,
    RemoveFinalizer,
    RetryRun,
    SetAlias,
    TerminateRun,
)
from winepipelines.lifecycle.decide import Decision, decide
from winepipelines.lifecycle.events import Event, events
from winepipelines.lifecycle.questions import (
    Aliased,
    Answer,
    Children,
    Deployment,
    ModelRef,
    Platform,
    Question,
    Records,
    Runs,
    Server,
    Stored,
)
from winepipelines.resource.errors import PlatformError, Unavailable
from winepipelines.resource.observed import (
    Child,
    ChildrenView,
    DeploymentView,
    LoggedModel,
    PlatformVerdict,
    PredictionCheck,
    Presence,
    RunState,
    RunView,
    SecretState,
    ServerView,
    StepFailure,
    StoredModel,
    TrainingRecords,
)
from winepipelines.resource.pipeline import FINALIZER, WinePipeline
from winepipelines.resource.policy import Policy
from winepipelines.resource.spec import Spec
from winepipelines.resource.status import Condition, ConditionType, Status

START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
URL = "http://endpoint/predict"
GOOD = Spec.model_validate({"data": {"url": "http://data/wine.csv"}})


class Crash(Exception):
    """The operator dies here."""


@dataclass
class World:
    """Everything outside the operator. Tests set fields to say what is so."""

    now: datetime = START
    policy: Policy = field(default_factory=Policy)
    pipeline: WinePipeline = field(
        default_factory=lambda: WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", GOOD, Status())
    )
    exists: bool = True
    children: Presence = Presence.ABSENT
    foreign_kinds: set[str] = field(default_factory=set)  # of children that others made
    source: SecretState = SecretState("kubeflow", "source", True)
    artifacts: SecretState = SecretState("admin", "artifacts", True)
    runs: list[RunView] = field(default_factory=list)
    workflows_gone: bool = False  # then a run can be asked to end, and never does
    records: dict[int, TrainingRecords] = field(default_factory=dict)
    mlflow_secret: SecretState | None = None
    alias: str = ""  # the version that has it in MLflow's registry
    stored: StoredModel | None = None
    server: ServerView = ServerView("1.18.2", image="server:1")
    trouble: tuple[str, str] = ("", "")  # reason and message of what keeps a deployment from rolling out
    platform: PlatformVerdict | None = None
    applied: ModelRef | None = None  # the model of the SeldonDeployment
    replicas: int = 1
    foreign: bool = False
    rolled_out: bool = False
    owned: bool = False
    wrong_answers: set[int] = field(default_factory=set)  # revisions whose model answers wrongly
    down: dict[type, PlatformError] = field(default_factory=dict)  # question or action type: error
    crash_in: int | None = None  # calls until the operator dies
    writes: int = 0
    calls: list[str] = field(default_factory=list)
    told: list[Event] = field(default_factory=list)
    left_behind: tuple[str, ...] = ()
    mended: list[str] = field(default_factory=list)  # what was told of drift
    created: list[str] = field(default_factory=list)  # names of all runs that were ever created
    most_live: dict[str, int] = field(default_factory=dict)  # name: most live runs at a time
    decision: Decision | None = None

    # -- what a test does -----------------------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """The status as it is stored."""
        return self.pipeline.status

    def condition(self, kind: ConditionType) -> Condition:
        """A condition that must be there."""
        found = self.status.condition(kind)
        assert found is not None, f"no condition {kind} in {self.status.conditions}"
        return found

    def ready(self) -> bool:
        """Whether the status says so."""
        condition = self.status.condition(ConditionType.READY)
        return condition is not None and condition.status == "True"

    def change(self, **spec: object) -> None:
        """Apply another spec."""
        changed = Spec.model_validate({**self.pipeline.spec.model_dump(by_alias=True), **spec})
        self.pipeline = replace(self.pipeline, spec=changed, generation=self.pipeline.generation + 1)

    def delete(self) -> None:
        """Ask for deletion."""
        self.pipeline = replace(self.pipeline, deleted_at=self.now)

    def pass_time(self, **duration: float) -> None:
        """Move the clock."""
        self.now += timedelta(**duration)

    def run(self) -> RunView:
        """The newest run."""
        return self.runs[-1]

    def move_run(self, state: RunState, **changes: object) -> None:
        """Move the newest run to a state; its end is now."""
        finished = self.now if state in (RunState.FAILED, RunState.SUCCEEDED, RunState.CANCELED) else None
        self.runs[-1] = replace(self.runs[-1], state=state, finished_at=finished, **changes)  # type: ignore[arg-type]

    def succeed(self, r2: float = 0.14) -> None:
        """The newest run succeeds and has logged its model."""
        revision = int(self.run().name.rsplit("-", 1)[1])
        self.move_run(RunState.SUCCEEDED)
        self.records[revision] = TrainingRecords(
            LoggedModel(f"s3://mlflow/{revision}/model", f"mlflow-{revision}", str(revision), {"r2": r2})
        )

    def fail(self, reason: str = "DataUnreachable", *, permanent: bool = False) -> None:
        """The newest run fails in its first step, which says why."""
        revision = int(self.run().name.rsplit("-", 1)[1])
        self.move_run(RunState.FAILED, failed_step="download")
        self.records[revision] = TrainingRecords(failure=StepFailure("download", reason, "no good", permanent, self.now))

    def serve(self) -> None:
        """All the way, without a hitch."""
        self.reconcile()
        self.succeed()
        self.reconcile()
        self.rolled_out = True
        self.reconcile()
        assert self.ready()
        self.reconcile()  # what is left to do when it is Ready

    # -- what the operator does -----------------------------------------------------------------------------------

    def reconcile(self) -> Decision:
        """Observe, decide, write, act, until nothing is left to do."""
        answers: dict[Question[object], object] = {}
        failures: dict[Action, PlatformError] = {}
        for _ in range(100):
            decision = decide(self.pipeline, answers, failures, self.now, self.policy)
            self.decision = decision
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
            answers = {}
        raise AssertionError(f"no end: {self.calls[-20:]}")

    def _write(self, status: Status) -> None:
        if status == self.pipeline.status:
            return
        self._call(f"write {status.stage}")
        self.told += events(self.pipeline.status, status)
        stored = Status.model_validate(status.to_body())
        assert stored == status, "a status must survive the API"
        self.pipeline = self.pipeline.with_status(stored)
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
            case Children():
                names = (("PodDefault", "access-minio"), ("Secret", "seldon-init-container-secret"))
                found = [(kind, name, Presence.FOREIGN if kind in self.foreign_kinds else self.children) for kind, name in names]
                made = tuple(Child(*child) for child in found)
                return ChildrenView(self.source, self.artifacts, made, self.mlflow_secret)
            case Runs(name):
                return tuple(run for run in self.runs if run.name == name)
            case Records(revision):
                return self.records.get(revision, TrainingRecords())
            case Stored(uri):
                return self.stored or StoredModel(uri, readable=True)
            case Server():
                return self.server
            case Deployment(model):
                return self._deployment(model)
            case Answer(model):
                answering = self.applied is not None and self.rolled_out
                asked = self._with_image(model)
                passed = answering and self.applied == asked and model.revision not in self.wrong_answers
                reason = "" if passed else "PredictionDiffers"
                return PredictionCheck(self.now, passed, 5.7, 3, reason, "" if passed else "the answer differs", URL, "seldon")
            case Aliased():
                return self.alias
            case Platform():
                return self.platform
        raise AssertionError(question)

    def _deployment(self, model: ModelRef | None) -> DeploymentView:
        if self.foreign:
            return DeploymentView(Presence.FOREIGN)
        if self.applied is None:
            return DeploymentView(Presence.ABSENT)
        current = model is None or (
            self._with_image(model) == self.applied and self.replicas == self.pipeline.spec.serving.replicas
        )
        presence = Presence.CURRENT if current else Presence.DIFFERS
        rolled_out = current and self.rolled_out
        reason, message = self.trouble if current and not rolled_out else ("", "")
        return DeploymentView(presence, rolled_out=rolled_out, owned=self.owned, reason=reason, message=message)

    def _with_image(self, model: ModelRef) -> ModelRef:
        kept = self.applied is not None and self.applied.uri == model.uri
        return replace(model, image=model.image or (self.applied.image if self.applied and kept else self.server.image))

    def _perform(self, action: Action) -> None:
        self._call(type(action).__name__)
        if type(action) in self.down:
            raise self.down[type(action)]
        match action:
            case AddFinalizer():
                self.pipeline = replace(self.pipeline, finalizers=(FINALIZER,))
            case RemoveFinalizer(left_behind):
                self.pipeline = replace(self.pipeline, finalizers=())
                self.left_behind = left_behind
                self.exists = self.pipeline.deleted_at is None
            case ApplyChildren(mended):
                self.children = Presence.CURRENT
                self.mended += [mended] if mended else []
            case CreateRun(name, _):
                self.add_run(name)
            case RetryRun(run_id):
                self._set_run(run_id, RunState.RUNNING, None)
            case TerminateRun(run_id):
                self._set_run(run_id, RunState.CANCELING, None)
                if self.workflows_gone:
                    raise Unavailable("KubeflowUnavailable", "answered 500")
            case DeleteRun(run_id):
                self.runs = [run for run in self.runs if run.id != run_id]
            case ApplyDeployment(model, mended):
                self.mended += [mended] if mended else []
                model = self._with_image(model)
                self.rolled_out = self.rolled_out and model == self.applied
                self.applied, self.owned = model, True
                self.replicas = self.pipeline.spec.serving.replicas
            case DeleteDeployment():
                self.applied = None
            case ReleaseDeployment():
                self.owned = False
            case SetAlias(version, _):
                self.alias = version
        self._maybe_crash()

    def add_run(self, name: str) -> None:
        """Kubeflow Pipelines has another run of a name."""
        self.created.append(name)
        self.runs.append(RunView(f"run-{len(self.created)}", name, RunState.PENDING, self.now, url="http://kfp/run"))
        live = sum(run.live for run in self.runs if run.name == name)
        self.most_live[name] = max(self.most_live.get(name, 0), live)

    def _set_run(self, run_id: str, state: RunState, finished: datetime | None) -> None:
        self.runs = [replace(run, state=state, finished_at=finished) if run.id == run_id else run for run in self.runs]
