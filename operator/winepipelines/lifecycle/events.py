"""Events from transitions: what a person would want to be told of. Pure; called by `reconciler`."""

from dataclasses import dataclass

from winepipelines.resource.status import Condition, ConditionType, Outcome, Status, Trigger


@dataclass(frozen=True)
class Event:
    """A Kubernetes event to be: `warning` decides its type."""

    reason: str
    message: str
    warning: bool = False


WATCHED = (
    ConditionType.PREPARED,
    ConditionType.TRAINED,
    ConditionType.ACCEPTED,
    ConditionType.DEPLOYED,
    ConditionType.ANSWERING,
    ConditionType.READY,
)


LOST = (Outcome.FAILED, Outcome.REFUSED, Outcome.REJECTED, Outcome.ROLLED_BACK)


def events(before: Status, after: Status) -> tuple[Event, ...]:
    """List the transitions between two statuses: each condition whose status or reason moved, and a new revision."""
    told: list[Event] = []
    if after.revision != before.revision:
        told.append(Event("RevisionStarted", f"revision {after.revision} begins: {after.trigger or Trigger.CREATED}"))
    if after.asked.problem and after.asked != before.asked:
        told.append(Event("RequestRefused", after.asked.problem, warning=True))
    problem = after.data_check.problem if after.data_check else ""
    if problem and problem != (before.data_check.problem if before.data_check else ""):
        told.append(Event("DataCheckFailed", problem, warning=True))
    ignored = after.candidate.ignored if after.candidate else ""
    if ignored and (before.candidate is None or before.candidate.ignored != ignored):
        told.append(Event("ForeignRunIgnored", ignored, warning=True))
    warnings = after.candidate.warnings if after.candidate else ()
    if warnings and (before.candidate is None or before.candidate.warnings != warnings):
        told += [Event("DataWarning", warning, warning=True) for warning in warnings]
    for kind in WATCHED:
        old, new = before.condition(kind), after.condition(kind)
        if new is None or (old is not None and (old.status, old.reason) == (new.status, new.reason)):
            continue
        if kind is ConditionType.READY and not _is_new_word(after, new):
            continue  # it repeats what the condition of the stage has said
        told.append(Event(new.reason, new.message, warning=_is_bad(after, kind, new)))
    return tuple(told)


def _is_new_word(status: Status, ready: Condition) -> bool:
    others = (status.condition(kind) for kind in WATCHED if kind is not ConditionType.READY)
    return all(other is None or other.reason != ready.reason for other in others)


def _is_bad(status: Status, kind: ConditionType, condition: Condition) -> bool:
    """Whether it is a trouble rather than a stage on the way."""
    if condition.status == "True":
        return False
    if kind is ConditionType.ANSWERING:
        return True
    entry = status.history[0] if status.history else None
    is_lost = entry is not None and entry.revision == status.revision and entry.outcome in LOST
    return is_lost or status.condition(ConditionType.STALLED) is not None
