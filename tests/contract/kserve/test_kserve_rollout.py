"""How a model is served, replaced and tried beside another one. Pods must run for it."""

from contract.kserve.target import (
    INITIALIZER,
    NAME,
    SERVICE_LABEL,
    SERVICES,
    SOURCE,
    STANDARD_ONLY,
    Cluster,
    condition,
    ended,
    model_status,
    source,
)

pytestmark = STANDARD_ONLY

PREDICTOR, CANDIDATE = f"{NAME}-predictor", f"{NAME}-candidate"
TWICE, THREE_TIMES = (200, 4.0), (200, 6.0)


def test_service_becomes_ready_and_answers(cluster: Cluster, models: tuple[str, str]) -> None:
    cluster.serve(models[0])
    cluster.rolled_out(models[0])
    live = cluster.ready()
    if cluster.target.is_latest:
        assert model_status(live) == ("UpToDate", "Loaded", "")
    assert cluster.predict() == TWICE


def test_changed_address_replaces_the_model_without_a_failed_request(cluster: Cluster, models: tuple[str, str]) -> None:
    cluster.serve(models[0])
    cluster.rolled_out(models[0])
    cluster.ready()
    with cluster.requests() as answers:
        cluster.serve(models[1])
        cluster.rolled_out(models[1])
        while cluster.predict() != THREE_TIMES:
            pass
    assert answers.keys() <= {TWICE, THREE_TIMES}
    assert answers[TWICE] > 0


def test_service_stays_ready_during_a_rollout_and_only_the_template_tells_the_model(
    cluster: Cluster, models: tuple[str, str]
) -> None:
    cluster.serve(models[0])
    cluster.rolled_out(models[0])
    cluster.ready()
    cluster.serve(models[1])
    rolling = cluster.deployment(models[1])
    assert rolling["status"].get("observedGeneration") != rolling["metadata"]["generation"] or (
        rolling["status"].get("updatedReplicas", 0) < rolling["status"]["replicas"]
    )
    assert cluster.ready_while_rolling()
    cluster.rolled_out(models[1])
    cluster.ready()
    stale = cluster.live("services", PREDICTOR)["metadata"]["annotations"]
    assert stale[SOURCE] == models[0]


def test_progress_is_complete_when_the_new_replica_set_is_available(cluster: Cluster, models: tuple[str, str]) -> None:
    cluster.serve(models[0])
    complete = cluster.rolled_out(models[0])
    assert condition(complete, "Progressing")["reason"] == "NewReplicaSetAvailable"
    cluster.serve(models[1])
    complete = cluster.rolled_out(models[1])
    assert condition(complete, "Progressing")["reason"] == "NewReplicaSetAvailable"


def test_candidate_is_a_second_service_with_its_own_pods(cluster: Cluster, models: tuple[str, str]) -> None:
    cluster.serve(models[0])
    before = cluster.rolled_out(models[0])
    cluster.serve(models[1], CANDIDATE)
    cluster.rolled_out(models[1], CANDIDATE)
    cluster.ready(CANDIDATE)
    assert (cluster.predict(), cluster.predict(CANDIDATE)) == (TWICE, THREE_TIMES)
    cluster.run("delete", SERVICES, CANDIDATE, "--timeout=60s")
    cluster.run("wait", "--for=delete", f"deployment/{CANDIDATE}-predictor", "--timeout=60s")
    after = cluster.live("deployments", PREDICTOR)
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert cluster.predict() == TWICE


def test_deleted_pod_is_replaced(cluster: Cluster, models: tuple[str, str]) -> None:
    cluster.serve(models[0])
    cluster.rolled_out(models[0])
    [pod] = cluster.pods()
    cluster.run("delete", "pod", pod["metadata"]["name"], "--wait=false")
    cluster.wait(
        "pods",
        lambda item: item["metadata"]["uid"] != pod["metadata"]["uid"] and condition(item, "Ready")["status"] == "True",
        f"{SERVICE_LABEL}={NAME}",
    )
    cluster.rolled_out(models[0])
    assert cluster.predict() == TWICE


def test_address_that_does_not_end_in_a_slash_also_copies_siblings(cluster: Cluster, models: tuple[str, str]) -> None:
    """The address of no folder, but the beginning of one: with a slash the copy fails, without it succeeds."""
    cut = models[0].rstrip("/")[:-1]
    cluster.serve(cut + "/", "exact")
    status = cluster.failing_pod(lambda each: each["name"] == INITIALIZER and ended(each).get("exitCode"), "exact")
    assert "Failed to fetch model" in ended(status)["message"]
    cluster.serve(cut, "prefix")
    cluster.failing_pod(lambda each: each["name"] == INITIALIZER and ended(each).get("exitCode") == 0, "prefix")
    assert source(cluster.live("deployments", "prefix-predictor")) == cut
