"""How failures show: in the pods, and not reliably in the status of an InferenceService. Pods must run for it."""

from collections.abc import Callable

import pytest
from contract.kserve.target import (
    CONTAINER,
    INITIALIZER,
    NAME,
    SERVICE_LABEL,
    SERVICES,
    STANDARD_ONLY,
    Body,
    Cluster,
    condition,
    ended,
    is_complete,
    model_status,
    source,
)

pytestmark = STANDARD_ONLY

PREDICTOR = f"{NAME}-predictor"
BAD_IMAGE = "registry.invalid/server:1"
TWICE = (200, 4.0)


def _missing_prefix(cluster: Cluster, uri: str) -> None:
    cluster.serve(f"s3://{uri.split('/')[2]}/no/such/prefix/")


def _missing_bucket(cluster: Cluster, _: str) -> None:
    cluster.serve("s3://no-such-bucket/model/")


def _wrong_keys(cluster: Cluster, uri: str) -> None:
    right = cluster.live("secrets", "model-store")
    wrong = {"AWS_ACCESS_KEY_ID": "wrong", "AWS_SECRET_ACCESS_KEY": "wrong-too"}
    annotations = {key: value for key, value in right["metadata"]["annotations"].items() if key.startswith("serving.kserve.io/")}
    metadata = {"name": "wrong", "annotations": annotations}
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": wrong})
    cluster.serve(uri, annotations={"storageSecretName": "wrong"})


UNCOPIED: dict[str, tuple[Callable[[Cluster, str], None], str]] = {
    "missing prefix": (_missing_prefix, "Failed to fetch model"),
    "missing bucket": (_missing_bucket, "no-such-bucket"),
    "wrong keys": (_wrong_keys, ""),
}


def _serving(cluster: Cluster, uri: str) -> None:
    """Serve a model, to the end of its rollout."""
    cluster.serve(uri)
    cluster.rolled_out(uri)
    cluster.ready()


def _initializer_failed(status: Body) -> bool:
    return status["name"] == INITIALIZER and bool(ended(status).get("exitCode"))


def _still_serves(cluster: Cluster, uri: str) -> None:
    """The Deployment is not complete, and the pod of the earlier model still answers."""
    deployment = cluster.live("deployments", PREDICTOR)
    assert not is_complete(deployment)
    assert source(deployment) != uri or deployment["spec"]["template"]["spec"]["containers"][0]["image"] == BAD_IMAGE
    assert cluster.predict() == TWICE


@pytest.mark.parametrize("fault", UNCOPIED)
def test_uncopied_model_fails_the_initializer_and_blocks_the_load(cluster: Cluster, models: tuple[str, str], fault: str) -> None:
    begin, message = UNCOPIED[fault]
    begin(cluster, models[0])
    status = cluster.failing_pod(_initializer_failed)
    assert ended(status)["exitCode"] == 1
    assert message in ended(status)["message"]
    if not cluster.target.is_latest:
        assert condition(cluster.live(SERVICES, NAME), "Ready")["status"] == "False"
        return
    live = cluster.wait(SERVICES, lambda item: model_status(item)[0] == "BlockedByFailedLoad", NAME)
    assert model_status(live)[1:] == ("FailedToLoad", "ModelLoadFailed")
    assert message in live["status"]["modelStatus"]["lastFailureInfo"]["message"]
    assert condition(live, "Ready")["status"] == "False"


@pytest.mark.parametrize("fault", UNCOPIED)
def test_service_stays_ready_while_the_next_model_cannot_be_copied(cluster: Cluster, models: tuple[str, str], fault: str) -> None:
    _serving(cluster, models[0])
    begin, message = UNCOPIED[fault]
    begin(cluster, models[1])
    status = cluster.failing_pod(_initializer_failed)
    assert message in ended(status)["message"]
    if cluster.target.is_latest:
        cluster.wait(SERVICES, lambda item: model_status(item)[0] == "BlockedByFailedLoad", NAME)
    assert cluster.ready_while_rolling()
    _still_serves(cluster, models[0])


def test_image_that_cannot_be_pulled_leaves_the_service_pending(cluster: Cluster, models: tuple[str, str]) -> None:
    cluster.serve(models[0], image=BAD_IMAGE)
    status = cluster.failing_pod(lambda each: each["name"] == CONTAINER and _waits(each) in ("ErrImagePull", "ImagePullBackOff"))
    assert BAD_IMAGE in status["state"]["waiting"]["message"]
    live = cluster.wait(SERVICES, lambda item: model_status(item)[1], NAME)
    assert model_status(live)[1] in ("Pending", "Loading")
    assert condition(live, "Ready")["status"] == "False"


