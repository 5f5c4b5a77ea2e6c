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
    CreateDataCheck,
    CreateRun,
    DeleteDeployment,
    DeleteRun,
    LeaveModels,
    ReleaseDeployment,
    RemoveAlias,
    RemoveFinalizer,
    RetryRun,
    SetAlias,
    TerminateRun,
)
from winepipelines.lifecycle.decide import decide
from winepipelines.lifecycle.decision import Decision
from winepipelines.lifecycle.events import Event, events
from winepipelines.lifecycle.questions import (
    Aliased,
    Answer,
    Children,
    DataChecked,
    Deployment,
    Platform,
    Question,
    Records,
    Runs,
    Server,
    Stored,
    Tried,
)
from winepipelines.resource.errors import PlatformError, Unavailable
from winepipelines.resource.observed import (
    Child,
    ChildrenView,
    DataCheck,
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
    TrialView,
)
from winepipelines.resource.pipeline import FINALIZER, Asks, WinePipeline
from winepipelines.resource.policy import Policy
from winepipelines.resource.rollout import ModelRef, Rollout
from winepipelines.resource.spec import Spec
from winepipelines.resource.status import Condition, ConditionType, Status

START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
URL = "http://endpoint/predict"
GOOD = Spec.model_validate({"data": {"url": "http://data/wine.csv"}})


