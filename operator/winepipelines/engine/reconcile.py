"""One reconcile as a generator, without I/O: it yields the calls to make and receives their results.

`controller` drives it against the API server and real systems; tests drive it against a platform in memory.
"""

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from winepipelines.engine.decision import Decision, Event, Query
from winepipelines.engine.errors import PlatformError
from winepipelines.engine.spec import CacheRule, ControllerSpec, ResourceLike, StatusLike

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


@dataclass(frozen=True)
class _Kept:
    """An answer, when it was stored, and the number of changes that were known when it was requested."""

    answer: Any
    at: datetime
    changes: int


@dataclass
class AnswerCache:
    """Answers of earlier reconciles of a resource that may be used again, by the rules of the kind."""

    changes: int = 0
    share: float = field(default_factory=lambda: random.uniform(0.5, 1.0))  # noqa: S311 - so that resources do not move in step
    _kept: dict[Query[object], _Kept] = field(default_factory=dict)

    def changed(self) -> None:
        """Take note that what watched answers are about may have changed, even while one is being requested."""
        self.changes += 1

    def store(self, spec: ControllerSpec, query: Query[object], answer: object, now: datetime, changes: int) -> None:
        """Keep an answer if a rule allows it; `changes` were known when it was requested. A failed query changes nothing.

        Of answers that are not watched, the latest to each type of query is kept.
        """
        if isinstance(answer, PlatformError):
            return
        for rule in spec.cache:
            if isinstance(query, rule.query):
                self._kept = {
                    other: kept
                    for other, kept in self._kept.items()
                    if other != query and (not isinstance(other, rule.query) or self._is_unchanged(rule, kept, now))
                }
                if rule.keep(answer):
                    self._kept[query] = _Kept(answer, now, changes)

    def invalidate(self, spec: ControllerSpec, action: object) -> None:
        """Drop what is no longer true after an action."""
        for rule in spec.cache:
            if isinstance(action, rule.invalidated_by):
                self._kept = {query: kept for query, kept in self._kept.items() if not isinstance(query, rule.query)}

    def fresh(self, spec: ControllerSpec, status: StatusLike, timeouts: Any, now: datetime) -> dict[Query[object], object]:
        """Return the answers that are still fresh."""
        return {
            query: kept.answer
            for query, kept in self._kept.items()
            for rule in spec.cache
            if isinstance(query, rule.query)
            and (rule.watched_for is None or self._is_unchanged(rule, kept, now))
            and rule.fresh(kept.answer, status, timeouts, now)
        }

    def _is_unchanged(self, rule: CacheRule, kept: _Kept, now: datetime) -> bool:
        """Whether an answer is watched, and nothing has changed since it was requested."""
        is_young = rule.watched_for is not None and now - kept.at < self.share * rule.watched_for
        return is_young and kept.changes == self.changes


def reconcile(
    spec: ControllerSpec, resource: ResourceLike, cache: AnswerCache, now: Callable[[], datetime], timeouts: Any
) -> Generator[Call, Any, Decision[StatusLike, Any]]:
    """Observe, decide, write the status and act, until nothing is left to do; return the last decision."""
    answers = cache.fresh(spec, resource.status, timeouts, now())
    failures: dict[Any, PlatformError] = {}
    for _ in range(ROUNDS):
        decision = spec.decide(resource, answers, failures, now(), timeouts)
        if decision.query is not None:
            changes = cache.changes
            answer = yield Observe(decision.query, resource)
            cache.store(spec, decision.query, answer, now(), changes)
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
