"""What KServe and Knative make of an InferenceService in Knative mode: revisions, their names, shares and addresses."""

from typing import Any

import pytest
from contract.kserve.target import (
    MODE,
    NAME,
    PREFIX,
    RUNTIME,
    SECRET,
    SERVICE_LABEL,
    SERVICES,
    Body,
    Cluster,
    is_complete,
    source,
)

from winepipelines.serving.kserve.knative import Revisions, deployment_name

pytestmark = pytest.mark.skipif(MODE != "Knative", reason="contract of Knative mode: make contract-kserve MODE=Knative")

REVISIONS = "revisions.serving.knative.dev"
URI = "s3://no-such-bucket/model/"
TWICE, THREE_TIMES = (200, 4.0), (200, 6.0)
LATEST, PREVIOUS = f"latest-{NAME}", f"prev-{NAME}"
FIRST, SECOND = f"{NAME}-predictor-00001", f"{NAME}-predictor-00002"


def serve(cluster: Cluster, uri: str, percent: int | None = None, least: int = 1, name: str = NAME) -> None:
    """Apply an InferenceService in Knative mode, with the fields that the operator applies."""
    annotations = {"deploymentMode": "Knative", "enable-tag-routing": "true", "storageSecretName": SECRET}
    model = {"modelFormat": {"name": "winepipelines"}, "runtime": RUNTIME, "storageUri": uri}
    predictor: Body = {"minReplicas": least, "maxReplicas": 1, "model": model}
    predictor |= {} if percent is None else {"canaryTrafficPercent": percent}
    cluster.apply(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name, "annotations": {PREFIX + key: value for key, value in annotations.items()}},
            "spec": {"predictor": predictor},
        }
    )


def routed(cluster: Cluster, shares: dict[str, tuple[str, int]]) -> Revisions:
    """Wait until KServe reports these revisions and shares by tag; return what it reports of the revisions."""

    def found(item: Body) -> bool:
        return {target.tag: (target.revision, target.percent) for target in Revisions.of(item).traffic} == shares

    return Revisions.of(cluster.wait(SERVICES, found, NAME))


def created(cluster: Cluster, revision: str, name: str = NAME) -> Body:
    """Wait until a revision is the newest; return its Deployment."""
    cluster.wait(SERVICES, lambda item: Revisions.of(item).created == revision, name)
    return cluster.wait("deployments", lambda item: True, deployment_name(revision))


def addresses(cluster: Cluster) -> dict[str, str]:
    """Return the addresses of the tags."""
    traffic: list[dict[str, Any]] = cluster.live(SERVICES, NAME)["status"]["components"]["predictor"]["traffic"]
    return {target["tag"]: target["url"] for target in traffic}


def serving(cluster: Cluster, uri: str) -> None:
    """Serve the first model."""
    serve(cluster, uri)
    routed(cluster, {"latest": (FIRST, 100)})


def with_candidate(cluster: Cluster, models: tuple[str, str]) -> None:
    """Serve the first model, and add the second one without traffic."""
    serving(cluster, models[0])
    serve(cluster, models[1], percent=0)
    routed(cluster, {"latest": (SECOND, 0), "prev": (FIRST, 100)})


@pytest.mark.parametrize("name", [NAME, "wine-of-a-resource-with-a-long-name"])
def test_deployment_of_a_revision_has_its_name_owner_label_and_model(cluster: Cluster, name: str) -> None:
    serve(cluster, URI, name=name)
    revision = f"{name}-predictor-00001"
    deployment = created(cluster, revision, name)
    [owner] = [one for one in deployment["metadata"]["ownerReferences"] if one.get("controller")]
    assert (owner["kind"], owner["name"]) == ("Revision", revision)
    assert deployment["metadata"]["labels"][SERVICE_LABEL] == name
    assert source(deployment) == URI


@pytest.mark.parametrize("least", [0, 1])
def test_minimum_of_pods_is_an_annotation_of_the_revision(cluster: Cluster, least: int) -> None:
    serve(cluster, URI, least=least)
    created(cluster, FIRST)
    annotations = cluster.live(REVISIONS, FIRST)["metadata"]["annotations"]
    assert annotations["autoscaling.knative.dev/min-scale"] == str(least)
    assert annotations["autoscaling.knative.dev/max-scale"] == "1"


