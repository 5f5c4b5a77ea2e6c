"""A system is away for as long as you like: one condition, one Event, nothing lost or doubled, and it is seen when it is back."""

import itertools
import threading
from collections.abc import Iterator

import pytest
from support.cluster import Cluster, eventually, ready, says, settled
from support.operator import OperatorProcess
from support.proxy import Call, Fault
from support.systems import Systems

from winepipelines.resource.status import ConditionType

TRAINED, ANSWERING = ConditionType.TRAINED, ConditionType.ANSWERING
SETTLED = ("one", "two", "three")
ENOUGH = 6  # tries in vain


@pytest.fixture
def systems(cluster: Cluster, operator: OperatorProcess) -> Iterator[Systems]:
    operator.kill()
    with Systems(cluster) as systems:
        systems.operator.start()
        yield systems
    operator.start()


class Outage:
    """A system is away until `mend`; calls in vain, and the first one afterwards, are counted."""

    def __init__(self, systems: Systems, system: str, fault: Fault) -> None:
        self._fault, self._away = fault, True
        self._calls = itertools.count(1)
        self.in_vain = 0
        self.seen = threading.Event()
        systems.proxies[system].before = self._before

    def _before(self, _: Call) -> Fault | None:
        if self._away:
            self.in_vain = next(self._calls)
            return self._fault
        self.seen.set()
        return None

    def mend(self) -> None:
        self._away = False


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.CUT_BEFORE])
@pytest.mark.parametrize(
    ("system", "reason"),
    [("kfp", "KubeflowUnavailable"), ("mlflow", "MlflowUnavailable"), ("store", "StoreUnavailable")],
)
def test_an_outage_is_one_condition_and_one_event(
    cluster: Cluster, systems: Systems, namespace: str, system: str, reason: str, fault: Fault
) -> None:
    for name in SETTLED:
        cluster.apply(cluster.resource(namespace, name))
    for name in SETTLED:
        cluster.wait(namespace, settled, name)
    before = _statuses(cluster, namespace)

    outage = Outage(systems, system, fault)
    cluster.apply(cluster.resource(namespace, "late"))
    cluster.wait(namespace, says(TRAINED, reason), "late")
    outage_begun = outage.in_vain
    eventually(lambda: outage.in_vain >= outage_begun + ENOUGH)
    assert _statuses(cluster, namespace) == before, "settled resources are told of the platform, and of nothing else"

    outage.mend()
    assert outage.seen.wait(5), "an interval is a second here"
    pipeline = cluster.wait(namespace, ready, "late")
    assert pipeline.status.revision == 1
    assert [told for told, _ in cluster.events(namespace)].count(reason) == 1
    assert sorted(run["display_name"].rsplit("-", 2)[0] for run in cluster.runs(namespace)) == sorted((*SETTLED, "late"))


def test_serving_away_is_told_of_each_model_once(cluster: Cluster, systems: Systems, namespace: str) -> None:
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, ready)
    outage = Outage(systems, "gateway", Fault.CUT_BEFORE)
    cluster.wait(namespace, says(ANSWERING, "EndpointUnreachable"))
    begun = outage.in_vain
    eventually(lambda: outage.in_vain >= begun + ENOUGH)
    outage.mend()
    pipeline = cluster.wait(namespace, ready)
    assert pipeline.status.revision == 1
    assert [told for told, _ in cluster.events(namespace)].count("EndpointUnreachable") == 1
    assert len(cluster.runs(namespace)) == 1


def test_the_api_server_away_loses_nothing_and_is_seen_when_it_is_back(
    cluster: Cluster, systems: Systems, namespace: str
) -> None:
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, lambda pipeline: pipeline.status.run is not None and pipeline.status.run.id != "")
    outage = Outage(systems, "api", Fault.CUT_BEFORE)
    eventually(lambda: outage.in_vain >= ENOUGH)
    run = cluster.runs(namespace)[0]["run_id"]
    eventually(lambda: next(each for each in cluster.runs(namespace) if each["run_id"] == run)["state"] == "SUCCEEDED", 60)
    outage.mend()
    assert outage.seen.wait(5), "an interval is a second here"
    pipeline = cluster.wait(namespace, ready)
    assert pipeline.status.revision == 1
    assert len(cluster.runs(namespace)) == 1
    assert systems.operator.alive()


def _statuses(cluster: Cluster, namespace: str) -> dict[str, object]:
    """Read what settled resources say, but for what they say of the platform as a whole."""
    found: dict[str, object] = {}
    for body in cluster.objects("winepipelines", namespace):
        if body["metadata"]["name"] in SETTLED:
            conditions = [condition for condition in body["status"]["conditions"] if condition["type"] != "PlatformReady"]
            found[body["metadata"]["name"]] = {**body["status"], "conditions": conditions}
    return found
