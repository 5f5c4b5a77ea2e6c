"""The common base of the in-memory platforms: a clock, Kubeflow Pipelines, and an operator that can crash at any call.

The engine's own `reconcile` runs against this platform, call by call. The clock moves only by `pass_time`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Generic, TypeVar

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError, Unavailable
from winepipelines.api.observed import RunState, RunView, StepFailure, StepsView
from winepipelines.api.pipeline import FINALIZER
from winepipelines.api.prediction import PredictionStatus
from winepipelines.api.status import Condition, ConditionType, Status
from winepipelines.api.timeouts import Timeouts
from winepipelines.engine.decision import Decision, Event, Query
from winepipelines.engine.reconcile import AnswerCache, Call, Observe, Perform, RecordEvent, WriteStatus, reconcile
from winepipelines.engine.spec import ControllerSpec
from winepipelines.pipelines.queries import GetRunSettings, GetSteps, ListRuns
from winepipelines.runs.actions import AddFinalizer, DeleteRun, RemoveFinalizer, TerminateRun

START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
S = TypeVar("S", Status, PredictionStatus)


class Crash(Exception):
    """The operator process ends at this call."""


@dataclass
class InMemory(ABC, Generic[S]):
    """The operator's environment, as far as both kinds use it. Tests set its fields to set up a state."""

    now: datetime = START
    timeouts: Timeouts = field(default_factory=Timeouts)
    exists: bool = True
    runs: list[RunView] = field(default_factory=list)
    workflows_gone: bool = False  # a run can then be terminated, but stays in CANCELING
    settings: str = "settings"  # hash of the settings that a run is submitted with
    step_problem: StepFailure | None = None  # why a step of the newest run cannot start
    pod_failed: str = ""  # id of the run whose step pod reports pod_failure
    pod_failure: StepFailure | None = None
    down: dict[type, PlatformError] = field(default_factory=dict)  # error by type of query or action
    crash_in: int | None = None  # calls until the operator crashes
    writes: int = 0
    calls: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    left_behind: tuple[str, ...] = ()
    created: list[str] = field(default_factory=list)  # names of all runs that were ever created
    decision: Decision[Any, Any] | None = None

    # -- differs by kind ------------------------------------------------------------------------------------------

    controller: ClassVar[ControllerSpec]

    @property
    @abstractmethod
    def resource(self) -> Any:
        """The stored resource."""

    @resource.setter
    @abstractmethod
    def resource(self, resource: Any) -> None: ...

    @property
    @abstractmethod
    def status(self) -> S:
        """The stored status."""

    @abstractmethod
    def _answer_other(self, query: Query[object]) -> object:
        """Answer a query that does not concern runs."""

    @abstractmethod
    def _perform_other(self, action: Any) -> None:
        """Carry out an action that this class does not handle."""

    # -- for tests ------------------------------------------------------------------------------------------------

    def condition(self, kind: ConditionType = ConditionType.READY) -> Condition:
        """Return a condition; fail if the status does not have it."""
        found = self.status.condition(kind)
        assert found is not None, f"no condition {kind} in {self.status.conditions}"
        return found

    def pass_time(self, **duration: float) -> None:
        """Advance the clock."""
        self.now += timedelta(**duration)

    def delete(self) -> None:
        """Delete the resource; it exists until its finalizers are removed."""
        self.resource = replace(self.resource, deleted_at=self.now)
        self.exists = bool(self.resource.finalizers)

    def move_run(self, state: RunState, **changes: object) -> None:
        """Move the newest run to a state. A final state sets the end of the run to the present time."""
        finished = None if RunView("", "", state, self.now).live else self.now
        self.runs[-1] = replace(self.runs[-1], state=state, finished_at=finished, **changes)  # type: ignore[arg-type]

    def add_run(self, name: str) -> None:
        """Add a run with a name to Kubeflow Pipelines."""
        self.created.append(name)
        self.runs.append(RunView(f"run-{len(self.created)}", name, RunState.PENDING, self.now, url="http://kfp/run"))

    # -- the operator ---------------------------------------------------------------------------------------------

    def reconcile(self) -> Decision[Any, Any]:
        """Run the engine's reconcile against this platform, without the answers of earlier reconciles."""
        self.decision = None
        spec = replace(self.controller, decide=self._decide, cache=())
        calls = reconcile(spec, self.resource, AnswerCache(), lambda: self.now, self.timeouts)
        result: object = None
        while True:
            try:
                call = calls.send(result)
            except StopIteration as end:
                decision: Decision[Any, Any] = end.value
                return decision
            result = self._make(call)
            if not self.exists:
                assert self.decision is not None, "only an action can remove the resource"
                return self.decision

    def _decide(self, *arguments: Any) -> Decision[Any, Any]:
        self.decision = self.controller.decide(*arguments)
        return self.decision

    def _make(self, call: Call) -> object:
        match call:
            case Observe(query, _):
                return self._answer(query)
            case Perform(action, _):
                try:
                    self._perform(action)
                except PlatformError as error:
                    return error
                return self.resource
            case WriteStatus(_, status):
                self._write(status)
                return self.resource
            case RecordEvent(event):
                self.events.append(event)
        return None

    def _write(self, status: Any) -> None:
        self._call(f"write {status.stage}")
        stored = type(status).model_validate(status.to_body())
        assert stored == status, "a status must be the same after a round trip through the API"
        self.resource = replace(self.resource, status=stored)
        self.writes += 1
        self._maybe_crash()

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self._maybe_crash()

    def _maybe_crash(self) -> None:
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in < 0:
                self.crash_in = None
                raise Crash

    def _answer(self, query: Query[object]) -> object:
        self._call(type(query).__name__)
        if type(query) in self.down:
            return self.down[type(query)]
        if isinstance(query, ListRuns):
            return tuple(run for run in self.runs if run.name == query.name)
        if isinstance(query, GetRunSettings):
            return self.settings
        if isinstance(query, GetSteps):
            exists = any(run.id == query.run_id for run in self.runs) and not self.workflows_gone
            failure = self.pod_failure if self.pod_failed == query.run_id else None
            name = f"workflow-{query.run_id}" if exists else ""
            return StepsView(True, name, self.step_problem, failure, explained=failure is not None)
        return self._answer_other(query)

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
                    raise Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "answered 500")
            case DeleteRun(run_id):
                self.runs = [run for run in self.runs if run.id != run_id]
            case _:
                self._perform_other(action)
        self._maybe_crash()

    def _set_run(self, run_id: str, state: RunState) -> None:
        self.runs = [replace(run, state=state, finished_at=None) if run.id == run_id else run for run in self.runs]
