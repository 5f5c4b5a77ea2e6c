"""The record of ended revisions. Called by the stages that end one."""

from datetime import datetime

from winepipelines.resource.spec import Spec
from winepipelines.resource.status import HistoryEntry, Outcome, Status


def entry_of(status: Status, revision: int) -> HistoryEntry | None:
    """Look up how a revision ended, if it has."""
    return next((entry for entry in status.history if entry.revision == revision), None)


def run_is_over(status: Status) -> bool:
    """Tell whether the present revision's run is known to have come to its end."""
    return status.candidate is not None or entry_of(status, status.revision) is not None


def ended(status: Status, spec: Spec, outcome: Outcome, reason: str, now: datetime) -> Status:
    """Record that the present revision has ended. A second record of the same revision replaces the first."""
    candidate = status.candidate if status.candidate and status.candidate.revision == status.revision else None
    earlier = entry_of(status, status.revision)
    entry = HistoryEntry(
        revision=status.revision,
        trigger="Created" if status.revision == 1 else "SpecChange",
        outcome=outcome,
        reason=reason,
        run=status.run.id if status.run else "",
        uri=candidate.uri if candidate else "",
        metrics=candidate.metrics if candidate else {},
        started=status.run.submitted_at if status.run else None,
        finished=earlier.finished if earlier and earlier.outcome == outcome else now,
    )
    others = tuple(other for other in status.history if other.revision != status.revision)
    return status.with_(history=(entry, *others)[: spec.history_limit])
