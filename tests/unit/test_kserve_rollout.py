"""How a rollout on KServe is observed and carried out, and every failure in creation and while an earlier model serves.

Bodies of Deployments and pods are as Kubernetes 1.36 and KServe 0.20 write them, reduced to what is read.
"""

from dataclasses import replace
from typing import Any

import pytest
from support.backends import kserve_backend
from support.kserve import PIPELINE, SETTINGS, Cluster, Object, serving
from support.rollouts import model, one

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused
from winepipelines.api.observed import DeploymentView, Presence
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.rollout import Rollout
from winepipelines.platform.kubernetes import DEPLOYMENTS, KindMissing
from winepipelines.serving.kserve.backend import KServeBackend
from winepipelines.serving.kserve.live import SERVICES, SERVING_RUNTIMES

FIRST, SECOND = one(1, "s3://mlflow/1/model"), one(2, "s3://mlflow/2/model")
CANARY = Rollout(1, FIRST.model, canary=model(2, "s3://mlflow/2/model"))
BACKEND: Any = kserve_backend(SETTINGS)
INITIALIZER = "kserve/storage-initializer:v0.20.0"
FOREIGN: Object = {"metadata": {"name": "x", "namespace": "admin", "uid": "another", "labels": {"app": "theirs"}}, "spec": {}}


async def observe(
    cluster: Any, rollout: Rollout | None, pipeline: WinePipeline = PIPELINE, backend: KServeBackend = BACKEND
) -> DeploymentView:
    return await backend.observe(cluster, pipeline, rollout)


async def apply(cluster: Any, rollout: Rollout, pipeline: WinePipeline = PIPELINE, backend: KServeBackend = BACKEND) -> None:
    await backend.apply(cluster, pipeline, rollout)


async def served() -> Cluster:
    """Make a cluster in which the first model serves."""
    cluster = Cluster()
    await apply(cluster, FIRST)
    cluster.deploy("mlflow")
    return cluster


async def test_runtime_is_applied_before_the_service_and_nothing_is_written_at_rest() -> None:
    cluster = await served()
    assert cluster.writes == ["apply servingruntimes wine-model-server", "apply inferenceservices mlflow"]
    view = await observe(cluster, FIRST)
    assert (view.presence, view.rolled_out, view.owned, view.object.kind) == (Presence.CURRENT, True, True, "InferenceService")


async def test_rollout_is_absent_before_it_is_applied() -> None:
    assert (await observe(Cluster(), FIRST)).presence is Presence.ABSENT


async def test_missing_kind_is_reported() -> None:
    class WithoutKServe(Cluster):
        async def get(self, *_: object) -> Object | None:
            raise KindMissing("inferenceservices")

    assert (await observe(WithoutKServe(), FIRST)).presence is Presence.KIND_MISSING


async def test_status_of_the_inference_service_is_not_believed() -> None:
    cluster = await served()
    await apply(cluster, SECOND)  # KServe has not changed the Deployment yet
    cluster.live(SERVICES, "mlflow")["status"] = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "modelStatus": {"transitionStatus": "UpToDate", "states": {"targetModelState": "Loaded"}},
    }
    view = await observe(cluster, SECOND)
    assert (view.presence, view.rolled_out, view.reason, view.message) == (
        Presence.CURRENT,
        False,
        "",
        "KServe is rolling the model out",
    )
    cluster.deploy("mlflow")
    assert (await observe(cluster, SECOND)).rolled_out


@pytest.mark.parametrize("status", [{"replicas": 2}, {"updatedReplicas": 0}, {"availableReplicas": 0}, {"observedGeneration": 0}])
async def test_rollout_is_incomplete_while_pods_are_replaced(status: dict[str, int]) -> None:
    cluster = await served()
    cluster.deploy("mlflow", **status)
    assert not (await observe(cluster, FIRST)).rolled_out


async def test_deployment_of_somebody_else_does_not_count() -> None:
    cluster = await served()
    cluster.live(DEPLOYMENTS, "mlflow-predictor")["metadata"]["ownerReferences"] = [{"uid": "another"}]
    assert not (await observe(cluster, FIRST)).rolled_out


async def test_model_of_the_deployment_must_be_the_rollouts() -> None:
    cluster = await served()
    annotations = cluster.live(DEPLOYMENTS, "mlflow-predictor")["spec"]["template"]["metadata"]["annotations"]
    annotations["internal.serving.kserve.io/storage-initializer-sourceuri"] = "s3://mlflow/0/model/"
    assert not (await observe(cluster, FIRST)).rolled_out


