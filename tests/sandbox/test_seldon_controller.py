"""The Seldon stand-in as a whole, in front of a real API server and a real object store."""

import itertools
import json
import os
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest
from kubernetes import client
from seldon_support import PREDICTOR, ROW, SECRET, Cluster, Json, predictor, save_model, store, until, upload, variables

from sandbox.platform import Sandbox
from sandbox.seldon import storage
from winecontract import signatures

NAME = "mlflow"
MODELS = {slope: f"s3://mlflow/{slope}/model" for slope in (1, 2, 3)}
counter = itertools.count()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    without = {"operator", "kubeflow", "mlflow", "data"}
    with Sandbox("seldon-test", tmp_path_factory.mktemp("sandbox") / "a sandbox", without=without) as running:
        for slope in MODELS:
            folder = tmp_path_factory.mktemp("models") / "model"
            save_model(folder, slope)
            upload(running.info, folder, f"{slope}/model")
        yield running


@pytest.fixture
def cluster(sandbox: Sandbox) -> Iterator[Cluster]:
    """A namespace of the test's own."""
    namespace = f"user-{next(counter)}"
    sandbox.add_namespace(namespace)
    made = Cluster(sandbox.info, namespace)
    made.set_secret()
    yield made
    made.core.delete_namespace(namespace)


