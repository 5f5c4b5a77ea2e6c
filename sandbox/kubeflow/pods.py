"""The pod of a step: an object in the API server with the labels, states and messages of a real pod.

What keeps a real pod from being made or from starting keeps the step from it too: a
quota, an image that no registry has, a Secret that is missing. Without a cluster there are no pods.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from .cluster import Cluster, Object
from .store import Row

RUN_LABEL, WORKFLOW_LABEL = "pipeline/runid", "workflows.argoproj.io/workflow"
NODE_NAME = "workflows.argoproj.io/node-name"
SCHEDULER = "wine-sandbox-steps"  # a cluster's own scheduler and kubelets ignore such a pod
MAIN = "main"
NO_REGISTRY = re.compile(r"[\w.-]+\.invalid(:\d+)?/.*")
"""Images of hosts below the reserved top-level domain do not exist; all others do."""
REFERENCE = re.compile(r"[a-z0-9]([a-z0-9._-]*)(:\d+)?(/[a-z0-9._-]+)*(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?")
_AGAIN_SECONDS = 1.0  # between attempts to create a pod that a quota refuses
MESSAGE_BYTES = 4096  # of a termination message, as the kubelet reads it
log = logging.getLogger(__name__)


class StepPod:
    """The pod of one step."""

    def __init__(self, cluster: Cluster | None, run: Row, task: str, name: str, container: Mapping[str, Any]) -> None:
        """Take a run, its task, the pod's name and the container of the compiled pipeline."""
        self._cluster = cluster if run["has_workflow"] else None
        self._run, self._task, self._name = run, task, name
        self._image = str(container.get("image", ""))
        self._resources = container.get("resources") or {}

    def create(self, refused: Callable[[str], None]) -> None:
        """Create the pod. If a quota or a policy refuses it, report that and retry for ever, as Argo does."""
        pause = threading.Event()
        while self._cluster is not None:
            message = self._cluster.create_pod(self._run["k8s_namespace"], self._object())
            if not message:
                return
            refused(message)
            pause.wait(_AGAIN_SECONDS)

    def pull(self) -> None:
        """Wait for the image, for ever if it does not exist."""
        if REFERENCE.fullmatch(self._image) is None:
            problem = f'Failed to apply default image tag "{self._image}": couldn\'t parse image name: invalid reference format'
            self._wait_for_ever("InvalidImageName", problem)
        elif NO_REGISTRY.fullmatch(self._image):
            host = self._image.partition("/")[0]
            problem = f'failed to pull and unpack image "{self._image}": failed to resolve reference: lookup {host}: no such host'
            self._wait_for_ever("ErrImagePull", problem)

    def waits_for(self, problem: str) -> None:
        """Report that its container cannot be created."""
        self.report("Pending", waiting={"reason": "CreateContainerConfigError", "message": problem})

    def runs(self) -> None:
        """Report that it is running."""
        self.report("Running", running={"startedAt": _now()})

    def ended(self, code: int, message: str) -> None:
        """Report its exit code and termination message."""
        reason = "Error" if code else "Completed"
        state = {"exitCode": code if code >= 0 else 128 - code, "reason": reason, "finishedAt": _now()}
        self.report("Failed" if code else "Succeeded", terminated=state | ({"message": message} if message else {}))

    def report(self, phase: str, **state: Object) -> None:
        """Write the pod's status."""
        if self._cluster is None:
            return
        status = {"name": MAIN, "image": self._image, "imageID": "", "ready": "running" in state, "restartCount": 0}
        patch = {"phase": phase, "containerStatuses": [{**status, "state": {**_NO_STATE, **state}}]}
        try:
            self._cluster.patch_pod_status(self._run["k8s_namespace"], self._name, patch)
        except Exception as error:  # only the status is affected; the step continues
            log.warning("the status of pod %s: %s", self._name, error)

    def _wait_for_ever(self, reason: str, message: str) -> None:
        self.report("Pending", waiting={"reason": reason, "message": message})
        if self._cluster is not None:
            threading.Event().wait()

    def _object(self) -> Object:
        run = self._run
        owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": run["workflow"]}
        uid = self._cluster.workflow_uid(run["k8s_namespace"], run["workflow"]) if self._cluster else ""
        metadata = {
            "name": self._name,
            "namespace": run["k8s_namespace"],
            "labels": {RUN_LABEL: run["run_id"], WORKFLOW_LABEL: run["workflow"]},
            "annotations": {NODE_NAME: node_name(run["workflow"], self._task)},
            "ownerReferences": [{**owner, "uid": uid, "controller": True, "blockOwnerDeletion": True}] if uid else [],
        }
        container = {"name": MAIN, "image": self._image or "none", "resources": _resources(self._resources)}
        spec = {"schedulerName": SCHEDULER, "restartPolicy": "Never", "containers": [container | _RESTRICTED], **_ACCOUNT}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


_NO_STATE = {"waiting": None, "running": None, "terminated": None}
_ACCOUNT = {
    "automountServiceAccountToken": False,
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
}
_RESTRICTED = {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}


def node_name(workflow: str, task: str) -> str:
    """Name the node of a task's pod, as Argo does for a pipeline of Kubeflow's."""
    return f"{workflow}.root.{task}.executor"


def _resources(compiled: Mapping[str, Any]) -> Object:
    """Format a container's resources as in Kubernetes."""
    names = {"requests": ("resourceCpuRequest", "resourceMemoryRequest"), "limits": ("resourceCpuLimit", "resourceMemoryLimit")}
    found = {
        kind: {
            resource: str(compiled[name]) for resource, name in zip(("cpu", "memory"), pair, strict=True) if compiled.get(name)
        }
        for kind, pair in names.items()
    }
    return {kind: values for kind, values in found.items() if values}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
