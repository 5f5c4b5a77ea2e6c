"""Runs that vanish, are terminated by others, start late or twice: the status stays correct, with one run per revision."""

import itertools
from collections.abc import Iterator

import pytest
from support.cluster import Cluster, ready, says
from support.operator import OperatorProcess
from support.proxy import Call, Fault, Proxy

from sandbox.platform import Sandbox
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import ConditionType, Stage


def _running(pipeline: WinePipeline) -> bool:
    return pipeline.status.run is not None and pipeline.status.run.state == "RUNNING"


def _failed(pipeline: WinePipeline) -> bool:
    return pipeline.status.stage is Stage.FAILED


@pytest.fixture
def slow_data(cluster: Cluster) -> Iterator[str]:
    """Yield the URL of a server that accepts connections and never answers."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/wine.csv"


def test_run_is_removed_before_its_timeout_when_its_workflow_was_deleted(
    cluster: Cluster, operator: OperatorProcess, namespace: str, slow_data: str
) -> None:
    cluster.apply(cluster.resource(namespace, url=slow_data, training={"timeout": "1h", "attempts": 1}))
    cluster.wait(namespace, _running)
    cluster.sandbox.kubectl("-n", namespace, "delete", "workflows", "--all")
    pipeline = cluster.wait(namespace, _failed, seconds=30)
    condition = pipeline.status.condition(ConditionType.TRAINED)
    assert condition is not None
    assert condition.reason == "WorkflowDeleted"
    assert cluster.runs(namespace) == [], "Kubeflow would report it as RUNNING for ever"


def test_run_terminated_by_someone_else_is_not_repeated(
    cluster: Cluster, operator: OperatorProcess, namespace: str, slow_data: str
) -> None:
    cluster.apply(cluster.resource(namespace, url=slow_data))
    pipeline = cluster.wait(namespace, _running)
    assert pipeline.status.run is not None
    cluster.http(f"{cluster.info.kfp_url}/apis/v2beta1/runs/{pipeline.status.run.id}:terminate", {})
    pipeline = cluster.wait(namespace, _failed)
    condition = pipeline.status.condition(ConditionType.TRAINED)
    assert condition is not None
    assert condition.reason == "RunTerminated"
    assert len(cluster.runs(namespace)) == 1


def test_spec_change_terminates_the_run_of_the_earlier_spec(
    cluster: Cluster, operator: OperatorProcess, namespace: str, slow_data: str
) -> None:
    cluster.apply(cluster.resource(namespace, url=slow_data))
    cluster.wait(namespace, _running)
    cluster.apply(cluster.resource(namespace))
    pipeline = cluster.wait(namespace, ready)
    assert pipeline.status.revision == 2
    states = {run["display_name"].rsplit("-", 1)[1]: run["state"] for run in cluster.runs(namespace)}
    assert states == {"1": "FAILED", "2": "SUCCEEDED"}


def test_deletion_terminates_the_run(cluster: Cluster, operator: OperatorProcess, namespace: str, slow_data: str) -> None:
    cluster.apply(cluster.resource(namespace, url=slow_data))
    cluster.wait(namespace, _running)
    cluster.delete("winepipeline", namespace, "mlflow")
    assert {run["state"] for run in cluster.runs(namespace)} <= {"CANCELING", "FAILED"}


@pytest.fixture
def faulty(sandbox: Sandbox, cluster: Cluster, operator: OperatorProcess) -> Iterator[tuple[Proxy, OperatorProcess]]:
    """Run an operator that reaches Kubeflow Pipelines through a proxy. The shared operator is stopped meanwhile."""
    operator.kill()
    with Proxy(cluster.info.kfp_url) as proxy, OperatorProcess(sandbox, {"WINE_KFP_URL": proxy.url}) as other:
        yield proxy, other
    operator.start()


@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.CUT_AFTER, Fault.TWICE, Fault.UNAVAILABLE])
def test_failed_submission_leaves_one_run(
    cluster: Cluster, faulty: tuple[Proxy, OperatorProcess], namespace: str, fault: Fault
) -> None:
    proxy, _ = faulty
    submissions = itertools.count()

    def first_submission(call: Call) -> Fault | None:
        is_submission = call.method == "POST" and call.path.endswith("/runs")
        return fault if is_submission and next(submissions) == 0 else None

    proxy.before = first_submission
    cluster.apply(cluster.resource(namespace))
    pipeline = cluster.wait(namespace, ready)
    assert pipeline.status.revision == 1
    assert pipeline.status.run is not None
    live_or_good = [run for run in cluster.runs(namespace) if run["state"] != "FAILED"]
    assert [run["run_id"] for run in live_or_good] == [pipeline.status.run.id]


def test_outage_of_kubeflow_causes_one_condition_and_one_event(
    cluster: Cluster, faulty: tuple[Proxy, OperatorProcess], namespace: str
) -> None:
    proxy, _ = faulty
    proxy.before = lambda _: Fault.UNAVAILABLE
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, says(ConditionType.TRAINED, "KubeflowUnavailable"))
    calls = itertools.count()
    enough = 5

    def fail_then_pass(_: Call) -> Fault | None:
        return Fault.UNAVAILABLE if next(calls) < enough else None

    proxy.before = fail_then_pass
    cluster.wait(namespace, ready)
    reasons = [reason for reason, _ in cluster.events(namespace)]
    assert reasons.count("KubeflowUnavailable") == 1
