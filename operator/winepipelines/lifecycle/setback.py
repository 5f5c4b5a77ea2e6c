"""Moments that lie in the future: the clock was wrong when they were written, or has been set back. Pure; called by `decide`.

Every patience is counted from such a moment. It begins anew now, rather than last until that future has come.
"""

from datetime import datetime, timedelta
from typing import TypeVar

from winepipelines.resource.model import Model
from winepipelines.resource.prediction import PredictionStatus
from winepipelines.resource.status import Candidate, DataCheck, Run, ServedModel, Trial

M = TypeVar("M", bound=Model)
SKEW, LONG = timedelta(minutes=1), timedelta(days=1)
MOMENTS: dict[type[Model], tuple[str, ...]] = {
    Run: ("submitted_at", "started_at", "end_requested_at"),
    Candidate: ("deploying_since", "verifying_since"),
    Trial: ("since",),
    ServedModel: ("since",),
    DataCheck: ("submitted_at",),
    PredictionStatus: ("started_at", "finished_at"),
}


def past(moment: datetime, now: datetime) -> datetime:
    """Take a moment that another system's clock gave, or, where it lies far in the future, one that is long ago."""
    return moment if moment <= now + SKEW else now - LONG


def without_future(model: M, now: datetime) -> M:
    """Bring what lies in the future back to now, in a status and its parts."""
    changes: dict[str, object] = {}
    for name, value in model:
        if isinstance(value, Model):
            if (part := without_future(value, now)) is not value:
                changes[name] = part
        elif name in MOMENTS.get(type(model), ()) and value is not None and value > now:
            changes[name] = now
    return model.with_(**changes) if changes else model
