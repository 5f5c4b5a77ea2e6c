"""A thousand resources: what the operator holds in memory, and what it asks, at a start and when all is quiet.

`make bench-thousand`. The API server, MLflow and the object store are real, and so is every write of the operator's. One resource
goes the whole way; its model stands for all of them: the others get its status of the moment when the model was trained, and an
MLflow run of their own. The operator then has each of them served. A machine of two cores cannot run a thousand model servers, so
here this program makes the Deployments that Seldon makes, and says of them what Kubernetes says when all is well; predictions are
asked of the one real server.

Judged is the most that the operator ever held, with its own settings as they are by default: at a start with a thousand settled
resources, and while it had them settle. A start may write nothing.
"""

import argparse
import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.cluster import Cluster, settled

from sandbox import ports
from sandbox.components import administrator, base_environment, components
from sandbox.plan import load
from sandbox.platform import Sandbox
from sandbox.seldon import objects, status
from sandbox.seldon.api import DEPLOYMENT, SDEP, Api
from winepipelines.resource.pipeline import FINALIZER, WinePipeline
from winepipelines.resource.status import Candidate, Run, Status

Object = dict[str, Any]
PIPELINES = "winepipelines.io/v1alpha1/winepipelines"
LIMIT = 256 * 1024  # KiB that the operator may ever hold: the chart's limits.memory
GROUPS = ("", "apps", "argoproj.io", "events.k8s.io", "kubeflow.org", "machinelearning.seldon.io", "winepipelines.io")
RESOURCES = ("deployments", "events", "poddefaults", "pods", "secrets", "seldondeployments", "winepipelines", "workflows")
NAMESPACES = 20
AT_ONCE = 20  # requests of this program under way
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
    with _operator(sandbox):
        cluster.apply(cluster.resource("first"))
        first = await asyncio.to_thread(cluster.wait, "first", settled, seconds=180)
    server = _only_server(sandbox)
    sandbox.stop("seldon", kill=True)  # whose model server goes on
    sandbox.stop("controller-manager")
    api = Api.connect(sandbox.info.kubeconfig)
    try:
        _say(f"making {number} resources whose model is trained")
        await _make(cluster, api, first, [(namespaces[index % NAMESPACES], f"wine-{index}") for index in range(number)])
        endpoint = f"http://127.0.0.1:{server.port}"
        total = number + 1

        began = time.perf_counter()
        with _operator(sandbox, endpoint) as operator:
            async with _seldon(api):
                await _until(lambda: operator.stages().get("Serving") == total, "all are served")
                settling = time.perf_counter() - began
            settling_peak, asked = operator.kibibytes("VmHWM"), operator.reconciles()
        print(f"to be served, all {number}     {settling:7.0f} s, {asked} reconciles")

        before, requests = await _versions(api), _requests(sandbox)
        began = time.perf_counter()
        with _operator(sandbox, endpoint) as operator:
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


# -- the operator ------------------------------------------------------------------------------------------------------


