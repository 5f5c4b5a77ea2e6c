"""The operator can be killed at any time: the result is one run, one model, one deployment, and Ready.

Every system that the operator calls is behind a proxy. At each kind of call that was not seen before, the operator is killed:
once before the call reaches the system, once after it was carried out and before the answer arrives.
"""

import json
import re
import threading
from collections.abc import Iterator

import pytest
from support.cluster import Cluster, ready
from support.operator import OperatorProcess
from support.parametrized import both_backends
from support.platforms import SELDON, Backend
from support.proxy import Call, Fault
from support.systems import Systems

from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import Stage

COMMON = (
    "before kfp POST /apis/v2beta1/runs",
    "after kfp POST /apis/v2beta1/runs",
    "after mlflow POST /api/2.0/mlflow/runs/search",
    "after store GET /mlflow/",
    "PUT /apis/winepipelines.io/v1alpha1/namespaces/<ns>/winepipelines/mlflow/status Serving",
)
"""Calls that are the same on every backend."""


class Killer:
    """Kills the operator at each new kind of call, and starts it again.

    On the first backend that is each call, on others each that changes an object of theirs and each prediction.
    """

    def __init__(self, operator: OperatorProcess, namespace: str, backend: Backend) -> None:
        self._operator = operator
        self._backend = backend
        self._namespace = namespace
        self._seen: set[str] = set()
        self._lock = threading.Lock()
        self.killed: list[str] = []

    def before(self, system: str, call: Call) -> Fault | None:
        """Kill the operator before the call reaches the system."""
        return Fault.CUT_BEFORE if self._kill(f"before {system} {self._kind(call)}", system, call) else None

    def after(self, system: str, call: Call) -> None:
        """Kill the operator after the call was executed."""
        self._kill(f"after {system} {self._kind(call)}", system, call)

    def _kill(self, moment: str, system: str, call: Call) -> bool:
        with self._lock:
            if moment in self._seen or (system == "api" and not _concerns_the_resource(call)):
                return False
            if self._backend is not SELDON and not self._concerns_the_backend(system, call):
                return False
            self._seen.add(moment)
            self.killed.append(moment)
            self._operator.kill()
            self._operator.launch()
            return True

    def _concerns_the_backend(self, system: str, call: Call) -> bool:
        if system == "gateway":
            return True
        own = any(part in call.path for part in (self._backend.group, self._backend.copy))
        return system == "api" and call.method != "GET" and own

    def _kind(self, call: Call) -> str:
        path = re.sub(r"\?.*", "", call.path)
        path = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32}|/artifacts/.*", "<id>", path).replace(self._namespace, "<ns>")
        return f"{call.method} {path} {_stage_written(call)}".strip()


def _concerns_the_resource(call: Call) -> bool:
    """Exclude the start of kopf, which does not depend on the resource."""
    return "/namespaces/" in call.path and "watch=" not in call.path


def _stage_written(call: Call) -> str:
    """Distinguish status writes by their content."""
    if not call.path.endswith("/status"):
        return ""
    status = json.loads(call.body).get("status") or {}
    ready = [condition["reason"] for condition in status.get("conditions", []) if condition["type"] == "Ready"]
    return f"{status.get('stage')} {ready}"


@pytest.fixture
def behind_proxies(cluster: Cluster, operator: OperatorProcess, namespace: str) -> Iterator[tuple[Killer, OperatorProcess]]:
    """Run an operator that reaches every system through a proxy. The shared operator is stopped meanwhile."""
    operator.kill()
    with Systems(cluster) as systems:
        killer = Killer(systems.operator, namespace, cluster.backend)
        for system, proxy in systems.proxies.items():
            proxy.before = lambda call, system=system: killer.before(system, call)  # type: ignore[misc] # bound now
            proxy.after = lambda call, system=system: killer.after(system, call)  # type: ignore[misc] # bound now
        systems.operator.launch()
        yield killer, systems.operator
    operator.start()


@both_backends
@pytest.mark.timeout(1500)
def test_operator_recovers_when_killed_around_every_call(
    cluster: Cluster, behind_proxies: tuple[Killer, OperatorProcess], namespace: str
) -> None:
    killer, _ = behind_proxies
    cluster.apply(cluster.resource(namespace))
    pipeline = cluster.wait(namespace, ready, seconds=1200)

    calls, backend = "\n".join(killer.killed), cluster.backend
    for expected in (
        *(COMMON if backend is SELDON else ()),
        "after gateway POST",
        f"after api PATCH /api/v1/namespaces/<ns>/secrets/{backend.copy}",
        f"after api PATCH /apis/{backend.api_version}/namespaces/<ns>/{backend.plural}/mlflow",
    ):
        assert expected in calls, calls
    assert pipeline.status.revision == 1
    assert [run["display_name"].rsplit("-", 1)[1] for run in cluster.runs(namespace)] == ["1"]
    assert len(cluster.objects(backend.plural, namespace)) == 1
    assert [entry.outcome for entry in pipeline.status.history] == ["Served"]


@both_backends
def test_operator_recovers_when_killed_in_every_stage(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    order = list(Stage)
    cluster.apply(cluster.resource(namespace))
    for stage in (Stage.PREPARING, Stage.TRAINING, Stage.DEPLOYING, Stage.VERIFYING, Stage.SERVING):

        def reached(pipeline: WinePipeline, least: int = order.index(stage)) -> bool:
            return pipeline.status.stage is not None and order.index(pipeline.status.stage) >= least

        cluster.wait(namespace, reached)
        operator.kill()
        operator.start()
    pipeline = cluster.wait(namespace, ready)
    assert pipeline.status.revision == 1
    assert len(cluster.runs(namespace)) == 1
    assert len(cluster.objects(cluster.backend.plural, namespace)) == 1
