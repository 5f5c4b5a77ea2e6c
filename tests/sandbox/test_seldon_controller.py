"""Seldon's stand-in on a real API server and a real object store: serving and rollouts."""

import json
import os
import urllib.request
from collections import Counter

import pytest
from kubernetes import client
from seldon_cluster import (
    MODELS,
    NAME,
    Load,
    alive,
    initializer,
    processes,
    server,
    server_restarts,
    signed,
)
from seldon_support import PREDICTOR, ROW, Cluster, predictor, until

from sandbox.platform import Sandbox
from winecontract import termination


def test_deployment_is_served_and_described(cluster: Cluster) -> None:
    seen: list[str | None] = []

    def available() -> bool:
        seen.append(cluster.status(NAME).get("state"))
        return seen[-1] == "Available"

    cluster.apply(NAME, predictor(MODELS[1]))
    until(available)
    assert set(seen) <= {None, "Creating", "Available"}
    cluster.wait(NAME, 2.0)
    status = cluster.status(NAME)
    assert status["address"]["url"] == (
        f"http://mlflow-wine-super-model.{cluster.namespace}.svc.cluster.local:8000/api/v1.0/predictions"
    )
    assert status["replicas"] == 1
    assert "observedGeneration" not in status
    (deployment,) = cluster.deployments(NAME)
    assert deployment["metadata"]["name"] == "mlflow-wine-super-model-0-classifier"
    assert deployment["metadata"]["ownerReferences"][0]["kind"] == "SeldonDeployment"
    assert deployment["spec"]["template"]["spec"]["initContainers"][0]["args"] == [MODELS[1], "/mnt/models"]
    assert cluster.services(NAME) == {"mlflow-wine-super-model", "mlflow-wine-super-model-classifier"}
    assert deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    (pod,) = cluster.pods(NAME)
    assert pod["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet"
    assert (pod["status"]["phase"], server(pod)["restartCount"], "nodeName" in pod["spec"]) == ("Running", 0, False)
    assert initializer(pod)["state"]["terminated"]["reason"] == "Completed"
    assert cluster.predict(NAME, PREDICTOR) == (200, 2.0)
    assert cluster.predict(NAME, "other")[0] == 404


def test_protocol_v2_is_served(cluster: Cluster) -> None:
    cluster.apply(NAME, predictor(MODELS[1]), protocol="v2")
    until(lambda: cluster.status(NAME).get("state") == "Available")
    assert cluster.status(NAME)["address"]["url"].endswith(":8000/v2/models/classifier/infer")
    inputs = [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": ROW[0]}]
    url = f"{cluster.info.gateway_url}/seldon/{cluster.namespace}/{NAME}/v2/models/classifier/infer"
    request = urllib.request.Request(url, json.dumps({"inputs": inputs}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert json.load(answer)["outputs"][0]["data"] == [pytest.approx(2.0)]
    assert cluster.predict(NAME)[0] == 404  # the executor of a v2 deployment has no Seldon path


def test_settled_deployment_is_not_written(cluster: Cluster, sandbox: Sandbox) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)

    def versions() -> list[str]:
        objects = [
            cluster.custom.get_namespaced_custom_object(*cluster.kind, NAME),
            *cluster.deployments(NAME),
            *cluster.pods(NAME),
        ]
        return [item["metadata"]["resourceVersion"] for item in objects]

    before = versions()
    sandbox.restart("seldon", kill=True)  # even a new stand-in has nothing to write
    assert cluster.predict(NAME) == (200, 2.0)
    cluster.apply("another", predictor(MODELS[2]))
    cluster.wait("another", 4.0)
    assert versions() == before


def test_new_model_takes_over_without_a_failed_request(cluster: Cluster, sandbox: Sandbox) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)
    (first,) = processes(sandbox, cluster)
    with Load(cluster) as load:
        for slope in (2, 3, 1):
            cluster.apply(NAME, predictor(MODELS[slope]))
            cluster.wait(NAME, 2.0 * slope)
    assert set(load.answers) == {(200, 2.0), (200, 4.0), (200, 6.0)}
    until(lambda: not alive(first))
    assert len(cluster.pods(NAME)) == 1


def test_rollout_keeps_all_replicas_available(cluster: Cluster) -> None:
    cluster.apply(NAME, predictor(MODELS[1], replicas=2))
    cluster.wait(NAME, 2.0, replicas=2)
    (before,) = cluster.deployments(NAME)
    cluster.apply(NAME, predictor(MODELS[2], replicas=2))
    cluster.wait(NAME, 4.0, replicas=2)
    seen = [version["status"] for version in cluster.versions(NAME, before["metadata"]["resourceVersion"])]
    assert min(status["availableReplicas"] for status in seen) == 2
    assert max(status["replicas"] for status in seen) > 2, "new pods come beside the old ones"


def test_pod_rejected_by_a_quota_is_reported_and_created_later(cluster: Cluster) -> None:
    cluster.core.create_namespaced_resource_quota(
        cluster.namespace, {"metadata": {"name": "full"}, "spec": {"hard": {"pods": "0"}}}
    )
    until(lambda: cluster.core.read_namespaced_resource_quota("full", cluster.namespace).status.hard)
    cluster.apply(NAME, predictor(MODELS[1]))

    def refusal() -> str | None:
        conditions = [c for d in cluster.deployments(NAME) for c in d.get("status", {}).get("conditions", [])]
        return next((c["message"] for c in conditions if (c["type"], c["reason"]) == ("ReplicaFailure", "FailedCreate")), None)

    assert "exceeded quota: full" in until(refusal)
    assert cluster.pods(NAME) == []
    until(lambda: cluster.status(NAME)["state"] == "Creating")
    cluster.core.delete_namespaced_resource_quota("full", cluster.namespace)
    cluster.wait(NAME, 2.0)
    assert refusal() is None


def test_pods_of_another_scheduler_are_not_run(cluster: Cluster) -> None:
    labels = {"app.kubernetes.io/managed-by": "seldon-core", "seldon-deployment-id": "theirs"}
    pod = {"metadata": {"name": "theirs", "labels": labels}, "spec": {"containers": [{"name": "any", "image": "any"}]}}
    cluster.core.create_namespaced_pod(cluster.namespace, pod)
    cluster.apply(NAME, predictor(MODELS[1]))  # seen after it
    cluster.wait(NAME, 2.0)
    assert cluster.pods("theirs")[0]["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


def test_unrelated_change_does_not_restart_pods(cluster: Cluster, sandbox: Sandbox) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)
    before, pods = processes(sandbox, cluster), [pod["metadata"]["uid"] for pod in cluster.pods(NAME)]
    cluster.apply(NAME, predictor(MODELS[1], traffic=100), annotations={})
    until(lambda: cluster.status(NAME)["state"] == "Available")
    assert processes(sandbox, cluster) == before
    cluster.apply(NAME, predictor(MODELS[1], traffic=100, replicas=2))
    cluster.wait(NAME, 2.0, replicas=2)
    assert before < processes(sandbox, cluster)
    assert set(pods) < {pod["metadata"]["uid"] for pod in cluster.pods(NAME)}
    cluster.apply(NAME, predictor(MODELS[1], replicas=1))
    cluster.wait(NAME, 2.0)
    until(lambda: len(processes(sandbox, cluster)) == 1)


def test_scaling_the_deployment_scales_the_pods(cluster: Cluster) -> None:
    scaled = predictor(MODELS[1])
    scaled["componentSpecs"][0]["hpaSpec"] = {
        "minReplicas": 1,
        "maxReplicas": 3,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": 70}}],
    }
    cluster.apply(NAME, scaled)
    cluster.wait(NAME, 2.0)
    (deployment,) = cluster.deployments(NAME)
    cluster.apps.patch_namespaced_deployment_scale(deployment["metadata"]["name"], cluster.namespace, {"spec": {"replicas": 2}})
    cluster.wait(NAME, 2.0, replicas=2)
    scaled["graph"]["modelUri"] = MODELS[2]
    cluster.apply(NAME, scaled)
    cluster.wait(NAME, 4.0, replicas=2)  # the autoscaler's number stays


def test_empty_prefix_is_copied_and_the_server_crashes(cluster: Cluster) -> None:
    cluster.apply(NAME, predictor("s3://mlflow/nothing/here"))
    (pod,) = until(lambda: [pod for pod in cluster.pods(NAME) if "status" in pod and server_restarts(pod) >= 2])
    assert initializer(pod)["state"]["terminated"]["exitCode"] == 0
    assert server(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    last = server(pod)["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (1, "Error")
    failure = termination.read(last["message"])
    assert failure is not None
    assert failure.message.startswith("there is no MLmodel file in /mnt/models (it is empty)")
    until(lambda: cluster.status(NAME)["state"] == "Creating")
    assert cluster.predict(NAME) == (503, "no healthy upstream")


def test_signed_model_serves_and_a_changed_one_is_reported(cluster: Cluster, digest: str) -> None:
    cluster.apply(NAME, signed(MODELS[1], digest))
    cluster.wait(NAME, 2.0)
    cluster.apply(NAME, signed(MODELS[2], digest))
    failed = until(lambda: [last for pod in cluster.pods(NAME) if (last := server(pod).get("lastState", {}).get("terminated"))])
    assert failed[0]["exitCode"] == 1
    failure = termination.read(failed[0]["message"])
    assert failure is not None
    assert failure.reason == "ModelTampered"
    assert failure.message.startswith("the files in /mnt/models are not those that the train step stored")
    assert cluster.predict(NAME) == (200, 2.0), "the model before keeps serving"


def test_crashed_server_is_restarted(cluster: Cluster, sandbox: Sandbox) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)
    (pid,) = processes(sandbox, cluster)
    os.kill(pid, 9)
    (pod,) = until(lambda: [pod for pod in cluster.pods(NAME) if server_restarts(pod)])
    assert server(pod)["lastState"]["terminated"]["exitCode"] == 137
    cluster.wait(NAME, 2.0)
    assert server(cluster.pods(NAME)[0])["restartCount"] == 1


def test_deleted_pod_and_deployment_are_recreated(cluster: Cluster) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)
    (pod,) = cluster.pods(NAME)
    cluster.core.delete_namespaced_pod(pod["metadata"]["name"], cluster.namespace)
    until(lambda: [p for p in cluster.pods(NAME) if p["metadata"]["uid"] != pod["metadata"]["uid"]])
    cluster.wait(NAME, 2.0)
    (deployment,) = cluster.deployments(NAME)
    cluster.apps.delete_namespaced_deployment(deployment["metadata"]["name"], cluster.namespace)
    until(lambda: [d for d in cluster.deployments(NAME) if d["metadata"]["uid"] != deployment["metadata"]["uid"]])
    cluster.wait(NAME, 2.0)


def test_deleted_pod_answers_until_another_one_is_ready(cluster: Cluster) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)
    (pod,) = cluster.pods(NAME)
    with Load(cluster) as load:
        cluster.core.delete_namespaced_pod(pod["metadata"]["name"], cluster.namespace)
        until(lambda: [other for other in cluster.pods(NAME) if other["metadata"]["uid"] != pod["metadata"]["uid"]])
        until(lambda: [other for other in cluster.pods(NAME) if server(other).get("ready")])
    assert set(load.answers) == {(200, 2.0)}


def test_pod_with_a_finalizer_ends_once(cluster: Cluster, sandbox: Sandbox) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)
    (pid,) = processes(sandbox, cluster)
    name, kept = cluster.pods(NAME)[0]["metadata"]["name"], {"metadata": {"finalizers": ["example.com/kept"]}}
    cluster.core.patch_namespaced_pod(name, cluster.namespace, kept)
    cluster.core.delete_namespaced_pod(name, cluster.namespace)
    until(lambda: not alive(pid) and len(processes(sandbox, cluster)) == 1)
    cluster.wait(NAME, 2.0)
    assert len(cluster.pods(NAME)) == 2
    cluster.core.patch_namespaced_pod(name, cluster.namespace, {"metadata": {"finalizers": None}})
    until(lambda: len(cluster.pods(NAME)) == 1)


