"""An upgrade of the operator brings another server image: a served model keeps its image."""

import json
from collections.abc import Iterator

import pytest
from support.cluster import Body, Cluster, ready, says, settled
from support.operator import OperatorProcess

from sandbox.platform import Sandbox
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import ConditionType, RevisionOutcome

WRONG = "registry.invalid/wine/server:typo"


def _state(cluster: Cluster, namespace: str) -> tuple[str, int, list[str]]:
    """Return what an upgrade must not change: the resource's version, the deployment's generation and the pods."""
    found = [cluster.get(kind, namespace, "mlflow") for kind in ("winepipelines", "seldondeployments")]
    resource, deployment = (body["metadata"] for body in found if body is not None)
    pods = sorted(pod["metadata"]["uid"] for pod in cluster.serving_pods(namespace))
    return resource["resourceVersion"], deployment["generation"], pods


def _images(cluster: Cluster, namespace: str) -> set[str]:
    return {_image(pod) for pod in cluster.serving_pods(namespace) if "deletionTimestamp" not in pod["metadata"]}


def _image(pod: Body) -> str:
    [image] = [container["image"] for container in pod["spec"]["containers"] if container["name"] == "classifier"]
    return str(image)


def _wait_for_reconcile(cluster: Cluster, namespace: str, behind: str) -> None:
    """Wait until a resource was reconciled: one behind it in the queue is Ready."""
    cluster.apply(cluster.resource(namespace, behind))
    cluster.wait(namespace, ready, behind)
    cluster.delete("winepipelines", namespace, behind)
    cluster.sandbox.kubectl(
        "-n", namespace, "wait", "pods", "-l", f"seldon-deployment-id={behind}", "--for=delete", "--timeout=60s"
    )


def _remove_images(cluster: Cluster, namespace: str) -> None:
    """Remove the server image from the model records of a status."""
    body = cluster.get("winepipelines", namespace, "mlflow")
    assert body is not None
    records = [part for part in ("served", "candidate") if part in body["status"]]
    patch = json.dumps({"status": {part: {"model": {"server": {"image": None}}} for part in records}})
    arguments = ("-n", namespace, "patch", "winepipeline", "mlflow", "--subresource=status", "--type=merge", "-p", patch)
    cluster.sandbox.kubectl(*arguments)
    after = cluster.get("winepipelines", namespace, "mlflow")
    assert after is not None
    assert not any(after["status"][part]["model"]["server"].get("image") for part in records)


@pytest.fixture
def alone(operator: OperatorProcess) -> Iterator[None]:
    """Stop the operator that most tests share."""
    operator.kill()
    yield
    operator.start()


@pytest.mark.parametrize("older", [False, True], ids=["", "whose-status-has-no-image"])
def test_served_model_keeps_its_server_image_and_the_next_one_gets_the_new(
    sandbox: Sandbox, cluster: Cluster, alone: None, namespace: str, older: bool
) -> None:
    with OperatorProcess(sandbox, {"WINE_SERVER_IMAGE": "server:1"}):
        cluster.apply(cluster.resource(namespace))
        served = cluster.wait(namespace, _settled_and_checked).status.served
        assert served is not None
        assert served.model.server.image == "server:1"
    if older:
        _remove_images(cluster, namespace)
    before = _state(cluster, namespace)

    with OperatorProcess(sandbox, {"WINE_SERVER_IMAGE": "server:2"}):
        _wait_for_reconcile(cluster, namespace, "behind")
        assert _state(cluster, namespace) == before, cluster.get("winepipelines", namespace, "mlflow")
        cluster.apply(cluster.resource(namespace, serving={"replicas": 2}))
        cluster.wait(namespace, ready)
        assert _images(cluster, namespace) == {"server:1"}
        cluster.apply(cluster.resource(namespace, training={"seed": 7}))
        pipeline = cluster.wait(namespace, _second)
        assert pipeline.status.served is not None
        assert pipeline.status.served.model.server.image == "server:2"
        assert _images(cluster, namespace) == {"server:2"}


def test_corrected_server_image_reaches_a_first_model_that_never_served(
    sandbox: Sandbox, cluster: Cluster, alone: None, namespace: str
) -> None:
    with OperatorProcess(sandbox, {"WINE_SERVER_IMAGE": WRONG, "WINE_PROGRESS_DEADLINE_SECONDS": "3"}):
        cluster.apply(cluster.resource(namespace))
        pipeline = cluster.wait(namespace, says(ConditionType.STALLED, "ErrImagePull"))
        assert WRONG in str(pipeline.status.condition(ConditionType.READY))
        assert [entry.outcome for entry in pipeline.status.history] == [RevisionOutcome.REJECTED]
    with OperatorProcess(sandbox, {"WINE_SERVER_IMAGE": "server:1"}):
        pipeline = cluster.wait(namespace, ready)
        assert pipeline.status.served is not None
        assert (pipeline.status.served.model.server.image, pipeline.status.served.revision) == ("server:1", 1)
        assert len(cluster.runs(namespace)) == 1, "no model is trained again"


def test_rejected_candidate_is_deployed_again_when_the_server_image_is_corrected(
    sandbox: Sandbox, cluster: Cluster, alone: None, namespace: str
) -> None:
    with OperatorProcess(sandbox, {"WINE_SERVER_IMAGE": "server:1"}):
        cluster.apply(cluster.resource(namespace))
        cluster.wait(namespace, settled)
    with OperatorProcess(sandbox, {"WINE_SERVER_IMAGE": WRONG, "WINE_PROGRESS_DEADLINE_SECONDS": "3"}):
        cluster.apply(cluster.resource(namespace, training={"seed": 7}))
        cluster.wait(namespace, says(ConditionType.STALLED, "ErrImagePull"))
        assert cluster.predict(namespace) == pytest.approx(5.3, abs=0.5), "the served model keeps serving"
    with OperatorProcess(sandbox, {"WINE_SERVER_IMAGE": "server:2"}):
        pipeline = cluster.wait(namespace, _second)
        assert pipeline.status.served is not None
        assert pipeline.status.served.model.server.image == "server:2"
        assert len(cluster.runs(namespace)) == 2


def _settled_and_checked(pipeline: WinePipeline) -> bool:
    """Report whether nothing is left to write, PlatformReady included: the first check of the platform may end late."""
    return settled(pipeline) and says(ConditionType.PLATFORM_READY, "ChecksPassed")(pipeline)


def _second(pipeline: WinePipeline) -> bool:
    return ready(pipeline) and pipeline.status.revision == 2
