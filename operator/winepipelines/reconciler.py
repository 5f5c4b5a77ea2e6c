"""The loop: observe, decide, write the status, act; again until nothing is left to do. Called by `handlers`.

It is the same for each kind of resource; what differs is a `Subject`. Whatever wakes a resource, all of it is looked at anew.
When, and how many at a time, `engine.queue` says. A reconcile has a deadline: calls that would exceed it are canceled, which is
an answer like any other failure of the platform.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from pydantic import ValidationError

from winepipelines.engine.queue import FairQueue
from winepipelines.lifecycle.actions import ApplyChildren, ApplyDeployment, LeaveModels, RemoveFinalizer
from winepipelines.lifecycle.decision import Decision
from winepipelines.lifecycle.questions import Answer, Question
from winepipelines.lifecycle.reasons import DEADLINE_EXCEEDED, UNEXPECTED
from winepipelines.lifecycle.verify import check_interval
from winepipelines.platform.bodies import own_metadata
from winepipelines.platform.kubernetes import Body, Conflict, KindMissing, Kubernetes
from winepipelines.resource.errors import PlatformError, Unavailable
from winepipelines.resource.observed import PredictionCheck
from winepipelines.resource.policy import Policy
from winepipelines.resource.status import Run, Status
from winepipelines.subject import Acting, Observing, ResourceLike, StatusLike, Subject

Key = tuple[str, str]  # namespace and name of a resource
ROUNDS = 100  # questions and actions of one reconcile; far more than any way through the stages has
BACKOFF_SECONDS = (1, 300)
CONFLICT_SECONDS = 1.0
SPREAD_SECONDS, LOOKS_PER_SECOND = 10.0, 50.0
JITTER = 1.1
CALLS_SHARE, CALL_SHARE = 0.75, 0.5  # of a reconcile's time: for all its questions and actions together, and for one of them
T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass
class _Entry:
    """What the reconciler keeps of a resource."""

    body: Body
    written: str = ""  # the resource version of our own last write: its event tells nothing new
    checked: dict[Question[object], object] = field(default_factory=dict)  # the last passed prediction check
    timer: asyncio.TimerHandle | None = None
    failures: int = 0
    defect: tuple[str, str] = ("", "")  # the last call that failed unexpectedly, and of what
    calls_end: float = 0.0  # when the calls of the reconcile under way have to have ended, by the loop's clock


class Reconciler:
    """Keeps every resource of a kind on its way."""

    def __init__(
        self,
        subject: Subject,
        kubernetes: Kubernetes,
        observer: Observing,
        actor: Acting,
        follow: Callable[[Key, Run | None], None],
        policy: Policy,
        queue: FairQueue,
        seconds: float,
        measure: Callable[[float, bool], None] = lambda _seconds, _failed: None,
    ) -> None:
        """Use these adapters; a reconcile may take `seconds`.

        `follow` is told which run to follow for a resource, `measure` how each reconcile went. Kinds may share a queue.
        """
        self._subject = subject
        self._kubernetes = kubernetes
        self._observer = observer
        self._actor = actor
        self._follow = follow
        self._policy = policy
        self._measure = measure
        self._entries: dict[Key, _Entry] = {}
        self._queue = queue
        self._seconds = seconds

    def saw(self, body: Body) -> None:
        """Take a resource's body from the watch, and look at it unless it is what was just written."""
        body = _kept(body)
        metadata = body["metadata"]
        key = (metadata["namespace"], metadata["name"])
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = _Entry(body)
        elif entry.written == metadata["resourceVersion"] or _is_older(body, entry.body):
            return
        else:
            entry.body = body
        self.wake(key)

    def gone(self, key: Key) -> None:
        """Forget a resource that is no longer there."""
        entry = self._entries.pop(key, None)
        if entry is not None and entry.timer is not None:
            entry.timer.cancel()
        self._queue.discard(key[0], self._item(key))
        self._follow(key, None)

    def wake(self, key: Key) -> None:
        """Look at a resource now."""
        if key in self._entries:
            self._queue.add(key[0], self._item(key), lambda: self._work(key))

    def _item(self, key: Key) -> tuple[str, ...]:
        return self._subject.name, *key

    def wake_all(self) -> None:
        """Look at every resource now."""
        for key in list(self._entries):
            self.wake(key)

    def spread(self) -> timedelta:
        """Say in what time every resource may be looked at without a rush: seconds, more where there are very many."""
        return timedelta(seconds=max(SPREAD_SECONDS, len(self._entries) / LOOKS_PER_SECOND))

    def look_within(self, duration: timedelta) -> None:
        """Look at every resource within some time, one here and one there: what all of them tell has changed."""
        loop, seconds = asyncio.get_running_loop(), duration.total_seconds()
        for key, entry in self._entries.items():
            if self._queue.is_active(self._item(key)):
                self.wake(key)
            elif entry.timer is None or entry.timer.when() > loop.time() + seconds * JITTER:
                if entry.timer is not None:
                    entry.timer.cancel()
                entry.timer = loop.call_later(random.uniform(0, seconds), self.wake, key)  # noqa: S311 - not all at once

    def wake_namespace(self, namespace: str, where: Callable[[Body], bool] = lambda _body: True) -> None:
        """Look at every resource of a namespace now, or at those whose body is such."""
        for key, entry in list(self._entries.items()):
            if key[0] == namespace and where(entry.body):
                self.wake(key)

    def stages(self) -> Counter[str]:
        """Count the resources of each stage, as their status says. May be called from any thread."""
        return Counter(str((entry.body.get("status") or {}).get("stage") or "New") for entry in list(self._entries.values()))

    async def stop(self) -> None:
        """Begin no other reconcile; whatever is left undone is found again at the next start."""
        for entry in self._entries.values():
            if entry.timer is not None:
                entry.timer.cancel()

    async def _work(self, key: Key) -> None:
        """Reconcile a resource, and see to it that it is looked at again. Called by the queue: never twice at once for one."""
        entry = self._entries.get(key)
        if entry is None:
            return
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        loop = asyncio.get_running_loop()
        began = loop.time()
        entry.calls_end = began + CALLS_SHARE * self._seconds
        wake_in: float | None = None
        try:
            async with asyncio.timeout(self._seconds):
                wake_in = await self._reconcile(key, entry)
            entry.failures = 0
        except Conflict:  # what has changed it is on its way through the watch, and wakes it
            wake_in = CONFLICT_SECONDS
        except Unavailable as error:
            # Without the API server nothing can be written. It is tried again as often as ever: it may be back at any time.
            level = logging.DEBUG if entry.failures else logging.WARNING
            logger.log(level, "Cannot reconcile", extra=self._fields(key, error=error))
            wake_in = self._policy.retry_interval.total_seconds()
            entry.failures += 1
        except TimeoutError:
            logger.warning("Canceled a reconcile at its deadline", extra=self._fields(key, seconds=self._seconds))
            wake_in = self._after_failure(entry)
        except Exception:
            # The one place where nothing may be let through: a defect must not stop the other resources.
            logger.exception("Reconcile failed by a defect", extra=self._fields(key))
            wake_in = self._after_failure(entry)
        finally:
            self._measure(loop.time() - began, entry.failures > 0)
        if self._entries.get(key) is entry and wake_in is not None and entry.timer is None:
            jittered = wake_in * random.uniform(1.0, JITTER)  # noqa: S311 - so that resources do not move in step
            entry.timer = loop.call_later(jittered, self.wake, key)

    def _after_failure(self, entry: _Entry) -> float:
        """Return the seconds until the next try, more of them after each failure."""
        entry.failures += 1
        return min(BACKOFF_SECONDS[0] * 2.0 ** min(entry.failures - 1, 16), BACKOFF_SECONDS[1])

    async def _reconcile(self, key: Key, entry: _Entry) -> float | None:
        """Look once and do what is to be done; return the seconds until the next look."""
        try:
            resource = self._subject.read(entry.body)
        except ValidationError as error:
            await self._refuse(entry, error)
            return None
        answers: dict[Question[object], object] = self._still_fresh(entry, resource.status)
        failures: dict[Any, PlatformError] = {}
        for _ in range(ROUNDS):
            decision = self._subject.decide(resource, answers, failures, datetime.now(UTC), self._policy)
            if decision.question is not None:
                answers[decision.question] = await self._ask(decision.question, resource, entry)
                continue
            resource = await self._write(resource, entry, decision)
            if not decision.actions:
                break
            for action in decision.actions:
                try:
                    body = await self._bounded(self._actor.perform(action, resource), action, entry)
                except PlatformError as error:
                    logger.warning("Action failed", extra=self._fields(key, action=type(action).__name__, error=error))
                    failures[action] = error
                    break
                if isinstance(action, ApplyDeployment):
                    entry.checked = {}  # what answered was another deployment
                if body is not None:
                    self._keep(entry, body)
                    resource = self._subject.read(body)
                await self._tell_of(action, entry)
            answers = self._still_fresh(entry, resource.status)
        else:
            raise RuntimeError(f"no end after {ROUNDS} rounds")
        self._follow(key, decision.follow)
        if decision.wake_at is None:
            return None
        return max(0.0, (decision.wake_at - datetime.now(UTC)).total_seconds())

    async def _ask(self, question: Question[object], resource: ResourceLike, entry: _Entry) -> object:
        try:
            answer = await self._bounded(self._observer.answer(question, resource), question, entry)
        except PlatformError as error:
            return error
        except KindMissing as error:
            return PlatformError("KindMissing", f"the API server does not know {error}")
        if isinstance(question, Answer):
            passed = isinstance(answer, PredictionCheck) and answer.passed
            entry.checked = {question: answer} if passed else {}
        return answer

    async def _bounded(self, call: Awaitable[T], what: object, entry: _Entry) -> T:
        """Wait for a call, but not for ever: a system that hangs is one that does not answer.

        Raises Unavailable at the deadline, PlatformError where the call fails by a defect: most often over what a system has
        sent, so that the status reports it, and does not stay as it was.
        """
        seconds = CALL_SHARE * self._seconds
        try:
            async with asyncio.timeout_at(min(asyncio.get_running_loop().time() + seconds, entry.calls_end)):
                return await call
        except TimeoutError:
            message = (
                f"{type(what).__name__} was canceled because the platform had not answered within {seconds:g} s. The operator "
                "retries; find the system that is slow with `python -m winepipelines doctor`"
            )
            raise Unavailable(DEADLINE_EXCEEDED, message) from None
        except (PlatformError, KindMissing, Conflict):
            raise
        except Exception as error:
            place = entry.body["metadata"]
            name, kind = type(what).__name__, type(error).__name__
            if entry.defect != (name, kind):  # once: it is tried again and again
                logger.exception("Call failed by a defect", extra=self._fields((place["namespace"], place["name"]), call=name))
            entry.defect = name, kind
            message = f"{name} failed unexpectedly ({kind}). The operator retries; its log has the details"
            raise PlatformError(UNEXPECTED, message) from None

    def _still_fresh(self, entry: _Entry, status: object) -> dict[Question[object], object]:
        """Take over a prediction check that has passed not long ago: the endpoint is not asked at every look."""
        if not isinstance(status, Status):
            return {}
        now = datetime.now(UTC)
        interval = check_interval(status, self._policy, now)
        return {
            question: check
            for question, check in entry.checked.items()
            if isinstance(check, PredictionCheck) and now - check.at < interval
        }

    async def _write(self, resource: ResourceLike, entry: _Entry, decision: Decision[StatusLike, Any]) -> ResourceLike:
        """Write the status, if it changed, on the version that was decided on."""
        if decision.status == resource.status:
            return resource
        self._keep(entry, await self._kubernetes.replace_status(self._subject.kind, entry.body, decision.status.to_body()))
        for event in self._subject.events(resource.status, decision.status):
            await self._tell(entry, event.reason, event.message, warning=event.warning)
        key = resource.namespace, resource.name
        logger.info("Wrote status", extra=self._fields(key, **_headline(decision.status)))
        return self._subject.read(entry.body)

    async def _tell_of(self, action: object, entry: _Entry) -> None:
        """Write the Events of an action that was carried out."""
        match action:
            case RemoveFinalizer(left_behind):
                for what in left_behind:
                    await self._tell(entry, "LeftBehind", f"deleted without {what}", warning=True)
            case LeaveModels(models):
                versions = ", ".join(model.version for model in models)
                message = f"versions {versions} stay in MLflow, tagged winepipelines.io/left-by"
                await self._tell(entry, "ModelsKept", message, warning=False)
            case ApplyChildren(mended, updated):
                if mended:
                    await self._tell(entry, "DriftMended", mended, warning=True)
                if updated:
                    await self._tell(entry, "CopiesUpdated", updated, warning=False)
            case ApplyDeployment(_, mended) if mended:
                await self._tell(entry, "DriftMended", mended, warning=True)

    async def _tell(self, entry: _Entry, reason: str, message: str, *, warning: bool) -> None:
        regarding = {"apiVersion": self._subject.kind.api_version, "kind": self._subject.name, **_reference(entry.body)}
        try:
            await self._kubernetes.tell_of(regarding, reason, message, warning=warning)
        except PlatformError as error:  # an Event is a courtesy: its loss changes nothing
            key = regarding["namespace"], regarding["name"]
            logger.warning("Cannot create an Event", extra=self._fields(key, reason=reason, error=error))

    async def _refuse(self, entry: _Entry, error: ValidationError) -> None:
        """Say of a resource that was stored under an older schema what is wrong with it."""
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"spec: {where}: {first['msg']}; this resource was stored under an older schema: apply a corrected one"
        refused = self._subject.refuse(entry.body, message, datetime.now(UTC))
        if refused is not None:
            self._keep(entry, await self._kubernetes.replace_status(self._subject.kind, entry.body, refused.to_body()))

    def _fields(self, key: Key, **more: object) -> dict[str, object]:
        """Make the fields of a log line about a resource."""
        return {"fields": {"kind": self._subject.name, "namespace": key[0], "name": key[1], **more}}

    def _keep(self, entry: _Entry, body: Body) -> None:
        entry.body = _kept(body)
        entry.written = body["metadata"]["resourceVersion"]


def _kept(body: Body) -> Body:
    """Leave out of the metadata what others put there: the API server keeps what it has where a write does not say."""
    return {**body, "metadata": own_metadata(body["metadata"])}


def _is_older(body: Body, known: Body) -> bool:
    """Tell a late event. Resource versions of one kind are ordered numbers (KEP-5504)."""
    versions: list[Any] = [item["metadata"]["resourceVersion"] for item in (body, known)]
    same = body["metadata"]["uid"] == known["metadata"]["uid"]
    return same and all(version.isdigit() for version in versions) and int(versions[0]) < int(versions[1])


def _reference(body: Body) -> Body:
    """Say which object of its kind it is."""
    return {name: body["metadata"][name] for name in ("namespace", "name", "uid")}


def _headline(status: StatusLike) -> dict[str, object]:
    """Name stage, reason and message of a status, as fields of the log."""
    ready = next((condition for condition in status.conditions if condition.type == "Ready"), None)
    said: dict[str, object] = {"ready": ready.status, "reason": ready.reason, "details": ready.message} if ready else {}
    return {"stage": status.stage, **said}
