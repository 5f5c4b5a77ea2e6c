"""Check that no request fails during a promotion, a rollback or a restart of the model server: `make bench`.

    PYTHONPATH=contract:operator:pipeline:tests:. $(dev/environment operator) bench/promotion.py [--rate 50]

A WinePipeline with a canary and two replicas gets prediction requests at a constant rate through the gateway. Each request has
its own scheduled time: a slow answer delays no other request, and a delay of the generator counts as part of the response time.
Meanwhile, these phases follow one another: another alpha is trained and promoted by its canary; a rollback to revision 1; one of
two serving pods is deleted; all pods are replaced, as by `kubectl rollout restart`. Every answer except 200 with a finite number
is a failure. If the generator cannot keep the rate, the benchmark reports that the measurement is invalid.

The benchmark tests the order in which the operator and the controllers act. The sandbox's gateway knows at once which servers are
ready, and waits for requests in flight to a server that ends. A service mesh knows later.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from support.cluster import Cluster, eventually, says, settled

from bench.load import Load, Phase
from sandbox.platform import Sandbox
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import ConditionType

NAMESPACE, NAME = "bench", "mlflow"
SERVING = {"replicas": 2, "canary": {"steps": [10, 50], "pause": "2s"}}
ENOUGH = 0.9  # minimal share of the intended rate; below it, the generator is measured and not the platform
TAIL = 1.0  # seconds of load after each phase, for late failures
POLL_SECONDS = 0.1  # seconds between polls where no watch exists


def main() -> int:
    """Measure, print the results and compare them with the limits. Return the exit status."""
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
    """Run all phases under continuous load."""
    first = cluster.predict(NAMESPACE)
    load = Load(f"{cluster.info.gateway_url}/seldon/{NAMESPACE}/{NAME}/api/v1.0/predictions", rate)
    requests = asyncio.create_task(load.run())
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
    requests.cancel()
    await asyncio.wait([requests])
    if not requests.cancelled():
        requests.result()  # it ended by itself: raise its error
    assert len(phases[0].values) == 2, f"the promoted model did not answer: {phases[0].values}"
    return phases


def _judge(phases: list[Phase], rate: float) -> int:
    failed = [(phase.name, failure) for phase in phases for failure in phase.failures]
    slow = [phase for phase in phases if phase.rate < ENOUGH * rate]
    for name, failure in failed[:10]:
        print(f"FAILED in {name}: {failure}")
    for phase in slow:
        print(f"TOO SLOW in {phase.name}: {phase.rate:.1f} of {rate:.0f} requests/s were sent: this measurement is invalid")
    if not failed and not slow:
        print(f"no request of {sum(phase.sent for phase in phases):,} failed at {rate:.0f} requests/s")
    return 1 if failed or slow else 0


def _promote(cluster: Cluster) -> None:
    cluster.apply(cluster.resource(NAMESPACE, serving=SERVING, training={"parameters": {"alpha": 0.01}}))
    cluster.wait(NAMESPACE, _serves(2))


def _roll_back(cluster: Cluster, first: float) -> None:
    """Roll back to revision 1, and wait until its predictions are answered."""
    cluster.sandbox.kubectl("-n", NAMESPACE, "annotate", "winepipeline", NAME, "winepipelines.io/rollback=1")
    cluster.wait(NAMESPACE, says(ConditionType.READY, "RolledBack"))
    eventually(lambda: cluster.predict(NAMESPACE) == first)


def _delete_a_pod(cluster: Cluster) -> None:
    """Delete a serving pod, as an eviction does. The Deployment creates another one."""
    [gone, *_] = before = _ready_pods(cluster)
    cluster.sandbox.kubectl("-n", NAMESPACE, "delete", "pod", gone)
    eventually(lambda: len(pods := _ready_pods(cluster)) == len(before) and gone not in pods)


def _restart(cluster: Cluster) -> None:
    """Replace all pods by new ones of the same model."""
    before = set(_ready_pods(cluster))
    [deployment] = [item["metadata"]["name"] for item in cluster.objects("deployments", NAMESPACE)]
    cluster.sandbox.kubectl("-n", NAMESPACE, "rollout", "restart", f"deployment/{deployment}")
    cluster.sandbox.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{deployment}", "--timeout=60s")
    eventually(lambda: len(pods := set(_ready_pods(cluster))) == len(before) and not pods & before)


def _ready_pods(cluster: Cluster) -> list[str]:
    """List the names of pods that are ready and not terminating."""
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
