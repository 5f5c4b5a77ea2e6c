"""Many resources with a trained model, and a serving platform whose deployments roll out at once.

For benchmarks, and for tests with more resources than the machine can run model servers. One resource is trained. The others get
the status that it had when its run succeeded, with an MLflow run of their own.
"""

import asyncio
import contextlib
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from support.cluster import Cluster

from sandbox import ports
from sandbox.components import base_environment, components
from sandbox.plan import load
from sandbox.platform import Sandbox
from sandbox.seldon import objects, status
from sandbox.seldon.api import DEPLOYMENT, SDEP, Api
from winepipelines.api.pipeline import FINALIZER, WinePipeline
from winepipelines.api.status import Candidate, Run, ServedModel, Status

Object = dict[str, Any]
PIPELINES = "winepipelines.io/v1alpha1/winepipelines"
AT_ONCE = 20  # concurrent requests


class RunningOperator:
    """A running operator process, observed from outside."""

    def __init__(self, process: "subprocess.Popen[bytes]", probes: str, metrics: str, log: Path) -> None:
        self._process, self.probes, self._metrics, self.log = process, probes, metrics, log

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def kibibytes(self, field: str) -> int:
        """Read a memory field from /proc: VmRSS is the present resident memory, VmHWM its peak."""
        [found] = re.findall(rf"^{field}:\s+(\d+) kB$", Path(f"/proc/{self._process.pid}/status").read_text(), re.MULTILINE)
        return int(found)

    def processor_seconds(self) -> float:
        """Read the CPU time that the process has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stages(self) -> dict[str, int]:
        """Read the number of resources by stage from the metrics."""
        found = re.findall(r'^winepipelines_resources\{stage="(\w+)"\} (\S+)$', self._scrape(), re.MULTILINE)
        return {stage: int(float(count)) for stage, count in found}

    def reconciles(self) -> int:
        """Read the number of completed reconciles from the metrics."""
        return self._count("winepipelines_reconcile_seconds_count")

    def walks(self) -> int:
        """Read from the metrics how often the platform checks have run."""
        return self._count("winepipelines_platform_check_runs_total")

    def _count(self, name: str) -> int:
        return int(float(re.findall(rf"^{name} (\S+)$", self._scrape(), re.MULTILINE)[0]))

    def _scrape(self) -> str:
        with opener().open(self._metrics, timeout=20) as answer:
            return str(answer.read().decode())


@contextlib.contextmanager
def running_operator(sandbox: Sandbox, more: Mapping[str, str]) -> Iterator[RunningOperator]:
    """Run the operator as the sandbox does, with its default timeouts. `more` is added to its environment."""
    plan = load(sandbox.folder)
    assert plan is not None, "the sandbox is not running"
    component, port = components(plan)["operator"], ports.choose(["metrics"], {})["metrics"]
    changes = {"WINE_METRICS_HOST": "127.0.0.1", "WINE_METRICS_PORT": str(port), "WINE_POLL_SECONDS": "10"}
    environment = {**base_environment(), **component.environment, **changes, **more}
    path = plan.logs / "operator-of-a-fleet.log"
    with path.open("ab") as log:
        process = subprocess.Popen(component.command, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not component.ready():
            assert process.poll() is None, f"the operator has ended: {_end(path)}"
            assert time.monotonic() < deadline, f"the operator does not answer: {_end(path)}"
            time.sleep(0.1)
        yield RunningOperator(process, plan.url("operator"), f"http://127.0.0.1:{port}/metrics", path)
    finally:
        process.terminate()
        process.wait(30)


async def make_trained(
    cluster: Cluster,
    api: Api,
    first: WinePipeline,
    keys: list[tuple[str, str]],
    *,
    canary_in_progress: bool = False,
    metadata: Object | None = None,
) -> list[Object]:
    """Create resources in the state after a successful run: of revision 1, or of revision 2 beside a served model."""
    candidate = first.status.candidate
    assert candidate is not None
    trained = cluster.http(f"{cluster.info.mlflow_url}/api/2.0/mlflow/runs/get?run_id={candidate.model.mlflow_run}")["run"]
    slots = asyncio.Semaphore(AT_ONCE)

    async def make(namespace: str, name: str) -> Object:
        async with slots:
            run = await asyncio.to_thread(_copy_of_run, cluster, trained)
            body = cluster.resource(namespace, name)
            body["metadata"] |= {"finalizers": [FINALIZER], **(metadata or {})}
            made = await api.create(PIPELINES, body)
            status = _trained(first, WinePipeline.from_body(made), run, canary_in_progress=canary_in_progress)
            return await api.set_status(PIPELINES, made, status.to_body())

    return list(await asyncio.gather(*(make(*key) for key in keys)))


def _trained(first: WinePipeline, made: WinePipeline, run: str, *, canary_in_progress: bool) -> Status:
    assert first.status.candidate is not None
    revision, known = 2 if canary_in_progress else 1, first.status.run or Run()
    model = first.status.candidate.model.with_(revision=revision, mlflow_run=run, version="")
    candidate = Candidate(revision=revision, model=model)
    served = None
    if canary_in_progress:
        earlier = model.with_(revision=1, uri=f"{model.uri}-earlier")
        served = ServedModel(revision=1, model=earlier, serving_since=datetime.now(UTC))
    return Status(
        revision=revision,
        inputs_hash=made.spec.inputs,
        run=known.with_(name=f"{made.name}-{revision}"),
        candidate=candidate,
        served=served,
    )


def _copy_of_run(cluster: Cluster, trained: Object) -> str:
    """Create an MLflow run with the tags of another run; return its id."""
    body = {"experiment_id": trained["info"]["experiment_id"], "tags": trained["data"]["tags"]}
    answer = cluster.http(f"{cluster.info.mlflow_url}/api/2.0/mlflow/runs/create", body)
    return str(answer["run"]["info"]["run_id"])


@contextlib.asynccontextmanager
async def rolled_out_at_once(api: Api, applied: Callable[[Object], None] = lambda _sdep: None) -> AsyncIterator[None]:
    """Create the Deployments of each SeldonDeployment, and report both as rolled out at once; `applied` is called before."""
    slots, served = asyncio.Semaphore(AT_ONCE), set[str]()

    async def serve(sdep: Object) -> None:
        async with slots:
            built, counts = objects.predictors(sdep), ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
            deployments = []
            for predictor in built:
                made = await api.create(DEPLOYMENT, predictor.deployment)
                rolled_out = {"observedGeneration": 1, **dict.fromkeys(counts, 1)}
                deployments.append(await api.set_status(DEPLOYMENT, made, rolled_out))
            await api.set_status(SDEP, sdep, status.seldon_status(sdep, built, deployments, "2026-01-05T12:00:00Z"))

    async def follow() -> None:
        async with asyncio.TaskGroup() as group:
            async for kind, item in api.follow(SDEP):
                for sdep in item["items"] if kind == "SYNCED" else [item]:
                    if sdep["metadata"]["uid"] not in served and "status" not in sdep:
                        served.add(sdep["metadata"]["uid"])
                        applied(sdep)
                        group.create_task(serve(sdep))

    task = asyncio.create_task(follow())
    try:
        yield
    finally:
        failed = task.done()
        task.cancel()
        if failed:
            task.result()


async def until(so: Callable[[], bool], what: str, seconds: float = 900.0) -> None:
    """Wait until a blocking function returns true. Raises AssertionError, which names `what`, after `seconds`."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(so):
        assert time.monotonic() < deadline, f"not in {seconds:.0f} s: {what}"
        await asyncio.sleep(0.1)


def _end(log: Path) -> str:
    """Return the last lines of a log; the sandbox's folder is deleted with the sandbox."""
    return "\n".join(log.read_text().splitlines()[-5:])


def opener(*handlers: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    """Build an opener that uses no proxy, for addresses of this machine."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), *handlers)
