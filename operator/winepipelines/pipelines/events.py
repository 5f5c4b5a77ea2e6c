"""Events for transitions between two statuses. Pure."""

from winecontract.reasons import Reason
from winepipelines.api.status import Condition, ConditionType, RevisionOutcome, Status, Trigger
from winepipelines.engine.decision import Event
from winepipelines.pipelines.actions import ApplyChildren, ApplyDeployment, TagOrphanedModels
from winepipelines.pipelines.stages.table import STAGES
from winepipelines.runs.actions import RemoveFinalizer

WATCHED = (*(spec.condition for spec in STAGES), ConditionType.MIGRATED)


LOST = (RevisionOutcome.FAILED, RevisionOutcome.GATE_FAILED, RevisionOutcome.REJECTED, RevisionOutcome.ROLLED_BACK)


def events(before: Status, after: Status) -> tuple[Event, ...]:
    """List the Events for a new revision, a rejected request, warnings, and each condition whose status or reason changed."""
    found: list[Event] = []
    if after.revision != before.revision:
        found.append(Event(Reason.REVISION_STARTED, f"Started revision {after.revision} ({after.trigger or Trigger.CREATED})."))
    if after.handled.rejection_message and after.handled != before.handled:
        found.append(Event(Reason.REQUEST_REJECTED, after.handled.rejection_message, warning=True))
    failure = after.data_check.failure_message if after.data_check else ""
    if failure and failure != (before.data_check.failure_message if before.data_check else ""):
        found.append(Event(Reason.DATA_CHECK_FAILED, failure, warning=True))
    ignored = after.candidate.ignored_record if after.candidate else ""
    if ignored and (before.candidate is None or before.candidate.ignored_record != ignored):
        found.append(Event(Reason.COPIED_RUN_IGNORED, ignored, warning=True))
    warnings = after.candidate.model.warnings if after.candidate else ()
    if warnings and (before.candidate is None or before.candidate.model.warnings != warnings):
        found += [Event(Reason.DATA_WARNING, warning, warning=True) for warning in warnings]
    for kind in WATCHED:
        old, new = before.condition(kind), after.condition(kind)
        if new is None or (old is not None and (old.status, old.reason) == (new.status, new.reason)):
            continue
        if kind is ConditionType.READY and not _is_new_reason(after, new):
            continue  # the condition of the stage has an Event already
        found.append(Event(new.reason, new.message, warning=_is_problem(after, kind, new)))
    return tuple(found)


def _is_new_reason(status: Status, ready: Condition) -> bool:
    others = (status.condition(kind) for kind in WATCHED if kind is not ConditionType.READY)
    return all(other is None or other.reason != ready.reason for other in others)


def _is_problem(status: Status, kind: ConditionType, condition: Condition) -> bool:
    """Tell whether a condition reports a problem, rather than progress."""
    if condition.status == "True":
        return False
    if kind is ConditionType.ENDPOINT_VERIFIED:
        return True
    entry = status.history[0] if status.history else None
    is_lost = entry is not None and entry.revision == status.revision and entry.outcome in LOST
    return is_lost or status.condition(ConditionType.STALLED) is not None


def action_events(action: object) -> tuple[Event, ...]:
    """List the Events of an action that was carried out."""
    match action:
        case RemoveFinalizer(left_behind):
            return tuple(Event(Reason.RESOURCES_LEFT_BEHIND, f"deleted without {what}", warning=True) for what in left_behind)
        case TagOrphanedModels(models):
            versions = ", ".join(model.version for model in models)
            return (Event(Reason.MODELS_RETAINED, f"versions {versions} stay in MLflow, tagged winepipelines.io/left-by"),)
        case ApplyChildren(drift_corrected, updated, _):
            corrected = (Event(Reason.DRIFT_CORRECTED, drift_corrected, warning=True),) if drift_corrected else ()
            return (*corrected, Event(Reason.COPIES_UPDATED, updated)) if updated else corrected
        case ApplyDeployment(_, drift_corrected, _) if drift_corrected:
            return (Event(Reason.DRIFT_CORRECTED, drift_corrected, warning=True),)
    return ()
