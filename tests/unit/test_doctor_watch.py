"""Repeated platform checks: one verdict, one Event for each change, and checks on request."""

import asyncio
import itertools
import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from support.survey import GOOD, SETTINGS, evaluate
from support.world import World

from winecontract.reasons import Reason
from winepipelines.api.errors import Unavailable
from winepipelines.api.observed import PlatformVerdict
from winepipelines.api.status import ConditionType
from winepipelines.doctor.calls import CallMonitor
from winepipelines.doctor.finding import Report
from winepipelines.doctor.observations import Outage, Reach
from winepipelines.doctor.watch import PlatformWatch
from winepipelines.engine.decision import Query
from winepipelines.monitored import MonitoredActor, MonitoredObserver

ALL_PASS = evaluate(GOOD)
NO_MLFLOW = evaluate(replace(GOOD, mlflow=Outage(SETTINGS.mlflow_url, Reach.NO_CONNECTION)))
SLOW_MLFLOW = evaluate(replace(GOOD, mlflow=Outage(SETTINGS.mlflow_url, Reach.NO_ANSWER)))
NO_KUBEFLOW = evaluate(replace(GOOD, kubeflow=Outage(SETTINGS.kfp_url, Reach.NO_CONNECTION)))


class Platform:
    """Returns one report after another and keeps the Events."""

    def __init__(self, *reports: Report) -> None:
        self.reports = list(reports)
        self.checks = 0
        self.check_numbers: asyncio.Queue[int] = asyncio.Queue()
        self.reports_seen: list[Report] = []
        self.events: list[tuple[str, bool]] = []
        self.events_fail = False
        self.verdict_changes = 0
        self.watch = PlatformWatch(
            self.run_checks, self.reports_seen.append, self.on_change, self.record_event, interval=0.0, confirm_after=0.0
        )

    async def run_checks(self) -> Report:
        self.checks += 1
        self.check_numbers.put_nowait(self.checks)
        return self.reports.pop(0) if len(self.reports) > 1 else self.reports[0]

    def on_change(self) -> None:
        self.verdict_changes += 1

    async def record_event(self, reason: str, message: str, warning: bool) -> None:
        if self.events_fail:
            raise Unavailable(Reason.KUBERNETES_UNAVAILABLE, "down")
        self.events.append((reason, warning))

    async def check(self, *reports: Report) -> PlatformVerdict:
        self.reports = list(reports) or self.reports
        await self.watch.check()
        assert self.watch.verdict is not None
        return self.watch.verdict


async def test_first_passing_check_records_no_event() -> None:
    platform = Platform(ALL_PASS)
    assert platform.watch.verdict is None
    verdict = await platform.check()
    assert verdict == PlatformVerdict(True, "ChecksPassed", "All checks of the platform pass")
    assert platform.events == []


async def test_each_change_records_one_event() -> None:
    platform = Platform(ALL_PASS)
    for report in (ALL_PASS, NO_MLFLOW, NO_MLFLOW, NO_MLFLOW, ALL_PASS, ALL_PASS):
        await platform.check(report)
    assert platform.events == [("MlflowUnreachable", True), ("PlatformReady", False)]
    assert platform.verdict_changes == 3, "the first verdict counts as a change"


async def test_first_failing_check_records_an_event() -> None:
    platform = Platform(NO_KUBEFLOW)
    verdict = await platform.check()
    assert not verdict.ready
    assert platform.events == [("KubeflowUnreachable", True)]


async def test_verdict_stays_ready_when_a_failure_is_not_confirmed() -> None:
    platform = Platform(ALL_PASS)
    await platform.check(ALL_PASS)
    verdict = await platform.check(NO_MLFLOW, ALL_PASS)
    assert verdict.ready
    assert platform.checks == 3
    assert platform.events == []


async def test_verdict_changes_only_when_another_check_fails() -> None:
    platform = Platform(NO_MLFLOW)
    verdict = await platform.check(NO_MLFLOW)
    assert await platform.check(SLOW_MLFLOW) is verdict
    assert await platform.check(NO_KUBEFLOW) is not verdict