@pytest.fixture(scope="module")
def digest(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> str:
    """That of the first model."""
    folder = tmp_path_factory.mktemp("models") / "model"
    for item in store(sandbox.info).list_objects_v2(Bucket="mlflow", Prefix="1/model/")["Contents"]:
        target = folder / item["Key"].removeprefix("1/model/")
        target.parent.mkdir(parents=True, exist_ok=True)
        store(sandbox.info).download_file("mlflow", item["Key"], str(target))
    return signatures.digest(folder)


def signed(uri: str, digest: str) -> Json:
    """A predictor whose container is told the digest of its model."""
    made = predictor(uri)
    made["componentSpecs"][0]["spec"]["containers"][0]["env"] = [{"name": signatures.DIGEST_VARIABLE, "value": digest}]
    return made


def initializer(pod: Json) -> Json:
    return dict(pod["status"]["initContainerStatuses"][0])


def server(pod: Json) -> Json:
    """Read the status of the model's server; empty where the pod has none yet."""
    return next((each for each in pod["status"].get("containerStatuses", ()) if each["name"] == "classifier"), {})


def processes(sandbox: Sandbox, cluster: Cluster) -> set[int]:
    """The ids of the namespace's model servers."""
    folder = sandbox.folder / "seldon" / "pods" / cluster.namespace
    return {int((path / "process").read_text().split()[0]) for path in folder.glob("*") if (path / "process").exists()}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


class Load:
    """Asks for predictions all the time; `answers` counts what came."""

    def __init__(self, cluster: Cluster, name: str = NAME) -> None:
        self.answers: Counter[tuple[int, float | str]] = Counter()
        self._over = threading.Event()

        def ask() -> None:
            while not self._over.is_set():
                self.answers[cluster.predict(name)] += 1

        self._pool = ThreadPoolExecutor(3)
        self._asking = [self._pool.submit(ask) for _ in range(3)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()
        for each in self._asking:
            each.result()


def test_a_deployment_is_served_and_described(cluster: Cluster) -> None:
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


def test_a_settled_deployment_is_left_alone(cluster: Cluster, sandbox: Sandbox) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)

    def versions() -> list[str]:
        things = [
            cluster.custom.get_namespaced_custom_object(*cluster.kind, NAME),
            *cluster.deployments(NAME),
            *cluster.pods(NAME),
        ]
        return [thing["metadata"]["resourceVersion"] for thing in things]

    before = versions()
    sandbox.restart("seldon", kill=True)  # even a new stand-in has nothing to write
    assert cluster.predict(NAME) == (200, 2.0)
    cluster.apply("another", predictor(MODELS[2]))
    cluster.wait("another", 4.0)
    assert versions() == before


def test_a_new_model_takes_over_without_a_lost_request(cluster: Cluster, sandbox: Sandbox) -> None:
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


def test_a_rollout_never_has_fewer_available_pods_than_wanted(cluster: Cluster) -> None:
    cluster.apply(NAME, predictor(MODELS[1], replicas=2))
    cluster.wait(NAME, 2.0, replicas=2)
    (before,) = cluster.deployments(NAME)
    cluster.apply(NAME, predictor(MODELS[2], replicas=2))
    cluster.wait(NAME, 4.0, replicas=2)
    seen = [version["status"] for version in cluster.versions(NAME, before["metadata"]["resourceVersion"])]
    assert min(status["availableReplicas"] for status in seen) == 2
    assert max(status["replicas"] for status in seen) > 2, "new pods come beside the old ones"


def test_a_pod_that_a_quota_refuses_is_said_and_made_when_there_is_room(cluster: Cluster) -> None:
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


def test_pods_of_another_scheduler_are_left_alone(cluster: Cluster) -> None:
    labels = {"app.kubernetes.io/managed-by": "seldon-core", "seldon-deployment-id": "theirs"}
    pod = {"metadata": {"name": "theirs", "labels": labels}, "spec": {"containers": [{"name": "any", "image": "any"}]}}
    cluster.core.create_namespaced_pod(cluster.namespace, pod)
    cluster.apply(NAME, predictor(MODELS[1]))  # seen after it
    cluster.wait(NAME, 2.0)
    assert cluster.pods("theirs")[0]["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


def test_what_does_not_change_the_pod_does_not_restart_it(cluster: Cluster, sandbox: Sandbox) -> None:
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


def test_an_empty_prefix_is_copied_and_the_server_crashes(cluster: Cluster) -> None:
    cluster.apply(NAME, predictor("s3://mlflow/nothing/here"))
    (pod,) = until(lambda: [pod for pod in cluster.pods(NAME) if "status" in pod and server_restarts(pod) >= 2])
    assert initializer(pod)["state"]["terminated"]["exitCode"] == 0
    assert server(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    last = server(pod)["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (1, "Error")
    assert last["message"].startswith("there is no MLmodel file in /mnt/models (it is empty)")
    until(lambda: cluster.status(NAME)["state"] == "Creating")
    assert cluster.predict(NAME) == (503, "no healthy upstream")


def test_model_that_was_signed_serves_and_a_changed_one_is_named_in_its_pod(cluster: Cluster, digest: str) -> None:
    cluster.apply(NAME, signed(MODELS[1], digest))
    cluster.wait(NAME, 2.0)
    cluster.apply(NAME, signed(MODELS[2], digest))
    failed = until(lambda: [last for pod in cluster.pods(NAME) if (last := server(pod).get("lastState", {}).get("terminated"))])
    assert failed[0]["exitCode"] == 1
    assert failed[0]["message"].startswith("ModelTampered: the files in /mnt/models are not those that the train step stored")
    assert cluster.predict(NAME) == (200, 2.0), "the model before keeps serving"


def server_restarts(pod: Json) -> int:
    return int(server(pod)["restartCount"]) if pod["status"].get("containerStatuses") else 0


def failed_copy(cluster: Cluster) -> str | None:
    """The message with which the newest pod's copy has failed."""
    for pod in cluster.pods(NAME):
        for each in pod.get("status", {}).get("initContainerStatuses", []):
            if (
                each["lastState"].get("terminated")
                or each["state"].get("waiting", {}).get("reason") == "CreateContainerConfigError"
            ):
                return str(each["lastState"].get("terminated", each["state"].get("waiting"))["message"])
    return None


def test_a_missing_bucket_leaves_the_previous_model_serving(cluster: Cluster) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)
    with Load(cluster) as load:
        cluster.apply(NAME, predictor("s3://nosuchbucket/model"))
        assert "NoSuchBucket" in until(lambda: failed_copy(cluster))
        until(lambda: cluster.status(NAME)["state"] == "Creating")
        assert len(cluster.pods(NAME)) == 2
        cluster.apply(NAME, predictor(MODELS[2]))
        cluster.wait(NAME, 4.0)
    assert set(load.answers) == {(200, 2.0), (200, 4.0)}


def test_a_wrong_key_and_a_missing_secret_are_retried(cluster: Cluster) -> None:
    cluster.set_secret(RCLONE_CONFIG_S3_SECRET_ACCESS_KEY="wrong")
    cluster.apply(NAME, predictor(MODELS[1]))
    assert "SignatureDoesNotMatch" in until(lambda: failed_copy(cluster))
    cluster.core.delete_namespaced_secret(SECRET, cluster.namespace)
    until(lambda: failed_copy(cluster) and "waiting" in initializer(cluster.pods(NAME)[0])["state"])
    cluster.set_secret()
    cluster.wait(NAME, 2.0)
    assert initializer(cluster.pods(NAME)[0])["restartCount"] >= 1


def test_no_secret_at_all_is_said(cluster: Cluster) -> None:
    cluster.core.delete_namespaced_secret(SECRET, cluster.namespace)
    cluster.apply(NAME, predictor(MODELS[1]))
    assert until(lambda: failed_copy(cluster)) == f'secret "{SECRET}" not found'


def test_an_image_of_a_registry_that_never_has_an_address_is_not_pulled(cluster: Cluster) -> None:
    wanted = predictor(MODELS[1])
    wanted["componentSpecs"][0]["spec"]["containers"][0]["image"] = "registry.invalid:5000/wine/server:typo"
    cluster.apply(NAME, wanted)
    waiting = until(
        lambda: [item for pod in cluster.pods(NAME) if (item := server(pod).get("state", {}).get("waiting", {})).get("message")]
    )
    assert waiting[0]["reason"] == "ErrImagePull"
    assert "lookup registry.invalid:5000: no such host" in waiting[0]["message"]
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)


def test_a_rollout_without_progress_is_given_up(cluster: Cluster) -> None:
    cluster.apply(NAME, predictor("s3://nosuchbucket/model", progressDeadlineSeconds=2))
    until(lambda: cluster.status(NAME).get("state") == "Failed")
    assert cluster.status(NAME)["description"] == "Deployment is no longer progressing and not available."
    (deployment,) = cluster.deployments(NAME)
    reasons = {each["type"]: each["reason"] for each in deployment["status"]["conditions"]}
    assert reasons == {"Available": "MinimumReplicasUnavailable", "Progressing": "ProgressDeadlineExceeded"}
    cluster.apply(NAME, predictor(MODELS[1], progressDeadlineSeconds=2))
    cluster.wait(NAME, 2.0)
    assert "description" not in cluster.status(NAME)


def test_a_crashed_server_is_started_again(cluster: Cluster, sandbox: Sandbox) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)
    (pid,) = processes(sandbox, cluster)
    os.kill(pid, 9)
    (pod,) = until(lambda: [pod for pod in cluster.pods(NAME) if server_restarts(pod)])
    assert server(pod)["lastState"]["terminated"]["exitCode"] == 137
    cluster.wait(NAME, 2.0)
    assert server(cluster.pods(NAME)[0])["restartCount"] == 1


def test_a_deleted_pod_and_a_deleted_deployment_come_again(cluster: Cluster) -> None:
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


def test_a_pod_that_someones_finalizer_holds_ends_all_the_same_and_once(cluster: Cluster, sandbox: Sandbox) -> None:
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


def test_deletion_takes_everything_along(cluster: Cluster, sandbox: Sandbox) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)
    (pid,) = processes(sandbox, cluster)
    cluster.delete(NAME)
    until(lambda: not alive(pid) and not (cluster.pods(NAME) or cluster.deployments(NAME) or cluster.services(NAME)))
    assert cluster.predict(NAME)[0] == 404
    until(lambda: not list((sandbox.folder / "seldon" / "pods" / cluster.namespace).glob("*")))
    cluster.apply(NAME, predictor(MODELS[2]))
    cluster.wait(NAME, 4.0)


