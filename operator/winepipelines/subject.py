"""What the loop needs to know of a kind of resource. Used by `reconciler`; `subjects` has one for each kind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from winepipelines.lifecycle.decision import Decision
from winepipelines.lifecycle.events import Event
from winepipelines.lifecycle.look import Answers
from winepipelines.lifecycle.questions import Question
from winepipelines.platform.kubernetes import Body, Kind
from winepipelines.resource.errors import PlatformError
from winepipelines.resource.policy import Policy
from winepipelines.resource.status import Condition


class StatusLike(Protocol):
    """What the loop needs to know of a status."""

    @property
    def stage(self) -> str | None:
        """The stage that it tells."""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What it states."""

    def to_body(self) -> dict[str, object]:
        """Write it as the API has it."""


class ResourceLike(Protocol):
    """What the loop needs to know of a resource."""

    @property
    def namespace(self) -> str:
        """Where it is."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def status(self) -> StatusLike:
        """What was written of it last."""


class Observing(Protocol):
    """Who answers the questions of a kind's decisions."""

    async def answer(self, question: Question[object], resource: Any, /) -> object:
        """Answer a question about a resource."""


class Acting(Protocol):
    """Who carries out the actions of a kind's decisions."""

    async def perform(self, action: Any, resource: Any, /) -> Body | None:
        """Carry an action out; return the resource's new body where it changed."""


@dataclass(frozen=True)
class Subject:
    """A kind of resource: how it is read, decided on and told of.

    `read` raises pydantic.ValidationError where a body does not fit the schema; `refuse` makes the status that says so, None
    where it is there already.
    """

    kind: Kind
    name: str
    read: Callable[[Body], ResourceLike]
    decide: Callable[[Any, Answers, Mapping[Any, PlatformError], datetime, Policy], Decision[StatusLike, Any]]
    events: Callable[[Any, Any], tuple[Event, ...]]
    refuse: Callable[[Body, str, datetime], StatusLike | None]
