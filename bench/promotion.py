"""No request fails while a model is promoted, taken back, or its server restarted: `make bench`.

    PYTHONPATH=contract:operator:pipeline:tests:. $(dev/environment operator) bench/promotion.py [--rate 50]

A WinePipeline with a canary and two replicas is asked for predictions at a steady rate through the gateway, each request at its
own time: a slow answer delays no other request, and what a request waited for the generator counts as its answer's time.
Meanwhile, one after another: another alpha is trained and takes over by its canary; a rollback to revision 1; one of two serving
pods is deleted; all are replaced, as by `kubectl rollout restart`. Whatever is not 200 with a finite number is a failure. Where
the load itself could not be given, that is said, for the measurement then says nothing.

What is measured is the order in which the operator and the controllers do things, on the sandbox's gateway: it is told at once
which servers are ready, and waits for what is on its way to one that ends. A mesh learns of it later.
"""

import argparse
import asyncio
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from support.cluster import EXAMPLE_ROW, Cluster, eventually, says, settled

from sandbox.platform import Sandbox
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.status import ConditionType

NAMESPACE, NAME = "bench", "mlflow"
SERVING = {"replicas": 2, "canary": {"steps": [10, 50], "pause": "2s"}}
ENOUGH = 0.9  # of the rate that was meant to be: else the generator, not the platform, was measured
TAIL = 1.0  # seconds of load after each phase: what it leaves behind may fail late
OFTEN = 0.1  # seconds between looks where no watch tells


@dataclass
class Phase:
    """What was asked in one phase: when each request was sent, how long its answer took, and what failed."""

    name: str
    seconds: float = 0.0
    sent: int = 0
    values: set[float] = field(default_factory=set)
    milliseconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Requests sent a second."""
        return self.sent / self.seconds

    def row(self) -> str:
        """One line of the table."""
        shares = statistics.quantiles(self.milliseconds, n=100)
        counted = f"{self.name:16} {self.seconds:8.1f} {self.sent:9,} {self.rate:7.1f} {len(self.failures):7}"
        return f"{counted} {shares[49]:8.1f} {shares[98]:8.1f}"


class Load:
    """Requests at a steady rate, on one event loop. `phase` is who counts those that are sent now."""

    def __init__(self, url: str, rate: float) -> None:
        self._url, self._rate = url, rate
        self._asked: set[asyncio.Task[None]] = set()
        self.phase: Phase | None = None

    async def run(self) -> None:
        """Ask until cancelled; what was asked by then is still waited for."""
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
            began, number = time.perf_counter(), 0
            try:
                while True:
                    due = began + number / self._rate
                    await asyncio.sleep(due - time.perf_counter())
                    number += 1
                    if self.phase:
                        self.phase.sent += 1
                        task = asyncio.create_task(self._ask(session, self.phase, due))
                        self._asked.add(task)
                        task.add_done_callback(self._asked.discard)
            finally:
                await asyncio.gather(*self._asked)

    async def _ask(self, session: aiohttp.ClientSession, phase: Phase, due: float) -> None:
        try:
            async with session.post(self._url, json={"data": {"ndarray": [EXAMPLE_ROW]}}) as response:
                text = await response.text()
                if response.status == 200 and math.isfinite(value := _value(text)):
                    phase.values.add(round(value, 9))
                else:
                    phase.failures.append(f"{response.status} {text[:200]}")
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError, IndexError) as error:
            phase.failures.append(f"{type(error).__name__}: {error}")
        phase.milliseconds.append(1000 * (time.perf_counter() - due))


def _value(text: str) -> float:
    [value] = json.loads(text)["data"]["ndarray"]
    return float(value)


def main() -> int:
    """Measure, print, judge; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second (default: %(default)s)")
    rate = parser.parse_args().rate
    with Sandbox(f"promotion-{os.getpid()}", report=lambda line: print(f"  {line}", file=sys.stderr)) as sandbox:
        cluster = Cluster(sandbox)
        cluster.namespace(NAMESPACE)
        cluster.apply(cluster.resource(NAMESPACE, serving=SERVING))
        cluster.wait(NAMESPACE, settled, seconds=180)
        eventually(lambda: len(_ready_pods(cluster)) == SERVING["replicas"])
        phases = asyncio.run(_measure(cluster, rate))
    print(f"{'phase':16} {'seconds':>8} {'requests':>9} {'rate/s':>7} {'failed':>7} {'p50 ms':>8} {'p99 ms':>8}")
    print("\n".join(phase.row() for phase in phases))
    return _judge(phases, rate)


