"""Every failure of a rollout on KServe, as the real controller showed it, through the whole decision.

The recordings (`support.record_kserve`) are of the InferenceService, its Deployment and pods: in creation, and while an earlier
model serves. In either case, condition, reason and message tell what is wrong and what to do, the model that serves stays, and
the new one is rejected within one progress deadline; that does not pass while KServe is down.
"""

import asyncio
import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.backends import kserve_backend
from support.kserve import SETTINGS, Cluster, Object
from support.recordings import NEW, names, recorded
from support.world import World

import winepipelines.serving.backends  # noqa: F401 - registers the names of webhooks
from winecontract.reasons import Reason
from winepipelines.api.modelrecord import ModelServer
from winepipelines.api.naming import TEMPLATE_ANNOTATION
from winepipelines.api.observed import PredictionCheck, ServerView
from winepipelines.api.spec import Runtime
from winepipelines.api.status import ConditionType
from winepipelines.engine.decision import Query
from winepipelines.pipelines.actions import Action, ApplyDeployment, DeleteDeployment
from winepipelines.pipelines.queries import GetDeployment, ProbeEndpoint
from winepipelines.platform.admission import WebhookDown, failure
from winepipelines.platform.kubernetes import CORE_SERVICES, DEPLOYMENTS
from winepipelines.serving.kserve.live import SERVICES
from winepipelines.serving.kserve.naming import SOURCE_ANNOTATION

BACKEND: Any = kserve_backend(SETTINGS, kserve_version="0.20")
SERVED, CANDIDATE = "mlflow", "mlflow-candidate"
WEBHOOK = (
    'Internal error occurred: failed calling webhook "inferenceservice.kserve-webhook-server.defaulter": failed to call webhook: '
    'Post "https://127.0.0.1:9443/mutate-serving-kserve-io-v1beta1-inferenceservice?timeout=10s": dial tcp 127.0.0.1:9443: '
    "connect: connection refused"
)

FAULTS = {  # reason, what the message quotes, and what it says to do
    "prefix-missing": ("CrashLoopBackOff", "s3://mlflow/no/such/prefix", "Restore the model's files"),
    "bucket-missing": ("CrashLoopBackOff", "no-such-bucket", "Create the bucket"),
    "wrong-keys": ("CrashLoopBackOff", "storage-initializer", "Correct the keys in the source Secret"),
    "store-hangs": (Reason.ROLLOUT_IN_PROGRESS, "storage-initializer still runs", "object store"),
    "bad-image": (Reason.ERR_IMAGE_PULL, "registry.invalid/server:1", "Correct the image"),
    "model-crashes-the-server": ("CrashLoopBackOff", "container kserve-container ended with exit code 1", ""),
    "model-tampered": (Reason.MODEL_TAMPERED, "", ""),
    "secret-missing": ("FailedCreate", 'secrets "wine-model-store" not found', "The operator applies the Secret again"),
    "quota": ("FailedCreate", "exceeded quota: full", "Raise the ResourceQuota"),
    "pod-security": ("FailedCreate", "violates PodSecurity", "ClusterStorageContainer"),
    "runtime-missing": (Reason.DEPLOYMENT_FAILED, "KServe reports: ", "runtime"),
    "unschedulable": ("Unschedulable", "0/1 nodes are available", "Add nodes"),
    "never-ready": (Reason.ROLLOUT_IN_PROGRESS, "container kserve-container runs and is not ready", "Read its log"),
    "out-of-memory": (Reason.OOM_KILLED, "exit code 137", "Raise the memory limit"),
    "evicted": (Reason.EVICTED, "The node was low on resource: memory", "free the node's resource"),
    "node-lost": ("NodeLost", "unresponsive", "kubectl get nodes"),
    "deadline-of-kubernetes": (
        Reason.PROGRESS_DEADLINE_EXCEEDED,
        "container kserve-container runs and is not ready",
        "Read its log",
    ),
}
OUTAGES = {
    "webhook-down": ("FailedCreate", "KServe's controller is down", "kubectl get deployments,pods -A -l control-plane"),
    "being-deleted": (Reason.DEPLOYMENT_TERMINATING, "is being deleted", "applies it again afterwards"),
}


