"""Timestamps in the future: the clock was wrong when they were written, or has been set back.

Deadlines are counted from such timestamps. They start again now, rather than last until that future time.
"""

from datetime import datetime, timedelta
from typing import TypeVar

from winepipelines.api.model import Model
from winepipelines.api.prediction import PredictionStatus
from winepipelines.api.status import CanaryStatus, Candidate, DataCheckRun, Migration, RetiringDeployment, Run, ServedModel

M = TypeVar("M", bound=Model)
SKEW, LONG = timedelta(minutes=1), timedelta(days=1)
MOMENTS: dict[type[Model], tuple[str, ...]] = {
    Run: ("submitted_at", "started_at", "end_requested_at"),
    Candidate: ("rollout_started_at", "verification_started_at"),
    CanaryStatus: ("step_started_at",),
    ServedModel: ("serving_since",),
    Migration: ("started_at",),
    RetiringDeployment: ("since",),
    DataCheckRun: ("submitted_at",),
    PredictionStatus: ("started_at", "finished_at"),
}


def past(moment: datetime, now: datetime) -> datetime:
    """Return another system's timestamp, or one long ago if it is far in the future."""
    return moment if moment <= now + SKEW else now - LONG


def without_future(model: M, now: datetime) -> M:
    """Replace timestamps in the future with now, in a status and its parts."""
    changes: dict[str, object] = {}
    for name, value in model:
        if isinstance(value, Model):
            if (part := without_future(value, now)) is not value:
                changes[name] = part
        elif name in MOMENTS.get(type(model), ()) and value is not None and value > now:
            changes[name] = now
    return model.with_(**changes) if changes else model
