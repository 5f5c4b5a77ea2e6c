"""What the checks of a run use, and what they return."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError
from winepipelines.api.observed import RunView, StepFailure, StepsView
from winepipelines.api.spec import parse_duration
from winepipelines.api.status import Run, RunProblem
from winepipelines.api.timeouts import Timeouts
from winepipelines.api.unmet import Unmet


@dataclass(frozen=True)
class RunWording:
    """The parts of messages that depend on what the run is for."""

    pending: str
    timeout: str  # the field that limits it
    after_timeout: str
    after_termination: str = ""


@dataclass(frozen=True)
class RunContext:
    """A run as the status records it, as Kubeflow Pipelines shows it, and its limits.

    `name` is that of the first attempt. `views` are all runs of the recorded name. `submission` is the action that submits it.
    `failures` are the actions of this reconcile that failed. `suspended`: no run is submitted.

    The functions observe, and raise as `context.answer` does: `failure` reads the failure that a step recorded in MLflow, `steps`
    the Workflow and its pods, `settings` the hash of the settings that a run is submitted with now. `store` raises if the object
    store does not answer.
    """

    name: str
    recorded: Run
    views: tuple[RunView, ...]
    now: datetime
    timeouts: Timeouts
    submission: Any
    failures: Mapping[Any, PlatformError]
    failure: Callable[[], StepFailure | None]
    steps: Callable[[], StepsView]
    settings: Callable[[], str]
    attempts: int
    timeout: str
    wording: RunWording
    suspended: bool = False
    store: Callable[[], object] = lambda: None

    @property
    def own(self) -> tuple[RunView, ...]:
        """The runs of this name that the operator submitted: the run that counts, and duplicates of its submission.

        The recorded run counts; before one is recorded, the oldest. A later run of this name is a clone by someone else.
        """
        recorded = self.recorded.id
        counts = next((view for view in self.views if recorded in ("", view.id)), None)
        if counts is None:
            return ()
        latest = counts.created_at + self.timeouts.submit_grace
        return (counts, *(view for view in self.views if view.id != counts.id and view.created_at <= latest))

    @property
    def view(self) -> RunView:
        """The run that counts. There must be one."""
        return self.own[0]

    @property
    def seen_steps(self) -> StepsView:
        """The Workflow and its pods. Unknown if the API server does not answer."""
        try:
            return self.steps()
        except PlatformError:
            return StepsView()

    @property
    def live(self) -> tuple[RunView, ...]:
        """The own runs that have not ended."""
        return tuple(view for view in self.own if view.live)

    @property
    def deadline(self) -> datetime:
        """When the run exceeds its timeout."""
        return (self.recorded.started_at or self.now) + parse_duration(self.timeout)

    @property
    def attempt(self) -> str:
        """Name the attempt for a message."""
        return f"attempt {self.recorded.attempt - self.recorded.uncounted_attempts} of {self.attempts}"

    @property
    def start_problem(self) -> RunProblem | None:
        """The problem that kept a step from starting, if the operator terminated the run for it."""
        problem = self.recorded.problem
        return problem if problem is not None and problem.reason == self.recorded.end_reason else None


@dataclass(frozen=True)
class RunWaiting(Unmet):
    """The run has not succeeded yet. `run` is to be recorded of it."""

    run: Run | None = None


@dataclass(frozen=True)
class RunFailed:
    """The run has failed for good."""

    reason: str
    message: str
    finished: datetime
    check: str = ""


RunResult = Run | RunWaiting | RunFailed | None
"""Result of a check: a Run is what became known of it, None means that the check holds."""


def suspended(observed: str) -> RunWaiting:
    """Wait until spec.suspend is false."""
    return RunWaiting(Reason.SUSPENDED, f"{observed} No run is submitted while spec.suspend is true.")
