"""Record what KServe's real controller and Kubernetes make of each failure: `python -m support.record_kserve [FAULT...]`.

Runs a sandbox with KServe and applies the operator's own manifests: once where nothing serves yet, and once while an earlier
model serves. What is then in the cluster is trimmed and written to `recorded/kserve/<fault>.json`. Not part of the tests, which
read the files (`support.recordings`).

Where `kubelet` is "played", the statuses of the pods are those that Kubernetes' own sources give, because the sandbox's node
cannot bring its processes into such a state. Everything else is as the controllers wrote it.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from urllib.parse import urlsplit

from contract.kserve.conftest import _secret
from contract.kserve.models import upload
from contract.kserve.target import SERVICES, Body, Cluster, Target, condition, ended, is_complete, source
from minio import Minio
from support.backends import kserve_backend
from support.kserve import PIPELINE, SETTINGS
from support.kubectl import Refused
from support.pod_statuses import EVICTED, KILLED_OFTEN, LOST, READY, UNREADY, UNSCHEDULABLE
from support.recordings import FOLDER, NEW, SERVED, trimmed
from support.rollouts import model

from sandbox.plan import Info
from sandbox.platform import Sandbox
from winepipelines.api.modelrecord import ModelRecord
from winepipelines.api.naming import TEMPLATE_ANNOTATION
from winepipelines.api.rollout import Rollout

PREDICTOR = f"{PIPELINE.name}-predictor"
SECRET = "wine-model-store"
BAD_IMAGE = "registry.invalid/server:1"
Prepare = Callable[["Stage"], None]


@dataclass(frozen=True)
class Stage:
    """A namespace in which one failure is made."""

    cluster: Cluster
    sandbox: Sandbox
    models: tuple[str, ...]
    serving: bool

    def record_of(self, revision: int) -> ModelRecord:
        """Describe the model that serves (1) or the one that follows (2)."""
        return model(revision, self.models[revision - 1].rstrip("/"), image=SETTINGS.server_image)

    def apply(self, record: ModelRecord, **settings: object) -> str:
        """Apply what the operator applies for a model; return the hash of the pods' template."""
        kserve = kserve_backend(SETTINGS, kserve_version="0.20", **settings)
        pipeline = replace(PIPELINE, namespace=self.cluster.namespace)
        digest = ""
        for manifest in kserve.manifests(pipeline, Rollout(record.revision, record)):
            body = json.loads(json.dumps(manifest))
            body["metadata"].pop("ownerReferences", None)  # to a WinePipeline that this cluster does not have
            body["metadata"]["namespace"] = self.cluster.namespace
            self.cluster.apply(body)
            digest = body["metadata"].get("annotations", {}).get(TEMPLATE_ANNOTATION, digest)
        return digest

    def wait_for(self, kind: str, until: Callable[[Body], object], name: str) -> Body:
        """Wait for an object."""
        return self.cluster.wait(kind, until, name, 120)

    def pod(self, digest: str) -> Body:
        """Wait for a pod with a template."""
        return self.cluster.wait(
            "pods",
            lambda pod: (pod["metadata"].get("annotations") or {}).get(TEMPLATE_ANNOTATION) == digest,
            f"serving.kserve.io/inferenceservice={PIPELINE.name}",
            120,
        )

    def play(self, pod: Body, **status: object) -> None:
        """Write a pod's status, as a kubelet does."""
        name = pod["metadata"]["name"]
        self.cluster.run(
            "patch", "pod", name, "--subresource=status", "--type=merge", f"--patch={json.dumps({'status': status})}"
        )


@dataclass(frozen=True)
class Fault:
    """A failure: how it is made, and until what the recording waits.

    `before` runs before the new model is applied, `model` changes it, `settings` are those of the backend, `played` is the status
    of its pod.
    """

    name: str
    until: Callable[[Body, list[Body]], bool]
    before: Prepare = lambda _: None
    change: Callable[[Stage, ModelRecord], ModelRecord] = lambda _, record: record
    settings: tuple[tuple[str, object], ...] = ()
    played: Body | None = None
    after: Prepare = lambda _: None
    note: str = ""


