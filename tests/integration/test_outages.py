"""Outages of any length cause one condition and one Event. Nothing is lost or done twice, and the operator notices the end."""

import itertools
import threading
from collections.abc import Iterator

import pytest
from support.cluster import Cluster, eventually, ready, says, settled
from support.operator import OperatorProcess
from support.parametrized import both_backends
from support.proxy import Call, Fault
from support.systems import Systems

from winepipelines.api.status import ConditionType

TRAINED, ENDPOINT_VERIFIED = ConditionType.TRAINED, ConditionType.ENDPOINT_VERIFIED
SETTLED = ("one", "two", "three")
ENOUGH = 6  # failed calls


@pytest.fixture(scope="module")
def systems(cluster: Cluster, operator: OperatorProcess) -> Iterator[Systems]:
    """Run an operator that reaches every system through a proxy. The shared operator is stopped meanwhile."""
    operator.kill()
    with Systems(cluster) as systems:
        systems.operator.start()
        yield systems
    operator.start()


@pytest.fixture(scope="module")
def home(cluster: Cluster, systems: Systems) -> str:
    """Serve three models for all tests of outages; return their namespace."""
    namespace = cluster.namespace(f"outages-on-{cluster.backend.name.lower()}")
    for name in SETTLED:
        cluster.apply(cluster.resource(namespace, name))
    return namespace


class Outage:
    """A system is unavailable until `end`. Failed calls are counted, and `seen` is set by the first call afterwards."""

    def __init__(self, systems: Systems, system: str, fault: Fault) -> None:
        self._fault, self._active = fault, True
        self._calls = itertools.count(1)
        self.failed_calls = 0
        self.seen = threading.Event()
        self._proxy = systems.proxies[system]
        self._proxy.before = self._before

    def _before(self, _: Call) -> Fault | None:
        if self._active:
            self.failed_calls = next(self._calls)
            return self._fault
        self.seen.set()
        return None

    def end(self) -> None:
        self._active = False


@both_backends
@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.CUT_BEFORE], ids=lambda fault: fault.name.lower())
@pytest.mark.parametrize(
    ("system", "reason"),
    [("kfp", "KubeflowUnavailable"), ("mlflow", "MlflowUnavailable"), ("store", "ObjectStoreUnavailable")],
)
def test_outage_causes_one_condition_and_one_event(
    cluster: Cluster, systems: Systems, home: str, system: str, reason: str, fault: Fault
) -> None:
    namespace, late = home, f"late-{system}-{fault.name.partition('_')[0].lower()}"
    for name in SETTLED:
        cluster.wait(namespace, settled, name)
    before, events, runs = _statuses(cluster, namespace), _count(cluster, namespace, reason), len(cluster.runs(namespace))

    outage = Outage(systems, system, fault)
    cluster.apply(cluster.resource(namespace, late))
    cluster.wait(namespace, says(TRAINED, reason), late)
    before_waiting = outage.failed_calls
    eventually(lambda: outage.failed_calls >= before_waiting + ENOUGH)
    assert _statuses(cluster, namespace) == before, "only PlatformReady of settled resources may change"

    outage.end()
    assert outage.seen.wait(20), "the interval between calls is a second"
    pipeline = cluster.wait(namespace, ready, late)
    assert pipeline.status.revision == 1
    assert _count(cluster, namespace, reason) == events + 1
    names = [run["display_name"].rsplit("-", 2)[0] for run in cluster.runs(namespace)]
    assert (len(names), names.count(late)) == (runs + 1, 1)
    cluster.sandbox.kubectl("-n", namespace, "delete", "winepipeline", late, "--wait=false")


@both_backends
def test_outage_of_the_gateway_causes_one_event(cluster: Cluster, systems: Systems, namespace: str) -> None:
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, ready)
    outage = Outage(systems, "gateway", Fault.CUT_BEFORE)
    cluster.wait(namespace, says(ENDPOINT_VERIFIED, "EndpointUnreachable"))
    before = outage.failed_calls
    eventually(lambda: outage.failed_calls >= before + ENOUGH)
    outage.end()
    pipeline = cluster.wait(namespace, ready)
    assert pipeline.status.revision == 1
    assert _count(cluster, namespace, "EndpointUnreachable") == 1
    assert len(cluster.runs(namespace)) == 1


@both_backends
def test_outage_of_the_api_server_loses_nothing(cluster: Cluster, systems: Systems, namespace: str) -> None:
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, lambda pipeline: pipeline.status.run is not None and pipeline.status.run.id != "")
    outage = Outage(systems, "api", Fault.CUT_BEFORE)
    eventually(lambda: outage.failed_calls >= ENOUGH)
    run = cluster.runs(namespace)[0]["run_id"]
    eventually(lambda: next(each for each in cluster.runs(namespace) if each["run_id"] == run)["state"] == "SUCCEEDED", 60)
    outage.end()
    assert outage.seen.wait(20), "the interval between calls is a second"
    pipeline = cluster.wait(namespace, ready)
    assert pipeline.status.revision == 1
    assert len(cluster.runs(namespace)) == 1
    assert systems.operator.alive()


def _count(cluster: Cluster, namespace: str, reason: str) -> int:
    """Count the Events with a reason."""
    return [found for found, _ in cluster.events(namespace)].count(reason)


def _statuses(cluster: Cluster, namespace: str) -> dict[str, object]:
    """Read the statuses of the settled resources, without PlatformReady."""
    found: dict[str, object] = {}
    for body in cluster.objects("winepipelines", namespace):
        if body["metadata"]["name"] in SETTLED:
            conditions = [condition for condition in body["status"]["conditions"] if condition["type"] != "PlatformReady"]
            found[body["metadata"]["name"]] = {**body["status"], "conditions": conditions}
    return found
