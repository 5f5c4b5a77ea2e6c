"""Moments that lie in the future: the clock was wrong when they were written, or has been set back. Pure; called by `decide`.

Every patience is counted from such a moment. It begins anew now, rather than last until that future has come.
"""

from datetime import datetime, timedelta
from typing import TypeVar

from winepipelines.resource.model import Model
from winepipelines.resource.status import Status

M = TypeVar("M", bound=Model)
SKEW, LONG = timedelta(minutes=1), timedelta(days=1)
MOMENTS = {
    "run": ("submitted_at", "started_at", "end_requested_at"),
    "candidate": ("deploying_since", "verifying_since"),
    "served": ("since",),
    "data_check": ("submitted_at",),
}


def past(moment: datetime, now: datetime) -> datetime:
    """Take a moment that another system's clock gave, or, where it lies far in the future, one that is long ago."""
    return moment if moment <= now + SKEW else now - LONG


def without_future(status: Status, now: datetime) -> Status:
    """Bring what lies in the future back to now."""
    changes: dict[str, object] = {}
    for part, names in MOMENTS.items():
        model = getattr(status, part)
        if model is not None and (earlier := _earlier(model, names, now)) is not model:
            changes[part] = earlier
    candidate = changes.get("candidate", status.candidate)
    trial = getattr(candidate, "trial", None)
    if isinstance(candidate, Model) and trial is not None and (earlier := _earlier(trial, ("since",), now)) is not trial:
        changes["candidate"] = candidate.with_(trial=earlier)
    return status.with_(**changes) if changes else status


def _earlier(model: M, names: tuple[str, ...], now: datetime) -> M:
    late = {name: now for name in names if (moment := getattr(model, name)) is not None and moment > now}
    return model.with_(**late) if late else model