async def test_verdict_is_kept_when_the_event_cannot_be_recorded() -> None:
    platform = Platform(NO_MLFLOW)
    platform.events_fail = True
    assert not (await platform.check()).ready


async def test_unexpected_error_does_not_end_the_checks(caplog: pytest.LogCaptureFixture) -> None:
    platform = Platform(ALL_PASS)
    again = asyncio.Event()

    async def breaks_once() -> Report:
        if platform.checks == 0:
            platform.checks += 1
            raise RuntimeError("a defect")
        again.set()
        return ALL_PASS

    watch = PlatformWatch(breaks_once, platform.reports_seen.append, platform.on_change, platform.record_event, interval=0.0)
    task = asyncio.create_task(watch.run())
    with caplog.at_level(logging.ERROR):
        await asyncio.wait_for(again.wait(), 5)
    task.cancel()
    assert "Platform check failed unexpectedly" in caplog.text


async def test_every_report_is_passed_on() -> None:
    platform = Platform(ALL_PASS)
    for report in (ALL_PASS, NO_MLFLOW):
        await platform.check(report)
    assert platform.reports_seen == [ALL_PASS, NO_MLFLOW]


class TestRecheck:
    """A call that contradicts the verdict requests a check at once, within a rate limit."""

    async def wait_for_checks(self, platform: Platform, count: int) -> None:
        async with asyncio.timeout(5):
            while await platform.check_numbers.get() < count:
                pass

    def watch(self, platform: Platform, gap: float, confirm_after: float = 3600.0) -> PlatformWatch:
        return PlatformWatch(
            platform.run_checks,
            platform.reports_seen.append,
            platform.on_change,
            platform.record_event,
            3600.0,
            confirm_after,
            gap,
        )

    async def test_recheck_runs_at_once_after_a_failure_and_a_recovery(self) -> None:
        platform = Platform(ALL_PASS)
        watch = self.watch(platform, gap=0.0)
        task = asyncio.create_task(watch.run())
        await self.wait_for_checks(platform, 1)
        platform.reports = [NO_MLFLOW]
        watch.recheck()
        await self.wait_for_checks(platform, 2)
        await asyncio.sleep(0)
        assert watch.verdict is not None
        assert not watch.verdict.ready, "the failed call counts as the first failure"
        platform.reports = [ALL_PASS]
        watch.recheck()
        await self.wait_for_checks(platform, 3)
        await asyncio.sleep(0)
        assert watch.verdict.ready
        task.cancel()

    async def test_rechecks_keep_the_minimum_gap(self) -> None:
        platform = Platform(ALL_PASS)
        watch = self.watch(platform, gap=0.2)
        task = asyncio.create_task(watch.run())
        await self.wait_for_checks(platform, 1)
        begun = asyncio.get_running_loop().time()
        for _ in range(50):
            watch.recheck()
            await asyncio.sleep(0.001)
        await self.wait_for_checks(platform, 2)
        assert asyncio.get_running_loop().time() - begun >= 0.15
        assert platform.checks == 2
        task.cancel()


