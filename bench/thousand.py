"""A thousand resources: what the operator holds in memory, and what it asks, at a start and when all is quiet.

`make bench-thousand`. The API server, MLflow and the object store are real, and so is every write of the operator's. One resource
goes the whole way; its model stands for all of them: the others get its status of the moment when the model was trained, and an
MLflow run of their own. The operator then has each of them served. A machine of two cores cannot run a thousand model servers, so
here `support.fleet` makes the Deployments that Seldon makes, and says of them what Kubernetes says when all is well; predictions
are asked of the one real server.

Judged is the most that the operator ever held, with its own settings as they are by default: at a start with a thousand settled
resources, and while it had them settle. A start may write nothing.
"""

import argparse
import asyncio
import contextlib
import os
import re
import signal
import sys
import time
import urllib.request
from dataclasses import dataclass
from typing import Any

from support.cluster import Cluster, settled
from support.fleet import PIPELINES, make_trained, opener, rolled_out_at_once, running_operator

from sandbox.components import administrator
from sandbox.plan import load
from sandbox.platform import Sandbox
from sandbox.seldon.api import SDEP, Api

LIMIT = 256 * 1024  # KiB that the operator may ever hold: the chart's limits.memory
GROUPS = ("", "apps", "argoproj.io", "events.k8s.io", "kubeflow.org", "machinelearning.seldon.io", "winepipelines.io")
RESOURCES = ("deployments", "events", "poddefaults", "pods", "secrets", "seldondeployments", "winepipelines", "workflows")
NAMESPACES = 20
PATIENCE = 900.0  # seconds


def main() -> int:
    """Measure, print, judge; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resources", type=int, default=1000)
    parser.add_argument("--quiet-seconds", type=float, default=330.0)  # each is looked at every 300
    options = parser.parse_args()
    with Sandbox(f"thousand-{os.getpid()}", without={"operator"}, report=_say) as sandbox:
        return asyncio.run(_bench(sandbox, options.resources, options.quiet_seconds))


async def _bench(sandbox: Sandbox, number: int, quiet_seconds: float) -> int:
    cluster = Cluster(sandbox)
    namespaces = [f"team-{index}" for index in range(NAMESPACES)]
    sandbox.add_namespace("first", *namespaces)
    with running_operator(sandbox, {}):
        cluster.apply(cluster.resource("first"))
        first = await asyncio.to_thread(cluster.wait, "first", settled, seconds=180)
    server = _only_server(sandbox)
    sandbox.stop("seldon", kill=True)  # whose model server goes on
    sandbox.stop("controller-manager")
    api = Api.connect(sandbox.info.kubeconfig)
    try:
        _say(f"making {number} resources whose model is trained")
        await make_trained(cluster, api, first, [(namespaces[index % NAMESPACES], f"wine-{index}") for index in range(number)])
        endpoint = f"http://127.0.0.1:{server.port}"
        total = number + 1

        began = time.perf_counter()
        with running_operator(sandbox, {"WINE_ENDPOINT_TEMPLATE": endpoint}) as operator:
            async with rolled_out_at_once(api):
                await _until(lambda: operator.stages().get("Serving") == total, "all are served")
                settling = time.perf_counter() - began
            settling_peak, asked = operator.kibibytes("VmHWM"), operator.reconciles()
        print(f"to be served, all {number}     {settling:7.0f} s, {asked} reconciles")

        before, requests = await _versions(api), _requests(sandbox)
        began = time.perf_counter()
        with running_operator(sandbox, {"WINE_ENDPOINT_TEMPLATE": endpoint}) as operator:
            await _until(lambda: operator.reconciles() >= total, "all are looked at")
            looked, counted = time.perf_counter() - began, _requests(sandbox)
            await _until(lambda: operator.walks() > 0, "the platform is looked at")
            peak = operator.kibibytes("VmHWM")
            print(f"start: all looked at after    {looked:7.1f} s, {counted - requests} requests of the API server")
            await asyncio.sleep(10)  # until nothing of the start is left to do
            # Later on each is told once what doctor says of one endpoint for all, which is this program's doing.
            written = sorted(name for name, version in (await _versions(api)).items() if before.get(name) != version)
            counted, began = _requests(sandbox), time.perf_counter()
            await asyncio.sleep(quiet_seconds)
            rate = (_requests(sandbox) - counted) / (time.perf_counter() - began)
            resident, latest = operator.kibibytes("VmRSS"), operator.kibibytes("VmHWM")
    finally:
        await api.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGTERM)
    print(f"quiet, over {quiet_seconds:.0f} s             {rate:7.1f} requests a second of the API server")
    print(f"memory while they settled     {settling_peak / 1024:7.0f} MiB at most")
    print(f"memory of a start             {peak / 1024:7.0f} MiB at most, {latest / 1024:.0f} later on")
    print(f"memory when all is quiet      {resident / 1024:7.0f} MiB")
    print(f"judged                        {max(settling_peak, latest) / 1024:7.0f} MiB (at most {LIMIT / 1024:.0f})")
    print(f"written by a start            {len(written):7} objects (none) {' '.join(written[:3])}")
    return 0 if max(settling_peak, latest) <= LIMIT and not written else 1


async def _until(so: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not await asyncio.to_thread(so):
        assert time.monotonic() < deadline, f"not in {PATIENCE:.0f} s: {what}"
        await asyncio.sleep(0.2)


# -- the platform ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Server:
    """The model server that answers for all."""

    pid: int
    port: int


def _only_server(sandbox: Sandbox) -> _Server:
    [lock] = (sandbox.folder / "seldon" / "pods").glob("*/*/process")
    pid, port = lock.read_text().split()
    return _Server(int(pid), int(port))


async def _versions(api: Api) -> dict[str, str]:
    """List the versions of all that the operator writes."""
    kinds = {
        PIPELINES: "",
        SDEP: "",
        "kubeflow.org/v1alpha1/poddefaults": "",
        "v1/secrets": "app.kubernetes.io/managed-by=wine-operator",
    }
    found = {}
    for resource, labels in kinds.items():
        for item in await api.list(resource, "", labels):
            meta = item["metadata"]
            found[f"{resource.rpartition('/')[2]} {meta['namespace']}/{meta['name']}"] = meta["resourceVersion"]
    return found


def _requests(sandbox: Sandbox) -> int:
    """Count the requests about what the operator is about; with Seldon and the controllers away, next to all are its own."""
    plan = load(sandbox.folder)
    assert plan is not None
    https = urllib.request.HTTPSHandler(context=administrator(plan))
    with opener(https).open(plan.url("apiserver", "https") + "/metrics", timeout=20) as answer:
        text = answer.read().decode()
    counted = 0.0
    for labels, value in re.findall(r"^apiserver_request_total\{([^}]*)\} (\S+)$", text, re.MULTILINE):
        named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        counted += float(value) if named["group"] in GROUPS and named["resource"] in RESOURCES else 0
    return round(counted)


def _say(line: str) -> None:
    print(f"  {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