def test_a_canary_gets_its_share_and_then_all(cluster: Cluster) -> None:
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


def test_what_the_webhook_refuses_leaves_what_is_served(cluster: Cluster) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)
    with pytest.raises(client.ApiException, match="Duplicate predictor name") as refused:
        cluster.apply(NAME, predictor(MODELS[2], traffic=50), predictor(MODELS[2], traffic=50))
    assert refused.value.status == 422
    assert cluster.status(NAME)["state"] == "Available"
    assert cluster.predict(NAME) == (200, 2.0)
    cluster.apply(NAME, predictor(MODELS[2]))
    cluster.wait(NAME, 4.0)


def test_killed_and_started_again_it_finds_its_servers(cluster: Cluster, sandbox: Sandbox) -> None:
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


def test_what_changed_while_it_was_away_is_done_when_it_is_back(cluster: Cluster, sandbox: Sandbox) -> None:
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


def test_asked_to_stop_it_stops_its_servers(cluster: Cluster, sandbox: Sandbox) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)
    before = processes(sandbox, cluster)
    sandbox.stop("seldon")
    assert not any(map(alive, before))
    sandbox.start("seldon")
    cluster.wait(NAME, 2.0)


def test_it_outlives_the_api_server(cluster: Cluster, sandbox: Sandbox) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)
    with Load(cluster) as load:
        sandbox.restart("apiserver")
        cluster.apply(NAME, predictor(MODELS[2]))
        cluster.wait(NAME, 4.0)
    assert set(load.answers) == {(200, 2.0), (200, 4.0)}


