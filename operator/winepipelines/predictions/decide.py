"""The decision: what is done next for a prediction, from what is asked and what is seen. Pure; called by `reconciler`."""

from collections.abc import Mapping
from datetime import datetime

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.conditions import summarize
from winepipelines.lifecycle.decision import Decision
from winepipelines.lifecycle.events import Event
from winepipelines.lifecycle.look import Answers, Passed, UnansweredError
from winepipelines.lifecycle.look import Held as NotYet
from winepipelines.lifecycle.setback import without_future
from winepipelines.predictions.actions import Action
from winepipelines.predictions.finalize import finalize
from winepipelines.predictions.look import Held, Look, Record, failed
from winepipelines.predictions.score import score
from winepipelines.resource.errors import PlatformError
from winepipelines.resource.policy import Policy
from winepipelines.resource.prediction import PredictionStage, PredictionStatus, WinePrediction
from winepipelines.resource.status import ConditionType


def decide(
    prediction: WinePrediction,
    answers: Answers,
    failures: Mapping[Action, PlatformError],
    now: datetime,
    policy: Policy | None = None,
) -> Decision[PredictionStatus, Action]:
    """Decide what is next for a resource.

    `answers` holds what has been asked so far, `failures` the actions of this look that failed.
    """
    look = Look(prediction, answers, now, policy or Policy(), failures).with_(without_future(prediction.status, now))
    try:
        if prediction.deleted_at is not None:
            held = finalize(look)
            if held is None:
                return Decision(prediction.status)
        else:
            look, held = _score(look)
    except UnansweredError as unanswered:
        return Decision(prediction.status, question=unanswered.question)

    status = held.status or look.status
    error = next((failures[action] for action in held.actions if action in failures), None)
    actions = held.actions if error is None else ()
    if error is not None:
        held = failed(error, look.policy)
    if not (error is not None and status.is_over) and not _is_tried_again(actions, look):
        begun = PredictionStage.SCORING if status.run is not None else PredictionStage.WAITING
        stage = status.stage if status.is_over else held.stage or begun
        status = told(status.with_(stage=stage), held, prediction.generation, now)
    run = status.run
    return Decision(
        status=status,
        actions=actions,
        wake_at=now + held.wake_in if held.wake_in is not None else None,
        follow=run if run is not None and run.id and not status.is_over else None,
    )


def _score(look: Look) -> tuple[Look, Held]:
    """Run the checks; each thing that becomes known starts them anew."""
    while True:
        try:
            said = score(look)
        except PlatformError as error:
            said = failed(error, look.policy)
        if isinstance(said, Held):
            return look, said
        assert isinstance(said, Record)
        look = look.with_(said.status)


def _is_tried_again(actions: tuple[Action, ...], look: Look) -> bool:
    """Tell whether something is done that has failed before: until it succeeds, what was said of it stands."""
    said = look.status.condition(ConditionType.READY)
    return bool(actions) and said is not None and said.reason in reasons.PLATFORM_FAILURES


def told(status: PredictionStatus, held: Held, generation: int, now: datetime) -> PredictionStatus:
    """Write conditions into a status."""
    passed, not_yet = Passed(held.reason, held.message), NotYet(held.reason, held.message, stalled=held.stalled)
    return summarize(status, {}, passed if held.is_settled else not_yet, generation, now)


def events(before: PredictionStatus, after: PredictionStatus) -> tuple[Event, ...]:
    """List the transitions between two statuses: each new reason of the condition Ready."""
    old, new = (status.condition(ConditionType.READY) for status in (before, after))
    if new is None or (old is not None and (old.status, old.reason) == (new.status, new.reason)):
        return ()
    return (Event(new.reason, new.message, warning=after.condition(ConditionType.STALLED) is not None),)