# -- what the recordings wait for ---------------------------------------------------------------------------------


def _initializer_ended(_: Body, pods: list[Body]) -> bool:
    return any(ended(each).get("exitCode") for pod in pods for each in pod.get("status", {}).get("initContainerStatuses") or [])


def _waits(*reasons: str) -> Callable[[Body, list[Body]], bool]:
    def until(_: Body, pods: list[Body]) -> bool:
        return any(
            ((each.get("state") or {}).get("waiting") or {}).get("reason") in reasons
            for pod in pods
            for each in pod.get("status", {}).get("containerStatuses") or []
        )

    return until


def _refused(deployment: Body, _: list[Body]) -> bool:
    return bool(condition(deployment, "ReplicaFailure")["status"] == "True")


def _at_once(_: Body, __: list[Body]) -> bool:
    return True


# -- how failures are made ----------------------------------------------------------------------------------------


def _uri(uri: str) -> Callable[[Stage, ModelRecord], ModelRecord]:
    return lambda _, record: record.with_(uri=uri)


def _bad_image(_: Stage, record: ModelRecord) -> ModelRecord:
    return record.with_(server=record.server.with_(image=BAD_IMAGE))


def _broken(stage: Stage, record: ModelRecord) -> ModelRecord:
    return record.with_(uri=stage.models[2].rstrip("/"))


def _tampered(_: Stage, record: ModelRecord) -> ModelRecord:
    return record.with_(digest="sha256:" + "0" * 64)


def _wrong_keys(stage: Stage) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "wrong", "AWS_SECRET_ACCESS_KEY": "wrong-too"}
    stage.cluster.patch("secret", SECRET, {"stringData": keys})


def _hanging_store(stage: Stage) -> None:
    annotations = {"serving.kserve.io/s3-endpoint": "192.0.2.1:9000"}  # RFC 5737: no host answers
    stage.cluster.patch("secret", SECRET, {"metadata": {"annotations": annotations}})


def _no_secret(stage: Stage) -> None:
    stage.cluster.run("delete", "secret", SECRET)


def _quota(stage: Stage) -> None:
    pods = "1" if stage.serving else "0"
    spec = {"hard": {"pods": pods}}
    stage.cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": spec})
    used = "1" if stage.serving else "0"
    stage.cluster.run("wait", f"--for=jsonpath={{.status.used.pods}}={used}", "resourcequota/full", "--timeout=60s")


def _restricted(stage: Stage) -> None:
    stage.sandbox.kubectl("label", "namespace", stage.cluster.namespace, "pod-security.kubernetes.io/enforce=restricted")


def _deleted(stage: Stage) -> None:
    stage.cluster.patch(
        SERVICES, PIPELINE.name, {"metadata": {"finalizers": ["inferenceservice.finalizers", "example.com/held"]}}
    )
    stage.cluster.run("delete", SERVICES, PIPELINE.name, "--wait=false")


def _webhook_down(stage: Stage) -> None:
    """Make the pods' webhook unreachable: KServe is down between what is applied and the creation of the pod."""
    stage.cluster.apply(_failing_webhook(stage.cluster.namespace))


def _failing_webhook(namespace: str) -> Body:
    webhook = {
        "name": "inferenceservice.kserve-webhook-server.pod-mutator",
        "clientConfig": {"url": "https://127.0.0.1:9/mutate-pods"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail",
    }
    kind = "MutatingWebhookConfiguration"
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": f"down-{namespace}"},
        "webhooks": [webhook],
    }


