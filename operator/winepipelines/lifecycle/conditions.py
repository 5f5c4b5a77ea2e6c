"""Conditions from what the stages said: the one place that summarizes. Called by `decide`.

kstatus-conformant: `Ready` always, `Reconciling` and `Stalled` only while true, every one with the generation it is about.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from winepipelines.lifecycle.look import Held, Passed
from winepipelines.resource.pipeline import GROUP
from winepipelines.resource.prediction import PredictionStatus
from winepipelines.resource.status import Condition, ConditionType, Status

S = TypeVar("S", Status, PredictionStatus)
MESSAGE_LIMIT = 2048
WHOLE = (ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED)
NOTE = f"; the annotation {GROUP}/retrain waits"


def summarize(
    status: S,
    said: Mapping[ConditionType, Passed | Held],
    ready: Passed | Held,
    generation: int,
    now: datetime,
) -> S:
    """Write conditions into a status. What nothing was said about stays as it was."""
    statements = {kind: (outcome, isinstance(outcome, Passed)) for kind, outcome in said.items()}
    statements[ConditionType.READY] = (ready, isinstance(ready, Passed))
    if isinstance(ready, Held) and ready.stalled:
        statements[ConditionType.STALLED] = (ready, True)
    elif isinstance(ready, Held) and ready.waiting:
        statements[ConditionType.RECONCILING] = (ready, True)

    conditions = []
    for kind in ConditionType:
        earlier = status.condition(kind)
        if kind in statements:
            outcome, holds = statements[kind]
            conditions.append(_condition(kind, outcome, holds, earlier, generation, now))
        elif earlier is not None and kind not in (ConditionType.RECONCILING, ConditionType.STALLED):
            conditions.append(earlier)
    return status.with_(conditions=tuple(conditions), observed_generation=generation)


def with_note(conditions: tuple[Condition, ...], waits_for: str) -> tuple[Condition, ...]:
    """Say of the resource as a whole what a requested retraining waits for; where it waits for nothing, say so no more."""
    note = f"{NOTE}: {waits_for}" if waits_for else ""
    return tuple(_noted(condition, note) if condition.type in WHOLE else condition for condition in conditions)


def _noted(condition: Condition, note: str) -> Condition:
    message = condition.message.partition(NOTE)[0][: MESSAGE_LIMIT - len(note)] + note
    return condition if message == condition.message else condition.with_(message=message)


def _condition(
    kind: ConditionType, outcome: Passed | Held, holds: bool, earlier: Condition | None, generation: int, now: datetime
) -> Condition:
    value = "True" if holds else "False"
    return Condition(
        type=kind,
        status=value,
        reason=outcome.reason,
        message=outcome.message[:MESSAGE_LIMIT],
        observed_generation=generation,
        last_transition_time=earlier.last_transition_time if earlier and earlier.status == value else now,
    )