def test_deletion_removes_all_children(cluster: Cluster, sandbox: Sandbox) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)
    (pid,) = processes(sandbox, cluster)
    cluster.delete(NAME)
    until(lambda: not alive(pid) and not (cluster.pods(NAME) or cluster.deployments(NAME) or cluster.services(NAME)))
    assert cluster.predict(NAME)[0] == 404
    until(lambda: not list((sandbox.folder / "seldon" / "pods" / cluster.namespace).glob("*")))
    cluster.apply(NAME, predictor(MODELS[2]))
    cluster.wait(NAME, 4.0)


def test_canary_gets_its_share_and_then_all_traffic(cluster: Cluster) -> None:
    cluster.apply(NAME, predictor(MODELS[1], "main", traffic=100))
    cluster.wait(NAME, 2.0)
    with Load(cluster) as load:
        cluster.apply(NAME, predictor(MODELS[1], "main", traffic=90), predictor(MODELS[2], "canary", traffic=10))
        until(lambda: (200, 4.0) in load.answers)
        until(lambda: cluster.status(NAME)["state"] == "Available")
        assert Counter(cluster.predict(NAME, "canary") for _ in range(5)) == {(200, 4.0): 5}
        cluster.apply(NAME, predictor(MODELS[2], "canary", traffic=100))
        cluster.wait(NAME, 4.0)
        until(lambda: cluster.services(NAME) == {"mlflow-canary", "mlflow-canary-classifier"})
    assert set(load.answers) == {(200, 2.0), (200, 4.0)}


