"""The repeated walk: one verdict, told once for each change."""

import asyncio
import itertools
import logging
import socket
import urllib.request
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from support.survey import GOOD, SETTINGS
from support.world import World

from winepipelines.doctor.calls import CallMonitor
from winepipelines.doctor.finding import Report
from winepipelines.doctor.observations import Outage, Reach
from winepipelines.doctor.walk import judge
from winepipelines.doctor.watch import PlatformWatch
from winepipelines.engine.queue import FairQueue
from winepipelines.lifecycle.questions import Question
from winepipelines.metrics import Metrics
from winepipelines.monitored import MonitoredActor, MonitoredObserver
from winepipelines.reconciler import Key, Reconciler
from winepipelines.resource.errors import Unavailable
from winepipelines.resource.observed import PlatformVerdict
from winepipelines.resource.policy import Policy
from winepipelines.resource.status import ConditionType
from winepipelines.subjects import PIPELINES

WELL = judge(GOOD)
NO_MLFLOW = judge(replace(GOOD, mlflow=Outage(SETTINGS.mlflow_url, Reach.NO_CONNECTION)))
SLOW_MLFLOW = judge(replace(GOOD, mlflow=Outage(SETTINGS.mlflow_url, Reach.NO_ANSWER)))
NO_KUBEFLOW = judge(replace(GOOD, kubeflow=Outage(SETTINGS.kfp_url, Reach.NO_CONNECTION)))


class Platform:
    """Gives one report after another, and hears what is told."""

    def __init__(self, *reports: Report) -> None:
        self.reports = list(reports)
        self.walks = 0
        self.walked: asyncio.Queue[int] = asyncio.Queue()
        self.seen: list[Report] = []
        self.told: list[tuple[str, bool]] = []
        self.deaf = False
        self.changes = 0
        self.watch = PlatformWatch(self.walk, self.seen.append, self.change, self.tell, interval=0.0, second_look=0.0)

    async def walk(self) -> Report:
        self.walks += 1
        self.walked.put_nowait(self.walks)
        return self.reports.pop(0) if len(self.reports) > 1 else self.reports[0]

    def change(self) -> None:
        self.changes += 1

    async def tell(self, reason: str, message: str, warning: bool) -> None:
        if self.deaf:
            raise Unavailable("KubernetesUnavailable", "down")
        self.told.append((reason, warning))

    async def look(self, *reports: Report) -> PlatformVerdict:
        self.reports = list(reports) or self.reports
        await self.watch.look()
        assert self.watch.verdict is not None
        return self.watch.verdict


async def test_a_good_start_is_no_news() -> None:
    platform = Platform(WELL)
    assert platform.watch.verdict is None
    verdict = await platform.look()
    assert verdict == PlatformVerdict(True, "ChecksPassed", "every check of the platform passes")
    assert platform.told == []


async def test_each_change_is_told_once() -> None:
    platform = Platform(WELL)
    for report in (WELL, NO_MLFLOW, NO_MLFLOW, NO_MLFLOW, WELL, WELL):
        await platform.look(report)
    assert platform.told == [("MlflowUnreachable", True), ("PlatformReady", False)]
    assert platform.changes == 3, "the first verdict is one too"


async def test_a_bad_start_is_told() -> None:
    platform = Platform(NO_KUBEFLOW)
    verdict = await platform.look()
    assert not verdict.ready
    assert platform.told == [("KubeflowUnreachable", True)]


async def test_one_lost_answer_is_no_outage() -> None:
    platform = Platform(WELL)
    await platform.look(WELL)
    verdict = await platform.look(NO_MLFLOW, WELL)
    assert verdict.ready
    assert platform.walks == 3
    assert platform.told == []


async def test_the_words_change_only_with_what_fails() -> None:
    platform = Platform(NO_MLFLOW)
    verdict = await platform.look(NO_MLFLOW)
    assert await platform.look(SLOW_MLFLOW) is verdict
    assert await platform.look(NO_KUBEFLOW) is not verdict


async def test_an_event_that_is_lost_changes_nothing() -> None:
    platform = Platform(NO_MLFLOW)
    platform.deaf = True
    assert not (await platform.look()).ready


async def test_a_defect_does_not_end_the_walks(caplog: pytest.LogCaptureFixture) -> None:
    platform = Platform(WELL)
    again = asyncio.Event()

    async def breaks_once() -> Report:
        if platform.walks == 0:
            platform.walks += 1
            raise RuntimeError("a defect")
        again.set()
        return WELL

    watch = PlatformWatch(breaks_once, platform.seen.append, platform.change, platform.tell, interval=0.0)
    task = asyncio.create_task(watch.run())
    with caplog.at_level(logging.ERROR):
        await asyncio.wait_for(again.wait(), 5)
    task.cancel()
    assert "Platform check failed by a defect" in caplog.text


async def test_every_walk_is_measured() -> None:
    platform = Platform(WELL)
    for report in (WELL, NO_MLFLOW):
        await platform.look(report)
    assert platform.seen == [WELL, NO_MLFLOW]


