"""A reconcile that hangs is canceled and reported, and nobody else waits for it."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from winepipelines.engine.queue import FairQueue
from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.decision import Decision
from winepipelines.lifecycle.questions import Platform, Question
from winepipelines.platform.kubernetes import WINEPIPELINES, Body
from winepipelines.reconciler import CALL_SHARE, Key, Reconciler
from winepipelines.resource.errors import PlatformError, Unavailable
from winepipelines.resource.policy import Policy
from winepipelines.resource.status import Condition
from winepipelines.subject import Subject

SECONDS = 0.4
ATTACKER, HONEST = "attacker", "honest"


@dataclass(frozen=True)
class _Status:
    said: str = ""
    stage: str | None = None
    conditions: tuple[Condition, ...] = ()

    def to_body(self) -> dict[str, object]:
        return {"said": self.said}


@dataclass(frozen=True)
class _Resource:
    namespace: str
    name: str
    status: _Status


@dataclass(frozen=True)
class _Act:
    """An action."""


class Operator:
    """A reconciler of a kind with one question or one action; `hang` says what never ends."""

    def __init__(self, workers: int = 10, asks: bool = True) -> None:
        self.asks = asks
        self.asked: list[Key] = []
        self.written: dict[Key, list[str]] = {}
        self.measured: list[bool] = []
        self.hang: Callable[[Key], bool] = lambda key: key[0] == ATTACKER
        self.hang_on_write = False
        self.error: Exception | None = None
        self.moved = asyncio.Condition()
        subject = Subject(WINEPIPELINES, "Kind", self._read, self._decide, lambda _before, _after: (), lambda *_: None)
        self.queue = FairQueue(workers, patience=0.1)
        policy = Policy(retry_interval=timedelta(minutes=10))
        adapters: Any = self
        self.reconciler = Reconciler(
            subject,
            adapters,
            adapters,
            adapters,
            lambda *_: None,
            policy,
            self.queue,
            SECONDS,
            lambda _, bad: self.measured.append(bad),
        )

    def see(self, namespace: str, *names: str) -> None:
        for name in names:
            metadata = {"namespace": namespace, "name": name, "uid": f"{namespace}-{name}", "resourceVersion": "1"}
            self.reconciler.saw({"metadata": metadata})

    async def until(self, so: Callable[[], bool]) -> None:
        async with self.moved:
            await asyncio.wait_for(self.moved.wait_for(so), 5)

    def _read(self, body: Body) -> _Resource:
        return _Resource(
            body["metadata"]["namespace"], body["metadata"]["name"], _Status((body.get("status") or {}).get("said", ""))
        )

    def _decide(self, resource: Any, answers: Any, failures: Any, now: datetime, policy: Policy) -> Decision[Any, Any]:
        if self.asks and Platform() not in answers:
            return Decision(status=resource.status, question=Platform())
        found = answers[Platform()] if self.asks else failures.get(_Act())
        said = f"{found.reason}: {found.message}" if isinstance(found, PlatformError) else str(found)
        actions = () if self.asks or failures or resource.status.said else (_Act(),)
        status = resource.status if actions else _Status(said)
        return Decision(status=status, actions=actions, wake_at=datetime.now(UTC) + policy.retry_interval)

    # -- the adapters ------------------------------------------------------------------------------------------------

    async def answer(self, question: Question[object], resource: _Resource) -> object:
        key = resource.namespace, resource.name
        self.asked.append(key)
        if self.error is not None:
            async with self.moved:
                self.moved.notify_all()
            raise self.error
        if self.hang(key):
            await asyncio.Event().wait()
        return "fine"

    async def perform(self, action: object, resource: _Resource) -> None:
        await self.answer(Platform(), resource)

    async def replace_status(self, kind: object, body: Body, status: dict[str, Any]) -> Body:
        metadata = body["metadata"]
        if self.hang_on_write:
            await asyncio.Event().wait()
        self.written.setdefault((metadata["namespace"], metadata["name"]), []).append(status["said"])
        async with self.moved:
            self.moved.notify_all()
        return {"metadata": {**metadata, "resourceVersion": str(int(metadata["resourceVersion"]) + 1)}, "status": status}

    async def stop(self) -> None:
        await self.reconciler.stop()
        await self.queue.stop()


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    operator = Operator()
    yield operator
    await operator.stop()


@pytest.mark.parametrize("asks", [True, False])
async def test_a_call_that_hangs_is_canceled_and_reported_as_a_condition(operator: Operator, asks: bool) -> None:
    operator.asks = asks
    began = time.monotonic()
    operator.see(ATTACKER, "one")
    await operator.until(lambda: (ATTACKER, "one") in operator.written)
    assert CALL_SHARE * SECONDS <= time.monotonic() - began < SECONDS
    [said] = operator.written[ATTACKER, "one"]
    assert said.startswith(f"{reasons.DEADLINE_EXCEEDED}: ")
    assert "canceled" in said
    assert reasons.DEADLINE_EXCEEDED in reasons.PLATFORM_FAILURES


async def test_a_reconcile_that_hangs_elsewhere_is_canceled_and_tried_again(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    operator.hang_on_write, operator.hang = True, lambda _key: False
    with caplog.at_level(logging.WARNING):
        operator.see(HONEST, "one")
        await asyncio.sleep(SECONDS + 0.2)
    assert operator.measured == [True]
    assert operator.queue.longest() == 0.0
    assert "Canceled a reconcile at its deadline" in caplog.text
    operator.hang_on_write = False
    await operator.until(lambda: operator.written.get((HONEST, "one")) == ["fine"])


async def test_an_honest_resource_does_not_wait_for_a_hundred_that_hang(operator: Operator) -> None:
    operator.see(ATTACKER, *(str(number) for number in range(100)))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    operator.see(HONEST, *(str(number) for number in range(20)))
    await operator.until(lambda: sum(namespace == HONEST for namespace, _ in operator.written) == 20)
    assert time.monotonic() - began < 0.2
    assert sum(namespace == ATTACKER for namespace, _ in operator.asked) < 10


async def test_a_resource_that_is_made_anew_while_the_earlier_one_hangs_is_reconciled_after_it(operator: Operator) -> None:
    operator.see(ATTACKER, "one")
    await asyncio.sleep(0.05)
    operator.reconciler.gone((ATTACKER, "one"))
    operator.hang = lambda _key: False
    operator.see(ATTACKER, "one")
    await operator.until(lambda: operator.written.get((ATTACKER, "one"), [""])[-1] == "fine")
    assert operator.asked == [(ATTACKER, "one")] * 2


async def test_a_resource_that_flaps_is_reconciled_at_a_bounded_rate(operator: Operator) -> None:
    operator.hang = lambda _key: False
    for version in range(1, 400):
        metadata = {"namespace": ATTACKER, "name": "one", "uid": "1", "resourceVersion": str(version + 1000)}
        operator.reconciler.saw({"metadata": metadata})
        await asyncio.sleep(0.001)
    assert len(operator.asked) <= 25


async def test_the_error_is_one_that_passes() -> None:
    operator = Operator()
    operator.see(ATTACKER, "one")
    entry = operator.reconciler._entries[ATTACKER, "one"]
    entry.calls_end = 0.0
    with pytest.raises(Unavailable, match="_Act was canceled"):
        await operator.reconciler._bounded(asyncio.sleep(10), _Act(), entry)
    await operator.stop()


@pytest.mark.parametrize("asks", [True, False], ids=["question", "action"])
@pytest.mark.parametrize("error", [RecursionError("deep"), OverflowError(), ValueError("a\nb"), KeyError("x"), UnicodeError()])
async def test_a_call_that_fails_unexpectedly_is_reported_and_retried(
    asks: bool, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Field case M2: RecursionError over an endpoint's answer left the status as it was, Ready."""
    operator = Operator(asks=asks)
    operator.error = error
    operator.see(HONEST, "wine")
    await operator.until(lambda: bool(operator.written))
    assert operator.written == {(HONEST, "wine"): [EXPECTED[asks].format(type(error).__name__)]}
    if asks:  # an action that failed is not decided on again here
        operator.reconciler.wake((HONEST, "wine"))
        await operator.until(lambda: len(operator.asked) > 1)
    await operator.stop()
    logged = [record for record in caplog.records if record.message == "Call failed by a defect"]
    assert len(logged) == 1, "each retry would write another traceback"
    assert logged[0].exc_info


EXPECTED = {
    True: "Unexpected: Platform failed unexpectedly ({}). The operator retries; its log has the details",
    False: "Unexpected: _Act failed unexpectedly ({}). The operator retries; its log has the details",
}
