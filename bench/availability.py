"""Check that no prediction fails while a model with one replica is replaced and restarted: `make bench-availability`.

    PYTHONPATH=contract:operator:pipeline:tests:. $(dev/environment operator) bench/availability.py [--requests 3000]

On each serving backend a WinePipeline with one replica gets 10 requests a second, each over a new connection. Meanwhile another
alpha is trained and promoted, an earlier model is rolled back to, the serving pod is deleted, and the model moves to the other
backend and back, again and again until `--requests` have been sent; at least once each. Clients follow `status.endpoint`. Another
WinePipeline gets the same requests and is left alone. Response times are given as multiples of its own: so they do not depend on
the machine. Any answer but 200 with a number is a failure.

The sandbox's gateways know at once which servers are ready. How a real cluster's Services behave is tested by `make e2e`.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from support.cluster import Cluster, eventually, says, settled
from support.operator import OperatorProcess
from support.platforms import KSERVE, SELDON, Backend

from bench.load import Load, Phase
from sandbox.plan import BOTH
from sandbox.platform import Sandbox
from winepipelines.api.modelrecord import ModelRecord
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import ConditionType

NAME, UNTOUCHED = "mlflow", "untouched"
LAST = "moved back"  # the last change of each round
RATE = 10.0  # requests a second
ENOUGH = 0.9  # minimal share of the intended rate; below it, the generator is measured and not the platform
TAIL = 1.0  # seconds of load after each phase, for late failures
DEADLINE = 180.0  # seconds that a change may take
FIRST_ALPHA = 0.5  # the default
BACKENDS = {backend.name: backend for backend in (SELDON, KSERVE)}


def main() -> int:
    """Measure on each backend, print the results, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=0, help="least number of requests on each backend (default: one round)")
    parser.add_argument("--backend", choices=BACKENDS, action="append", help="only this one; can be repeated")
    options = parser.parse_args()
    failed = False
    with Sandbox(
        f"availability-{os.getpid()}",
        without={"operator"},
        backend=BOTH,
        report=lambda line: print(f"  {line}", file=sys.stderr),
    ) as sandbox:
        for name in options.backend or BACKENDS:
            failed |= not _measure_backend(Cluster(sandbox, BACKENDS[name]), options.requests)
    return 1 if failed else 0


def _measure_backend(cluster: Cluster, requests: int) -> bool:
    """Measure on one backend and print the results. Report whether no request failed."""
    bench = Bench(cluster, cluster.namespace(f"on-{cluster.backend.name.lower()}"))
    with OperatorProcess(cluster.sandbox):
        phases, untouched = bench.run(requests)
        cluster.sandbox.kubectl("-n", bench.namespace, "delete", "winepipelines", "--all", "--timeout=120s")
    return _report(cluster.backend, phases, untouched)