async def test_number_of_pods_must_be_the_specs_unless_they_are_autoscaled() -> None:
    cluster = await served()
    three = serving(replicas=3)
    assert (await observe(cluster, FIRST, three)).presence is Presence.DIFFERS
    await apply(cluster, FIRST, three)
    assert not (await observe(cluster, FIRST, three)).rolled_out
    cluster.deploy("mlflow")
    assert (await observe(cluster, FIRST, three)).rolled_out
    scaled = serving(autoscaling={"minReplicas": 1, "maxReplicas": 5})
    await apply(cluster, FIRST, scaled)
    cluster.deploy("mlflow", replicas=4, updatedReplicas=4, availableReplicas=3)["spec"]["replicas"] = 4
    assert (await observe(cluster, FIRST, scaled)).rolled_out


async def test_candidate_rolls_out_beside_the_served_model() -> None:
    cluster = await served()
    assert (await observe(cluster, CANARY)).presence is Presence.DIFFERS
    await apply(cluster, CANARY)
    view = await observe(cluster, CANARY)
    assert (view.presence, view.rolled_out, view.canary_rolled_out) == (Presence.CURRENT, False, False)
    cluster.deploy("mlflow-candidate")
    view = await observe(cluster, CANARY)
    assert (view.rolled_out, view.canary_rolled_out) == (True, True)


async def test_candidate_is_judged_alone_when_the_served_model_has_problems() -> None:
    cluster = await served()
    await apply(cluster, CANARY)
    cluster.deploy("mlflow-candidate")
    cluster.deploy("mlflow", availableReplicas=0)
    view = await observe(cluster, CANARY)
    assert (view.rolled_out, view.canary_rolled_out) == (False, True)


async def test_promotion_removes_the_candidate_and_then_changes_the_served_model() -> None:
    cluster = await served()
    await apply(cluster, CANARY)
    cluster.deploy("mlflow-candidate")
    assert (await observe(cluster, FIRST)).presence is Presence.DIFFERS
    cluster.writes.clear()
    await apply(cluster, FIRST)
    assert cluster.writes[-1] == "delete inferenceservices mlflow-candidate"
    assert (await observe(cluster, FIRST)).rolled_out
    await apply(cluster, SECOND)
    assert cluster.live(SERVICES, "mlflow")["spec"]["predictor"]["model"]["storageUri"] == "s3://mlflow/2/model/"


