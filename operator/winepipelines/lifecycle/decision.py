"""What a decision is, about a resource of either kind. Made by `decide`, carried out by `reconciler`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from winepipelines.lifecycle.questions import Question
from winepipelines.resource.status import Run

S = TypeVar("S", covariant=True)
A = TypeVar("A", covariant=True)


@dataclass(frozen=True)
class Decision(Generic[S, A]):
    """What is next. With `question` set nothing else is decided yet.

    `status` is to be written before `actions` are carried out; `wake_at` is when to look again if nothing happens. `follow`
    names the run whose moves wake the resource.
    """

    status: S
    question: Question[object] | None = None
    actions: tuple[A, ...] = ()
    wake_at: datetime | None = None
    follow: Run | None = None
