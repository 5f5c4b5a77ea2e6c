"""The engine with a toy kind: which events start a reconcile, what is written, and how failures are retried.

The tests run on virtual time (looptime): no test waits.
"""

import asyncio
import logging
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from support.toy import LAMPS, RETRY_SECONDS, SECONDS, House, SetBrightness, controller, settle, starts

from winecontract.reasons import Reason
from winepipelines.engine.controller import BACKOFF_SECONDS, CALL_SHARE, CONFLICT_SECONDS, JITTER, Controller, Key
from winepipelines.engine.decision import Decision
from winepipelines.engine.errors import Conflict, PlatformError, Unavailable
from winepipelines.engine.queue import FairQueue
from winepipelines.engine.reconcile import ROUNDS
from winepipelines.engine.spec import BackgroundTask, Enqueuing

pytestmark = pytest.mark.looptime(idle_timeout=100_000)
HALL, DESK = ("home", "hall"), ("home", "desk")


class TestReconcile:
    async def test_reconcile_acts_then_writes_status_then_records_the_event(self, house: House, lamps: Controller) -> None:
        lamps.on_update(house.apply(HALL, 5))
        await settle()
        assert house.calls == ["read", "set", "event", "read", "write", "event"]
        assert house.lamps == {HALL: 5}
        assert house.written == [(HALL, {"brightness": 5, "problem": ""})]
        assert house.events == ["Normal Set hall: 5", "Normal Lit hall: None to 5"]
        assert house.followed == [(HALL, 5)]

    async def test_settled_resource_is_not_written_again(self, house: House, lamps: Controller) -> None:
        lamps.on_update(house.apply(HALL))
        await settle()
        lamps.enqueue(HALL)
        await settle()
        assert len(house.reads) == 3
        assert len(house.written) == 1

    async def test_failed_query_is_decided_on(self, house: House, lamps: Controller) -> None:
        house.on_read = lambda _key: PlatformError(Reason.MLFLOW_UNAVAILABLE, "no answer")
        lamps.on_update(house.apply(HALL))
        await settle()
        assert house.written == [(HALL, {"brightness": None, "problem": "MlflowUnavailable"})]
        assert house.events == ["Warning Failed hall: None to None"]

    async def test_failed_action_is_decided_on_and_ends_the_round(self, house: House, lamps: Controller) -> None:
        house.on_set = lambda _key: PlatformError(Reason.MLFLOW_UNAVAILABLE, "no answer")
        lamps.on_update(house.apply(HALL))
        await settle()
        assert house.calls == ["read", "set", "read", "write", "event"]
        assert house.written == [(HALL, {"brightness": None, "problem": "MlflowUnavailable"})]

    async def test_lost_event_changes_nothing(self, house: House, lamps: Controller) -> None:
        house.on_event = lambda: PlatformError(Reason.KUBERNETES_REQUEST_REJECTED, "quota")
        lamps.on_update(house.apply(HALL))
        await settle()
        assert len(house.written) == 1
        assert house.followed == [(HALL, 5)]

    async def test_endless_decisions_are_stopped(self, house: House, queue: FairQueue, caplog: pytest.LogCaptureFixture) -> None:
        spec = replace(LAMPS, decide=lambda lamp, *_: Decision(lamp.status, actions=(SetBrightness(1),)))
        lamps = controller(house, spec, queue=queue)
        lamps.on_update(house.apply(HALL))
        await settle()
        assert house.calls.count("set") == ROUNDS
        assert f"no end after {ROUNDS} rounds" in caplog.text
        await lamps.stop()

    async def test_body_of_an_older_schema_is_refused_once(self, house: House, lamps: Controller) -> None:
        lamps.on_update(house.apply(HALL, "bright"))
        await settle()
        refused = {"brightness": None, "problem": "Invalid: spec.brightness must be a number"}
        assert house.written == [(HALL, refused)]
        lamps.enqueue(HALL)
        await settle()
        assert house.written == [(HALL, refused)]
        lamps.on_update(house.apply(HALL, 7))
        await settle()
        assert house.lamps == {HALL: 7}

    async def test_deciding_check_is_logged_at_debug_level(
        self, house: House, lamps: Controller, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG):
            lamps.on_update(house.apply(HALL))
            await settle()
        decided = [record.fields for record in caplog.records if record.message == "Decided"]  # type: ignore[attr-defined]
        assert decided == [{"kind": "Lamp", "namespace": "home", "name": "hall", "check": "lamp/is_lit"}]


