"""Measure how one hostile tenant affects fifty honest resources: `make bench-hostile`.

The API server, MLflow, the object store and the operator are real. The operator has its default settings. Each honest resource
has its own namespace. Users change their specs one after another in a way that replaces no pod. The benchmark measures the time
until their status shows the change: first without an attack, then while one namespace

- has endpoints that accept connections and never answer, of models that are verified and of candidates that are compared,
- has 200 kB of text in the status of its SeldonDeployments, which changes every few seconds,
- has Deployments with huge environments and WinePipelines with huge annotations,
- changes an annotation of a resource that a hundred predictions wait for, dozens of times a second.

Finally the operator is restarted during the attack, when it lists everything. The benchmark limits the 99th percentile of the
honest reactions under attack (at most twice that without an attack) and the peak memory of the operator, and the liveness probe
must always be answered. The results are valid only on a machine without other load, because all parts share its processors.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any

from support.cluster import Cluster
from support.endpoints import Endpoints, predictions_of
from support.fleet import PIPELINES, RunningOperator, make_trained, rolled_out_at_once, running_operator
from support.liveness import Liveness, probed
from support.watched import Key, Watched, watched

from sandbox.platform import Sandbox
from sandbox.seldon.api import DEPLOYMENT, SDEP, Api, ApiError
from winepipelines.api.pipeline import WinePipeline

Object = dict[str, Any]
PREDICTIONS = "winepipelines.io/v1alpha1/winepredictions"
ATTACKER, FIRST = "attacker", "first"
RATIO, LIMIT = 2.0, 256 * 1024  # maximal ratio of the percentiles; KiB, the chart's limits.memory
FLAP_SECONDS, TEXT_SECONDS = 0.02, 5.0  # shorter intervals would measure how the API server shares its processor
USERS = 4  # concurrent honest users
HANGING, PREDICTING = 40, 100
HUGE_DEPLOYMENTS, HUGE_PIPELINES, ENVIRONMENT_BYTES, ANNOTATION_BYTES, TEXT_BYTES = 80, 200, 300_000, 250_000, 200_000


def main() -> int:
    """Measure, print the results and compare them with the limits. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resources", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each phase")
    options = parser.parse_args()
    with Sandbox(f"hostile-{os.getpid()}", without={"operator", "seldon"}, report=_log) as sandbox:
        return asyncio.run(_bench(sandbox, options.resources, options.seconds))


async def _bench(sandbox: Sandbox, number: int, seconds: float) -> int:
    cluster = Cluster(sandbox)
    keys = [(f"team-{index}", "wine") for index in range(number)]
    sandbox.add_namespace(FIRST, ATTACKER, *(namespace for namespace, _ in keys))
    with running_operator(sandbox, {}):
        cluster.apply(cluster.resource(FIRST))
        trained = await asyncio.to_thread(cluster.wait, FIRST, _is_trained, seconds=180)
    sandbox.stop("controller-manager")  # it would write the status of the Deployments
    api = Api.connect(sandbox.info.kubeconfig)
    endpoints = Endpoints(predictions_of(cluster, trained), {ATTACKER})
    try:
        async with endpoints.serve(), rolled_out_at_once(api), watched(api, "who=honest") as honest:
            await make_trained(cluster, api, trained, keys, metadata={"labels": {"who": "honest"}})
            with running_operator(sandbox, endpoints.variables) as operator:
                _log(f"waiting until {number} honest resources are Ready")
                await honest.until_ready(number, 300)
                attack = _Attack(cluster, api, trained)
                peace = await _measure("in peace", operator, honest, keys, seconds)
                async with attack.under_way():
                    war = await _measure("under attack", operator, honest, keys, seconds)
                    assert endpoints.requests[ATTACKER], "the operator must have sent requests to the endpoints that hang"
            async with attack.under_way():
                with running_operator(sandbox, endpoints.variables) as operator:
                    anew = await _measure("after a start", operator, honest, keys, seconds)
    finally:
        await api.close()
    return _judge(peace, war, anew, attack)


def _judge(peace: "_Phase", war: "_Phase", anew: "_Phase", attack: "_Attack") -> int:
    phases = (peace, war, anew)
    ratio, ratio_of_start = war.percentile(99) / peace.percentile(99), anew.percentile(99) / peace.percentile(99)
    peak = max(phase.peak for phase in phases)
    failures, restarts = sum(phase.liveness.failures for phase in phases), sum(not phase.survived for phase in phases)
    print(f"p99 under attack              {ratio:7.2f} times that without an attack (at most {RATIO:g})")
    print(f"p99 after a start             {ratio_of_start:7.2f} times that without an attack")
    print(f"peak memory                   {peak / 1024:7.0f} MiB (at most {LIMIT / 1024:.0f})")
    print(f"liveness                      {failures:7} probes failed, {restarts} operators ended (limit: none)")
    print(f"refused by the API server     {attack.refused:7} objects of the attacker")
    return 0 if ratio <= RATIO and peak <= LIMIT and not failures and not restarts else 1


# -- measuring ---------------------------------------------------------------------------------------------------------


@dataclass
class _Phase:
    """Reactions in seconds; `peak` is in KiB."""

    reactions: list[float]
    liveness: Liveness
    peak: int = 0
    survived: bool = True

    def percentile(self, which: int) -> float:
        """Compute a percentile of the reactions."""
        return statistics.quantiles(self.reactions, n=100, method="inclusive")[which - 1]