def _same_pods(rollout: Rollout, other: Rollout | None) -> bool:
    """Tell whether nothing new has to start."""
    pods = [
        [model and (model.uri, model.image) for model in (one.model, one.trial)] for one in (rollout, other) if one is not None
    ]
    return len(pods) == 2 and pods[0][0] == pods[1][0] and pods[0][1] in (None, pods[1][1])


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
    aliases: dict[str, str] = field(default_factory=dict)  # of MLflow's registry: alias to version
    trials: dict[int, TrialView] = field(default_factory=dict)  # how a revision's model does on trial
    data_checks: dict[int, DataCheck] = field(default_factory=dict)
    known_data: tuple[str, str] = ("", "")  # what the last look at the data was told
    stored: StoredModel | None = None
    server: ServerView = ServerView("1.18.2", image="server:1")
    trouble: tuple[str, str] = ("", "")  # reason and message of what keeps a deployment from rolling out
    platform: PlatformVerdict | None = None
    applied: Rollout | None = None  # what the SeldonDeployment says
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
    tagged: tuple[tuple[str, str], ...] = ()  # versions in MLflow that are said to be left
    mended: list[str] = field(default_factory=list)  # what was told of drift
    created: list[str] = field(default_factory=list)  # names of all runs that were ever created
    most_live: dict[str, int] = field(default_factory=dict)  # name: most live runs at a time
    decision: Decision[Status, Action] | None = None

    # -- what a test does -----------------------------------------------------------------------------------------

    @property
    def alias(self) -> str:
        """The version that is the champion."""
        return self.aliases.get("champion", "")

    @alias.setter
    def alias(self, version: str) -> None:
        self.aliases["champion"] = version

    @property
    def status(self) -> Status:
        """The status as it is stored."""
        return self.pipeline.status

    def condition(self, kind: ConditionType) -> Condition:
        """A condition that must be there."""
        found = self.status.condition(kind)
        assert found is not None, f"no condition {kind} in {self.status.conditions}"
        return found

    def condition_of_ready(self) -> Condition:
        """What is said of the resource as a whole."""
        return self.condition(ConditionType.READY)

    def ready(self) -> bool:
        """Whether the status says so."""
        condition = self.status.condition(ConditionType.READY)
        return condition is not None and condition.status == "True"

    def change(self, **spec: object) -> None:
        """Apply another spec."""
        changed = Spec.model_validate({**self.pipeline.spec.model_dump(by_alias=True), **spec})
        self.pipeline = replace(self.pipeline, spec=changed, generation=self.pipeline.generation + 1)

    def ask(self, **asks: str) -> None:
        """Annotate the resource, which leaves its generation as it is."""
        self.pipeline = replace(self.pipeline, asks=Asks(**asks))

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

    def succeed(self, r2: float = 0.14, **metrics: float) -> None:
        """The newest run succeeds and has logged its model, with more metrics than r2 maybe."""
        revision = int(self.run().name.rsplit("-", 1)[1])
        self.move_run(RunState.SUCCEEDED)
        self.records[revision] = TrainingRecords(
            LoggedModel(
                f"s3://mlflow/{revision}/model", f"mlflow-{revision}", str(revision), {"r2": r2, **metrics}, data_sha256="a" * 64
            )
        )

    def fail(self, reason: str = "DataUnreachable", *, permanent: bool = False) -> None:
        """The newest run fails in its first step, which says why."""
        revision = int(self.run().name.rsplit("-", 1)[1])
        self.move_run(RunState.FAILED, failed_step="download")
        self.records[revision] = TrainingRecords(failure=StepFailure("download", reason, "no good", permanent, self.now))

    def roll_out(self) -> None:
        """Whatever is applied comes up, until nothing more is."""
        for _ in range(4):
            self.rolled_out = True
            self.reconcile()

    def serve(self) -> None:
        """All the way, without a hitch."""
        self.reconcile()
        self.succeed()
        self.reconcile()
        self.roll_out()
        assert self.ready()
        self.reconcile()  # what is left to do when it is Ready

    # -- what the operator does -----------------------------------------------------------------------------------

    def reconcile(self) -> Decision[Status, Action]:
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
            case Deployment(rollout):
                return self._deployment(rollout)
            case Answer(model):
                answering = self.applied is not None and self.rolled_out
                asked = self.applied.model if self.applied is not None else None
                passed = answering and asked == self._with_image(model) and model.revision not in self.wrong_answers
                reason = "" if passed else "PredictionDiffers"
                return PredictionCheck(self.now, passed, 5.7, 3, reason, "" if passed else "the answer differs", URL, "seldon")
            case Tried(model, served):
                assert self.applied is not None
                assert (self.applied.trial, self.applied.model) == (model, served), "it is asked of what is there"
                if model.revision in self.wrong_answers:
                    return TrialView(20, 20, wrong=True, reason="PredictionDiffers", message="the answer differs")
                return self.trials.get(model.revision, TrialView(20, milliseconds=4, served_milliseconds=4))
            case DataChecked(count):
                return self.data_checks.get(count)
            case Aliased(alias):
                return self.aliases.get(alias, "")
            case Platform():
                return self.platform
        raise AssertionError(question)

    def _deployment(self, rollout: Rollout | None) -> DeploymentView:
        if self.foreign:
            return DeploymentView(Presence.FOREIGN)
        if self.applied is None:
            return DeploymentView(Presence.ABSENT)
        current = rollout is None or (
            self._with_images(rollout) == self.applied and self.replicas == self.pipeline.spec.serving.replicas
        )
        presence = Presence.CURRENT if current else Presence.DIFFERS
        rolled_out = current and self.rolled_out
        reason, message = self.trouble if current and not rolled_out else ("", "")
        return DeploymentView(presence, rolled_out=rolled_out, owned=self.owned, reason=reason, message=message)

    def _with_image(self, model: ModelRef) -> ModelRef:
        kept = self.applied is not None and self.applied.model.uri == model.uri
        return replace(model, image=model.image or (self.applied.model.image if self.applied and kept else self.server.image))

    def _with_images(self, rollout: Rollout) -> Rollout:
        trial = self._with_image(rollout.trial) if rollout.trial else None
        return Rollout(self._with_image(rollout.model), trial, rollout.weight)

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
            case ApplyDeployment(rollout, mended):
                self.mended += [mended] if mended else []
                rollout = self._with_images(rollout)
                self.rolled_out = self.rolled_out and _same_pods(rollout, self.applied)
                self.applied, self.owned = rollout, True
                self.replicas = self.pipeline.spec.serving.replicas
            case DeleteDeployment():
                self.applied = None
            case ReleaseDeployment():
                self.owned = False
            case SetAlias(version, _, alias):
                self.aliases[alias] = version
            case RemoveAlias(version, alias):
                if self.aliases.get(alias) == version:
                    del self.aliases[alias]
            case LeaveModels(models, retired):
                self.tagged = models
                if retired:
                    self.aliases = {alias: version for alias, version in self.aliases.items() if version not in dict(models)}
            case CreateDataCheck(name, _, sha256, etag):
                self.known_data = (sha256, etag)
                self.add_run(name)
        self._maybe_crash()

    def add_run(self, name: str) -> None:
        """Kubeflow Pipelines has another run of a name."""
        self.created.append(name)
        self.runs.append(RunView(f"run-{len(self.created)}", name, RunState.PENDING, self.now, url="http://kfp/run"))
        live = sum(run.live for run in self.runs if run.name == name)
        self.most_live[name] = max(self.most_live.get(name, 0), live)

    def _set_run(self, run_id: str, state: RunState, finished: datetime | None) -> None:
        self.runs = [replace(run, state=state, finished_at=finished) if run.id == run_id else run for run in self.runs]
