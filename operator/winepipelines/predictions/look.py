"""What the checks of a prediction look at, and what they can say. Called by `decide` and the checks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from winepipelines.lifecycle.look import Answers, answer
from winepipelines.lifecycle.questions import Question, Runs, RunSettings, Steps
from winepipelines.lifecycle.run import RunLook, Waits, Words
from winepipelines.predictions.actions import Action, SubmitPrediction
from winepipelines.predictions.questions import Outcome
from winepipelines.resource.errors import PlatformError, Refused
from winepipelines.resource.policy import Policy
from winepipelines.resource.prediction import PredictionSpec, PredictionStage, PredictionStatus, WinePrediction
from winepipelines.resource.status import Run

A = TypeVar("A")


@dataclass(frozen=True)
class Record:
    """Something became known: decide again with this status."""

    status: PredictionStatus


@dataclass(frozen=True)
class Held:
    """The first thing that is not as it should be: why, and what is done about it.

    `wake_in` is when to look again if nothing happens; None leaves it to events. `stalled` says that only a person can help.
    Without a `stage` it is that of the run: Waiting before it, Scoring with it. `is_settled`: nothing is waited for, and the
    condition Ready is true.
    """

    reason: str
    message: str
    actions: tuple[Action, ...] = ()
    status: PredictionStatus | None = None
    wake_in: timedelta | None = None
    stage: PredictionStage | None = None
    stalled: bool = False
    is_settled: bool = False


@dataclass(frozen=True)
class Look:
    """One look at the world."""

    prediction: WinePrediction
    answers: Answers
    now: datetime
    policy: Policy = field(default_factory=Policy)
    failures: Mapping[Action, PlatformError] = field(default_factory=dict)  # actions of this look that failed

    @property
    def spec(self) -> PredictionSpec:
        """What is asked for."""
        return self.prediction.spec

    @property
    def status(self) -> PredictionStatus:
        """What is known so far."""
        return self.prediction.status

    @property
    def run(self) -> RunLook:
        """Its run. Raises as `at` does."""
        recorded = self.status.run or Run(name=self.prediction.run_name)
        return RunLook(
            name=self.prediction.run_name,
            recorded=recorded,
            views=self.at(Runs(recorded.name)),
            now=self.now,
            policy=self.policy,
            submission=SubmitPrediction(recorded.name),
            failures=self.failures,
            failure=lambda: self.at(Outcome(recorded.id)).failure,
            steps=lambda: self.at(Steps(recorded.id)),
            settings=lambda: self.at(RunSettings()),
            attempts=self.spec.attempts,
            timeout=self.spec.timeout,
            words=WORDS,
        )

    def with_(self, status: PredictionStatus) -> "Look":
        """Look again, with another status."""
        return replace(self, prediction=self.prediction.with_status(status))

    def at(self, question: Question[A]) -> A:
        """Look something up.

        Raises UnansweredError where it has not been asked yet, PlatformError where it was asked in vain.
        """
        return answer(self.answers, question)


Check = Callable[[Look], Record | Held | None]
WORDS = Words(pending="the run waits for its step to begin", timeout="spec.timeout", after_timeout=", see")


def failed(error: PlatformError, policy: Policy) -> Held:
    """Say that a system of the platform did not do what was asked; it is asked again."""
    return Held(error.reason, error.message, stalled=isinstance(error, Refused), wake_in=policy.retry_interval)


def recorded(look: Look, run: Run) -> PredictionStatus:
    """Write down what is known of the run, with which the prediction begins."""
    return look.status.with_(run=run, started_at=look.status.started_at or run.submitted_at)


def held(look: Look, waits: Waits | None) -> Held | None:
    """Say of a prediction that its run waits."""
    if waits is None:
        return None
    status = recorded(look, waits.run) if waits.run else None
    return Held(waits.reason, waits.message, waits.actions, status, waits.wake_in, stalled=waits.stalled)