class TestRecheck:
    """What a call says otherwise is checked at once, but not again and again."""

    async def walks(self, platform: Platform, count: int) -> None:
        async with asyncio.timeout(5):
            while await platform.walked.get() < count:
                pass

    def watch(self, platform: Platform, gap: float, second_look: float = 3600.0) -> PlatformWatch:
        return PlatformWatch(platform.walk, platform.seen.append, platform.change, platform.tell, 3600.0, second_look, gap)

    async def test_it_is_checked_at_once_in_both_directions(self) -> None:
        platform = Platform(WELL)
        watch = self.watch(platform, gap=0.0)
        task = asyncio.create_task(watch.run())
        await self.walks(platform, 1)
        platform.reports = [NO_MLFLOW]
        watch.recheck()
        await self.walks(platform, 2)
        await asyncio.sleep(0)
        assert watch.verdict is not None
        assert not watch.verdict.ready, "the call that failed was the first look"
        platform.reports = [WELL]
        watch.recheck()
        await self.walks(platform, 3)
        await asyncio.sleep(0)
        assert watch.verdict.ready
        task.cancel()

    async def test_it_is_not_checked_more_often_than_the_gap_says(self) -> None:
        platform = Platform(WELL)
        watch = self.watch(platform, gap=0.2)
        task = asyncio.create_task(watch.run())
        await self.walks(platform, 1)
        begun = asyncio.get_running_loop().time()
        for _ in range(50):
            watch.recheck()
            await asyncio.sleep(0.001)
        await self.walks(platform, 2)
        assert asyncio.get_running_loop().time() - begun >= 0.15
        assert platform.walks == 2
        task.cancel()


class TestCalls:
    """Which outcomes of the operator's calls ask for a check."""

    ERROR = Unavailable("MlflowUnavailable", "down")

    def monitor(self, verdict: PlatformVerdict | None) -> tuple[CallMonitor, list[float]]:
        self.now, self.verdict = 0.0, verdict
        asked: list[float] = []
        return CallMonitor(lambda: self.verdict, lambda: asked.append(self.now), lambda: self.now), asked

    def test_a_call_that_begins_to_fail_asks_at_once_and_once(self) -> None:
        monitor, asked = self.monitor(PlatformVerdict(True, "ChecksPassed", ""))
        for _ in range(5):
            monitor.failed("records of a")
        assert asked == [0.0]
        monitor.failed("records of b")
        assert len(asked) == 2

    def test_a_failure_that_the_checks_do_not_confirm_asks_less_and_less_often(self) -> None:
        monitor, asked = self.monitor(PlatformVerdict(True, "ChecksPassed", ""))
        for second in range(3600):
            self.now = float(second)
            monitor.failed("records of a")
        gaps = [later - sooner for sooner, later in itertools.pairwise(asked)]
        assert gaps[:4] == [20, 40, 80, 160]
        assert set(gaps[4:]) == {300}

    def test_a_failure_that_the_checks_confirm_asks_no_more(self) -> None:
        monitor, asked = self.monitor(PlatformVerdict(False, "MlflowUnreachable", ""))
        for second in range(3600):
            self.now = float(second)
            monitor.failed("records of a")
        assert asked == [0.0]

    def test_a_call_that_succeeds_again_asks_while_the_platform_is_not_ready(self) -> None:
        monitor, asked = self.monitor(PlatformVerdict(False, "MlflowUnreachable", ""))
        monitor.succeeded("runs of a")
        assert asked == [], "it has not failed before: it says nothing new"
        monitor.failed("records of a")
        asked.clear()
        monitor.succeeded("records of a")
        monitor.succeeded("records of a")
        assert asked == [0.0]

    def test_a_call_that_succeeds_again_asks_nothing_where_all_is_well(self) -> None:
        monitor, asked = self.monitor(PlatformVerdict(True, "ChecksPassed", ""))
        monitor.failed("records of a")
        asked.clear()
        monitor.succeeded("records of a")
        assert asked == []

    async def test_observers_and_actors_are_heard(self) -> None:
        monitor, asked = self.monitor(PlatformVerdict(True, "ChecksPassed", ""))

        class Breaks:
            async def answer(self, question: Any, resource: Any, /) -> object:
                raise TestCalls.ERROR

            async def perform(self, action: Any, resource: Any, /) -> None:
                raise TestCalls.ERROR

        resource = SimpleNamespace(namespace="admin", name="wine")
        with pytest.raises(Unavailable):
            await MonitoredObserver(Breaks(), monitor).answer(Question(), resource)
        with pytest.raises(Unavailable):
            await MonitoredActor(Breaks(), monitor).perform("apply", resource)
        assert len(asked) == 2


