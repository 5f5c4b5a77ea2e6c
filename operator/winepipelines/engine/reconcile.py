"""One reconcile as a generator, without I/O: it yields the calls to make and receives their results.

`controller` drives it against the API server and real systems; tests drive it against a platform in memory.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from winepipelines.engine.decision import Decision, Event, Query
from winepipelines.engine.errors import PlatformError
from winepipelines.engine.spec import ControllerSpec, ResourceLike, StatusLike

ROUNDS = 100
"""Most decisions of one reconcile, far more than any way through the stages needs."""


@dataclass(frozen=True)
class Observe:
    """Answer a query. Send the answer, or the PlatformError that took its place."""

    query: Query[object]
    resource: ResourceLike


@dataclass(frozen=True)
class WriteStatus:
    """Write a status. Send the resource as it is stored then."""

    resource: ResourceLike
    status: StatusLike


@dataclass(frozen=True)
class Perform:
    """Carry out an action. Send the PlatformError if it failed, the resource if it changed, else None."""

    action: Any
    resource: ResourceLike


@dataclass(frozen=True)
class RecordEvent:
    """Create an Event. Nothing is sent back: a lost Event changes nothing."""

    event: Event


Call = Observe | WriteStatus | Perform | RecordEvent


@dataclass
class AnswerCache:
    """Answers of earlier reconciles that may be used again, one for each rule of the kind."""

    answers: dict[Query[object], Any] = field(default_factory=dict)

    def store(self, spec: ControllerSpec, query: Query[object], answer: object) -> None:
        """Keep an answer if a rule allows it, in place of the last one to that type of query. A failed query changes nothing."""
        if isinstance(answer, PlatformError):
            return
        for rule in spec.cache:
            if isinstance(query, rule.query):
                self._drop(rule.query)
                if rule.keep(answer):
                    self.answers[query] = answer

    def invalidate(self, spec: ControllerSpec, action: object) -> None:
        """Drop what is no longer true after an action."""
        for rule in spec.cache:
            if isinstance(action, rule.invalidated_by):
                self._drop(rule.query)

    def fresh(self, spec: ControllerSpec, status: StatusLike, timeouts: Any, now: datetime) -> dict[Query[object], object]:
        """Return the answers that are still fresh."""
        return {
            query: answer
            for query, answer in self.answers.items()
            if any(isinstance(query, rule.query) and rule.fresh(answer, status, timeouts, now) for rule in spec.cache)
        }

    def _drop(self, kind: type[Query[Any]]) -> None:
        self.answers = {query: answer for query, answer in self.answers.items() if not isinstance(query, kind)}


def reconcile(
    spec: ControllerSpec, resource: ResourceLike, cache: AnswerCache, now: Callable[[], datetime], timeouts: Any
) -> Generator[Call, Any, Decision[StatusLike, Any]]:
    """Observe, decide, write the status and act, until nothing is left to do; return the last decision."""
    answers = cache.fresh(spec, resource.status, timeouts, now())
    failures: dict[Any, PlatformError] = {}
    for _ in range(ROUNDS):
        decision = spec.decide(resource, answers, failures, now(), timeouts)
        if decision.query is not None:
            answer = yield Observe(decision.query, resource)
            cache.store(spec, decision.query, answer)
            answers[decision.query] = answer
            continue
        if decision.status != resource.status:
            before = resource.status
            resource = yield WriteStatus(resource, decision.status)
            for event in spec.events(before, decision.status):
                yield RecordEvent(event)
        if not decision.actions:
            return decision
        resource = yield from _act(spec, decision, resource, cache, failures)
        answers = cache.fresh(spec, resource.status, timeouts, now())
    raise RuntimeError(f"no end after {ROUNDS} rounds")


def _act(
    spec: ControllerSpec,
    decision: Decision[StatusLike, Any],
    resource: ResourceLike,
    cache: AnswerCache,
    failures: dict[Any, PlatformError],
) -> Generator[Call, Any, ResourceLike]:
    """Carry out a decision's actions up to the first that fails; return the resource as it is stored then."""
    for action in decision.actions:
        result = yield Perform(action, resource)
        if isinstance(result, PlatformError):
            failures[action] = result
            break
        cache.invalidate(spec, action)
        resource = resource if result is None else result
        for event in spec.action_events(action):
            yield RecordEvent(event)
    return resource