class _Operator:
    """A running operator."""

    def __init__(self, pid: int, metrics_port: int) -> None:
        self.pid, self._metrics = pid, f"http://127.0.0.1:{metrics_port}/metrics"

    def kibibytes(self, what: str) -> int:
        """Read its memory as the kernel has it: VmRSS now, VmHWM at most."""
        [found] = re.findall(rf"^{what}:\s+(\d+) kB$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        return int(found)

    def stages(self) -> dict[str, int]:
        """Count resources by their stage."""
        found = re.findall(r'^winepipelines_resources\{stage="(\w+)"\} (\S+)$', self._scrape(), re.MULTILINE)
        return {stage: int(float(count)) for stage, count in found}

    def reconciles(self) -> int:
        """Count the looks at resources that have ended."""
        return self._count("winepipelines_reconcile_seconds_count")

    def walks(self) -> int:
        """Count the walks of the platform's checks."""
        return self._count("winepipelines_platform_walks_total")

    def _count(self, name: str) -> int:
        return int(float(re.findall(rf"^{name} (\S+)$", self._scrape(), re.MULTILINE)[0]))

    def _scrape(self) -> str:
        with _opener().open(self._metrics, timeout=20) as answer:
            return str(answer.read().decode())


@contextlib.contextmanager
def _operator(sandbox: Sandbox, endpoint: str = "") -> Iterator[_Operator]:
    """Run it as the sandbox would, as patient as it is by default; it asks the endpoint for predictions of all resources."""
    plan = load(sandbox.folder)
    assert plan is not None, "the sandbox is up"
    component, port = components(plan)["operator"], ports.choose(["metrics"], {})["metrics"]
    changes = {"WINE_METRICS_HOST": "127.0.0.1", "WINE_METRICS_PORT": str(port), "WINE_POLL_SECONDS": "10"}
    if endpoint:
        changes["WINE_ENDPOINT_TEMPLATE"] = endpoint
    environment = {**base_environment(), **component.environment, **changes}
    with (plan.logs / "operator-of-a-thousand.log").open("ab") as log:
        process = subprocess.Popen(component.command, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not component.ready():
            assert process.poll() is None, f"the operator has ended: {plan.logs}"
            assert time.monotonic() < deadline, f"the operator does not answer: {plan.logs}"
            time.sleep(0.1)
        yield _Operator(process.pid, port)
    finally:
        process.terminate()
        process.wait(30)


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


async def _make(cluster: Cluster, api: Api, first: WinePipeline, keys: list[tuple[str, str]]) -> None:
    """Make resources as they are when their run has just succeeded."""
    candidate = first.status.candidate
    assert candidate is not None
    trained = cluster.http(f"{cluster.info.mlflow_url}/api/2.0/mlflow/runs/get?run_id={candidate.mlflow_run}")["run"]
    slots = asyncio.Semaphore(AT_ONCE)

    async def make(namespace: str, name: str) -> None:
        async with slots:
            run = await asyncio.to_thread(_copy_of_run, cluster, trained)
            body = cluster.resource(namespace, name)
            body["metadata"]["finalizers"] = [FINALIZER]
            made = await api.create(PIPELINES, body)
            inputs = WinePipeline.from_body(made).spec.inputs
            copied = Candidate(**{**dict(candidate), "mlflow_run": run, "version": "", "deploying_since": None})
            known = first.status.run or Run()
            wanted = Status(revision=1, inputs=inputs, run=known.with_(name=f"{name}-1"), candidate=copied)
            await api.set_status(PIPELINES, made, wanted.to_body())

    await asyncio.gather(*(make(*key) for key in keys))


def _copy_of_run(cluster: Cluster, trained: Object) -> str:
    """Give MLflow another run with the tags of this one; its id."""
    body = {"experiment_id": trained["info"]["experiment_id"], "tags": trained["data"]["tags"]}
    answer = cluster.http(f"{cluster.info.mlflow_url}/api/2.0/mlflow/runs/create", body)
    return str(answer["run"]["info"]["run_id"])


@contextlib.asynccontextmanager
async def _seldon(api: Api) -> AsyncIterator[None]:
    """Make the Deployment of every SeldonDeployment, rolled out at once, and say so in both."""
    slots, served = asyncio.Semaphore(AT_ONCE), set[str]()

    async def serve(sdep: Object) -> None:
        async with slots:
            built = objects.predictors(sdep)
            [made] = [await api.create(DEPLOYMENT, predictor.deployment) for predictor in built]
            counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
            rolled_out = await api.set_status(DEPLOYMENT, made, {"observedGeneration": 1, **counts})
            await api.set_status(SDEP, sdep, status.seldon_status(sdep, built, [rolled_out], "2026-01-05T12:00:00Z"))

    async def follow() -> None:
        async with asyncio.TaskGroup() as group:
            async for kind, item in api.follow(SDEP):
                for sdep in item["items"] if kind == "SYNCED" else [item]:
                    if sdep["metadata"]["uid"] not in served and "status" not in sdep:
                        served.add(sdep["metadata"]["uid"])
                        group.create_task(serve(sdep))

    task = asyncio.create_task(follow())
    try:
        yield
    finally:
        failed = task.done()
        task.cancel()
        if failed:
            task.result()


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
    opener = _opener(urllib.request.HTTPSHandler(context=administrator(plan)))
    with opener.open(plan.url("apiserver", "https") + "/metrics", timeout=20) as answer:
        text = answer.read().decode()
    counted = 0.0
    for labels, value in re.findall(r"^apiserver_request_total\{([^}]*)\} (\S+)$", text, re.MULTILINE):
        named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        counted += float(value) if named["group"] in GROUPS and named["resource"] in RESOURCES else 0
    return round(counted)


def _opener(*handlers: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), *handlers)


def _say(line: str) -> None:
    print(f"  {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