def _standstill(stage: Stage) -> None:
    """Let Kubernetes' own deadline pass. KServe's has no field: it is shortened while the controller does not look."""
    with suppress(Refused):
        stage.cluster.patch("deployment", PREDICTOR, {"spec": {"progressDeadlineSeconds": 2}})
    stage.wait_for(
        "deployments", lambda item: condition(item, "Progressing").get("reason") == "ProgressDeadlineExceeded", PREDICTOR
    )


REAL = (
    Fault("prefix-missing", _initializer_ended, change=_uri("s3://mlflow/no/such/prefix")),
    Fault("bucket-missing", _initializer_ended, change=_uri("s3://no-such-bucket/model")),
    Fault("wrong-keys", _initializer_ended, before=_wrong_keys),
    Fault("store-hangs", _at_once, before=_hanging_store),
    Fault("bad-image", _waits("ErrImagePull", "ImagePullBackOff"), change=_bad_image),
    Fault("model-crashes-the-server", _waits("CrashLoopBackOff"), change=_broken),
    Fault("model-tampered", _waits("CrashLoopBackOff"), change=_tampered),
)
PLAYED = (
    Fault("secret-missing", _refused, before=_no_secret),
    Fault("quota", _refused, before=_quota),
    Fault("pod-security", _refused, before=_restricted),
    Fault("webhook-down", _refused, before=_webhook_down),
    Fault("runtime-missing", _at_once, settings=(("kserve_runtime", "missing"),)),
    Fault("unschedulable", _at_once, played=UNSCHEDULABLE),
    Fault("never-ready", _at_once, played=UNREADY),
    Fault("out-of-memory", _at_once, played=KILLED_OFTEN),
    Fault("evicted", _at_once, played=EVICTED),
    Fault("node-lost", _at_once, played=LOST),
    Fault(
        "deadline-of-kubernetes",
        _at_once,
        played=UNREADY,
        after=_standstill,
        note="progressDeadlineSeconds was 2 instead of Kubernetes' 600",
    ),
    Fault("being-deleted", _at_once, played=UNREADY, after=_deleted),
)


