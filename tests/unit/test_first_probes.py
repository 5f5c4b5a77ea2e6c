"""After a rollout, nodes route to the new pods with a delay. The operator probes again soon before it reports a failure."""

import asyncio
import contextlib
import json
from datetime import timedelta

import pytest
from support.world import World

from winecontract.protocols import Protocol
from winecontract.reasons import Reason
from winepipelines.api.observed import CanaryComparison, PredictionCheck
from winepipelines.api.status import ConditionType, RevisionOutcome, Stage
from winepipelines.pipelines.queries import ProbeEndpoint
from winepipelines.pipelines.rollout.rollout import SETTLING
from winepipelines.platform.records import Example
from winepipelines.serving.probing import CANARY_PREDICTIONS, ProbeTarget, compare, probe, session

READY, ENDPOINT_VERIFIED = ConditionType.READY, ConditionType.ENDPOINT_VERIFIED
EXAMPLE = Example(["a"], [[1.0]], [5.7])
UNREACHABLE = CanaryComparison(3, 3, reason="EndpointUnreachable", message="http://candidate does not answer")


class UnreachableAfterRollout(World):
    """A world whose endpoint does not answer for `outage` after a rollout."""

    outage = timedelta(seconds=1)
    outage_until = None
    outage_reason: str = "EndpointUnreachable"

    def _answer_other(self, query: object) -> object:
        known = super()._answer_other(query)  # type: ignore[arg-type]
        if isinstance(query, ProbeEndpoint) and self.outage_until is not None and self.now < self.outage_until:
            return PredictionCheck(self.now, False, None, 0, self.outage_reason, "http://model does not answer", "http://model")
        return known

    def finish_rollout(self) -> None:
        """Make the pods ready, and the endpoint unreachable for `outage`."""
        self.rolled_out, self.outage_until = True, self.now + self.outage

    def live(self, seconds: float) -> None:
        """Let time pass and reconcile at each requested time."""
        until = self.now + timedelta(seconds=seconds)
        requeue_at = self.reconcile().requeue_at
        while not self.ready() and requeue_at is not None and requeue_at < until:
            self.now = requeue_at
            requeue_at = self.reconcile().requeue_at


def _warning_reasons(world: World) -> list[str]:
    return [event.reason for event in world.events if event.warning]


@pytest.fixture
def world() -> UnreachableAfterRollout:
    return UnreachableAfterRollout()


def _train(world: UnreachableAfterRollout) -> None:
    world.reconcile()
    world.succeed()
    world.reconcile()


def test_pipeline_is_ready_without_warning_when_the_endpoint_answers_a_second_late(world: UnreachableAfterRollout) -> None:
    _train(world)
    world.finish_rollout()
    began = world.now
    world.reconcile()
    assert (world.status.stage, world.condition(READY).reason) == (Stage.VERIFYING, Reason.ROLLOUT_IN_PROGRESS)
    assert world.condition(ConditionType.DEPLOYED).status == "True"
    assert world.status.condition(ENDPOINT_VERIFIED) is None
    world.live(30)
    assert world.ready()
    assert world.now - began <= timedelta(seconds=1.5)
    assert _warning_reasons(world) == []


def test_pod_replacement_records_no_warning_when_the_endpoint_answers_a_second_late(world: UnreachableAfterRollout) -> None:
    world.serve()
    world.pass_time(minutes=20)
    world.reconcile()
    world.change(serving={"resources": {"limits": {"memory": "1Gi"}}})
    world.rolled_out = False
    world.applied = None  # the deployment must be applied again
    world.reconcile()
    assert not world.ready()
    world.events.clear()
    world.finish_rollout()
    began = world.now
    world.live(30)
    assert world.ready()
    assert world.now - began <= timedelta(seconds=1.5)
    assert _warning_reasons(world) == []


def test_unreachable_endpoint_is_reported_within_the_verify_window_and_rejected_at_its_end(
    world: UnreachableAfterRollout,
) -> None:
    _train(world)
    world.outage = timedelta(hours=1)
    world.finish_rollout()
    began = world.now
    world.live(SETTLING.total_seconds() + 1)
    assert world.condition(ENDPOINT_VERIFIED).reason == "EndpointUnreachable"
    assert world.now - began < world.timeouts.verify_window / 2
    assert _warning_reasons(world) == ["EndpointUnreachable"]
    world.live(25)
    assert world.now - began < world.timeouts.verify_window + timedelta(seconds=10)
    assert world.status.history[0].outcome is RevisionOutcome.REJECTED


