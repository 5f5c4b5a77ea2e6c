"""The doctor's walk, repeated by the operator: one condition on every resource, one metric, one Event a change."""

import subprocess
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from support.cluster import eventually, ready
from support.doctor import Patient
from support.operator import OperatorProcess

from sandbox import ports
from sandbox.manifests import ARTIFACT_SECRET
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.status import ConditionType

NAMESPACES = ("first", "second")
SUSPENDED = 6  # resources that wait for nothing
CHECK_SECONDS = 3


@dataclass
class Repeated:
    """An operator that walks every second, and what it has been told to look after."""

    patient: Patient
    operator: OperatorProcess
    metrics_url: str
    resources: list[tuple[str, str]]

    def metric(self, name: str) -> float | None:
        """Read a sample."""
        url = f"{self.metrics_url}/metrics"
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=20) as answer:
            text = answer.read().decode()
        return next((float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name} ")), None)

    def platform_events(self) -> list[tuple[str, str]]:
        """List reason and type of the Events about the platform's namespace, oldest first."""
        found = [
            event
            for event in self.patient.cluster.objects("events", "kubeflow")
            if event["involvedObject"]["kind"] == "Namespace"
        ]
        return [(event["reason"], event["type"]) for event in sorted(found, key=lambda event: str(event["eventTime"]))]


@pytest.fixture(scope="module")
def repeated(patient: Patient) -> Iterator[Repeated]:
    port = ports.choose(("metrics",), {})["metrics"]
    changes = {
        "WINE_DOCTOR_SECONDS": "1",
        "WINE_METRICS_HOST": "127.0.0.1",
        "WINE_METRICS_PORT": str(port),
        "WINE_CHECK_INTERVAL_SECONDS": str(CHECK_SECONDS),
    }
    cluster, resources = patient.cluster, []
    with OperatorProcess(patient.sandbox, changes) as operator:
        for namespace in NAMESPACES:
            cluster.namespace(namespace)
            cluster.apply(cluster.resource(namespace))
            resources.append((namespace, "mlflow"))
        for number in range(SUSPENDED):
            cluster.apply(cluster.resource("first", f"suspended-{number}", suspend=True))
            resources.append(("first", f"suspended-{number}"))
        for namespace in NAMESPACES:
            cluster.wait(namespace, lambda pipeline: ready(pipeline) and platform_is("True")(pipeline))
        for namespace, name in resources:  # those that are suspended may have been there before the first walk
            cluster.wait(namespace, platform_is("True"), name)
        yield Repeated(patient, operator, f"http://127.0.0.1:{port}", resources)
        for namespace in NAMESPACES:
            patient.sandbox.kubectl("-n", namespace, "delete", "winepipelines", "--all", "--wait=true", "--timeout=60s")


def platform_is(status: str) -> Callable[[WinePipeline], bool]:
    """Whether the condition has a status."""

    def so(pipeline: WinePipeline) -> bool:
        condition = pipeline.status.condition(ConditionType.PLATFORM_READY)
        return condition is not None and condition.status == status

    return so


class Changes:
    """Counts the changes of every resource while it is watched."""

    def __init__(self, repeated: Repeated) -> None:
        info = repeated.patient.cluster.info
        command = [str(info.kubectl), f"--kubeconfig={info.kubeconfig}", "get", "winepipelines", "-A", "--watch"]
        self._seen: Counter[str] = Counter()
        line = '--output=jsonpath={.metadata.namespace}/{.metadata.name}{"\\n"}'
        self._process = subprocess.Popen([*command, line], stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        names = {"/".join(resource) for resource in repeated.resources}
        eventually(lambda: set(self._seen) >= names)  # each is there once from the start
        self._before = self._seen.copy()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._seen[line.strip()] += 1

    def end(self) -> dict[str, int]:
        """Stop watching; return the number of changes of each resource."""
        self._process.terminate()
        self._process.wait(10)
        self._reader.join(10)
        return {name: count - self._before[name] for name, count in self._seen.items()}


def test_an_outage_is_one_condition_one_event_and_two_writes(repeated: Repeated) -> None:
    cluster, log = repeated.patient.cluster, repeated.operator.log
    assert repeated.metric("winepipelines_platform_ready") == 1
    assert repeated.platform_events() == []
    _everyone_has_looked_again(repeated)  # nothing is left to do
    changes, mark = Changes(repeated), len(log.read_text())

    repeated.patient.sandbox.stop("kubeflow")
    for namespace, name in repeated.resources:
        pipeline = cluster.wait(namespace, platform_is("False"), name)
        condition = pipeline.status.condition(ConditionType.PLATFORM_READY)
        assert condition is not None
        assert condition.reason == "KubeflowUnreachable"
        assert "kubectl -n kubeflow get endpoints,pods" in condition.message
        assert ready(pipeline) == (name == "mlflow"), "the model that answers is Ready"
    assert repeated.metric("winepipelines_platform_ready") == 0
    assert repeated.metric('winepipelines_platform_check{check="kubeflow answers"}') == 0
    assert repeated.metric('winepipelines_platform_check{check="mlflow answers"}') == 1
    _everyone_has_looked_again(repeated)

    repeated.patient.sandbox.start("kubeflow")
    for namespace, name in repeated.resources:
        cluster.wait(namespace, platform_is("True"), name)
    assert repeated.metric("winepipelines_platform_ready") == 1
    _everyone_has_looked_again(repeated)

    assert changes.end() == {"/".join(resource): 2 for resource in repeated.resources}
    assert repeated.platform_events() == [("KubeflowUnreachable", "Warning"), ("PlatformReady", "Normal")]
    lines = [line for line in log.read_text()[mark:].splitlines() if " Checked the platform " in line]
    assert len(lines) == 2, lines


def _everyone_has_looked_again(repeated: Repeated) -> None:
    """Wait for as many looks as there are resources, and for a dozen more."""
    count = "winepipelines_reconcile_seconds_count"
    before = repeated.metric(count)
    assert before is not None
    looks = len(NAMESPACES) * 3  # those that settle look by themselves; the suspended ones wait for nothing
    eventually(lambda: (repeated.metric(count) or 0) >= before + looks)


def test_the_resources_are_counted_by_stage(repeated: Repeated) -> None:
    assert repeated.metric('winepipelines_resources{stage="Serving"}') == len(NAMESPACES)
    assert repeated.metric('winepipelines_resources{stage="Suspended"}') == SUSPENDED
    assert repeated.metric("winepipelines_reconcile_errors_total") == 0


def test_a_users_namespace_does_not_count(repeated: Repeated) -> None:
    """Only the platform as a whole: one user's missing Secret is not everybody's condition."""
    cluster = repeated.patient.cluster
    walks = _walks(repeated)
    cluster.delete("secret", "second", ARTIFACT_SECRET)
    eventually(lambda: _walks(repeated) > walks + 1)
    assert repeated.metric("winepipelines_platform_ready") == 1
    repeated.patient.sandbox.add_namespace("second")


def _walks(repeated: Repeated) -> float:
    return repeated.metric("winepipelines_platform_walks_total") or 0


def test_the_operator_with_its_checks_stays_under_150_megabytes(repeated: Repeated) -> None:
    assert repeated.operator.resident_kilobytes < 150_000