async def test_candidate_that_is_being_deleted_is_waited_for() -> None:
    cluster = await served()
    await apply(cluster, CANARY)
    cluster.live(SERVICES, "mlflow-candidate")["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    view = await observe(cluster, FIRST)
    assert (view.presence, view.rolled_out) == (Presence.CURRENT, False)
    cluster.remove(SERVICES, "mlflow-candidate")
    assert (await observe(cluster, FIRST)).rolled_out


async def test_drift_is_distinguished_from_a_new_model() -> None:
    cluster = await served()
    view = await observe(cluster, SECOND)
    assert (view.presence, view.drifted) == (Presence.DIFFERS, False)
    cluster.live(SERVICES, "mlflow")["spec"]["predictor"]["automountServiceAccountToken"] = True
    view = await observe(cluster, FIRST)
    assert (view.presence, view.drifted) == (Presence.DIFFERS, True)


@pytest.mark.parametrize("change", ["deleted", "changed"])
async def test_runtime_is_corrected(change: str) -> None:
    cluster = await served()
    if change == "deleted":
        cluster.remove(SERVING_RUNTIMES, "wine-model-server")
    else:
        cluster.live(SERVING_RUNTIMES, "wine-model-server")["spec"]["containers"][0]["image"] = "mine:1"
    assert (await observe(cluster, FIRST)).presence is Presence.DIFFERS
    await apply(cluster, FIRST)
    assert (await observe(cluster, FIRST)).rolled_out


async def test_resources_of_a_namespace_share_its_runtime() -> None:
    cluster, other = await served(), replace(PIPELINE, name="other", uid="fedcba987654")
    await apply(cluster, FIRST, other)
    owners = cluster.live(SERVING_RUNTIMES, "wine-model-server")["metadata"]["ownerReferences"]
    assert [owner["name"] for owner in owners] == ["mlflow", "other"]
    assert (await observe(cluster, FIRST)).rolled_out


async def test_service_of_somebody_else_is_reported() -> None:
    cluster = Cluster()
    cluster.objects[SERVICES.plural, "mlflow"] = FOREIGN
    assert (await observe(cluster, FIRST)).presence is Presence.NOT_MANAGED
    await BACKEND.delete(cluster, PIPELINE)
    assert not cluster.writes


@pytest.mark.parametrize(
    ("kind", "name", "command"),
    [
        (SERVICES, "mlflow-candidate", "kubectl -n admin delete isvc mlflow-candidate"),
        (SERVING_RUNTIMES, "wine-model-server", "kubectl -n admin delete servingruntime wine-model-server"),
    ],
)
async def test_other_object_of_somebody_else_is_reported_and_not_changed(kind: Any, name: str, command: str) -> None:
    cluster = await served()
    cluster.objects[kind.plural, name] = FOREIGN
    view = await observe(cluster, CANARY)
    assert (view.rolled_out, view.reason) == (False, Reason.NOT_MANAGED)
    assert command in view.message
    with pytest.raises(Refused, match="is not managed by this operator"):
        await apply(cluster, CANARY)
    assert cluster.live(kind, name) == FOREIGN


async def test_candidate_of_a_resource_with_that_name_does_not_hinder_a_rollout_without_one() -> None:
    cluster = await served()
    cluster.objects[SERVICES.plural, "mlflow-candidate"] = FOREIGN
    assert (await observe(cluster, FIRST)).rolled_out
    await apply(cluster, FIRST)
    await BACKEND.delete(cluster, PIPELINE)
    assert cluster.live(SERVICES, "mlflow-candidate") == FOREIGN


async def test_deletion_removes_the_candidate_too() -> None:
    cluster = await served()
    await apply(cluster, CANARY)
    await BACKEND.delete(cluster, PIPELINE)
    assert (await observe(cluster, None)).presence is Presence.ABSENT
    assert {kind for kind, _ in cluster.objects} == {SERVING_RUNTIMES.plural, DEPLOYMENTS.plural}


async def test_candidate_alone_still_has_to_be_deleted() -> None:
    cluster = await served()
    await apply(cluster, CANARY)
    cluster.remove(SERVICES, "mlflow")
    view = await observe(cluster, None)
    assert (view.presence, view.owned) == (Presence.CURRENT, True)


async def test_released_service_keeps_its_runtime() -> None:
    cluster = await served()
    await apply(cluster, CANARY)
    released = await BACKEND.release(cluster, PIPELINE)
    assert released is not None
    assert released["metadata"]["ownerReferences"] == []
    owners = cluster.live(SERVING_RUNTIMES, "wine-model-server")["metadata"]["ownerReferences"]
    assert ("InferenceService", "mlflow") in [(owner["kind"], owner["name"]) for owner in owners]
    assert (SERVICES.plural, "mlflow-candidate") not in cluster.objects
    assert not (await observe(cluster, None)).owned


def failed_initializer(message: str) -> Object:
    """Return the status of a pod whose storage initializer fails again and again."""
    ended = {"exitCode": 1, "reason": "Error", "message": message}
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container=storage-initializer"}
    initializer = {"name": "storage-initializer", "image": INITIALIZER, "ready": False, "restartCount": 2}
    return {
        "phase": "Pending",
        "initContainerStatuses": [{**initializer, "state": {"waiting": waiting}, "lastState": {"terminated": ended}}],
        "containerStatuses": [waiting_server("PodInitializing")],
    }


def waiting_server(reason: str, message: str = "", **more: object) -> Object:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"name": "kserve-container", "image": "registry/server:1", "ready": False, "state": state, **more}


def condition(kind: str, status: str, reason: str, message: str) -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": message}


NO_PREFIX = "RuntimeError: Failed to fetch model. No model found in s3://mlflow/2/model/."
NO_BUCKET = "botocore.errorfactory.NoSuchBucket: An error occurred (404) when calling the HeadBucket operation: Not Found"
WRONG_KEYS = "botocore.exceptions.ClientError: An error occurred (403) when calling the HeadBucket operation: Forbidden"
NO_SECRET = 'admission webhook "inferenceservice.kserve-webhook-server.pod-mutator" denied the request: secrets "x" not found'
QUOTA = 'pods "mlflow-predictor-7d9c5d6f8b-x7k2p" is forbidden: exceeded quota: small, requested: pods=1, limited: pods=1'
NO_RUNTIME = {
    "modelStatus": {
        "transitionStatus": "InvalidSpec",
        "lastFailureInfo": {"reason": "RuntimeNotRecognized", "message": "Waiting for runtime to become available"},
    }
}
PULL = 'failed to pull and unpack image "registry/server:1": not found'
CRASHED = {"terminated": {"exitCode": 1, "reason": "Error", "message": "ValueError: the model's files cannot be read"}}
FAULTS = {  # status of the pod, status of the Deployment, reason, and a part of the message
    "prefix missing": (failed_initializer(NO_PREFIX), {}, "CrashLoopBackOff", NO_PREFIX.rstrip(".")),
    "bucket missing": (failed_initializer(NO_BUCKET), {}, "CrashLoopBackOff", "NoSuchBucket"),
    "wrong keys": (failed_initializer(WRONG_KEYS), {}, "CrashLoopBackOff", "(403) when calling the HeadBucket operation"),
    "bad image": (
        {
            "phase": "Pending",
            "containerStatuses": [waiting_server("ImagePullBackOff", f"Back-off pulling image: ErrImagePull: {PULL}")],
        },
        {},
        Reason.ERR_IMAGE_PULL,
        "the image registry/server:1 of container kserve-container is not pulled",
    ),
    "model load crash": (
        {"phase": "Running", "containerStatuses": [waiting_server("CrashLoopBackOff", "back-off 10s", lastState=CRASHED)]},
        {},
        "CrashLoopBackOff",
        "ValueError: the model's files cannot be read",
    ),
    "secret missing": (
        None,
        {"conditions": [condition("ReplicaFailure", "True", "FailedCreate", NO_SECRET)]},
        "FailedCreate",
        'secrets "x" not found',
    ),
    "quota": (
        None,
        {"conditions": [condition("ReplicaFailure", "True", "FailedCreate", QUOTA)]},
        "FailedCreate",
        "exceeded quota: small",
    ),
    "deadline of the Deployment": (
        {"phase": "Running", "containerStatuses": [{"name": "kserve-container", "ready": False, "state": {"running": {}}}]},
        {"conditions": [condition("Progressing", "False", "ProgressDeadlineExceeded", "has timed out progressing")]},
        Reason.PROGRESS_DEADLINE_EXCEEDED,
        "container kserve-container runs and is not ready",
    ),
}