class Recorder:
    """Makes failures in a sandbox and writes down what shows."""

    def __init__(self, sandbox: Sandbox, target: Target, models: tuple[str, ...]) -> None:
        self.sandbox, self.target, self.models = sandbox, target, models

    def record(self, fault: Fault, *, real: bool) -> str:
        """Record a failure in creation and while an earlier model serves."""
        found: Body = {"fault": fault.name, "kserve": "0.20.0", "kubelet": "stand-in" if real else "played"}
        if fault.note:
            found["note"] = fault.note
        for serving in (False, True):
            found["serving" if serving else "creation"] = self._observe(fault, serving=serving, real=real)
        (FOLDER / f"{fault.name}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        return fault.name

    def _observe(self, fault: Fault, *, serving: bool, real: bool) -> Body:
        with self._stage(fault.name, serving=serving) as stage:
            hashes = {}
            if serving:
                hashes[stage.apply(stage.record_of(1))] = SERVED
                if not real:
                    stage.play(stage.pod(next(iter(hashes))), **READY)
                uri = f"{stage.record_of(1).uri.rstrip('/')}/"
                stage.wait_for("deployments", lambda item: source(item) == uri and is_complete(item), PREDICTOR)
                stage.wait_for(SERVICES, lambda item: condition(item, "Ready")["status"] == "True", PIPELINE.name)
            fault.before(stage)
            digest = stage.apply(fault.change(stage, stage.record_of(2)), **dict(fault.settings))
            hashes[digest] = NEW
            if fault.played is not None:
                stage.play(stage.pod(digest), **fault.played)
            self._wait(stage, fault)
            fault.after(stage)
            time.sleep(5)  # KServe's controller has written what it makes of it
            return self._found(stage, hashes)

    @contextmanager
    def _stage(self, name: str, *, serving: bool) -> Iterator[Stage]:
        namespace = f"{name}-{'serving' if serving else 'creation'}"
        self.target.run("create", "namespace", namespace)
        cluster = Cluster(self.target, namespace)
        body: Body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, **self.target.secret["metadata"]}}
        cluster.apply({**body, "stringData": self.target.secret["stringData"]})
        try:
            yield Stage(cluster, self.sandbox, self.models, serving)
        finally:
            with suppress(Refused):
                cluster.run("delete", "mutatingwebhookconfiguration", f"down-{namespace}", "--ignore-not-found")
            with suppress(Refused):
                cluster.run("patch", SERVICES, PIPELINE.name, "--type=merge", '--patch={"metadata":{"finalizers":null}}')
            self.target.run("delete", "namespace", namespace, "--wait=false")

    @staticmethod
    def _wait(stage: Stage, fault: Fault) -> None:
        limit = time.monotonic() + 120
        while time.monotonic() < limit:
            deployment = stage.cluster.get("deployment", PREDICTOR) or {}
            if fault.until(deployment, stage.cluster.pods()):
                return
            time.sleep(0.5)
        raise AssertionError(f"{stage.cluster.namespace}: not within 120 s")

    def _found(self, stage: Stage, hashes: dict[str, str]) -> Body:
        def listed(kind: str) -> list[Body]:
            items: list[Body] = json.loads(stage.cluster.run("get", kind, "--output=json"))["items"]
            return items

        service, deployment = stage.cluster.live(SERVICES, PIPELINE.name), stage.cluster.get("deployment", PREDICTOR)
        events = [
            {
                "type": each.get("type"),
                "reason": each.get("reason"),
                "kind": each["involvedObject"]["kind"],
                "message": each.get("message"),
            }
            for each in listed("events")
            if each.get("type") != "Normal"
        ]
        found = {
            "inferenceservice": service,
            "deployment": deployment,
            "replicasets": listed("replicasets"),
            "pods": listed("pods"),
            "events": events,
        }
        names = {stage.cluster.namespace: "admin", **hashes}
        return trimmed(found, names)


def main() -> None:
    """Record the failures that are named, or all."""
    wanted = set(sys.argv[1:])
    without = {"operator", "kubeflow", "mlflow", "seldon", "data"}
    with Sandbox("record-kserve", without=without, backend="kserve") as sandbox:
        info = sandbox.info
        twice, thrice = upload(info.s3_endpoint, info.s3_access_key, info.s3_secret_key)
        broken = _upload_broken(info)
        recorder = Recorder(sandbox, Target(info.kubectl, info.kubeconfig, _secret(info)), (twice, thrice, broken))
        FOLDER.mkdir(parents=True, exist_ok=True)
        for faults, real in ((REAL, True), (PLAYED, False)):
            if not real:
                sandbox.stop("kserve-node", kill=True)
            chosen = [fault for fault in faults if not wanted or fault.name in wanted]
            with ThreadPoolExecutor(2 if real else 4) as pool:
                for fault, future in [(fault, pool.submit(recorder.record, fault, real=real)) for fault in chosen]:
                    try:
                        sys.stdout.write(f"{future.result()}\n")
                    except Exception as error:
                        sys.stdout.write(f"{fault.name}: FAILED {error!r}\n"[:3000])
                    sys.stdout.flush()


def _upload_broken(info: Info) -> str:
    """Put a model whose file is not one into the store."""
    store = Minio(urlsplit(info.s3_endpoint).netloc, info.s3_access_key, info.s3_secret_key, secure=False)
    for item in list(store.list_objects("mlflow", "contract/twice/", recursive=True)):
        assert item.object_name is not None
        data = store.get_object("mlflow", item.object_name).read()
        name = item.object_name.replace("contract/twice/", "contract/broken/")
        if name.endswith((".pkl", ".skops")):
            data = b"not a model"
        store.put_object("mlflow", name, BytesIO(data), len(data))
    return "s3://mlflow/contract/broken/"


if __name__ == "__main__":
    main()
