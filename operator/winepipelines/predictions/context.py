"""What the checks of a WinePrediction use, and what they return."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from winepipelines.api.errors import PlatformError
from winepipelines.api.prediction import PredictionSpec, PredictionStage, PredictionStatus, WinePrediction
from winepipelines.api.status import Run
from winepipelines.api.timeouts import Timeouts
from winepipelines.api.unmet import Unmet
from winepipelines.engine.decision import Answers, Query
from winepipelines.pipelines.context import answer
from winepipelines.pipelines.queries import GetRunSettings, GetSteps, ListRuns
from winepipelines.predictions.actions import Action, SubmitPrediction
from winepipelines.predictions.queries import GetScoringResult
from winepipelines.runs.context import RunContext, RunWaiting, RunWording

A = TypeVar("A")


@dataclass(frozen=True)
class StatusUpdate:
    """A check found something to record: decide again with this status."""

    status: PredictionStatus


@dataclass(frozen=True)
class NotReady(Unmet):
    """The result of the first check that does not hold.

    Without a `stage` the stage is that of the run: Waiting before it, Scoring with it. `is_settled`: the prediction has
    succeeded, and the condition Ready is True.
    """

    actions: tuple[Action, ...] = ()
    status: PredictionStatus | None = None
    stage: PredictionStage | None = None
    is_settled: bool = False


@dataclass(frozen=True)
class PredictionContext:
    """A resource, the answers so far, and the time of this reconcile."""

    prediction: WinePrediction
    answers: Answers
    now: datetime
    timeouts: Timeouts = field(default_factory=Timeouts)
    failures: Mapping[Action, PlatformError] = field(default_factory=dict)  # actions of this reconcile that failed

    @property
    def spec(self) -> PredictionSpec:
        """The desired state."""
        return self.prediction.spec

    @property
    def status(self) -> PredictionStatus:
        """The status as it is known so far."""
        return self.prediction.status

    @property
    def run(self) -> RunContext:
        """Its run. Raises as `observe` does."""
        recorded = self.status.run or Run(name=self.prediction.run_name)
        return RunContext(
            name=self.prediction.run_name,
            recorded=recorded,
            views=self.observe(ListRuns(recorded.name)),
            now=self.now,
            timeouts=self.timeouts,
            submission=SubmitPrediction(recorded.name),
            failures=self.failures,
            failure=lambda: self.observe(GetScoringResult(recorded.id)).failure,
            steps=lambda: self.observe(GetSteps(recorded.id)),
            settings=lambda: self.observe(GetRunSettings()),
            attempts=self.spec.attempts,
            timeout=self.spec.timeout,
            wording=WORDING,
        )

    def with_(self, status: PredictionStatus) -> "PredictionContext":
        """Continue with another status."""
        return replace(self, prediction=self.prediction.with_status(status))

    def observe(self, query: Query[A]) -> A:
        """Return the answer to a query.

        Raises UnansweredQueryError if there is no answer yet, PlatformError if the query failed.
        """
        return answer(self.answers, query)


Check = Callable[[PredictionContext], StatusUpdate | NotReady | None]
WORDING = RunWording(pending="The run waits for its step to start", timeout="spec.timeout", after_timeout="See")


def with_run(context: PredictionContext, run: Run) -> PredictionStatus:
    """Record the run. The prediction starts with its submission."""
    return context.status.with_(run=run, started_at=context.status.started_at or run.submitted_at)


def run_not_ready(context: PredictionContext, waiting: RunWaiting | None) -> NotReady | None:
    """Report that the run has not succeeded yet."""
    if waiting is None:
        return None
    return NotReady(
        waiting.reason,
        waiting.message,
        waiting.actions,
        waiting.requeue_after,
        waiting.stalled,
        waiting.check,
        status=with_run(context, waiting.run) if waiting.run else None,
    )
