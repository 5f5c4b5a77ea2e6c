"""Measure the operator's memory and requests with a thousand resources, at start and when idle: `make bench-thousand`.

The API server, MLflow, the object store and all writes of the operator are real. One resource is trained and served completely.
The others get the status that it had when its model was trained, and an MLflow run of their own; then the operator serves each of
them. A machine with two cores cannot run a thousand model servers, so `support.fleet` creates the Deployments that Seldon would
create, with the status of a complete rollout. One small server returns the prediction that the model's run recorded.

The benchmark limits the peak memory of the operator with its default settings: while the resources settle, and at a start with a
thousand settled resources. A start must write nothing. At rest the operator watches: a thousand resources cost at most one
request a second.
"""

import argparse
import asyncio
import os
import re
import sys
import time
import urllib.request

from support.cluster import Cluster, settled
from support.endpoints import Endpoints, predictions_of
from support.fleet import PIPELINES, make_trained, opener, rolled_out_at_once, running_operator, until

from sandbox.components import administrator
from sandbox.plan import load
from sandbox.platform import Sandbox
from sandbox.seldon.api import SDEP, Api

LIMIT = 256 * 1024  # maximal memory of the operator in KiB: the chart's limits.memory
GROUPS = ("", "apps", "argoproj.io", "events.k8s.io", "kubeflow.org", "machinelearning.seldon.io", "winepipelines.io")
RESOURCES = ("deployments", "events", "poddefaults", "pods", "secrets", "seldondeployments", "winepipelines", "workflows")
NAMESPACES = 20
QUIET_RATE = 1.0  # requests a second of the API server for each 1,000 settled resources


def main() -> int:
    """Measure, print the results and compare them with the limits. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resources", type=int, default=1000)
    parser.add_argument("--quiet-seconds", type=float, default=330.0)  # each resource is reconciled every 300 s
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
    endpoints = Endpoints(predictions_of(cluster, first), ())
    sandbox.stop("seldon")
    sandbox.stop("controller-manager")
    api = Api.connect(sandbox.info.kubeconfig)
    try:
        _say(f"making {number} resources whose model is trained")
        await make_trained(cluster, api, first, [(namespaces[index % NAMESPACES], f"wine-{index}") for index in range(number)])
        total = number + 1

        async with endpoints.serve():
            began = time.perf_counter()
            with running_operator(sandbox, endpoints.variables) as operator:
                async with rolled_out_at_once(api):
                    await until(lambda: operator.stages().get("Serving") == total, "all are served")
                    settling = time.perf_counter() - began
                settling_peak, asked = operator.kibibytes("VmHWM"), operator.reconciles()
            print(f"time to serve all {number}     {settling:7.0f} s, {asked} reconciles")

            before, requests = await _versions(api), _requests(sandbox)
            began = time.perf_counter()
            with running_operator(sandbox, endpoints.variables) as operator:
                await until(lambda: operator.reconciles() >= total, "all are reconciled")
                looked, counted = time.perf_counter() - began, _requests(sandbox)
                await until(lambda: operator.walks() > 0, "the platform is checked")
                peak = operator.kibibytes("VmHWM")
                print(f"start: all reconciled after   {looked:7.1f} s, {counted - requests} requests of the API server")
                await asyncio.sleep(10)  # until the work of the start is done
                # Later, each status is written once: this program's shared endpoint changes the result of the platform checks.
                written = sorted(name for name, version in (await _versions(api)).items() if before.get(name) != version)
                counted, began = _requests(sandbox), time.perf_counter()
                await asyncio.sleep(quiet_seconds)
                rate = (_requests(sandbox) - counted) / (time.perf_counter() - began)
                resident, latest = operator.kibibytes("VmRSS"), operator.kibibytes("VmHWM")
    finally:
        await api.close()
    most = QUIET_RATE * max(number, 1000) / 1000
    print(f"quiet, over {quiet_seconds:.0f} s             {rate:7.2f} requests a second of the API server (at most {most:.2f})")
    print(f"peak memory while settling    {settling_peak / 1024:7.0f} MiB")
    print(f"peak memory at a start        {peak / 1024:7.0f} MiB, {latest / 1024:.0f} later on")
    print(f"memory when idle              {resident / 1024:7.0f} MiB")
    print(f"limited peak memory           {max(settling_peak, latest) / 1024:7.0f} MiB (at most {LIMIT / 1024:.0f})")
    print(f"written by a start            {len(written):7} objects (limit: none) {' '.join(written[:3])}")
    return 0 if max(settling_peak, latest) <= LIMIT and not written and rate <= most else 1


# -- the platform ------------------------------------------------------------------------------------------------------


async def _versions(api: Api) -> dict[str, str]:
    """List the versions of all objects that the operator writes."""
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
    """Count the requests for the operator's kinds. Without Seldon and the controllers, nearly all are the operator's."""
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