class TestEvents:
    async def test_own_write_starts_no_reconcile(self, house: House, lamps: Controller) -> None:
        lamps.on_update(house.apply(HALL))
        await settle()
        before = len(house.reads)
        lamps.on_update(deepcopy(house.stored[HALL]))
        await settle()
        assert len(house.reads) == before

    async def test_write_of_another_client_starts_a_reconcile(self, house: House, lamps: Controller) -> None:
        lamps.on_update(house.apply(HALL, 5))
        await settle()
        lamps.on_update(house.apply(HALL, 6))
        await settle()
        assert house.lamps == {HALL: 6}

    async def test_outdated_body_neither_starts_a_reconcile_nor_replaces_the_newer_one(
        self, house: House, lamps: Controller
    ) -> None:
        outdated, newer = house.apply(HALL, 5), house.apply(HALL, 6)
        lamps.on_update(newer)
        await settle()
        before = len(house.reads)
        lamps.on_update(outdated)
        await settle()
        assert len(house.reads) == before
        lamps.enqueue(HALL)
        await settle()
        assert house.lamps == {HALL: 6}

    async def test_outdated_body_is_ignored_after_an_own_write(self, house: House, lamps: Controller) -> None:
        """The watch delivers the user's change after the controller has written on top of it."""
        applied = house.apply(HALL, 5)
        lamps.on_update(applied)
        await settle()
        before = len(house.reads)
        lamps.on_update(applied)
        await settle()
        assert len(house.reads) == before

    async def test_recreated_resource_is_accepted_with_a_lower_version(self, house: House, lamps: Controller) -> None:
        lamps.on_update(house.apply(HALL, 5))
        await settle()
        house.version = 10  # restored from a backup
        lamps.on_update(house.apply(HALL, 8, uid="another"))
        await settle()
        assert house.lamps == {HALL: 8}

    async def test_events_during_a_reconcile_cause_one_more(self, house: House, lamps: Controller) -> None:
        def change(key: Key) -> None:
            house.on_read = lambda _key: None
            for brightness in (6, 7, 8):
                lamps.on_update(house.apply(key, brightness))

        house.lamps[HALL] = 5
        house.on_read = change
        lamps.on_update(house.apply(HALL, 5))
        await settle(2 * CONFLICT_SECONDS)
        assert house.lamps == {HALL: 8}
        assert house.written == [(HALL, {"brightness": 8, "problem": ""})]
        assert house.calls.count("set") == 1, "no intermediate state is acted on"

    async def test_unknown_resource_is_not_reconciled(self, house: House, lamps: Controller) -> None:
        lamps.enqueue(HALL)
        await settle()
        assert house.calls == []