@dataclass
class KServeWorld(World):
    """The in-memory platform with the KServe backend on a cluster in memory."""

    cluster: Any = field(default_factory=Cluster)
    server: ServerView = ServerView(server=ModelServer(image="registry/server:1"))
    answering: str = ""  # address of the model that answers

    def _answer_other(self, query: Query[object]) -> object:
        match query:
            case GetDeployment(rollout):
                return asyncio.run(BACKEND.observe(self.cluster, self.pipeline, rollout))
            case ProbeEndpoint(model):
                return PredictionCheck(self.now, model.uri == self.answering, 5.7, 3, "", "", "http://endpoint", "seldon")
        return super()._answer_other(query)

    def _perform_other(self, action: Action) -> None:
        match action:
            case ApplyDeployment(rollout):
                asyncio.run(BACKEND.apply(self.cluster, self.pipeline, rollout))
            case DeleteDeployment():
                asyncio.run(BACKEND.delete(self.cluster, self.pipeline))
        super()._perform_other(action)

    def roll_out_all(self) -> None:
        """Let every InferenceService roll out, and its model answer."""
        for kind, name in list(self.cluster.objects):
            if kind == SERVICES.plural:
                self.cluster.deploy(name)
                if name == SERVED:
                    uri = self.cluster.live(SERVICES, name)["spec"]["predictor"]["model"]["storageUri"]
                    self.answering = uri.rstrip("/")

    def settle(self) -> None:
        """Reconcile as often as a change needs."""
        for _ in range(4):
            self.reconcile()

    def play(self, fault: str, phase: str, name: str) -> None:
        """Put what was recorded into the cluster, for an InferenceService of this name."""
        part = copy.deepcopy(recorded(fault)[phase])
        service = self.cluster.live(SERVICES, name)
        earlier = self.cluster.objects.get((DEPLOYMENTS.plural, f"{name}-predictor"))
        service["status"] = part["inferenceservice"]["status"]
        if "deletionTimestamp" in part["inferenceservice"]["metadata"]:
            service["metadata"]["deletionTimestamp"] = part["inferenceservice"]["metadata"]["deletionTimestamp"]
            service["metadata"]["namespace"] = "admin"
        self.cluster.pods = [pod for pod in self.cluster.pods if not pod["metadata"]["name"].startswith(f"{name}-predictor")]
        if part["deployment"] is None:
            return
        before = earlier and earlier["spec"]["template"]["metadata"]["annotations"]
        deployment = self.cluster.deploy(name)
        after = deployment["spec"]["template"]["metadata"]["annotations"]

        def annotations(item: Object) -> Object:
            is_new = item["metadata"].get("annotations", {}).get(TEMPLATE_ANNOTATION) == NEW
            found = after if is_new else before
            assert found is not None, "an earlier template was recorded where nothing served"
            return dict(found)

        recording = part["deployment"]
        deployment["spec"]["template"]["metadata"]["annotations"] = annotations(recording["spec"]["template"])
        deployment["spec"]["replicas"] = recording["spec"]["replicas"]
        deployment["metadata"]["generation"] = recording["metadata"]["generation"]
        deployment["status"] = recording["status"]
        for pod in part["pods"]:
            labels = {"serving.kserve.io/inferenceservice": name}
            metadata = {**pod["metadata"], "annotations": annotations(pod), "labels": labels}
            self.cluster.pods.append({**pod, "metadata": metadata})

    def deployed(self) -> tuple[str, str]:
        """Return reason and message of the condition Deployed."""
        condition = self.condition(ConditionType.DEPLOYED)
        assert condition.status == "False"
        return condition.reason, condition.message

    def pass_the_deadline(self) -> None:
        """Let the progress deadline pass."""
        self.now += self.timeouts.progress_deadline_of(Runtime.BUNDLED)
        self.settle()


def in_creation() -> KServeWorld:
    """Make a resource whose first model was trained and applied."""
    world = KServeWorld()
    world.reconcile()
    world.succeed()
    world.reconcile()
    return world


def serving() -> KServeWorld:
    """Make a resource that serves its first model."""
    world = in_creation()
    for _ in range(4):
        world.roll_out_all()
        world.reconcile()
    assert world.ready()
    world.settle()
    return world