class TestCalls:
    """Outcomes of the operator's calls that request a check."""

    ERROR = Unavailable(Reason.MLFLOW_UNAVAILABLE, "down")

    def monitor(self, verdict: PlatformVerdict | None) -> tuple[CallMonitor, list[float]]:
        self.now, self.verdict = 0.0, verdict
        rechecks: list[float] = []
        return CallMonitor(lambda: self.verdict, lambda: rechecks.append(self.now), lambda: self.now), rechecks

    def test_first_failure_of_a_call_requests_one_check(self) -> None:
        monitor, rechecks = self.monitor(PlatformVerdict(True, "ChecksPassed", ""))
        for _ in range(5):
            monitor.failed("records of a")
        assert rechecks == [0.0]
        monitor.failed("records of b")
        assert len(rechecks) == 2

    def test_unconfirmed_failure_requests_checks_with_backoff(self) -> None:
        monitor, rechecks = self.monitor(PlatformVerdict(True, "ChecksPassed", ""))
        for second in range(3600):
            self.now = float(second)
            monitor.failed("records of a")
        gaps = [later - sooner for sooner, later in itertools.pairwise(rechecks)]
        assert gaps[:4] == [20, 40, 80, 160]
        assert set(gaps[4:]) == {300}

    def test_confirmed_failure_requests_no_further_check(self) -> None:
        monitor, rechecks = self.monitor(PlatformVerdict(False, "MlflowUnreachable", ""))
        for second in range(3600):
            self.now = float(second)
            monitor.failed("records of a")
        assert rechecks == [0.0]

    def test_recovered_call_requests_a_check_when_the_platform_is_not_ready(self) -> None:
        monitor, rechecks = self.monitor(PlatformVerdict(False, "MlflowUnreachable", ""))
        monitor.succeeded("runs of a")
        assert rechecks == [], "the call has not failed before"
        monitor.failed("records of a")
        rechecks.clear()
        monitor.succeeded("records of a")
        monitor.succeeded("records of a")
        assert rechecks == [0.0]

    def test_recovered_call_requests_no_check_when_the_platform_is_ready(self) -> None:
        monitor, rechecks = self.monitor(PlatformVerdict(True, "ChecksPassed", ""))
        monitor.failed("records of a")
        rechecks.clear()
        monitor.succeeded("records of a")
        assert rechecks == []

    async def test_monitored_observer_and_actor_request_checks(self) -> None:
        monitor, rechecks = self.monitor(PlatformVerdict(True, "ChecksPassed", ""))

        class Breaks:
            async def answer(self, query: Any, resource: Any, /) -> object:
                raise TestCalls.ERROR

            async def perform(self, action: Any, resource: Any, /) -> None:
                raise TestCalls.ERROR

        resource = SimpleNamespace(namespace="admin", name="wine")
        with pytest.raises(Unavailable):
            await MonitoredObserver(Breaks(), monitor).answer(Query(), resource)
        with pytest.raises(Unavailable):
            await MonitoredActor(Breaks(), monitor).perform("apply", resource)
        assert len(rechecks) == 2


class TestCondition:
    NOT_READY = PlatformVerdict(False, "MlflowUnreachable", "MLflow does not answer")
    READY = PlatformVerdict(True, "ChecksPassed", "all passes")

    def test_verdict_is_none_before_the_first_check(self) -> None:
        world = World()
        world.serve()
        assert world.status.condition(ConditionType.PLATFORM_READY) is None

    def test_condition_is_kept_until_the_first_check_after_a_restart(self) -> None:
        world = World(platform=self.NOT_READY)
        world.serve()
        before, world.platform = world.writes, None
        world.reconcile()
        assert world.writes == before
        assert world.condition(ConditionType.PLATFORM_READY).reason == "MlflowUnreachable"

    def test_condition_reports_the_verdict_and_does_not_affect_ready(self) -> None:
        world = World(platform=self.NOT_READY)
        world.serve()
        condition = world.condition(ConditionType.PLATFORM_READY)
        assert (condition.status, condition.reason, condition.message) == ("False", "MlflowUnreachable", "MLflow does not answer")
        assert world.ready()
        assert world.status.condition(ConditionType.STALLED) is None

    def test_status_is_written_only_when_the_verdict_changes(self) -> None:
        world = World(platform=self.READY)
        world.serve()
        for verdict, writes in ((self.READY, 0), (self.NOT_READY, 1), (self.NOT_READY, 0), (self.READY, 1)):
            before, world.platform = world.writes, verdict
            world.pass_time(minutes=5)
            world.reconcile()
            assert world.writes - before == writes

    def test_verdict_records_no_event_for_the_pipeline(self) -> None:
        world = World(platform=self.READY)
        world.serve()
        world.events.clear()
        world.platform = self.NOT_READY
        world.reconcile()
        assert world.events == []

    def test_condition_is_set_while_the_run_is_pending(self) -> None:
        world = World(platform=self.NOT_READY)
        world.reconcile()
        assert world.condition(ConditionType.PLATFORM_READY).status == "False"