class TestConflict:
    async def test_conflict_writes_nothing_and_the_change_is_decided_on(self, house: House, lamps: Controller) -> None:
        house.lamps[HALL] = 5
        lamps.on_update(house.apply(HALL, 5))
        changed = house.apply(HALL, 6)  # the watch is late
        await settle()
        assert house.written == []
        lamps.on_update(changed)
        await settle()
        assert house.lamps == {HALL: 6}
        assert house.written == [(HALL, {"brightness": 6, "problem": ""})]

    async def test_change_that_arrives_before_the_answer_to_an_own_write_is_decided_on(
        self, house: House, lamps: Controller
    ) -> None:
        def change(key: Key) -> None:
            house.after_write = lambda _key: None
            lamps.on_update(house.apply(key, 6))

        house.lamps[HALL] = 5
        house.after_write = change
        lamps.on_update(house.apply(HALL, 5))
        await settle()
        assert house.lamps == {HALL: 6}
        assert house.written[-1] == (HALL, {"brightness": 6, "problem": ""})

    async def test_conflict_is_retried_soon_without_an_event(self, house: House, lamps: Controller) -> None:
        house.on_write = lambda _key: Conflict()
        lamps.on_update(house.apply(HALL, 5))
        await settle()
        house.on_write = lambda _key: None
        await settle(JITTER * CONFLICT_SECONDS)
        assert house.written == [(HALL, {"brightness": 5, "problem": ""})]

    async def test_conflict_is_retried_without_backoff_and_log(
        self, house: House, lamps: Controller, caplog: pytest.LogCaptureFixture
    ) -> None:
        house.on_write = lambda _key: Conflict()
        lamps.on_update(house.apply(HALL, 5))
        await settle(20 * CONFLICT_SECONDS)
        gaps = [later - earlier for earlier, later in pairwise(starts(house)) if later > earlier]
        assert len(gaps) >= 15
        assert all(CONFLICT_SECONDS <= gap <= JITTER * CONFLICT_SECONDS for gap in gaps), "no backoff"
        assert caplog.text == ""


class TestDeletion:
    async def test_deletion_during_a_reconcile_ends_it_for_good(self, house: House, queue: FairQueue) -> None:
        lamps = controller(house, check=timedelta(seconds=1), queue=queue)

        def delete(key: Key) -> None:
            del house.stored[key]
            lamps.on_delete(key)

        house.on_read = delete
        lamps.on_update(house.apply(HALL))
        await settle(100.0)
        assert house.calls == ["read", "set", "event", "read"]
        assert house.followed[-1] == (HALL, None)
        await lamps.stop()

    async def test_deletion_cancels_the_next_reconcile(self, house: House, queue: FairQueue) -> None:
        lamps = controller(house, check=timedelta(seconds=10), queue=queue)
        lamps.on_update(house.apply(HALL))
        await settle()
        before = len(house.reads)
        lamps.on_delete(HALL)
        await settle(100.0)
        assert len(house.reads) == before
        assert house.followed[-1] == (HALL, None)
        await lamps.stop()

    async def test_resource_created_again_during_a_reconcile_is_reconciled_after_it(
        self, house: House, lamps: Controller
    ) -> None:
        def create_again(key: Key) -> None:
            house.on_read = lambda _key: None
            lamps.on_delete(key)
            lamps.on_update(house.apply(key, 9, uid="another"))

        house.on_read = create_again
        lamps.on_update(house.apply(HALL, 5))
        await settle()
        assert house.lamps == {HALL: 9}
        assert house.written == [(HALL, {"brightness": 9, "problem": ""})], "nothing is written for the one that is gone"