def with_candidate() -> KServeWorld:
    """Make a resource that serves its first model, and whose second one was applied beside it."""
    world = serving()
    world.change(training={"seed": 7})
    world.settle()
    world.succeed()
    world.settle()
    assert (SERVICES.plural, CANDIDATE) in world.cluster.objects
    return world


def promoted() -> KServeWorld:
    """Make a resource whose second model passed its comparison, and was applied in the place of the first."""
    world = with_candidate()
    world.cluster.deploy(CANDIDATE)
    world.settle()
    second = world.cluster.live(SERVICES, SERVED)["spec"]["predictor"]["model"]["storageUri"]
    assert second == "s3://mlflow/2/model/"
    return world


PHASES = {"creation": (in_creation, "creation", SERVED), "beside": (with_candidate, "creation", CANDIDATE)}
PHASES["promotion"] = (promoted, "serving", SERVED)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("fault", sorted({*FAULTS} & {*names()}))
def test_failure_is_reported_and_ends_within_one_deadline(fault: str, phase: str) -> None:
    reason, quoted, remedy = FAULTS[fault]
    make, part, name = PHASES[phase]
    world = make()
    serves_before = world.status.served
    world.play(fault, part, name)
    world.settle()
    if reason == Reason.MODEL_TAMPERED:  # is rejected at once
        assert world.status.candidate is not None
        assert world.status.candidate.rejection is not None
    else:
        shown, message = world.deployed()
        assert (shown, quoted in message, remedy in message) == (reason, True, True), message
        assert (world.status.candidate and world.status.candidate.rejection) is None
        writes = world.writes
        world.pass_time(seconds=20)
        world.play(fault, part, name)
        world.settle()
        assert world.writes == writes, "nothing is written while the failure stays the same"
    assert world.status.served == serves_before
    world.pass_the_deadline()
    candidate = world.status.candidate
    assert candidate is not None
    assert candidate.rejection is not None
    final = Reason.PROGRESS_DEADLINE_EXCEEDED if reason == Reason.ROLLOUT_IN_PROGRESS else reason
    assert (candidate.rejection.reason, quoted in candidate.rejection.message) == (final, True), candidate.rejection.message
    assert remedy in candidate.rejection.message
    assert world.status.served == serves_before
    if serves_before is not None:
        assert "Revision 1 keeps serving" in candidate.rejection.message
        assert world.cluster.live(SERVICES, SERVED)["spec"]["predictor"]["model"]["storageUri"] == "s3://mlflow/1/model/"
        assert (SERVICES.plural, CANDIDATE) not in world.cluster.objects


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("fault", sorted({*OUTAGES} & {*names()}))
def test_outage_does_not_use_up_the_progress_deadline(fault: str, phase: str) -> None:
    reason, quoted, remedy = OUTAGES[fault]
    make, part, name = PHASES[phase]
    world = make()
    world.play(fault, part, name)
    world.settle()
    shown, message = world.deployed()
    assert (shown, quoted in message, remedy in message) == (reason, True, True), message
    writes = world.writes
    for _ in range(3):
        world.pass_the_deadline()
    assert world.status.candidate is not None
    assert world.status.candidate.rejection is None
    assert world.writes == writes, "nothing is written while the outage lasts"


def test_deletion_that_waits_for_a_finalizer_is_corrected_and_reported() -> None:
    world = serving()
    world.play("being-deleted", "serving", SERVED)
    world.settle()
    assert world.deployed()[0] == Reason.DEPLOYMENT_TERMINATING
    assert world.drift_corrected == []
    del world.cluster.objects[SERVICES.plural, SERVED]
    del world.cluster.objects[DEPLOYMENTS.plural, f"{SERVED}-predictor"]
    world.settle()
    assert (SERVICES.plural, SERVED) in world.cluster.objects
    [message] = world.drift_corrected
    assert message.endswith("mlflow was deleted. Applied it again for revision 1.")


