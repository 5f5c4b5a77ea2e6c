"""An upgrade of the operator names another server image: what serves keeps the one it has."""

import json
from collections.abc import Iterator

import pytest
from support.cluster import Body, Cluster, ready, says, settled
from support.operator import OperatorProcess

from sandbox.platform import Sandbox
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.status import ConditionType, Outcome

WRONG = "registry.invalid/wine/server:typo"


def _seen(cluster: Cluster, namespace: str) -> tuple[str, int, list[str]]:
    """What an upgrade must leave alone: the resource as stored, the deployment's generation, the pods."""
    found = [cluster.get(kind, namespace, "mlflow") for kind in ("winepipelines", "seldondeployments")]
    resource, deployment = (body["metadata"] for body in found if body is not None)
    pods = sorted(pod["metadata"]["uid"] for pod in cluster.serving_pods(namespace))
    return resource["resourceVersion"], deployment["generation"], pods


def _images(cluster: Cluster, namespace: str) -> set[str]:
    return {_image(pod) for pod in cluster.serving_pods(namespace) if "deletionTimestamp" not in pod["metadata"]}


def _image(pod: Body) -> str:
    [image] = [container["image"] for container in pod["spec"]["containers"] if container["name"] == "classifier"]
    return str(image)


def _look(cluster: Cluster, namespace: str, behind: str) -> None:
    """Wait until a resource has been looked at: one behind it in the queue is Ready."""
    cluster.apply(cluster.resource(namespace, behind))
    cluster.wait(namespace, ready, behind)
    cluster.delete("winepipelines", namespace, behind)
    cluster.sandbox.kubectl(
        "-n", namespace, "wait", "pods", "-l", f"seldon-deployment-id={behind}", "--for=delete", "--timeout=60s"
    )


@pytest.fixture
def alone(operator: OperatorProcess) -> Iterator[None]:
    """Without the operator that most tests share."""
    operator.kill()
    yield
    operator.start()


@pytest.mark.parametrize("older", [False, True], ids=["", "whose-status-has-no-image"])
def test_a_model_keeps_its_server_image_and_the_next_one_has_the_new(
    sandbox: Sandbox, cluster: Cluster, alone: None, namespace: str, older: bool
) -> None:
    with OperatorProcess(sandbox, {"WINE_SERVER_IMAGE": "server:1"}):
        cluster.apply(cluster.resource(namespace))
        served = cluster.wait(namespace, _all_is_told).status.served
        assert served is not None
        assert served.image == "server:1"
    if older:
        none = json.dumps({"status": {part: {"image": None} for part in ("served", "candidate")}})
        cluster.sandbox.kubectl(
            "-n", namespace, "patch", "winepipeline", "mlflow", "--subresource=status", "--type=merge", "-p", none
        )
    before = _seen(cluster, namespace)

    with OperatorProcess(sandbox, {"WINE_SERVER_IMAGE": "server:2"}):
        _look(cluster, namespace, "behind")
        assert _seen(cluster, namespace) == before, cluster.get("winepipelines", namespace, "mlflow")
        cluster.apply(cluster.resource(namespace, serving={"replicas": 2}))
        cluster.wait(namespace, ready)
        assert _images(cluster, namespace) == {"server:1"}
        cluster.apply(cluster.resource(namespace, training={"seed": 7}))
        pipeline = cluster.wait(namespace, _second)
        assert pipeline.status.served is not None
        assert pipeline.status.served.image == "server:2"
        assert _images(cluster, namespace) == {"server:2"}


def test_a_corrected_server_image_reaches_a_first_model_that_never_served(
    sandbox: Sandbox, cluster: Cluster, alone: None, namespace: str
) -> None:
    with OperatorProcess(sandbox, {"WINE_SERVER_IMAGE": WRONG, "WINE_PROGRESS_DEADLINE_SECONDS": "3"}):
        cluster.apply(cluster.resource(namespace))
        pipeline = cluster.wait(namespace, says(ConditionType.STALLED, "ErrImagePull"))
        assert WRONG in str(pipeline.status.condition(ConditionType.READY))
        assert [entry.outcome for entry in pipeline.status.history] == [Outcome.REJECTED]
    with OperatorProcess(sandbox, {"WINE_SERVER_IMAGE": "server:1"}):
        pipeline = cluster.wait(namespace, ready)
        assert pipeline.status.served is not None
        assert (pipeline.status.served.image, pipeline.status.served.revision) == ("server:1", 1)
        assert len(cluster.runs(namespace)) == 1, "nothing is trained again"


def test_a_rejected_candidate_is_tried_again_when_the_server_image_is_corrected(
    sandbox: Sandbox, cluster: Cluster, alone: None, namespace: str
) -> None:
    with OperatorProcess(sandbox, {"WINE_SERVER_IMAGE": "server:1"}):
        cluster.apply(cluster.resource(namespace))
        cluster.wait(namespace, settled)
    with OperatorProcess(sandbox, {"WINE_SERVER_IMAGE": WRONG, "WINE_PROGRESS_DEADLINE_SECONDS": "3"}):
        cluster.apply(cluster.resource(namespace, training={"seed": 7}))
        cluster.wait(namespace, says(ConditionType.STALLED, "ErrImagePull"))
        assert cluster.predict(namespace) == pytest.approx(5.3, abs=0.5), "what served serves on"
    with OperatorProcess(sandbox, {"WINE_SERVER_IMAGE": "server:2"}):
        pipeline = cluster.wait(namespace, _second)
        assert pipeline.status.served is not None
        assert pipeline.status.served.image == "server:2"
        assert len(cluster.runs(namespace)) == 2


def _all_is_told(pipeline: WinePipeline) -> bool:
    """Whether nothing is left to write, the platform's checks included: a slow first walk of theirs is told later."""
    return settled(pipeline) and says(ConditionType.PLATFORM_READY, "ChecksPassed")(pipeline)


def _second(pipeline: WinePipeline) -> bool:
    return ready(pipeline) and pipeline.status.revision == 2