async def _measure(cluster: Cluster, rate: float) -> list[Phase]:
    """All phases under one load that never pauses."""
    first = cluster.predict(NAMESPACE)
    load = Load(f"{cluster.info.gateway_url}/seldon/{NAMESPACE}/{NAME}/api/v1.0/predictions", rate)
    asking = asyncio.create_task(load.run())
    steps: list[tuple[str, Callable[[], None]]] = [
        ("promotion", lambda: _promote(cluster)),
        ("rollback", lambda: _roll_back(cluster, first)),
        ("pod deleted", lambda: _delete_a_pod(cluster)),
        ("rollout restart", lambda: _restart(cluster)),
    ]
    phases = []
    for name, step in steps:
        phases.append(phase := Phase(name))
        load.phase, began = phase, time.perf_counter()
        await asyncio.to_thread(step)
        await asyncio.sleep(TAIL)
        load.phase, phase.seconds = None, time.perf_counter() - began
    asking.cancel()
    await asyncio.wait([asking])
    if not asking.cancelled():
        asking.result()  # it has ended by itself: for what error
    assert len(phases[0].values) == 2, f"the promoted model has not answered: {phases[0].values}"
    return phases


def _judge(phases: list[Phase], rate: float) -> int:
    failed = [(phase.name, failure) for phase in phases for failure in phase.failures]
    slow = [phase for phase in phases if phase.rate < ENOUGH * rate]
    for name, failure in failed[:10]:
        print(f"FAILED in {name}: {failure}")
    for phase in slow:
        print(f"TOO SLOW in {phase.name}: {phase.rate:.1f} of {rate:.0f} requests/s were sent: this measurement says nothing")
    if not failed and not slow:
        print(f"no request of {sum(phase.sent for phase in phases):,} failed at {rate:.0f} requests/s")
    return 1 if failed or slow else 0


def _promote(cluster: Cluster) -> None:
    cluster.apply(cluster.resource(NAMESPACE, serving=SERVING, training={"parameters": {"alpha": 0.01}}))
    cluster.wait(NAMESPACE, _serves(2))


def _roll_back(cluster: Cluster, first: float) -> None:
    """Back to revision 1, by annotation, until its numbers are the answers."""
    cluster.sandbox.kubectl("-n", NAMESPACE, "annotate", "winepipeline", NAME, "winepipelines.io/rollback=1")
    cluster.wait(NAMESPACE, says(ConditionType.READY, "RolledBack"))
    eventually(lambda: cluster.predict(NAMESPACE) == first)


def _delete_a_pod(cluster: Cluster) -> None:
    """As an eviction does: the Deployment makes another one."""
    [gone, *_] = before = _ready_pods(cluster)
    cluster.sandbox.kubectl("-n", NAMESPACE, "delete", "pod", gone)
    eventually(lambda: len(pods := _ready_pods(cluster)) == len(before) and gone not in pods)


def _restart(cluster: Cluster) -> None:
    """Replace all pods by others of the same model."""
    before = set(_ready_pods(cluster))
    [deployment] = [item["metadata"]["name"] for item in cluster.objects("deployments", NAMESPACE)]
    cluster.sandbox.kubectl("-n", NAMESPACE, "rollout", "restart", f"deployment/{deployment}")
    cluster.sandbox.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{deployment}", "--timeout=60s")
    eventually(lambda: len(pods := set(_ready_pods(cluster))) == len(before) and not pods & before)


def _ready_pods(cluster: Cluster) -> list[str]:
    """Names of the pods that are ready and stay."""
    return [pod["metadata"]["name"] for pod in cluster.objects("pods", NAMESPACE) if _is_ready(pod)]


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    stays = "deletionTimestamp" not in pod["metadata"]
    return stays and any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _serves(revision: int) -> Callable[[WinePipeline], bool]:
    def so(pipeline: WinePipeline) -> bool:
        served = pipeline.status.served
        return settled(pipeline) and served is not None and served.revision == revision

    return so


if __name__ == "__main__":
    sys.exit(main())