class TestTheCondition:
    NOT_READY = PlatformVerdict(False, "MlflowUnreachable", "MLflow: it is away")
    READY = PlatformVerdict(True, "ChecksPassed", "all passes")

    def test_before_the_first_walk_there_is_none(self) -> None:
        world = World()
        world.serve()
        assert world.status.condition(ConditionType.PLATFORM_READY) is None

    def test_a_restart_leaves_it_as_it_is(self) -> None:
        world = World(platform=self.NOT_READY)
        world.serve()
        before, world.platform = world.writes, None
        world.reconcile()
        assert world.writes == before
        assert world.condition(ConditionType.PLATFORM_READY).reason == "MlflowUnreachable"

    def test_it_says_what_the_checks_say_and_does_not_touch_ready(self) -> None:
        world = World(platform=self.NOT_READY)
        world.serve()
        condition = world.condition(ConditionType.PLATFORM_READY)
        assert (condition.status, condition.reason, condition.message) == ("False", "MlflowUnreachable", "MLflow: it is away")
        assert world.ready()
        assert world.status.condition(ConditionType.STALLED) is None

    def test_a_change_costs_one_write_and_a_repetition_none(self) -> None:
        world = World(platform=self.READY)
        world.serve()
        for verdict, writes in ((self.READY, 0), (self.NOT_READY, 1), (self.NOT_READY, 0), (self.READY, 1)):
            before, world.platform = world.writes, verdict
            world.pass_time(minutes=5)
            world.reconcile()
            assert world.writes - before == writes

    def test_it_is_no_event_of_the_resource(self) -> None:
        world = World(platform=self.READY)
        world.serve()
        world.told.clear()
        world.platform = self.NOT_READY
        world.reconcile()
        assert world.told == []

    def test_a_resource_that_waits_has_it_too(self) -> None:
        world = World(platform=self.NOT_READY)
        world.reconcile()
        assert world.condition(ConditionType.PLATFORM_READY).status == "False"


class TestMetrics:
    def sample(self, metrics: Metrics, name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"winepipelines_{name}", labels)

    def test_before_the_first_walk_nothing_is_said_of_the_platform(self) -> None:
        assert self.sample(Metrics(), "platform_ready") is None

    def test_the_platform(self) -> None:
        metrics = Metrics()
        metrics.checked(WELL)
        assert self.sample(metrics, "platform_ready") == 1
        assert self.sample(metrics, "platform_check", check="mlflow answers") == 1
        metrics.checked(NO_MLFLOW)
        assert self.sample(metrics, "platform_ready") == 0
        assert self.sample(metrics, "platform_check", check="mlflow answers") == 0
        assert self.sample(metrics, "platform_check", check="mlflow lets the operator in") is None, "it was skipped"

    def test_reconciles(self) -> None:
        metrics = Metrics()
        metrics.reconciled(0.2, False)
        metrics.reconciled(0.2, True)
        assert self.sample(metrics, "reconcile_seconds_count") == 2
        assert self.sample(metrics, "reconcile_errors_total") == 1

    def test_resources_by_stage(self) -> None:
        metrics = Metrics()
        metrics.count_stages(lambda: {"Serving": 3})
        assert self.sample(metrics, "resources", stage="Serving") == 3

    def test_they_are_served(self) -> None:
        metrics = Metrics()
        metrics.checked(WELL)
        port = _free_port()
        stop = metrics.serve("127.0.0.1", port)
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        finally:
            stop()
        assert "winepipelines_platform_ready 1.0" in text
        assert "process_resident_memory_bytes" in text


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class TestLookingAtEveryResource:
    """A new verdict reaches resources that would not be looked at by themselves, too."""

    KEYS = (("admin", "one"), ("admin", "two"), ("other", "three"))

    async def looks(self, within: float, wake_in: float | None, for_seconds: float) -> list[Key]:
        """Settle three resources that look again in `wake_in` seconds; return who looks after the verdict has changed."""
        seen: list[Key] = []

        class Sleepers(Reconciler):
            async def _reconcile(self, key: Key, entry: object) -> float | None:
                seen.append(key)
                return wake_in

        nothing: Any = None
        queue = FairQueue(2)
        reconciler = Sleepers(PIPELINES, nothing, nothing, nothing, lambda _key, _run: None, Policy(), queue, 60.0)
        for namespace, name in self.KEYS:
            reconciler.saw({"metadata": {"namespace": namespace, "name": name, "resourceVersion": "1", "uid": name}})
        for _ in range(50):
            await asyncio.sleep(0)  # every look is over
        assert sorted(seen) == sorted(self.KEYS)
        seen.clear()
        reconciler.look_within(timedelta(seconds=within))
        await asyncio.sleep(for_seconds)
        await reconciler.stop()
        await queue.stop()
        return seen

    async def test_those_that_wait_for_nothing(self) -> None:
        assert sorted(await self.looks(0.05, None, 0.3)) == sorted(self.KEYS)

    async def test_those_that_wait_longer(self) -> None:
        assert sorted(await self.looks(0.05, 3600.0, 0.3)) == sorted(self.KEYS)

    async def test_those_that_look_soon_anyway_are_left_to_it(self) -> None:
        assert await self.looks(60.0, 59.0, 0.05) == []

    async def test_not_all_at_once(self) -> None:
        assert await self.looks(3600.0, None, 0.05) == []