class Bench:
    """A resource that is changed under load, and one that is left alone."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self.namespace, self._backend, self._alpha = cluster, namespace, cluster.backend, FIRST_ALPHA

    def run(self, requests: int) -> tuple[list[Phase], list[Phase]]:
        """Serve both, and measure until `requests` have been sent to the first; return the phases of each."""
        self._apply()
        self._cluster.apply(self._cluster.resource(self.namespace, UNTOUCHED))
        for name in (NAME, UNTOUCHED):
            self._cluster.wait(self.namespace, settled, name, seconds=DEADLINE)
        return asyncio.run(self._measure(requests))

    async def _measure(self, requests: int) -> tuple[list[Phase], list[Phase]]:
        loads = [Load(self._url(name), RATE, new_connections=True) for name in (NAME, UNTOUCHED)]
        tasks = [asyncio.create_task(load.run()) for load in loads]
        phases: tuple[list[Phase], list[Phase]] = ([], [])
        for name, step in self._steps():
            began = time.perf_counter()
            for load, into in zip(loads, phases, strict=True):
                load.phase = Phase(name)
                into.append(load.phase)
            await asyncio.to_thread(step)
            loads[0].url = self._url(NAME)
            await asyncio.sleep(TAIL)
            for load in loads:
                assert load.phase is not None
                load.phase.seconds, load.phase = time.perf_counter() - began, None
            if name == LAST and sum(phase.sent for phase in phases[0]) >= requests:
                break
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()  # it ended by itself: raise its error
        return phases

    def _url(self, name: str) -> str:
        backend = self._backend if name == NAME else self._cluster.backend
        return backend.url(self._cluster.info, self.namespace, name)

    def _steps(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield the changes, without end."""
        own, other = self._backend, next(backend for backend in BACKENDS.values() if backend is not self._backend)
        earlier = self._served()
        while True:
            yield "promotion", self._promote
            promoted = self._served()
            # Another one each time: the same request again is one that was handled.
            yield "rollback", lambda earlier=earlier: self._roll_back(earlier)  # type: ignore[misc] # bound now
            earlier = promoted
            yield "pod deleted", self._delete_pod
            yield "moved away", lambda: self._move(other)
            yield LAST, lambda: self._move(own)

    def _served(self) -> ModelRecord:
        served = self._cluster.wait(self.namespace, lambda pipeline: pipeline.status.served is not None, NAME).status.served
        assert served is not None
        return served.model

    def _apply(self) -> None:
        serving = {"backend": self._backend.name, "migrationGrace": "5s"}
        training = {"parameters": {"alpha": round(self._alpha, 2)}}
        self._cluster.apply(self._cluster.resource(self.namespace, NAME, serving=serving, training=training))

    def _promote(self) -> None:
        before = self._served()
        self._alpha = 0.01 if self._alpha == FIRST_ALPHA else self._alpha + 0.01

        def promoted(pipeline: WinePipeline) -> bool:
            return settled(pipeline) and pipeline.status.served is not None and pipeline.status.served.model.uri != before.uri

        self._apply()
        self._cluster.wait(self.namespace, promoted, NAME, seconds=DEADLINE)

    def _roll_back(self, model: ModelRecord) -> None:
        rolled_back = says(ConditionType.READY, "RolledBack")

        def serves_it(pipeline: WinePipeline) -> bool:
            served = pipeline.status.served
            return rolled_back(pipeline) and served is not None and served.model.uri == model.uri

        annotation = f"winepipelines.io/rollback={model.revision}"
        self._cluster.sandbox.kubectl("-n", self.namespace, "annotate", "--overwrite", "winepipeline", NAME, annotation)
        self._cluster.wait(self.namespace, serves_it, NAME, seconds=DEADLINE)

    def _move(self, backend: Backend) -> None:
        """Move the served model to another backend, and wait until it answers there."""
        self._backend = backend
        self._apply()

        def moved(pipeline: WinePipeline) -> bool:
            served = pipeline.status.served
            return served is not None and served.backend == backend.name and pipeline.status.endpoint is not None

        pipeline = self._cluster.wait(self.namespace, moved, NAME, seconds=DEADLINE)
        assert pipeline.status.endpoint is not None
        assert pipeline.status.endpoint.url == self._url(NAME)

    def _delete_pod(self) -> None:
        """Delete the serving pod, as an eviction does, and wait until another one is ready."""
        [gone] = before = self._ready_pods()
        self._cluster.sandbox.kubectl("-n", self.namespace, "delete", "pod", gone)
        eventually(lambda: len(pods := self._ready_pods()) == len(before) and gone not in pods, DEADLINE)

    def _ready_pods(self) -> list[str]:
        prefix, selector = self._backend.deployment.format(name=NAME), self._backend.pods
        pods = (
            pod for pod in self._cluster.objects("pods", self.namespace, selector) if pod["metadata"]["name"].startswith(prefix)
        )
        return [pod["metadata"]["name"] for pod in pods if _is_ready(pod)]


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    stays = "deletionTimestamp" not in pod["metadata"]
    return stays and any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _report(backend: Backend, phases: list[Phase], untouched: list[Phase]) -> bool:
    """Print a row for each kind of change. Report whether no request failed, and enough were sent."""
    print(f"{backend.name:14} {'changes':>7} {'requests':>9} {'failed':>7} {'p50':>8} {'p99':>8}   of the untouched server's")
    for name in dict.fromkeys(phase.name for phase in phases):
        own, others = ([phase for phase in part if phase.name == name] for part in (phases, untouched))
        (median, slowest), (their_median, their_slowest) = _percentiles(own), _percentiles(others)
        sent, failed = sum(phase.sent for phase in own), sum(len(phase.failures) for phase in own)
        ratios = f"{median / their_median:7.2f}x {slowest / their_slowest:7.2f}x"
        print(f"  {name:12} {len(own):7} {sent:9,} {failed:7} {ratios}   {their_median:.0f} ms, {their_slowest:.0f} ms")
    failures = [(phase.name, failure) for phase in phases for failure in phase.failures]
    failures += [(f"{phase.name}, untouched server", failure) for phase in untouched for failure in phase.failures]
    for name, failure in failures[:10]:
        print(f"FAILED in {name}: {failure}")
    slow = [phase for phase in phases if phase.rate < ENOUGH * RATE]
    for phase in slow:
        print(f"TOO SLOW in {phase.name}: {phase.rate:.1f} of {RATE:.0f} requests/s were sent: this measurement is invalid")
    if not failures and not slow:
        print(f"no request of {sum(phase.sent for phase in phases):,} on {backend.name} failed at {RATE:.0f} requests/s")
    return not failures and not slow


def _percentiles(phases: list[Phase]) -> tuple[float, float]:
    """Return median and 99th percentile of the response times, in milliseconds."""
    shares = statistics.quantiles([time for phase in phases for time in phase.milliseconds], n=100)
    return shares[49], shares[98]


if __name__ == "__main__":
    sys.exit(main())