def test_model_is_neither_rejected_nor_served_while_the_mesh_refuses_the_operator(world: UnreachableAfterRollout) -> None:
    _train(world)
    world.outage, world.outage_reason = timedelta(hours=1), "MeshAccessDenied"
    world.finish_rollout()
    world.live(timedelta(minutes=50).total_seconds())
    assert world.condition(READY).reason == "MeshAccessDenied"
    assert _warning_reasons(world) == ["MeshAccessDenied"]
    assert world.status.served is None
    world.live(timedelta(minutes=30).total_seconds())
    assert world.ready()
    assert RevisionOutcome.REJECTED not in [one.outcome for one in world.status.history]


def test_served_model_keeps_serving_when_the_mesh_refuses_the_operator(world: UnreachableAfterRollout) -> None:
    world.serve()
    world.pass_time(minutes=20)
    world.outage_until, world.outage_reason = world.now + timedelta(hours=1), "MeshAccessDenied"
    world.live(timedelta(minutes=50).total_seconds())
    assert world.condition(READY).reason == "MeshAccessDenied"
    assert world.status.served is not None
    world.live(timedelta(minutes=30).total_seconds())
    assert world.ready()


def test_unreachable_endpoint_of_a_served_model_is_reported_at_once(world: UnreachableAfterRollout) -> None:
    world.serve()
    world.pass_time(minutes=20)
    world.outage_until = world.now + timedelta(minutes=1)
    world.reconcile()
    assert world.condition(ENDPOINT_VERIFIED).reason == "EndpointUnreachable"


def test_canary_is_compared_once_it_answers(world: UnreachableAfterRollout) -> None:
    world.serve()
    world.change(training={"seed": 7})
    _train(world)
    world.events.clear()
    world.canaries[2] = UNREACHABLE
    world.rolled_out = True
    began = world.now
    for _ in range(3):
        decision = world.reconcile()
        assert world.condition(READY).reason == Reason.ROLLOUT_IN_PROGRESS
        assert decision.requeue_at is not None
        assert decision.requeue_at - world.now <= timedelta(seconds=1)
        world.now = decision.requeue_at
    del world.canaries[2]
    world.reconcile()
    assert world.status.candidate is not None
    assert world.status.candidate.canary is not None
    assert world.status.candidate.canary.passed
    assert world.now - began <= timedelta(seconds=2)
    assert _warning_reasons(world) == []


def test_canary_that_never_answers_is_rejected(world: UnreachableAfterRollout) -> None:
    world.serve()
    world.change(training={"seed": 7})
    _train(world)
    world.canaries[2] = UNREACHABLE
    world.rolled_out = True
    world.reconcile()
    world.pass_time(seconds=SETTLING.total_seconds())
    world.reconcile()
    assert world.condition(READY).reason == "EndpointUnreachable"
    world.pass_time(seconds=30)
    world.reconcile()
    assert world.status.history[0].outcome is RevisionOutcome.REJECTED


class Server:
    """Answers each prediction request; `connections` counts connections."""

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


async def test_each_probe_opens_its_own_connection() -> None:
    """A kept connection leads to the previous pod."""
    serving = Server()
    server = await asyncio.start_server(serving.answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    target = ProbeTarget(f"http://{host}:{port}/api/v1.0/predictions", Protocol.SELDON, EXAMPLE)
    async with session(20.0) as client:
        for _ in range(3):
            assert (await probe(client, target)).passed
    assert serving.connections == 3
    server.close()


async def test_compare_stops_after_three_failures_to_connect() -> None:
    serving = Server()
    server = await asyncio.start_server(serving.answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    unused = await asyncio.start_server(serving.answer, "127.0.0.1", 0)
    closed = unused.sockets[0].getsockname()[1]
    unused.close()
    await unused.wait_closed()
    served = ProbeTarget(f"http://{host}:{port}/", Protocol.SELDON, EXAMPLE)
    async with session(20.0) as client:
        view = await compare(client, served, ProbeTarget(f"http://{host}:{closed}/", Protocol.SELDON, EXAMPLE))
        assert (view.asked, view.failed, view.reason, view.served_reason) == (3, 3, "EndpointUnreachable", "")
        view = await compare(client, served, served)
        assert (view.asked, view.failed) == (CANARY_PREDICTIONS, 0)
    server.close()
