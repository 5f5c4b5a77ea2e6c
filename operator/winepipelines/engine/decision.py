"""What a kind's `decide` function takes and returns: queries and their answers, decisions, and Events."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

A = TypeVar("A", covariant=True)
S = TypeVar("S", covariant=True)


class Query(Generic[A]):
    """A value that requests an observation; `A` is the type of the answer."""


Answers = Mapping[Query[object], object]
"""Answers by query. A PlatformError stands for a query that a system did not answer."""


@dataclass(frozen=True)
class Decision(Generic[S, A]):
    """The next step. While `query` is set, nothing else is decided.

    `status` is written before `actions` are carried out. `requeue_at` is the time of the next reconcile unless an event comes
    first. `follow` names what else wakes the resource: for the engine, an opaque value. `decided_by` names the stage and check.
    """

    status: S
    query: Query[object] | None = None
    actions: tuple[A, ...] = ()
    requeue_at: datetime | None = None
    follow: Any = None
    decided_by: str = ""


@dataclass(frozen=True)
class Event:
    """A Kubernetes Event to create; `warning` decides its type.

    `reason` is a `Reason`, or one that Kubernetes or Argo Workflows reported, as in conditions.
    """

    reason: str
    message: str
    warning: bool = False