def test_another_minimum_of_pods_is_another_revision(cluster: Cluster) -> None:
    serve(cluster, URI, least=1)
    created(cluster, FIRST)
    serve(cluster, URI, least=0)
    assert source(created(cluster, SECOND)) == URI


def test_revision_that_is_not_ready_is_created_only(cluster: Cluster) -> None:
    serve(cluster, URI)
    created(cluster, FIRST)
    revisions = Revisions.of(cluster.live(SERVICES, NAME))
    assert (revisions.created, revisions.ready) == (FIRST, "")


def test_first_revision_is_ready_and_gets_all_traffic(cluster: Cluster, models: tuple[str, str]) -> None:
    serve(cluster, models[0])
    revisions = routed(cluster, {"latest": (FIRST, 100)})
    assert (revisions.created, revisions.ready) == (FIRST, FIRST)
    assert is_complete(cluster.live("deployments", deployment_name(FIRST)))
    assert cluster.predict() == TWICE


def test_newer_revision_gets_all_traffic_when_it_is_ready(cluster: Cluster, models: tuple[str, str]) -> None:
    serving(cluster, models[0])
    serve(cluster, models[1])
    cluster.wait(SERVICES, lambda item: Revisions.of(item).percent_of(SECOND) == 100, NAME)
    assert cluster.predict() == THREE_TIMES


def test_candidate_has_no_traffic_and_an_address_of_its_own(cluster: Cluster, models: tuple[str, str]) -> None:
    with_candidate(cluster, models)
    revisions = Revisions.of(cluster.live(SERVICES, NAME))
    assert (revisions.created, revisions.ready) == (SECOND, SECOND)
    urls = addresses(cluster)
    assert urls["latest"].startswith(f"http://{LATEST}-predictor")
    assert urls["prev"].startswith(f"http://{PREVIOUS}-predictor")
    assert (cluster.predict(), cluster.predict(PREVIOUS), cluster.predict(LATEST)) == (TWICE, TWICE, THREE_TIMES)


def test_tag_latest_is_that_of_the_served_revision_until_the_candidate_is_ready(
    cluster: Cluster, models: tuple[str, str]
) -> None:
    """So the shares alone do not tell whether a candidate is at its address."""
    serving(cluster, models[0])
    serve(cluster, URI, percent=0)
    created(cluster, SECOND)
    routed(cluster, {"latest": (FIRST, 0), "prev": (FIRST, 100)})
    assert cluster.predict(LATEST) == TWICE


def test_share_of_the_candidate_changes_without_another_revision(cluster: Cluster, models: tuple[str, str]) -> None:
    with_candidate(cluster, models)
    serve(cluster, models[1], percent=10)
    revisions = routed(cluster, {"latest": (SECOND, 10), "prev": (FIRST, 90)})
    assert revisions.created == SECOND


def test_candidate_without_a_share_in_the_spec_gets_all_traffic_and_keeps_its_pods(
    cluster: Cluster, models: tuple[str, str]
) -> None:
    with_candidate(cluster, models)
    before = [pod["metadata"]["uid"] for pod in cluster.pods() if SECOND in pod["metadata"]["name"]]
    serve(cluster, models[1])
    cluster.wait(SERVICES, lambda item: Revisions.of(item).percent_of(SECOND) == 100, NAME)
    assert [pod["metadata"]["uid"] for pod in cluster.pods() if SECOND in pod["metadata"]["name"]] == before
    assert Revisions.of(cluster.live(SERVICES, NAME)).created == SECOND
    assert cluster.predict() == THREE_TIMES


def test_broken_second_revision_leaves_the_first_serving(cluster: Cluster, models: tuple[str, str]) -> None:
    serving(cluster, models[0])
    serve(cluster, URI)
    assert source(created(cluster, SECOND)) == URI
    cluster.failing_pod(lambda status: status["name"] == "storage-initializer" and not status.get("ready", False))
    revisions = Revisions.of(cluster.live(SERVICES, NAME))
    assert (revisions.created, revisions.ready) == (SECOND, FIRST)
    assert revisions.percent_of(FIRST) == 100
    assert cluster.predict() == TWICE
