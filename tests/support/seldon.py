"""A cluster with Seldon Core, real or a stand-in, for the contract tests.

On a cluster without nodes (an API server, Kubernetes' controllers and Seldon's operator), `Kubelet` writes the statuses of pods.
Seldon and the operator read nothing else of them.
"""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from support.backends import seldon_backend
from support.kubectl import Refused, run_kubectl

from winepipelines.api.observed import DeploymentView, PredictionCheck
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.rollout import Rollout
from winepipelines.platform.kubernetes import Kubernetes
from winepipelines.platform.records import Example
from winepipelines.serving.probing import EndpointProber, ProbeTarget
from winepipelines.serving.seldon.backend import SeldonBackend
from winepipelines.settings import Settings

Body = dict[str, Any]
INITIALIZER = "classifier-model-initializer"
LABEL = "seldon-deployment-id"


@dataclass(frozen=True)
class Endpoint:
    """A cluster. `runs` is whether it runs pods; `models` are URIs of models that they can copy and serve."""

    kubectl: Path
    kubeconfig: Path
    runs: bool
    models: tuple[str, ...] = ()
    endpoint_template: str = ""

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl; return its output. Raises Refused."""
        return run_kubectl(self.kubectl, self.kubeconfig, *arguments, stdin=stdin)

    def apply(self, body: Body) -> Body:
        """Apply an object server-side; return the stored object. Raises Refused."""
        options = ("--server-side", "--force-conflicts", "--field-manager=contract", "-o", "json")
        applied: Body = json.loads(self.run("apply", *options, "-f", "-", stdin=yaml.safe_dump(body)))
        return applied

    def get(self, kind: str, namespace: str, name: str) -> Body | None:
        """Get an object, or None if it does not exist."""
        text = self.run("-n", namespace, "get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text.strip() else None

    def made(self, kind: str, namespace: str, name: str) -> list[Body]:
        """List the objects that Seldon has created for a SeldonDeployment."""
        text = self.run("-n", namespace, "get", kind, "-l", f"{LABEL}={name}", "-o", "json")
        return list(json.loads(text)["items"])

    def wait(self, kind: str, namespace: str, name: str, until: Callable[[Body], object], seconds: float = 60) -> Body:
        """Watch a SeldonDeployment, or the objects that Seldon creates for it, until `until` holds for one; return that one.

        Raises AssertionError with the last object after `seconds`.
        """
        # A selector instead of a name: by name, kubectl misses changes between its get and its watch.
        selector = [f"--field-selector=metadata.name={name}"] if kind == "seldondeployments" else ["-l", f"{LABEL}={name}"]
        last: Body = {}
        for item in self._watch(kind, namespace, selector, seconds):
            if until(item):
                return item
            last = item
        raise AssertionError(
            f"no {kind} of {name} meets the condition within {seconds:g} s; the last one:\n{json.dumps(last, indent=1)}"
        )

    def watch_pods(self, namespace: str, name: str) -> "subprocess.Popen[str]":
        """Print each change of the pods of a SeldonDeployment, one per line."""
        return self._start_watch("pods", namespace, ["-l", f"{LABEL}={name}"], 600)

    def _watch(self, kind: str, namespace: str, selector: list[str], seconds: float) -> Iterator[Body]:
        with self._start_watch(kind, namespace, selector, seconds) as process:
            assert process.stdout is not None
            try:
                yield from map(json.loads, process.stdout)
            finally:
                process.kill()

    def _start_watch(self, kind: str, namespace: str, selector: list[str], seconds: float) -> "subprocess.Popen[str]":
        command = [str(self.kubectl), f"--kubeconfig={self.kubeconfig}", "-n", namespace, "get", kind, *selector]
        options = ["--watch", f"--request-timeout={seconds:g}s", '--output=jsonpath={@}{"\\n"}']
        return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@dataclass(frozen=True)
class Connected:
    """The backend, connected to a cluster."""

    backend: SeldonBackend
    kubernetes: Kubernetes
    prober: EndpointProber

    async def observe(self, pipeline: WinePipeline, rollout: Rollout | None) -> DeploymentView:
        return await self.backend.observe(self.kubernetes, pipeline, rollout)

    async def apply(self, pipeline: WinePipeline, rollout: Rollout) -> None:
        await self.backend.apply(self.kubernetes, pipeline, rollout)

    async def predict(self, pipeline: WinePipeline, example: Example) -> PredictionCheck:
        endpoint = self.backend.endpoints(pipeline).stable
        return await self.prober.probe(ProbeTarget(endpoint.url, endpoint.protocol, example))


class Operator:
    """The operator's access to a cluster: what it applies and observes."""

    def __init__(self, endpoint: Endpoint, kubernetes: Kubernetes, session: aiohttp.ClientSession, namespace: str) -> None:
        self.endpoint, self.namespace = endpoint, namespace
        self._kubernetes, self._session = kubernetes, session

    def seldon(self, **settings: object) -> "Connected":
        """Build the backend with changed settings, connected to the cluster."""
        if self.endpoint.endpoint_template:
            settings = {"endpoint_template": self.endpoint.endpoint_template, **settings}
        base = Settings(kfp_url="http://kfp", mlflow_url="http://mlflow", s3_endpoint_url="http://minio")
        return Connected(seldon_backend(base, **settings), self._kubernetes, EndpointProber(self._session))

    def resource(self, name: str = "mlflow", **serving: object) -> WinePipeline:
        """Apply a WinePipeline; return the stored one. It is suspended, so an operator in the cluster ignores it."""
        body = {
            "apiVersion": "winepipelines.io/v1alpha1",
            "kind": "WinePipeline",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"data": {"url": "http://data/wine.csv"}, "suspend": True, "serving": serving},
        }
        return WinePipeline.from_body(self.endpoint.apply(body))


