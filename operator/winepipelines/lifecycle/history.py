"""The record of ended revisions. Called by the stages that end one."""

from bisect import bisect_right
from datetime import datetime
from itertools import accumulate
from operator import sub

from winepipelines.resource.spec import Spec
from winepipelines.resource.status import HistoryEntry, Outcome, Status, Trigger

SERVED_OUTCOMES = (Outcome.SERVED, Outcome.UNCHANGED, Outcome.ROLLED_BACK)  # of models that can be rolled back to


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
        trigger=status.trigger or (Trigger.CREATED if status.revision == 1 else Trigger.SPEC_CHANGE),
        outcome=outcome,
        reason=reason,
        run=status.run.id if status.run else "",
        uri=candidate.uri if candidate else "",
        metrics=_essential(candidate.metrics, spec) if candidate else {},
        mlflow_run=candidate.mlflow_run if candidate else "",
        version=candidate.version if candidate else "",
        runtime=candidate.runtime if candidate else spec.serving.runtime,
        image=candidate.image if candidate else "",
        executor=candidate.executor if candidate else True,
        digest=candidate.digest if candidate and outcome in SERVED_OUTCOMES else "",
        example_digest=candidate.example_digest if candidate and outcome in SERVED_OUTCOMES else "",
        inputs=candidate.inputs if candidate else "",
        origin=candidate.origin if candidate else None,
        started=status.run.submitted_at if status.run else None,
        finished=earlier.finished if earlier and earlier.outcome == outcome else now,
    )
    others = tuple(other for other in status.history if other.revision != status.revision)
    return shortened(status.with_(history=within((entry, *others), BYTES)), spec)


def shortened(status: Status, spec: Spec) -> Status:
    """Forget what is older than `spec.historyLimit` revisions."""
    return status if len(status.history) <= spec.history_limit else status.with_(history=status.history[: spec.history_limit])


def within(entries: tuple[HistoryEntry, ...], most: int) -> tuple[HistoryEntry, ...]:
    """Keep entries, newest first, within `most` bytes. Where names and addresses are long, the oldest ones lose their metrics,
    and where that is not enough, their place.
    """
    whole = [len(entry.model_dump_json(by_alias=True, exclude_none=True)) for entry in entries]
    metrics = [len(entry.model_dump_json(include={"metrics"})) for entry in entries]
    bare = list(accumulate(map(sub, whole, metrics), initial=0))
    known = bisect_right(bare, most) - 1
    measured = bisect_right(list(accumulate(metrics[:known])), most - bare[known])
    return (*entries[:measured], *(entry.with_(metrics={}) for entry in entries[measured:known]))


USUAL = frozenset({"r2", "rmse", "mae"})
BYTES = 37 * 1024  # of the status; an object is read, compared and sent as a whole


def _essential(metrics: dict[str, float], spec: Spec) -> dict[str, float]:
    """Choose the metrics that a model is judged by: the history is kept for long."""
    named = USUAL | {rule.metric for rule in spec.gate}
    return {name: value for name, value in metrics.items() if name.removeprefix("served_") in named}