async def _measure(name: str, operator: RunningOperator, honest: Watched, keys: list[Key], seconds: float) -> _Phase:
    """Let a few users change one spec after another, each as soon as the operator reacted to the last change."""
    _log(f"measuring {name}")
    before, cpu, reactions, turns = operator.reconciles(), operator.processor_seconds(), list[float](), itertools.cycle(keys)
    end = time.monotonic() + seconds
    honest.requests.clear()

    async def work() -> None:
        while time.monotonic() < end:
            reactions.append(await honest.reaction(next(turns)))

    async with probed(operator.probes) as liveness:
        await asyncio.gather(*(work() for _ in range(USERS)))
    peak = operator.kibibytes("VmHWM") if operator.is_alive else 0
    reconciles = operator.reconciles() - before if operator.is_alive else 0
    busy = operator.processor_seconds() - cpu if operator.is_alive else 0.0
    phase = _Phase(reactions, liveness, peak, operator.is_alive)
    request = statistics.median(honest.requests)
    print(
        f"{name:<30}{phase.percentile(50) * 1000:7.0f} ms p50, {phase.percentile(99) * 1000:.0f} ms p99, "
        f"{max(reactions) * 1000:.0f} ms at most of {len(reactions)} "
        f"({request * 1000:.0f} ms of it the API server's for one request, p50); {reconciles / seconds:.0f} reconciles a second, "
        f"{busy / seconds:.0%} of a processor, {phase.peak / 1024:.0f} MiB, liveness at most {liveness.slowest * 1000:.0f} ms",
        flush=True,
    )
    return phase


# -- the attack --------------------------------------------------------------------------------------------------------


@dataclass
class _Attack:
    """All attacks that the user of one namespace can make on the operator, at the same time."""

    cluster: Cluster
    api: Api
    trained: WinePipeline
    refused: int = 0
    made: bool = False
    deployments: list[Object] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def under_way(self) -> AsyncIterator[None]:
        """Create the permanent objects once, and repeat the writes until the block ends."""
        if not self.made:
            _log("the attack begins")
            await self._make()
            self.made = True
        tasks = [asyncio.create_task(attack) for attack in (self._write_texts(), self._flap())]
        try:
            yield
        finally:
            for task in tasks:
                assert not task.done(), task.exception()
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _make(self) -> None:
        new, canaries = ([(ATTACKER, f"{kind}-{number}") for number in range(HANGING // 2)] for kind in ("new", "canary"))
        await make_trained(self.cluster, self.api, self.trained, new)
        await make_trained(self.cluster, self.api, self.trained, canaries, canary_in_progress=True)
        slots = asyncio.Semaphore(8)

        async def attempt(creation: Coroutine[Any, Any, object]) -> None:
            async with slots:
                try:
                    await creation
                except ApiError:
                    self.refused += 1

        objects = [self.api.create(DEPLOYMENT, _huge_deployment(number)) for number in range(HUGE_DEPLOYMENTS)]
        objects += [self.api.create(PIPELINES, self._huge_pipeline(number)) for number in range(HUGE_PIPELINES)]
        objects += [self.api.create(PREDICTIONS, _prediction(number)) for number in range(PREDICTING)]
        await asyncio.gather(*map(attempt, objects))

    def _huge_pipeline(self, number: int) -> Object:
        body = self.cluster.resource(ATTACKER, f"huge-{number}", suspend=True)
        body["metadata"]["annotations"] = {f"example.org/{number}": "x" * ANNOTATION_BYTES}
        return body

    async def _write_texts(self) -> None:
        """Write a failure with a very long text into the status of every SeldonDeployment of the namespace."""
        for letter in itertools.cycle("ab1: ["):
            for body in await self.api.list(SDEP, ATTACKER, ""):
                with contextlib.suppress(ApiError):  # it was just deleted
                    status = {**(body.get("status") or {}), "state": "Failed", "description": letter * TEXT_BYTES}
                    await self.api.set_status(SDEP, body, status)
            await asyncio.sleep(TEXT_SECONDS)

    async def _flap(self) -> None:
        for number in itertools.count():
            annotations = {"example.org/flap": str(number)}
            with contextlib.suppress(ApiError):
                await self.api.merge(PIPELINES, ATTACKER, "new-0", {"metadata": {"annotations": annotations}})
            await asyncio.sleep(FLAP_SECONDS)


def _huge_deployment(number: int) -> Object:
    labels = {"seldon-deployment-id": "new-0", "app": f"huge-{number}"}
    container = {"name": "c", "image": "none", "env": [{"name": "HUGE", "value": "x" * ENVIRONMENT_BYTES}]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": f"huge-{number}"}}, "template": template}
    metadata = {"name": f"huge-{number}", "namespace": ATTACKER, "labels": labels}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def _prediction(number: int) -> Object:
    spec = {"pipeline": "new-0", "input": {"url": "s3://data/in.csv"}, "output": f"s3://data/out-{number}.csv"}
    metadata = {"name": f"scores-{number}", "namespace": ATTACKER}
    return {"apiVersion": "winepipelines.io/v1alpha1", "kind": "WinePrediction", "metadata": metadata, "spec": spec}


def _is_trained(pipeline: WinePipeline) -> bool:
    return pipeline.status.candidate is not None


def _log(line: str) -> None:
    print(f"  {time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
