"""The record of ended revisions."""

import json
from bisect import bisect_right
from datetime import datetime
from itertools import accumulate
from operator import sub

from winepipelines.api.model import compact
from winepipelines.api.modelrecord import ModelRecord, TrainingData
from winepipelines.api.spec import Spec
from winepipelines.api.status import HistoryEntry, RevisionOutcome, Status, Trigger

SERVED_OUTCOMES = (
    RevisionOutcome.SERVED,
    RevisionOutcome.UNCHANGED,
    RevisionOutcome.ROLLED_BACK,
)  # the model can be restored by a rollback


def entry_of(status: Status, revision: int) -> HistoryEntry | None:
    """Return the entry of a revision. None if it has not ended."""
    return next((entry for entry in status.history if entry.revision == revision), None)


def run_is_over(status: Status) -> bool:
    """Tell whether the run of the current revision is known to have ended."""
    return status.candidate is not None or entry_of(status, status.revision) is not None


def ended(status: Status, spec: Spec, outcome: RevisionOutcome, reason: str, now: datetime) -> Status:
    """Record that the current revision has ended. A second record of a revision replaces the first."""
    candidate = status.candidate if status.candidate and status.candidate.revision == status.revision else None
    earlier = entry_of(status, status.revision)
    entry = HistoryEntry(
        revision=status.revision,
        trigger=status.trigger or (Trigger.CREATED if status.revision == 1 else Trigger.SPEC_CHANGE),
        outcome=outcome,
        reason=reason,
        kubeflow_run=status.run.id if status.run else "",
        started_at=status.run.submitted_at if status.run else None,
        finished_at=earlier.finished_at if earlier and earlier.outcome == outcome else now,
        model=_trimmed(candidate.model, spec, outcome) if candidate else None,
    )
    others = tuple(other for other in status.history if other.revision != status.revision)
    return shortened(status.with_(history=within((entry, *others), BYTES)), spec)


def shortened(status: Status, spec: Spec) -> Status:
    """Remove entries beyond `spec.historyLimit`."""
    return status if len(status.history) <= spec.history_limit else status.with_(history=status.history[: spec.history_limit])


def within(entries: tuple[HistoryEntry, ...], most: int) -> tuple[HistoryEntry, ...]:
    """Keep entries, newest first, within `most` bytes.

    If names and addresses are long, the oldest entries lose their metrics. If that is not enough, they are removed.
    """
    bodies = [compact(entry) for entry in entries]
    whole = [_size(body) for body in bodies]
    metrics = [_size(body.get("model", {}).get("metrics", {})) for body in bodies]
    bare = list(accumulate(map(sub, whole, metrics), initial=0))
    known = bisect_right(bare, most) - 1
    measured = bisect_right(list(accumulate(metrics[:known])), most - bare[known])
    return (*entries[:measured], *map(_without_metrics, entries[measured:known]))


def _size(value: object) -> int:
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False))


def _without_metrics(entry: HistoryEntry) -> HistoryEntry:
    return entry if entry.model is None else entry.with_(model=entry.model.with_(metrics={}))


USUAL = frozenset({"r2", "rmse", "mae"})
BYTES = 37 * 1024  # of the status; an object is read, compared and sent as a whole


def _trimmed(model: ModelRecord, spec: Spec, outcome: RevisionOutcome) -> ModelRecord:
    """Keep what a rollback needs and the metrics that a model is judged by: the history is kept for long."""
    named = USUAL | {rule.metric for rule in spec.gate}
    metrics = {name: value for name, value in model.metrics.items() if name.removeprefix("served_") in named}
    trimmed = model.with_(metrics=metrics, registered_model="", data=TrainingData(), warnings=())
    return trimmed if outcome in SERVED_OUTCOMES else trimmed.with_(digest="", example_digest="")