def test_service_stays_ready_and_up_to_date_while_the_next_image_cannot_be_pulled(
    cluster: Cluster, models: tuple[str, str]
) -> None:
    _serving(cluster, models[0])
    cluster.serve(models[0], image=BAD_IMAGE)
    cluster.failing_pod(lambda each: each["name"] == CONTAINER and _waits(each) in ("ErrImagePull", "ImagePullBackOff"))
    assert cluster.ready_while_rolling()
    if cluster.target.is_latest:
        assert model_status(cluster.live(SERVICES, NAME))[:2] == ("UpToDate", "Loaded")
    _still_serves(cluster, models[0])


def test_crash_of_the_server_leaves_its_last_lines_in_the_pod(cluster: Cluster, models: tuple[str, str]) -> None:
    """The server compares the model's files with a digest that is not theirs."""
    _serving(cluster, models[0])
    cluster.serve(models[1], env=[{"name": "MODEL_DIGEST", "value": "sha256:0"}])
    status = cluster.failing_pod(lambda each: each["name"] == CONTAINER and ended(each).get("exitCode"))
    assert ended(status)["exitCode"] == 1
    assert ended(status)["message"]
    assert cluster.ready_while_rolling()
    if cluster.target.is_latest:
        assert model_status(cluster.live(SERVICES, NAME))[:2] == ("UpToDate", "Loaded")
    _still_serves(cluster, models[0])


def test_last_failure_stays_after_the_service_recovers(cluster: Cluster, models: tuple[str, str]) -> None:
    if not cluster.target.is_latest:
        pytest.skip("earlier releases do not watch pods: what they report of the failure depends on other events")
    _missing_prefix(cluster, models[0])
    cluster.wait(SERVICES, lambda item: model_status(item)[0] == "BlockedByFailedLoad", NAME)
    cluster.serve(models[0])
    cluster.rolled_out(models[0])
    live = cluster.ready()
    assert model_status(live)[2] == "ModelLoadFailed"


def test_missing_secret_rejects_the_pods(cluster: Cluster) -> None:
    cluster.serve("s3://no-such-bucket/model/", annotations={"storageSecretName": "missing"})
    deployment = cluster.wait("deployments", lambda item: condition(item, "ReplicaFailure")["status"] == "True", PREDICTOR)
    failure = condition(deployment, "ReplicaFailure")
    assert failure["reason"] == "FailedCreate"
    assert '"missing" not found' in failure["message"]
    live = cluster.wait(SERVICES, lambda item: condition(item, "PredictorReady").get("reason") == "FailedCreate", NAME)
    assert condition(live, "Ready")["status"] == "False"


def test_service_is_not_ready_while_a_quota_rejects_the_next_pod(cluster: Cluster, models: tuple[str, str]) -> None:
    """The one failure for which an InferenceService reports less than is true: the earlier model serves."""
    _serving(cluster, models[0])
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": {"hard": {"pods": "1"}}}
    cluster.apply(quota)
    cluster.run("wait", "--for=jsonpath={.status.used.pods}=1", "resourcequota/full", "--timeout=30s")
    cluster.serve(models[1])
    deployment = cluster.wait("deployments", lambda item: condition(item, "ReplicaFailure")["status"] == "True", PREDICTOR)
    assert "exceeded quota: full" in condition(deployment, "ReplicaFailure")["message"]
    live = cluster.wait(SERVICES, lambda item: condition(item, "Ready")["status"] == "False", NAME)
    assert condition(live, "Ready")["reason"] == "FailedCreate"
    _still_serves(cluster, models[0])


def test_invalid_spec_is_reported_while_the_earlier_model_serves(cluster: Cluster, models: tuple[str, str]) -> None:
    _serving(cluster, models[0])
    cluster.serve(models[1], runtime="missing")
    cluster.wait(SERVICES, lambda item: model_status(item)[0] == "InvalidSpec", NAME)
    assert cluster.ready_while_rolling()
    assert source(cluster.live("deployments", PREDICTOR)) == models[0]
    assert cluster.predict() == TWICE


def test_runtime_made_later_is_found(cluster: Cluster, models: tuple[str, str]) -> None:
    cluster.serve(models[0], runtime="later")
    cluster.wait(SERVICES, lambda item: model_status(item)[0] == "InvalidSpec", NAME)
    cluster.runtime("later")
    cluster.rolled_out(models[0])
    cluster.ready()
    pods = cluster.wait("pods", lambda item: condition(item, "Ready")["status"] == "True", f"{SERVICE_LABEL}={NAME}")
    assert pods["spec"]["containers"][0]["name"] == CONTAINER


def _waits(status: Body) -> str:
    return str(((status.get("state") or {}).get("waiting") or {}).get("reason", ""))
