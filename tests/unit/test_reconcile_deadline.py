"""A hanging reconcile is canceled and reported, and delays no other resource."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from winecontract.reasons import PLATFORM_FAILURES, Reason
from winepipelines.api.errors import PlatformError, Unavailable
from winepipelines.api.status import Condition
from winepipelines.api.timeouts import Timeouts
from winepipelines.engine.controller import CALL_SHARE, Controller, Key
from winepipelines.engine.decision import Decision, Query
from winepipelines.engine.queue import FairQueue
from winepipelines.engine.spec import ControllerSpec
from winepipelines.pipelines.queries import GetPlatformHealth
from winepipelines.platform.kubernetes import WINEPIPELINES, Body

SECONDS = 0.4
ATTACKER, HONEST = "attacker", "honest"


@dataclass(frozen=True)
class _Status:
    message: str = ""
    stage: str | None = None
    conditions: tuple[Condition, ...] = ()

    def to_body(self) -> dict[str, object]:
        return {"message": self.message}


@dataclass(frozen=True)
class _Resource:
    namespace: str
    name: str
    status: _Status


@dataclass(frozen=True)
class _Act:
    """An action."""


class Operator:
    """A controller of a kind with one query or one action; calls for which `hang` holds never end."""

    def __init__(self, workers: int = 10, queries: bool = True) -> None:
        self.queries = queries
        self.calls: list[Key] = []
        self.written: dict[Key, list[str]] = {}
        self.measured: list[bool] = []
        self.hang: Callable[[Key], bool] = lambda key: key[0] == ATTACKER
        self.hang_on_write = False
        self.error: Exception | None = None
        self.changed = asyncio.Condition()
        spec = ControllerSpec(WINEPIPELINES, "Kind", self._read, self._decide, lambda _before, _after: (), lambda *_: None)
        self.queue = FairQueue(workers, slot_seconds=0.1)
        timeouts = Timeouts(retry_interval=timedelta(minutes=10))
        adapters: Any = self
        self.controller = Controller(
            spec,
            adapters,
            adapters,
            adapters,
            lambda *_: None,
            timeouts,
            self.queue,
            SECONDS,
            retry_interval=timeouts.retry_interval,
            measure=lambda _, bad: self.measured.append(bad),
        )

    def update(self, namespace: str, *names: str) -> None:
        for name in names:
            metadata = {"namespace": namespace, "name": name, "uid": f"{namespace}-{name}", "resourceVersion": "1"}
            self.controller.on_update({"metadata": metadata})

    async def until(self, holds: Callable[[], bool]) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(holds), 5)

    def _read(self, body: Body) -> _Resource:
        return _Resource(
            body["metadata"]["namespace"], body["metadata"]["name"], _Status((body.get("status") or {}).get("message", ""))
        )

    def _decide(self, resource: Any, answers: Any, failures: Any, now: datetime, timeouts: Timeouts) -> Decision[Any, Any]:
        if self.queries and GetPlatformHealth() not in answers:
            return Decision(status=resource.status, query=GetPlatformHealth())
        found = answers[GetPlatformHealth()] if self.queries else failures.get(_Act())
        message = f"{found.reason}: {found.message}" if isinstance(found, PlatformError) else str(found)
        actions = () if self.queries or failures or resource.status.message else (_Act(),)
        status = resource.status if actions else _Status(message)
        return Decision(status=status, actions=actions, requeue_at=datetime.now(UTC) + timeouts.retry_interval)

    # -- the adapters ------------------------------------------------------------------------------------------------

    async def answer(self, query: Query[object], resource: _Resource) -> object:
        key = resource.namespace, resource.name
        self.calls.append(key)
        if self.error is not None:
            async with self.changed:
                self.changed.notify_all()
            raise self.error
        if self.hang(key):
            await asyncio.Event().wait()
        return "ok"

    async def perform(self, action: object, resource: _Resource) -> None:
        await self.answer(GetPlatformHealth(), resource)

    async def replace_status(self, kind: object, body: Body, status: dict[str, Any]) -> Body:
        metadata = body["metadata"]
        if self.hang_on_write:
            await asyncio.Event().wait()
        self.written.setdefault((metadata["namespace"], metadata["name"]), []).append(status["message"])
        async with self.changed:
            self.changed.notify_all()
        return {"metadata": {**metadata, "resourceVersion": str(int(metadata["resourceVersion"]) + 1)}, "status": status}

    async def stop(self) -> None:
        await self.controller.stop()
        await self.queue.stop()


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    operator = Operator()
    yield operator
    await operator.stop()


@pytest.mark.parametrize("queries", [True, False])
async def test_hanging_call_is_canceled_and_reported_in_the_status(operator: Operator, queries: bool) -> None:
    operator.queries = queries
    began = time.monotonic()
    operator.update(ATTACKER, "one")
    await operator.until(lambda: (ATTACKER, "one") in operator.written)
    assert CALL_SHARE * SECONDS <= time.monotonic() - began < SECONDS
    [message] = operator.written[ATTACKER, "one"]
    assert message.startswith(f"{Reason.DEADLINE_EXCEEDED}: ")
    assert "canceled" in message
    assert Reason.DEADLINE_EXCEEDED in PLATFORM_FAILURES


async def test_reconcile_is_canceled_and_retried_when_the_status_write_hangs(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    operator.hang_on_write, operator.hang = True, lambda _key: False
    with caplog.at_level(logging.WARNING):
        operator.update(HONEST, "one")
        await asyncio.sleep(SECONDS + 0.2)
    assert operator.measured == [True]
    assert operator.queue.longest() == 0.0
    assert "Canceled a reconcile at its deadline" in caplog.text
    operator.hang_on_write = False
    await operator.until(lambda: operator.written.get((HONEST, "one")) == ["ok"])


async def test_resource_is_not_delayed_when_a_hundred_others_hang(operator: Operator) -> None:
    operator.update(ATTACKER, *(str(number) for number in range(100)))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    operator.update(HONEST, *(str(number) for number in range(20)))
    await operator.until(lambda: sum(namespace == HONEST for namespace, _ in operator.written) == 20)
    assert time.monotonic() - began < 0.2
    assert sum(namespace == ATTACKER for namespace, _ in operator.calls) < 10


async def test_recreated_resource_is_reconciled_when_the_reconcile_of_the_deleted_one_hangs(operator: Operator) -> None:
    operator.update(ATTACKER, "one")
    await asyncio.sleep(0.05)
    operator.controller.on_delete((ATTACKER, "one"))
    operator.hang = lambda _key: False
    operator.update(ATTACKER, "one")
    await operator.until(lambda: operator.written.get((ATTACKER, "one"), [""])[-1] == "ok")
    assert operator.calls == [(ATTACKER, "one")] * 2


async def test_resource_that_changes_constantly_is_reconciled_at_a_bounded_rate(operator: Operator) -> None:
    operator.hang = lambda _key: False
    for version in range(1, 400):
        metadata = {"namespace": ATTACKER, "name": "one", "uid": "1", "resourceVersion": str(version + 1000)}
        operator.controller.on_update({"metadata": metadata})
        await asyncio.sleep(0.001)
    assert len(operator.calls) <= 25


async def test_call_raises_unavailable_at_its_deadline() -> None:
    operator = Operator()
    operator.update(ATTACKER, "one")
    entry = operator.controller._entries[ATTACKER, "one"]
    entry.calls_end = 0.0
    with pytest.raises(Unavailable, match="_Act was canceled"):
        await operator.controller._bounded(asyncio.sleep(10), _Act(), entry)
    await operator.stop()


@pytest.mark.parametrize("queries", [True, False], ids=["query", "action"])
@pytest.mark.parametrize("error", [RecursionError("deep"), OverflowError(), ValueError("a\nb"), KeyError("x"), UnicodeError()])
async def test_unexpected_error_of_a_call_is_reported_and_retried(
    queries: bool, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """A RecursionError from an endpoint's response once left the status at Ready."""
    operator = Operator(queries=queries)
    operator.error = error
    operator.update(HONEST, "wine")
    await operator.until(lambda: bool(operator.written))
    assert operator.written == {(HONEST, "wine"): [EXPECTED[queries].format(type(error).__name__)]}
    if queries:  # _decide does not repeat a failed action
        operator.controller.enqueue((HONEST, "wine"))
        await operator.until(lambda: len(operator.calls) > 1)
    await operator.stop()
    logged = [record for record in caplog.records if record.message == "Call failed unexpectedly"]
    assert len(logged) == 1, "a retry must not log the traceback again"
    assert logged[0].exc_info


EXPECTED = {
    True: "UnexpectedError: GetPlatformHealth failed unexpectedly ({}). The operator retries; its log has the details",
    False: "UnexpectedError: _Act failed unexpectedly ({}). The operator retries; its log has the details",
}
