"""The operator repeats the checks of `doctor`: one condition on every resource, one metric, and one Event per change."""

import subprocess
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from support.cluster import eventually, ready
from support.doctor import BreakablePlatform
from support.operator import OperatorProcess

from sandbox import ports
from sandbox.manifests import ARTIFACT_SECRET
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import ConditionType

NAMESPACES = ("first", "second")
SUSPENDED = 6  # number of suspended resources, which requeue nothing
CHECK_SECONDS = 3


@dataclass
class Repeated:
    """An operator that checks the platform every second, and its resources."""

    breakable: BreakablePlatform
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
            for event in self.breakable.cluster.objects("events", "kubeflow")
            if event["involvedObject"]["kind"] == "Namespace"
        ]
        return [(event["reason"], event["type"]) for event in sorted(found, key=lambda event: str(event["eventTime"]))]


@pytest.fixture(scope="module")
def repeated(breakable: BreakablePlatform) -> Iterator[Repeated]:
    port = ports.choose(("metrics",), {})["metrics"]
    changes = {
        "WINE_DOCTOR_SECONDS": "1",
        "WINE_METRICS_HOST": "127.0.0.1",
        "WINE_METRICS_PORT": str(port),
        "WINE_CHECK_INTERVAL_SECONDS": str(CHECK_SECONDS),
    }
    cluster, resources = breakable.cluster, []
    with OperatorProcess(breakable.sandbox, changes) as operator:
        for namespace in NAMESPACES:
            cluster.namespace(namespace)
            cluster.apply(cluster.resource(namespace))
            resources.append((namespace, "mlflow"))
        for number in range(SUSPENDED):
            cluster.apply(cluster.resource("first", f"suspended-{number}", suspend=True))
            resources.append(("first", f"suspended-{number}"))
        for namespace in NAMESPACES:
            cluster.wait(namespace, lambda pipeline: ready(pipeline) and platform_is("True")(pipeline))
        for namespace, name in resources:  # suspended resources may settle before the first check of the platform
            cluster.wait(namespace, platform_is("True"), name)
        yield Repeated(breakable, operator, f"http://127.0.0.1:{port}", resources)
        for namespace in NAMESPACES:
            breakable.sandbox.kubectl("-n", namespace, "delete", "winepipelines", "--all", "--wait=true", "--timeout=60s")


def platform_is(status: str) -> Callable[[WinePipeline], bool]:
    """Return a condition: PlatformReady has this status."""

    def matches(pipeline: WinePipeline) -> bool:
        condition = pipeline.status.condition(ConditionType.PLATFORM_READY)
        return condition is not None and condition.status == status

    return matches


class Changes:
    """Counts the changes of every resource while it is watched."""

    def __init__(self, repeated: Repeated) -> None:
        info = repeated.breakable.cluster.info
        command = [str(info.kubectl), f"--kubeconfig={info.kubeconfig}", "get", "winepipelines", "-A", "--watch"]
        self._seen: Counter[str] = Counter()
        line = '--output=jsonpath={.metadata.namespace}/{.metadata.name}{"\\n"}'
        self._process = subprocess.Popen([*command, line], stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        names = {"/".join(resource) for resource in repeated.resources}
        eventually(lambda: set(self._seen) >= names)  # the watch lists each resource once at its start
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


def test_outage_causes_one_condition_one_event_and_two_writes_per_resource(repeated: Repeated) -> None:
    cluster, log = repeated.breakable.cluster, repeated.operator.log
    assert repeated.metric("winepipelines_platform_ready") == 1
    assert repeated.platform_events() == []
    _wait_for_reconciles(repeated)  # every resource is settled
    changes, mark = Changes(repeated), len(log.read_text())

    repeated.breakable.sandbox.stop("kubeflow")
    for namespace, name in repeated.resources:
        pipeline = cluster.wait(namespace, platform_is("False"), name)
        condition = pipeline.status.condition(ConditionType.PLATFORM_READY)
        assert condition is not None
        assert condition.reason == "KubeflowUnreachable"
        assert "kubectl -n kubeflow get endpoints,pods" in condition.message
        assert ready(pipeline) == (name == "mlflow"), "a model that answers stays Ready"
    assert repeated.metric("winepipelines_platform_ready") == 0
    assert repeated.metric('winepipelines_platform_check{check="kubeflow answers"}') == 0
    assert repeated.metric('winepipelines_platform_check{check="mlflow answers"}') == 1
    _wait_for_reconciles(repeated)

    repeated.breakable.sandbox.start("kubeflow")
    for namespace, name in repeated.resources:
        cluster.wait(namespace, platform_is("True"), name)
    assert repeated.metric("winepipelines_platform_ready") == 1
    _wait_for_reconciles(repeated)

    assert changes.end() == {"/".join(resource): 2 for resource in repeated.resources}
    assert repeated.platform_events() == [("KubeflowUnreachable", "Warning"), ("PlatformReady", "Normal")]
    lines = [line for line in log.read_text()[mark:].splitlines() if " Checked the platform " in line]
    assert len(lines) == 2, lines


def _wait_for_reconciles(repeated: Repeated) -> None:
    """Wait until the resources that settled were reconciled a few more times."""
    count = "winepipelines_reconcile_seconds_count"
    before = repeated.metric(count)
    assert before is not None
    more = len(NAMESPACES) * 3  # served resources reconcile periodically; suspended ones do not
    eventually(lambda: (repeated.metric(count) or 0) >= before + more)


def test_metrics_count_the_resources_by_stage(repeated: Repeated) -> None:
    assert repeated.metric('winepipelines_resources{stage="Serving"}') == len(NAMESPACES)
    assert repeated.metric('winepipelines_resources{stage="Suspended"}') == SUSPENDED
    assert repeated.metric("winepipelines_reconcile_errors_total") == 0


def test_missing_secret_of_one_namespace_does_not_affect_the_platform_condition(repeated: Repeated) -> None:
    """PlatformReady describes the platform as a whole, not one user's namespace."""
    cluster = repeated.breakable.cluster
    before = _checks_of_the_platform(repeated)
    cluster.delete("secret", "second", ARTIFACT_SECRET)
    eventually(lambda: _checks_of_the_platform(repeated) > before + 1)
    assert repeated.metric("winepipelines_platform_ready") == 1
    repeated.breakable.sandbox.add_namespace("second")


def _checks_of_the_platform(repeated: Repeated) -> float:
    return repeated.metric("winepipelines_platform_check_runs_total") or 0


def test_operator_that_checks_the_platform_stays_under_150_megabytes(repeated: Repeated) -> None:
    assert repeated.operator.resident_kilobytes < 150_000