@pytest.mark.parametrize("while_serving", [False, True], ids=["creation", "while an earlier model serves"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_fault_is_reported(fault: str, while_serving: bool) -> None:
    pod, deployment, reason, message = FAULTS[fault]
    cluster = await served() if while_serving else Cluster()
    if while_serving:
        cluster.pod("mlflow", phase="Running", containerStatuses=[{"name": "kserve-container", "ready": True}])
    await apply(cluster, SECOND)
    counts = {"replicas": 2, "availableReplicas": 1} if while_serving else {"availableReplicas": 0}
    cluster.deploy("mlflow", **{**counts, "updatedReplicas": 1, **deployment})
    if pod is not None:
        cluster.pod("mlflow", **pod)
    # What KServe says meanwhile is no help.
    cluster.live(SERVICES, "mlflow")["status"] = {"modelStatus": {"transitionStatus": "UpToDate"}}
    view = await observe(cluster, SECOND)
    assert (view.presence, view.rolled_out, view.reason) == (Presence.CURRENT, False, reason)
    assert message in view.message


@pytest.mark.parametrize("fault", FAULTS)
async def test_fault_of_a_candidate_is_reported_while_the_served_model_is_ready(fault: str) -> None:
    pod, deployment, reason, message = FAULTS[fault]
    cluster = await served()
    await apply(cluster, CANARY)
    cluster.deploy("mlflow-candidate", **{"availableReplicas": 0, **deployment})
    if pod is not None:
        cluster.pod("mlflow-candidate", **pod)
    view = await observe(cluster, CANARY)
    assert (view.canary_rolled_out, view.reason) == (False, reason)
    assert message in view.message


@pytest.mark.parametrize("while_serving", [False, True], ids=["creation", "while an earlier model serves"])
async def test_missing_runtime_is_reported_in_the_words_of_kserve(while_serving: bool) -> None:
    cluster = await served() if while_serving else Cluster()
    await apply(cluster, SECOND)
    cluster.live(SERVICES, "mlflow")["status"] = NO_RUNTIME
    view = await observe(cluster, SECOND)
    assert (view.reason, view.message) == (
        Reason.DEPLOYMENT_FAILED,
        "KServe reports: RuntimeNotRecognized: Waiting for runtime to become available",
    )


async def test_failure_that_is_over_is_not_reported() -> None:
    cluster = await served()
    cluster.deploy("mlflow", availableReplicas=0)
    cluster.live(SERVICES, "mlflow")["status"] = NO_RUNTIME
    view = await observe(cluster, FIRST)
    assert (view.rolled_out, view.reason) == (False, "")


async def test_pods_of_an_earlier_template_are_ignored() -> None:
    cluster = await served()
    cluster.pod("mlflow", **failed_initializer(NO_BUCKET))
    await apply(cluster, SECOND)
    cluster.deploy("mlflow", availableReplicas=0)
    assert (await observe(cluster, SECOND)).reason == ""


async def test_rejected_object_is_reported_with_the_answer() -> None:
    class Rejecting(Cluster):
        async def apply(self, kind: Any, body: Object, manager: str, *, dry_run: bool = False) -> Object:
            del dry_run
            if kind == SERVICES:
                raise Refused(Reason.ADMISSION_DENIED, "no", words="storageUri is not supported")
            return await super().apply(kind, body, manager)

    with pytest.raises(Refused) as rejected:
        await apply(Rejecting(), FIRST)
    assert rejected.value.reason == Reason.DEPLOYMENT_REJECTED
    assert "The API server rejected the InferenceService mlflow" in rejected.value.message
