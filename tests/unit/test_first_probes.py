"""Right after a rollout the nodes do not know the new pods yet: the endpoint is probed again soon, before anything is said."""

import asyncio
import contextlib
import json
from datetime import timedelta

import pytest
from support.world import World

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.questions import Answer
from winepipelines.lifecycle.rolling import SETTLING
from winepipelines.platform.answers import TRIAL_PREDICTIONS, Asked, ask, compare, session
from winepipelines.platform.records import Example
from winepipelines.resource.observed import PredictionCheck, TrialView
from winepipelines.resource.spec import Protocol
from winepipelines.resource.status import ConditionType, Outcome, Stage

READY, ANSWERING = ConditionType.READY, ConditionType.ANSWERING
EXAMPLE = Example(["a"], [[1.0]], [5.7])
UNREACHABLE = TrialView(3, 3, reason="EndpointUnreachable", message="http://candidate does not answer")


class Unreachable(World):
    """Its endpoint does not answer for a while after a rollout."""

    silence = timedelta(seconds=1)
    silent_until = None

    def _know(self, question: object) -> object:
        known = super()._know(question)  # type: ignore[arg-type]
        if isinstance(question, Answer) and self.silent_until is not None and self.now < self.silent_until:
            return PredictionCheck(
                self.now, False, None, 0, "EndpointUnreachable", "http://model does not answer", "http://model"
            )
        return known

    def rolls_out(self) -> None:
        """The pods are ready, and no node knows of them."""
        self.rolled_out, self.silent_until = True, self.now + self.silence

    def live(self, seconds: float) -> None:
        """Let time pass, and reconcile whenever the operator has asked for it."""
        until = self.now + timedelta(seconds=seconds)
        wake_at = self.reconcile().wake_at
        while not self.ready() and wake_at is not None and wake_at < until:
            self.now = wake_at
            wake_at = self.reconcile().wake_at


def _warned(world: World) -> list[str]:
    return [event.reason for event in world.told if event.warning]


@pytest.fixture
def world() -> Unreachable:
    return Unreachable()


def _trained(world: Unreachable) -> None:
    world.reconcile()
    world.succeed()
    world.reconcile()


def test_an_endpoint_that_is_known_a_second_later_costs_a_second_and_no_word(world: Unreachable) -> None:
    _trained(world)
    world.rolls_out()
    began = world.now
    world.reconcile()
    assert (world.status.stage, world.condition(READY).reason) == (Stage.VERIFYING, reasons.ROLLING_OUT)
    assert world.condition(ConditionType.DEPLOYED).status == "True"
    assert world.status.condition(ANSWERING) is None
    world.live(30)
    assert world.ready()
    assert world.now - began <= timedelta(seconds=1.5)
    assert _warned(world) == []


def test_nor_does_a_change_that_replaces_the_pods_of_a_served_model(world: Unreachable) -> None:
    world.serve()
    world.pass_time(minutes=20)
    world.reconcile()
    world.change(serving={"resources": {"limits": {"memory": "1Gi"}}})
    world.rolled_out = False
    world.applied = None  # so that it is applied anew
    world.reconcile()
    assert not world.ready()
    world.told.clear()
    world.rolls_out()
    began = world.now
    world.live(30)
    assert world.ready()
    assert world.now - began <= timedelta(seconds=1.5)
    assert _warned(world) == []


def test_one_that_stays_away_is_reported_within_the_window_and_rejected_at_its_end(world: Unreachable) -> None:
    _trained(world)
    world.silence = timedelta(hours=1)
    world.rolls_out()
    began = world.now
    world.live(SETTLING.total_seconds() + 1)
    assert world.condition(ANSWERING).reason == "EndpointUnreachable"
    assert world.now - began < world.policy.verify_window / 2
    assert _warned(world) == ["EndpointUnreachable"]
    world.live(25)
    assert world.now - began < world.policy.verify_window + timedelta(seconds=10)
    assert world.status.history[0].outcome is Outcome.REJECTED


def test_a_served_model_that_goes_away_later_is_reported_at_once(world: Unreachable) -> None:
    world.serve()
    world.pass_time(minutes=20)
    world.silent_until = world.now + timedelta(minutes=1)
    world.reconcile()
    assert world.condition(ANSWERING).reason == "EndpointUnreachable"


def test_a_candidate_is_compared_when_it_answers(world: Unreachable) -> None:
    world.serve()
    world.change(training={"seed": 7})
    _trained(world)
    world.told.clear()
    world.trials[2] = UNREACHABLE
    world.rolled_out = True
    began = world.now
    for _ in range(3):
        decision = world.reconcile()
        assert world.condition(READY).reason == reasons.ROLLING_OUT
        assert decision.wake_at is not None
        assert decision.wake_at - world.now <= timedelta(seconds=1)
        world.now = decision.wake_at
    del world.trials[2]
    world.reconcile()
    assert world.status.candidate is not None
    assert world.status.candidate.trial is not None
    assert world.status.candidate.trial.passed
    assert world.now - began <= timedelta(seconds=2)
    assert _warned(world) == []


def test_a_candidate_that_never_answers_is_rejected(world: Unreachable) -> None:
    world.serve()
    world.change(training={"seed": 7})
    _trained(world)
    world.trials[2] = UNREACHABLE
    world.rolled_out = True
    world.reconcile()
    world.pass_time(seconds=SETTLING.total_seconds())
    world.reconcile()
    assert world.condition(READY).reason == "EndpointUnreachable"
    world.pass_time(seconds=30)
    world.reconcile()
    assert world.status.history[0].outcome is Outcome.REJECTED


class Server:
    """Answers predictions, each request for itself; `connections` counts who came."""

    connections = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
                )
                await reader.readexactly(length)
                body = json.dumps({"data": {"ndarray": [5.7]}}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                await writer.drain()
        writer.close()


async def test_every_probe_has_a_connection_of_its_own() -> None:
    """A connection that is kept leads to the pod that was there before."""
    serving = Server()
    server = await asyncio.start_server(serving.answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    asked = Asked(f"http://{host}:{port}/api/v1.0/predictions", Protocol.SELDON, EXAMPLE)
    async with session(20.0) as made:
        for _ in range(3):
            assert (await ask(made, asked)).passed
    assert serving.connections == 3
    server.close()


async def test_a_candidate_that_nobody_reaches_is_asked_three_times_only() -> None:
    serving = Server()
    server = await asyncio.start_server(serving.answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    nobody = await asyncio.start_server(serving.answer, "127.0.0.1", 0)
    closed = nobody.sockets[0].getsockname()[1]
    nobody.close()
    await nobody.wait_closed()
    served = Asked(f"http://{host}:{port}/", Protocol.SELDON, EXAMPLE)
    async with session(20.0) as made:
        view = await compare(made, served, Asked(f"http://{host}:{closed}/", Protocol.SELDON, EXAMPLE))
        assert (view.asked, view.failed, view.reason, view.served_reason) == (3, 3, "EndpointUnreachable", "")
        view = await compare(made, served, served)
        assert (view.asked, view.failed) == (TRIAL_PREDICTIONS, 0)
    server.close()