def test_webhook_that_is_down_does_not_use_up_the_progress_deadline() -> None:
    world = in_creation()
    world.cluster = Cluster()
    down = failure(500, WEBHOOK)
    assert isinstance(down, WebhookDown)
    world.down[ApplyDeployment] = down
    world.settle()
    shown, message = world.deployed()
    assert shown == Reason.SERVING_BACKEND_UNAVAILABLE
    assert "KServe's controller is down" in message
    writes = world.writes
    for _ in range(3):
        world.pass_the_deadline()
    assert world.writes == writes, "nothing is written while the outage lasts"
    world.down.clear()
    world.settle()
    world.pass_time(minutes=1)
    world.settle()
    assert world.status.candidate is not None
    assert world.status.candidate.rejection is None
    world.pass_the_deadline()
    assert world.status.candidate is not None
    assert world.status.candidate.rejection is not None


def test_controller_that_is_down_after_the_object_was_applied_is_reported() -> None:
    world = in_creation()
    world.cluster.webhook_down = failure(500, WEBHOOK)
    world.settle()
    assert world.deployed()[0] == Reason.SERVING_BACKEND_UNAVAILABLE
    for _ in range(3):
        world.pass_the_deadline()
    assert world.status.candidate is not None
    assert world.status.candidate.rejection is None
    world.cluster.webhook_down = None
    world.roll_out_all()
    world.settle()
    assert world.ready()


def test_candidate_of_somebody_else_is_reported_at_once_and_the_model_is_not_lost() -> None:
    world = serving()
    metadata = {"name": CANDIDATE, "namespace": "admin", "uid": "another", "labels": {"app": "theirs"}}
    world.cluster.objects[SERVICES.plural, CANDIDATE] = {"metadata": metadata, "spec": {}}
    world.change(training={"seed": 7})
    world.settle()
    world.succeed()
    world.settle()
    shown, message = world.deployed()
    assert shown == Reason.NOT_MANAGED
    assert "kubectl -n admin delete isvc mlflow-candidate" in message
    for _ in range(3):
        world.pass_the_deadline()
    assert world.status.candidate is not None
    assert world.status.candidate.rejection is None
    assert world.status.served is not None
    assert world.status.served.revision == 1
    world.cluster.remove(SERVICES, CANDIDATE)
    for _ in range(4):
        world.settle()
        world.roll_out_all()
    assert world.status.served.revision == 2


@pytest.mark.parametrize("kind", [DEPLOYMENTS, CORE_SERVICES], ids=["Deployment", "Service"])
@pytest.mark.parametrize("phase", ["creation", "beside"])
def test_object_that_kserve_would_overwrite_is_reported_and_nothing_is_applied(kind: Any, phase: str) -> None:
    world, name = (KServeWorld(), SERVED) if phase == "creation" else (serving(), CANDIDATE)
    foreign: Object = {"metadata": {"name": f"{name}-predictor", "namespace": "admin", "uid": "another"}, "spec": {}}
    world.cluster.objects[kind.plural, f"{name}-predictor"] = foreign
    if phase == "beside":
        world.change(training={"seed": 7})
    world.settle()
    world.succeed()
    world.settle()
    shown, message = world.deployed()
    assert shown == Reason.NOT_MANAGED
    assert f"admin/{name}-predictor exists but is not managed" in message
    assert (SERVICES.plural, name) not in world.cluster.objects
    del world.cluster.objects[kind.plural, f"{name}-predictor"]
    world.settle()
    assert (SERVICES.plural, name) in world.cluster.objects


def test_deployment_that_kserve_made_for_an_earlier_service_is_no_obstacle() -> None:
    world = KServeWorld()
    owners = [{"kind": "InferenceService", "name": SERVED, "uid": "earlier"}]
    left = {"metadata": {"name": f"{SERVED}-predictor", "ownerReferences": owners}, "spec": {}}
    world.cluster.objects[DEPLOYMENTS.plural, f"{SERVED}-predictor"] = left
    world.reconcile()
    world.succeed()
    world.settle()
    assert (SERVICES.plural, SERVED) in world.cluster.objects


def test_every_recording_is_judged() -> None:
    assert {*names()} <= {*FAULTS, *OUTAGES}


def test_recordings_have_the_annotations_that_tell_which_model_serves() -> None:
    for name in names():
        for phase in ("creation", "serving"):
            deployment = recorded(name)[phase]["deployment"]
            assert deployment is None or SOURCE_ANNOTATION in deployment["spec"]["template"]["metadata"]["annotations"]
