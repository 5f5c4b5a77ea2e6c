"""Decide what to do next for a WinePrediction, from its spec, its status and what was observed. Pure."""

from collections.abc import Mapping
from datetime import datetime

from winepipelines.api.clock_skew import without_future
from winepipelines.api.errors import PlatformError
from winepipelines.api.prediction import PredictionStage, PredictionStatus, WinePrediction
from winepipelines.api.status import ConditionType
from winepipelines.api.timeouts import Timeouts
from winepipelines.engine.decision import Answers, Decision, Event
from winepipelines.pipelines.conditions import summarize
from winepipelines.pipelines.context import Done, UnansweredQueryError
from winepipelines.pipelines.context import NotReady as Unready
from winepipelines.predictions.actions import Action
from winepipelines.predictions.context import Check, NotReady, PredictionContext, StatusUpdate
from winepipelines.predictions.finalize import finalize
from winepipelines.predictions.score import CHECKS


def decide(
    prediction: WinePrediction,
    answers: Answers,
    failures: Mapping[Action, PlatformError],
    now: datetime,
    timeouts: Timeouts | None = None,
) -> Decision[PredictionStatus, Action]:
    """Decide what to do next for a resource.

    `answers` has the answers so far, `failures` the actions of this reconcile that failed. A decision with a query needs its
    answer first.
    """
    context = PredictionContext(prediction, answers, now, timeouts or Timeouts(), failures).with_(
        without_future(prediction.status, now)
    )
    try:
        if prediction.deleted_at is not None:
            not_ready = finalize(context)
            if not_ready is None:
                return Decision(prediction.status, decided_by="finalize")
            decided_by = not_ready.decided_by("finalize")
        else:
            context, decided_by, not_ready = run_checks(context, CHECKS)
    except UnansweredQueryError as unanswered:
        return Decision(prediction.status, query=unanswered.query)

    status = not_ready.status or context.status
    outcome = not_ready.after_failures(failures, context.timeouts)
    has_failed = outcome is not not_ready
    if not (has_failed and status.is_over) and not outcome.is_retry_of(context.status.condition(ConditionType.READY)):
        default = PredictionStage.SCORING if status.run is not None else PredictionStage.WAITING
        stage = status.stage if status.is_over else outcome.stage or default
        status = with_conditions(status.with_(stage=stage), outcome, prediction.generation, now)
    run = status.run
    return Decision(
        status=status,
        actions=outcome.actions,
        requeue_at=now + outcome.requeue_after if outcome.requeue_after is not None else None,
        follow=run if run is not None and run.id and not status.is_over else None,
        decided_by=decided_by,
    )


def run_checks(context: PredictionContext, checks: tuple[Check, ...]) -> tuple[PredictionContext, str, NotReady]:
    """Run the checks up to the first that does not hold; return its name, as `Decision.decided_by`, and its result.

    A status update starts them again.

    Raises UnansweredQueryError.
    """
    while True:
        name, result = _first(context, checks)
        if isinstance(result, NotReady):
            return context, result.decided_by("score", name), result
        context = context.with_(result.status)


def _first(context: PredictionContext, checks: tuple[Check, ...]) -> tuple[str, StatusUpdate | NotReady]:
    for check in checks:
        try:
            if (result := check(context)) is not None:
                return check.__name__, result
        except PlatformError as error:
            return check.__name__, NotReady.from_error(error, context.timeouts)
    raise AssertionError("the last check always decides")


def with_conditions(status: PredictionStatus, result: NotReady, generation: int, now: datetime) -> PredictionStatus:
    """Write the conditions into a status."""
    if result.is_settled:
        return summarize(status, {}, Done(result.reason, result.message), generation, now)
    return summarize(status, {}, Unready(result.reason, result.message, stalled=result.stalled), generation, now)


def events(before: PredictionStatus, after: PredictionStatus) -> tuple[Event, ...]:
    """List the Events between two statuses: one for each new reason of the condition Ready."""
    old, new = (status.condition(ConditionType.READY) for status in (before, after))
    if new is None or (old is not None and (old.status, old.reason) == (new.status, new.reason)):
        return ()
    return (Event(new.reason, new.message, warning=after.condition(ConditionType.STALLED) is not None),)
