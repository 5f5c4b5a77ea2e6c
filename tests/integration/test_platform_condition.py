"""PlatformReady follows failed calls within seconds, and names the system that is down."""

import os
from collections.abc import Callable, Iterator

import pytest
from support.cluster import Cluster, ready, says
from support.operator import OperatorProcess
from support.webhooks import webhook_down

from sandbox.platform import Sandbox
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import ConditionType

SELDON_WEBHOOK = "v1.vseldondeployment.kb.io"


@pytest.fixture(scope="module")
def quiet() -> Iterator[Cluster]:
    """Run a platform whose operator checks it once an hour, unless a call fails."""
    with Sandbox(f"quiet-{os.getpid()}", without={"operator"}) as sandbox:
        cluster = Cluster(sandbox)
        with OperatorProcess(sandbox, {"WINE_DOCTOR_SECONDS": "3600", "WINE_CHECK_INTERVAL_SECONDS": "3600"}):
            yield cluster


def platform_is(status: str, reason: str) -> Callable[[WinePipeline], bool]:
    def matches(pipeline: WinePipeline) -> bool:
        condition = pipeline.status.condition(ConditionType.PLATFORM_READY)
        return condition is not None and (condition.status, condition.reason) == (status, reason)

    return matches


def test_platform_condition_follows_an_outage_and_its_end(quiet: Cluster) -> None:
    first, late = quiet.namespace("first"), quiet.namespace("late")
    quiet.apply(quiet.resource(first))
    quiet.wait(first, lambda pipeline: ready(pipeline) and platform_is("True", "ChecksPassed")(pipeline))
    quiet.sandbox.stop("kubeflow")
    quiet.apply(quiet.resource(late))
    quiet.wait(late, says(ConditionType.TRAINED, "KubeflowUnavailable"))
    for namespace in (late, first):  # a settled resource reports it too
        quiet.wait(namespace, platform_is("False", "KubeflowUnreachable"), seconds=45)
    quiet.sandbox.start("kubeflow")
    for namespace in (late, first):
        quiet.wait(namespace, platform_is("True", "ChecksPassed"), seconds=45)
    quiet.wait(late, ready)


def test_platform_condition_names_the_serving_platform_that_is_down(quiet: Cluster) -> None:
    namespace = quiet.namespace("served")
    with webhook_down(quiet, SELDON_WEBHOOK):
        quiet.apply(quiet.resource(namespace))
        pipeline = quiet.wait(namespace, says(ConditionType.DEPLOYED, "ServingBackendUnavailable"))
        condition = pipeline.status.condition(ConditionType.DEPLOYED)
        assert condition is not None
        assert condition.message.startswith("Seldon's controller is down or unreachable")
        assert "the API server answered" not in condition.message
        assert pipeline.status.condition(ConditionType.STALLED) is None, "the failure is passing"
        quiet.wait(namespace, platform_is("False", "ServingBackendUnavailable"), seconds=45)
    quiet.wait(namespace, lambda pipeline: ready(pipeline) and platform_is("True", "ChecksPassed")(pipeline))
    assert len(quiet.runs(namespace)) == 1
    reasons = [reason for reason, _ in quiet.events(namespace)]
    assert reasons.count("ServingBackendUnavailable") == 1


def test_exceeded_quota_is_named(quiet: Cluster) -> None:
    namespace = quiet.namespace("full")
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": namespace}}
    quiet.apply({**quota, "spec": {"hard": {"count/seldondeployments.machinelearning.seldon.io": "0"}}})
    quiet.sandbox.kubectl("-n", namespace, "wait", "resourcequota/few", "--for=jsonpath={.status.hard}", "--timeout=30s")
    quiet.apply(quiet.resource(namespace))
    pipeline = quiet.wait(namespace, says(ConditionType.DEPLOYED, "DeploymentRejected"))
    condition = pipeline.status.condition(ConditionType.DEPLOYED)
    assert condition is not None
    assert "ResourceQuota few" in condition.message
    quiet.delete("resourcequota", namespace, "few")
    quiet.wait(namespace, ready)