class TestFailures:
    async def test_backoff_grows_to_its_bound_and_starts_anew_after_success(self, house: House, lamps: Controller) -> None:
        house.lamps[HALL] = 5
        house.on_write = lambda _key: RuntimeError("a defect")
        lamps.on_update(house.apply(HALL, 5))
        await settle(2000.0)
        gaps = [later - earlier for earlier, later in pairwise(starts(house))]
        expected = [min(BACKOFF_SECONDS[0] * 2.0**number, BACKOFF_SECONDS[1]) for number in range(len(gaps))]
        assert BACKOFF_SECONDS[1] in expected
        assert all(least <= gap <= JITTER * least for least, gap in zip(expected, gaps, strict=True))

        house.on_write = lambda _key: None
        lamps.enqueue(HALL)
        await settle()
        house.on_write = lambda _key: RuntimeError("a defect")
        lamps.on_update(house.apply(HALL, 6))
        house.reads.clear()
        await settle(JITTER * BACKOFF_SECONDS[0])
        assert len({at for _, at in house.reads}) == 2, "the first retry comes as early as before"

    async def test_unavailable_api_server_is_retried_steadily_and_logged_once(
        self, house: House, lamps: Controller, caplog: pytest.LogCaptureFixture
    ) -> None:
        house.lamps[HALL] = 5
        house.on_write = lambda _key: Unavailable(Reason.KUBERNETES_UNAVAILABLE, "no answer")
        with caplog.at_level(logging.INFO):
            lamps.on_update(house.apply(HALL, 5))
            await settle(10 * RETRY_SECONDS)
        gaps = [later - earlier for earlier, later in pairwise(starts(house))]
        assert len(gaps) >= 8
        assert all(RETRY_SECONDS <= gap <= JITTER * RETRY_SECONDS for gap in gaps)
        assert [record.message for record in caplog.records] == ["Cannot reconcile"]

    async def test_exception_in_one_resource_does_not_delay_another(
        self, house: House, lamps: Controller, caplog: pytest.LogCaptureFixture
    ) -> None:
        house.on_write = lambda key: RuntimeError("a defect") if key == HALL else None
        for key in (HALL, DESK):
            lamps.on_update(house.apply(key))
        await settle()
        assert [key for key, _ in house.written] == [DESK]
        assert "Reconcile failed unexpectedly" in caplog.text

    async def test_call_that_hangs_fails_at_its_deadline(self, house: House, lamps: Controller) -> None:
        house.on_read = lambda key: asyncio.Event().wait() if key == HALL else None
        for key in (HALL, DESK):
            lamps.on_update(house.apply(key))
        await settle()
        assert [key for key, _ in house.written] == [DESK]
        await settle(CALL_SHARE * SECONDS)
        assert house.written[-1] == (HALL, {"brightness": None, "problem": Reason.DEADLINE_EXCEEDED})


class TestTenants:
    async def test_namespace_with_many_resources_does_not_delay_another(self, house: House, queue: FairQueue) -> None:
        lamps = controller(house, queue=queue)
        house.on_read = lambda key: asyncio.sleep(1) if key[0] == "hotel" else None
        for number in range(200):
            lamps.on_update(house.apply(("hotel", str(number))))
        lamps.on_update(house.apply(HALL))
        await settle()
        assert [key for key, _ in house.written] == [HALL]
        await lamps.stop()


class TestBackground:
    async def test_background_task_runs_until_the_controller_stops(self, house: House, queue: FairQueue) -> None:
        ended = asyncio.Event()

        async def watch(lamps: Enqueuing) -> None:
            try:
                while True:
                    await asyncio.sleep(10)
                    lamps.enqueue_all()
            finally:
                ended.set()

        spec = replace(LAMPS, background=lambda clients: (BackgroundTask(f"watch of {clients}", watch),))
        lamps = controller(house, spec, queue=queue)
        lamps.start("lamps")
        house.lamps[HALL] = 5
        lamps.on_update(house.apply(HALL, 5))
        await settle(35.0)
        assert len(house.reads) == 4
        await lamps.stop()
        assert ended.is_set()

    async def test_background_task_that_ends_is_reported_and_others_go_on(
        self, house: House, queue: FairQueue, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def fail(_: Enqueuing) -> None:
            raise RuntimeError("a defect")

        async def watch(lamps: Enqueuing) -> None:
            await asyncio.sleep(1)
            lamps.enqueue(HALL)
            await asyncio.Event().wait()

        tasks = (BackgroundTask("failing watch", fail), BackgroundTask("watch", watch))
        lamps = controller(house, replace(LAMPS, background=lambda _: tasks), queue=queue)
        lamps.start(None)
        house.lamps[HALL] = 5
        lamps.on_update(house.apply(HALL, 5))
        await settle(2.0)
        assert len(house.reads) == 2
        [record] = caplog.records
        assert (record.levelname, record.message) == ("CRITICAL", "Background task ended unexpectedly")
        assert record.fields == {"task": "failing watch"}  # type: ignore[attr-defined]
        assert record.exc_info
        await lamps.stop()