def test_rejected_change_keeps_the_model_serving(cluster: Cluster) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)
    with pytest.raises(client.ApiException, match="Duplicate predictor name") as refused:
        cluster.apply(NAME, predictor(MODELS[2], traffic=50), predictor(MODELS[2], traffic=50))
    assert refused.value.status == 422
    assert cluster.status(NAME)["state"] == "Available"
    assert cluster.predict(NAME) == (200, 2.0)
    cluster.apply(NAME, predictor(MODELS[2]))
    cluster.wait(NAME, 4.0)


def test_restart_adopts_running_servers(cluster: Cluster, sandbox: Sandbox) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)
    before = processes(sandbox, cluster)
    pods = [pod["metadata"]["uid"] for pod in cluster.pods(NAME)]
    sandbox.stop("seldon", kill=True)
    assert all(map(alive, before))
    sandbox.start("seldon")
    assert cluster.predict(NAME) == (200, 2.0)
    cluster.wait(NAME, 2.0)
    assert (processes(sandbox, cluster), [pod["metadata"]["uid"] for pod in cluster.pods(NAME)]) == (before, pods)
    (pid,) = before
    os.kill(pid, 9)  # a server of an earlier life is watched like one of its own
    until(lambda: [pod for pod in cluster.pods(NAME) if server_restarts(pod)])
    cluster.wait(NAME, 2.0)


def test_restart_reconciles_changes_made_while_it_was_down(cluster: Cluster, sandbox: Sandbox) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.apply("gone", predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)
    cluster.wait("gone", 2.0)
    sandbox.stop("seldon", kill=True)
    cluster.apply(NAME, predictor(MODELS[2]))
    cluster.delete("gone")
    until(lambda: not cluster.pods("gone"))
    assert cluster.status(NAME)["state"] == "Available"
    sandbox.start("seldon")
    cluster.wait(NAME, 4.0)
    until(lambda: len(processes(sandbox, cluster)) == 1)


def test_termination_stops_its_servers(cluster: Cluster, sandbox: Sandbox) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)
    before = processes(sandbox, cluster)
    sandbox.stop("seldon")
    assert not any(map(alive, before))
    sandbox.start("seldon")
    cluster.wait(NAME, 2.0)


def test_outage_of_the_api_server_is_survived(cluster: Cluster, sandbox: Sandbox) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)
    with Load(cluster) as load:
        sandbox.restart("apiserver")
        cluster.apply(NAME, predictor(MODELS[2]))
        cluster.wait(NAME, 4.0)
    assert set(load.answers) == {(200, 2.0), (200, 4.0)}
