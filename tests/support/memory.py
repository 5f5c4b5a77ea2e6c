"""What the platforms in memory have in common: a clock, Kubeflow Pipelines, and an operator that can be crashed around any call.

`reconcile` does what `reconciler` does, against this platform. Time stands still unless `pass_time` moves it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Generic, TypeVar

from winepipelines.lifecycle.actions import AddFinalizer, DeleteRun, RemoveFinalizer, TerminateRun
from winepipelines.lifecycle.decision import Decision
from winepipelines.lifecycle.events import Event
from winepipelines.lifecycle.questions import Question, Runs, RunSettings, Steps
from winepipelines.resource.errors import PlatformError, Unavailable
from winepipelines.resource.observed import RunState, RunView, StepFailure, StepsView
from winepipelines.resource.pipeline import FINALIZER
from winepipelines.resource.policy import Policy
from winepipelines.resource.prediction import PredictionStatus
from winepipelines.resource.status import Condition, ConditionType, Status
from winepipelines.subject import Subject

START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
S = TypeVar("S", Status, PredictionStatus)


class Crash(Exception):
    """The operator dies here."""


@dataclass
class InMemory(ABC, Generic[S]):
    """Everything outside the operator that a run needs. Tests set fields to say what is so."""

    now: datetime = START
    policy: Policy = field(default_factory=Policy)
    exists: bool = True
    runs: list[RunView] = field(default_factory=list)
    workflows_gone: bool = False  # then a run can be asked to end, and never does
    settings: str = "settings"  # hash of those that a run is submitted with
    step_problem: StepFailure | None = None  # what keeps a step of the newest run from starting
    pod_failed: str = ""  # run whose pod says why its step failed
    pod_failure: StepFailure | None = None
    down: dict[type, PlatformError] = field(default_factory=dict)  # question or action type: error
    crash_in: int | None = None  # calls until the operator dies
    writes: int = 0
    calls: list[str] = field(default_factory=list)
    told: list[Event] = field(default_factory=list)
    left_behind: tuple[str, ...] = ()
    created: list[str] = field(default_factory=list)  # names of all runs that were ever created
    decision: Decision[Any, Any] | None = None

    # -- what differs ---------------------------------------------------------------------------------------------

    subject: ClassVar[Subject]

    @property
    @abstractmethod
    def resource(self) -> Any:
        """The resource as it is stored."""

    @resource.setter
    @abstractmethod
    def resource(self, resource: Any) -> None: ...

    @property
    @abstractmethod
    def status(self) -> S:
        """Its status."""

    @abstractmethod
    def _know(self, question: Question[object]) -> object:
        """Answer what is asked beside the runs."""

    @abstractmethod
    def _do(self, action: Any) -> None:
        """Carry out what is done beside what is done to a run that is there."""

    # -- what a test does -----------------------------------------------------------------------------------------

    def condition(self, kind: ConditionType = ConditionType.READY) -> Condition:
        """A condition that must be there."""
        found = self.status.condition(kind)
        assert found is not None, f"no condition {kind} in {self.status.conditions}"
        return found

    def pass_time(self, **duration: float) -> None:
        """Move the clock."""
        self.now += timedelta(**duration)

    def delete(self) -> None:
        """Ask for its deletion."""
        self.resource = replace(self.resource, deleted_at=self.now)
        self.exists = bool(self.resource.finalizers)

    def move_run(self, state: RunState, **changes: object) -> None:
        """Move the newest run to a state; its end is now."""
        finished = None if RunView("", "", state, self.now).live else self.now
        self.runs[-1] = replace(self.runs[-1], state=state, finished_at=finished, **changes)  # type: ignore[arg-type]

    def add_run(self, name: str) -> None:
        """Kubeflow Pipelines has another run of a name."""
        self.created.append(name)
        self.runs.append(RunView(f"run-{len(self.created)}", name, RunState.PENDING, self.now, url="http://kfp/run"))

    # -- what the operator does -----------------------------------------------------------------------------------

    def reconcile(self) -> Decision[Any, Any]:
        """Observe, decide, write, act, until nothing is left to do."""
        answers: dict[Question[object], object] = {}
        failures: dict[Any, PlatformError] = {}
        for _ in range(100):
            self.decision = decision = self.subject.decide(self.resource, answers, failures, self.now, self.policy)
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

    def _write(self, status: Any) -> None:
        if status == self.status:
            return
        self._call(f"write {status.stage}")
        self.told += self.subject.events(self.status, status)
        stored = type(status).model_validate(status.to_body())
        assert stored == status, "a status must survive the API"
        self.resource = replace(self.resource, status=stored)
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
        if isinstance(question, Runs):
            return tuple(run for run in self.runs if run.name == question.name)
        if isinstance(question, RunSettings):
            return self.settings
        if isinstance(question, Steps):
            there = any(run.id == question.run_id for run in self.runs) and not self.workflows_gone
            failure = self.pod_failure if self.pod_failed == question.run_id else None
            name = f"workflow-{question.run_id}" if there else ""
            return StepsView(True, name, self.step_problem, failure, explained=failure is not None)
        return self._know(question)

    def _perform(self, action: Any) -> None:
        self._call(type(action).__name__)
        if type(action) in self.down:
            raise self.down[type(action)]
        match action:
            case AddFinalizer():
                self.resource = replace(self.resource, finalizers=(FINALIZER,))
            case RemoveFinalizer(left_behind):
                self.resource = replace(self.resource, finalizers=())
                self.left_behind = left_behind
                self.exists = self.resource.deleted_at is None
            case TerminateRun(run_id):
                self._set_run(run_id, RunState.CANCELING)
                if self.workflows_gone:
                    raise Unavailable("KubeflowUnavailable", "answered 500")
            case DeleteRun(run_id):
                self.runs = [run for run in self.runs if run.id != run_id]
            case _:
                self._do(action)
        self._maybe_crash()

    def _set_run(self, run_id: str, state: RunState) -> None:
        self.runs = [replace(run, state=state, finished_at=None) if run.id == run_id else run for run in self.runs]
