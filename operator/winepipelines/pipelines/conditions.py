"""Summarize the results of stages in conditions: the only place that writes them.

They conform to kstatus: `Ready` always, `Reconciling` and `Stalled` only while true, each with the generation that it describes.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from winepipelines.api.prediction import PredictionStatus
from winepipelines.api.status import Condition, ConditionType, Status
from winepipelines.pipelines.context import Done, NotReady

S = TypeVar("S", Status, PredictionStatus)
MESSAGE_LIMIT = 2048
ONLY_WHILE_TRUE = (ConditionType.RECONCILING, ConditionType.STALLED)


def summarize(
    status: S,
    results: Mapping[ConditionType, Done | NotReady],
    ready: Done | NotReady,
    generation: int,
    now: datetime,
) -> S:
    """Write conditions into a status. Conditions without a result stay as they are."""
    statements = {kind: (outcome, isinstance(outcome, Done)) for kind, outcome in results.items()}
    statements[ConditionType.READY] = (ready, isinstance(ready, Done))
    if isinstance(ready, NotReady) and ready.stalled:
        statements[ConditionType.STALLED] = (ready, True)
    elif isinstance(ready, NotReady) and ready.waiting:
        statements[ConditionType.RECONCILING] = (ready, True)

    conditions = []
    for kind in ConditionType:
        earlier = status.condition(kind)
        if kind in statements:
            outcome, holds = statements[kind]
            conditions.append(_condition(kind, outcome, holds, earlier, generation, now))
        elif earlier is not None and kind not in ONLY_WHILE_TRUE:
            conditions.append(earlier)
    return status.with_(conditions=tuple(conditions), observed_generation=generation)


def with_pending_retrain(status: Status, pending: Done | None, generation: int, now: datetime) -> Status:
    """Write the condition `RetrainPending` while a requested revision has not begun. Without `pending`, remove it."""
    kind = ConditionType.RETRAIN_PENDING
    conditions = {condition.type: condition for condition in status.conditions if condition.type != kind}
    if pending is not None:
        conditions[kind] = _condition(kind, pending, True, status.condition(kind), generation, now)
    return status.with_(conditions=tuple(conditions[kind] for kind in ConditionType if kind in conditions))


def _condition(
    kind: ConditionType, outcome: Done | NotReady, holds: bool, earlier: Condition | None, generation: int, now: datetime
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