class Kubelet:
    """Writes the statuses of a SeldonDeployment's pods as a node does: ready with a good model, else failing."""

    def __init__(self, endpoint: Endpoint, namespace: str, name: str, bad: str) -> None:
        """Follow the pods of a SeldonDeployment. Those that copy a model whose URI contains `bad` fail."""
        self._endpoint, self._namespace, self._bad = endpoint, namespace, bad
        self._process = endpoint.watch_pods(namespace, name)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop following the pods."""
        self._process.kill()
        self._process.wait()
        self._thread.join()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            pod = json.loads(line)
            if "deletionTimestamp" in pod["metadata"]:
                options = ("--force", "--grace-period=0", "--ignore-not-found", "--wait=false")
                self._endpoint.run("-n", self._namespace, "delete", "pod", pod["metadata"]["name"], *options)
            elif not (pod.get("status") or {}).get("containerStatuses"):
                self._write_status(pod)

    def _write_status(self, pod: Body) -> None:
        [initializer] = pod["spec"]["initContainers"]
        status = failing_pod(pod) if self._bad in initializer["args"][0] else ready_pod(pod)
        patch = json.dumps({"status": status})
        options = ("--subresource=status", "--type=merge", "-p", patch)
        try:
            self._endpoint.run("-n", self._namespace, "patch", "pod", pod["metadata"]["name"], *options)
        except Refused as error:
            if "not found" not in str(error):
                raise


@contextmanager
def pods_run(endpoint: Endpoint, namespace: str, name: str, bad: str = "no-such-bucket") -> Iterator[None]:
    """Run the pods of a SeldonDeployment on the cluster's nodes or, if it has none, write their statuses."""
    if endpoint.runs:
        yield
        return
    kubelet = Kubelet(endpoint, namespace, name, bad)
    try:
        yield
    finally:
        kubelet.stop()


def ready_pod(pod: Body) -> Body:
    """The status of a ready pod."""
    state = {"running": {"startedAt": "2026-01-05T12:00:00Z"}}
    done = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    return {
        "phase": "Running",
        "conditions": [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")],
        "initContainerStatuses": [_container(container, done, ready=True) for container in pod["spec"]["initContainers"]],
        "containerStatuses": [_container(container, state, ready=True) for container in pod["spec"]["containers"]],
    }


def failing_pod(pod: Body) -> Body:
    """The status of a pod whose init container cannot copy the model."""
    name = pod["metadata"]["name"]
    message = f"back-off 40s restarting failed container={INITIALIZER} pod={name}_team({pod['metadata']['uid']})"
    initial = {
        **_container(pod["spec"]["initContainers"][0], {"waiting": {"reason": "CrashLoopBackOff", "message": message}}),
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "directory not found"}},
        "restartCount": 3,
    }
    waiting = {"waiting": {"reason": "PodInitializing"}}
    return {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}],
        "initContainerStatuses": [initial],
        "containerStatuses": [_container(container, waiting) for container in pod["spec"]["containers"]],
    }


def _container(container: Body, state: Body, *, ready: bool = False) -> Body:
    named = {"name": container["name"], "image": container["image"], "imageID": ""}
    return {**named, "restartCount": 0, "ready": ready, "started": ready, "state": state}
