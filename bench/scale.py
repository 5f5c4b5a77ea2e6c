"""Measure how many resources the operator serves at once, and compare it with a floor: `make bench-scale`.

    PYTHONPATH=contract:operator:pipeline:tests:. $(dev/environment pipeline-dev) bench/scale.py [--resources 1000]

The API server is real. Kubeflow Pipelines, MLflow, the object store and Seldon follow a script (`scripted`) in this process: they
answer at once, and runs end as soon as they are submitted. First the operator serves resources, then a bare asyncio client
(`floor`) as many. Both are measured from the first resource that is created to the last that is served. The ratio of the two
times is what the operator adds: deciding, validating, and calls that the floor does not make.

For each resource, the benchmark also prints the processor time of the operator, and the time from the end of a run to its
deployment, which includes the wait for other resources.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence

from support.fleet import PIPELINES, RunningOperator, running_operator, until

from bench.floor import Floor, Made
from bench.scripted import ScriptedPlatform
from sandbox.plan import load
from sandbox.platform import Sandbox
from sandbox.seldon.api import Api
from winepipelines.api.pipeline import API_VERSION, KIND

LIMIT = 2.0  # times the floor
FLOOR, TEAMS = ([f"{who}-{index}" for index in range(20)] for who in ("floor", "team"))  # namespaces
CREATED_AT_ONCE = 20
WITHOUT = {"operator", "seldon", "mlflow", "store", "kubeflow", "controller-manager", "data"}


def main() -> int:
    """Measure, print the results and compare them with the limit. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resources", type=int, default=1000, help="(default: %(default)s)")
    number = parser.parse_args().resources
    with Sandbox(f"scale-{os.getpid()}", without=WITHOUT, report=_say) as sandbox:
        return asyncio.run(_bench(sandbox, number))


async def _bench(sandbox: Sandbox, number: int) -> int:
    plan = load(sandbox.folder)
    assert plan is not None, "the sandbox is running"
    sandbox.add_namespace("first", *FLOOR, *TEAMS)
    api = Api.connect(plan.kubeconfig)
    platform = ScriptedPlatform(api)
    try:
        async with platform.serve(plan.ports["store"]):
            with running_operator(sandbox, platform.variables) as operator:
                await _create(api, ["first"], 1)
                await until(lambda: operator.stages().get("Serving") == 1, "the first is served")
                seconds = await _operator(api, operator, platform, number)
            floor = await _floor(api, platform, await Made.read(api, "first", "wine-0"), number)
    finally:
        await api.close()
    print(f"ratio                           {seconds / floor:7.2f} (at most {LIMIT})")
    return 0 if seconds <= LIMIT * floor else 1


async def _floor(api: Api, platform: ScriptedPlatform, made: Made, number: int) -> float:
    client = Floor(api, platform.url, made, "floor-")
    before = Counter(platform.requests)
    async with client.serve():
        began = time.perf_counter()
        await _create(api, FLOOR, number)
        await until(lambda: len(client.ready) == number, "the floor serves all")
        seconds = time.perf_counter() - began
    print(f"floor: {number} from creation to Ready {seconds:7.1f} s, {_each(platform.requests - before, number)}")
    return seconds


async def _operator(api: Api, operator: RunningOperator, platform: ScriptedPlatform, number: int) -> float:
    before, busy, began = Counter(platform.requests), operator.processor_seconds(), time.perf_counter()
    await _create(api, TEAMS, number)
    await until(lambda: operator.stages().get("Serving") == number + 1, "the operator serves all")
    seconds = time.perf_counter() - began
    keys = [key for key in platform.succeeded if key[0].startswith("team-") and key in platform.applied]
    waits = sorted(platform.applied[key] - platform.succeeded[key] for key in keys)
    print(f"operator: the same                {seconds:7.1f} s, {_each(platform.requests - before, number)}")
    print(f"  processor time for each         {1000 * (operator.processor_seconds() - busy) / number:7.1f} ms")
    print(f"  run succeeded to deployment     p50 {statistics.median(waits):.2f} s, p99 {waits[int(0.99 * len(waits))]:.2f} s")
    print(f"  memory                          {operator.kibibytes('VmRSS') / 1024:7.0f} MiB, {operator.reconciles()} reconciles")
    return seconds


def _each(requests: Counter[str], number: int) -> str:
    return ", ".join(f"{count / number:.1f} of {system}" for system, count in sorted(requests.items())) + " for each"


async def _create(api: Api, namespaces: Sequence[str], number: int) -> None:
    """Create resources, spread over namespaces."""
    slots = asyncio.Semaphore(CREATED_AT_ONCE)

    async def create(index: int) -> None:
        async with slots:
            metadata = {"name": f"wine-{index}", "namespace": namespaces[index % len(namespaces)]}
            spec = {"data": {"url": "https://example.org/wine.csv"}}
            await api.create(PIPELINES, {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec})

    await asyncio.gather(*map(create, range(number)))


def _say(line: str) -> None:
    print(f"  {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
