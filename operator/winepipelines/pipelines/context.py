"""What the checks of a WinePipeline use, and what they return."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar, cast

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError
from winepipelines.api.naming import run_name
from winepipelines.api.observed import BackendsView
from winepipelines.api.pipeline import GROUP, WinePipeline
from winepipelines.api.spec import Runtime, Spec
from winepipelines.api.status import Condition, ConditionType, Run, Stage, Status
from winepipelines.api.timeouts import Timeouts
from winepipelines.api.unmet import Unmet
from winepipelines.engine.decision import Answers, Query
from winepipelines.pipelines.actions import Action, CreateRun
from winepipelines.pipelines.queries import (
    CheckArtifact,
    GetBackends,
    GetRecords,
    GetRunSettings,
    GetServer,
    GetSteps,
    ListRuns,
)
from winepipelines.runs.context import RunContext, RunWaiting, RunWording

A = TypeVar("A")


@dataclass(frozen=True)
class Done:
    """Every check of a stage holds: its condition is True.

    `actions` are carried out in passing. `requeue_after` is the delay until the next reconcile, if that is sooner than for a
    settled resource. `stage` is reported instead of the stage's own.
    """

    reason: str
    message: str
    actions: tuple[Action, ...] = ()
    requeue_after: timedelta | None = None
    stage: Stage | None = None


@dataclass(frozen=True)
class StatusUpdate:
    """A check found something to record: decide again with this status."""

    status: Status


@dataclass(frozen=True)
class NotReady(Unmet):
    """The result of the first check that does not hold.

    `stage` and `condition` are reported instead of the stage's own. `waiting` sets the condition Reconciling.
    """

    actions: tuple[Action, ...] = ()
    status: Status | None = None
    stage: Stage | None = None
    condition: ConditionType | None = None
    waiting: bool = True


StageResult = Done | StatusUpdate | NotReady


class UnansweredQueryError(Exception):
    """A check needs an answer that is not there yet."""

    def __init__(self, query: Query[object]) -> None:
        super().__init__(repr(query))
        self.query = query


@dataclass(frozen=True)
class ReconcileContext:
    """A resource, the answers so far, and the time of this reconcile."""

    pipeline: WinePipeline
    status: Status
    answers: Answers
    now: datetime
    timeouts: Timeouts = field(default_factory=Timeouts)
    failures: Mapping[Action, PlatformError] = field(default_factory=dict)  # actions of this reconcile that failed

    def was_true(self, kind: ConditionType) -> bool:
        """Tell whether a condition was True for this generation at the last status write: what differs now is drift."""
        condition = self.current_condition(kind)
        return condition is not None and condition.status == "True"

    def current_condition(self, kind: ConditionType) -> Condition | None:
        """Return a condition of the last status write. None if it describes another generation."""
        condition = self.status.condition(kind)
        return condition if condition is not None and condition.observed_generation == self.pipeline.generation else None

    @property
    def spec(self) -> Spec:
        """The desired state."""
        return self.pipeline.spec

    @property
    def inputs_hash(self) -> str:
        """Hash of everything that determines the model: the spec, and the version of a server that has to load it.

        Raises as `observe` does.
        """
        runtime = self.spec.serving.runtime
        version = "" if runtime is Runtime.BUNDLED else f"-{self.observe(GetServer(runtime, self.backend)).version[:32]}"
        return self.spec.inputs + version

    @property
    def backends(self) -> BackendsView:
        """The serving backends that resources may use. Raises as `observe` does."""
        return self.observe(GetBackends())

    @property
    def backend(self) -> str:
        """The serving backend that models are rolled out on: that of the served model, which may be about to move.

        Raises as `observe` does.
        """
        served = self.status.served
        return self.wanted_backend if served is None else self.backends.named(served.backend)

    @property
    def wanted_backend(self) -> str:
        """The serving backend that the spec names, else the one in use, else the default. Raises as `observe` does."""
        view, served, candidate = self.backends, self.status.served, self.status.candidate
        if self.spec.serving.backend:
            return self.spec.serving.backend
        if served is not None:
            return view.named(served.backend)
        if candidate is not None and candidate.backend in view.enabled and candidate.backend not in view.missing:
            return candidate.backend
        return view.default

    @property
    def run(self) -> RunContext:
        """The run of the current revision. Raises as `observe` does."""
        revision, training = self.status.revision, self.spec.training
        name = run_name(self.pipeline, revision)
        recorded = self.status.run or Run(name=name)
        return RunContext(
            name=name,
            recorded=recorded,
            views=self.observe(ListRuns(recorded.name)),
            now=self.now,
            timeouts=self.timeouts,
            submission=CreateRun(recorded.name, revision),
            failures=self.failures,
            failure=lambda: self.observe(GetRecords(revision, recorded.id)).failure,
            steps=lambda: self.observe(GetSteps(recorded.id)),
            settings=lambda: self.observe(GetRunSettings()),
            attempts=training.attempts,
            timeout=training.timeout,
            wording=WORDING,
            suspended=self.spec.suspend,
            store=lambda: self.observe(CheckArtifact(ANY_ADDRESS, self.backend)),
        )

    def observe(self, query: Query[A]) -> A:
        """Return the answer to a query.

        Raises UnansweredQueryError if there is no answer yet, PlatformError if the query failed.
        """
        return answer(self.answers, query)


def answer(answers: Answers, query: Query[A]) -> A:
    """Return the answer to a query.

    Raises UnansweredQueryError if there is no answer yet, PlatformError if the query failed.
    """
    if query not in answers:
        raise UnansweredQueryError(query)
    found = answers[query]
    if isinstance(found, PlatformError):
        raise found
    return cast("A", found)


Check = Callable[[ReconcileContext], StatusUpdate | NotReady | None]
ANY_ADDRESS = "s3://wine-operator/any"  # of no object: the answer only shows that the store is available
WORDING = RunWording(
    pending="The run waits for its first step",
    timeout="spec.training.timeout",
    after_timeout="Raise it, or see",
    after_termination=f"Set the annotation {GROUP}/retrain, or change spec.data or spec.training, to start another run.",
)


def run_not_ready(context: ReconcileContext, waiting: RunWaiting | None) -> NotReady | None:
    """Report that the run of the current revision has not succeeded yet."""
    if waiting is None:
        return None
    is_suspended = waiting.reason == Reason.SUSPENDED
    return NotReady(
        waiting.reason,
        waiting.message,
        waiting.actions,
        waiting.requeue_after,
        waiting.stalled,
        waiting.check,
        status=context.status.with_(run=waiting.run) if waiting.run else None,
        stage=Stage.SUSPENDED if is_suspended else None,
        waiting=not is_suspended,
    )