class TestStorage:
    """The copy, against the real object store."""

    def copy(self, sandbox: Sandbox, tmp_path: Path, uri: str, **more: str) -> set[str]:
        count = storage.copy(uri, variables(sandbox.info, **more), tmp_path / "models")
        found = {str(p.relative_to(tmp_path / "models")) for p in (tmp_path / "models").rglob("*") if p.is_file()}
        assert count == len(found)
        return found

    def test_a_folder_is_copied_with_what_is_below(self, sandbox: Sandbox, tmp_path: Path) -> None:
        for key in ("copy/a", "copy/below/b c", "copy-not/d"):
            store(sandbox.info).put_object(Bucket="mlpipeline", Key=key, Body=b"x")
        assert self.copy(sandbox, tmp_path, "s3://mlpipeline/copy") == {"a", "below/b c"}
        assert self.copy(sandbox, tmp_path, "s3://mlpipeline/copy/") == {"a", "below/b c"}
        assert self.copy(sandbox, tmp_path, "s3:mlpipeline/copy/a") == {"a"}

    def test_a_model_is_there_whole(self, sandbox: Sandbox, tmp_path: Path) -> None:
        assert {"MLmodel", "model.pkl"} <= self.copy(sandbox, tmp_path, MODELS[1])

    def test_what_is_not_there_is_copied_with_success(self, sandbox: Sandbox, tmp_path: Path) -> None:
        assert self.copy(sandbox, tmp_path, "s3://mlflow/nothing") == set()

    @pytest.mark.parametrize(
        ("uri", "more", "problem"),
        [
            ("s3://nosuchbucket/x", {}, "NoSuchBucket"),
            ("gs://mlflow/x", {}, "didn't find section"),
            ("models:/m-1", {}, "didn't find section"),
            ("/mnt/x", {}, "not an address"),
            ("s3://", {}, "not an address"),
            ("s3://mlflow/1", {"RCLONE_CONFIG_S3_ACCESS_KEY_ID": "nobody"}, "InvalidAccessKeyId"),
            ("s3://mlflow/1", {"RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": "wrong"}, "SignatureDoesNotMatch"),
            ("s3://mlflow/1", {"RCLONE_CONFIG_S3_ACCESS_KEY_ID": ""}, "AccessDenied"),
            ("s3://mlflow/1", {"RCLONE_CONFIG_S3_ENDPOINT": "http://127.0.0.1:9"}, "127.0.0.1:9"),
            ("s3://mlflow/1", {"RCLONE_CONFIG_S3_ENDPOINT": "no address"}, "no address"),
            ("s3://mlflow/1", {"RCLONE_CONFIG_S3_ENV_AUTH": "true"}, "NoCredentialProviders"),
        ],
    )
    def test_what_rclone_fails_at(self, sandbox: Sandbox, tmp_path: Path, uri: str, more: dict[str, str], problem: str) -> None:
        with pytest.raises(storage.CopyError) as failed:
            self.copy(sandbox, tmp_path, uri, **more)
        assert problem in str(failed.value)
        assert sandbox.info.s3_secret_key not in str(failed.value)
