"""A cluster with Seldon Core in it, real or stood in for, as the contract's tests see it.

Where pods cannot run (an API server with Seldon's operator and Kubernetes' controllers, and no node), `Kubelet` stands in for the
node: it writes the statuses of pods, which is all that Seldon and the operator look at.
"""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from winepipelines.platform.kubernetes import Kubernetes
from winepipelines.platform.manifests import Manifests
from winepipelines.platform.seldon import Seldon
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.settings import Settings

Body = dict[str, Any]
INITIALIZER = "classifier-model-initializer"
LABEL = "seldon-deployment-id"


class Refused(Exception):
    """The cluster said no; the message is its own."""


@dataclass(frozen=True)
class Endpoint:
    """A cluster. `models` are addresses of models that pods can copy and serve; none where `runs` is false."""

    kubectl: Path
    kubeconfig: Path
    runs: bool
    models: tuple[str, ...] = ()
    endpoint_template: str = ""

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl; return what it printed. Raises Refused."""
        command = [str(self.kubectl), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Refused(done.stderr.strip())
        return done.stdout

    def apply(self, body: Body) -> Body:
        """Apply an object server-side; return it as it was stored. Raises Refused."""
        options = ("--server-side", "--force-conflicts", "--field-manager=contract", "-o", "json")
        applied: Body = json.loads(self.run("apply", *options, "-f", "-", stdin=yaml.safe_dump(body)))
        return applied

    def get(self, kind: str, namespace: str, name: str) -> Body | None:
        """Read an object; None where it is not there."""
        text = self.run("-n", namespace, "get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text.strip() else None

    def made(self, kind: str, namespace: str, name: str) -> list[Body]:
        """List what Seldon has made of a SeldonDeployment."""
        text = self.run("-n", namespace, "get", kind, "-l", f"{LABEL}={name}", "-o", "json")
        return list(json.loads(text)["items"])

    def wait(self, kind: str, namespace: str, name: str, until: Callable[[Body], object], seconds: float = 60) -> Body:
        """Watch what Seldon has made of a SeldonDeployment, or itself, until one is so; return it."""
        # Never by name alone: kubectl then leaves out what changed between its get and its watch.
        chosen = [f"--field-selector=metadata.name={name}"] if kind == "seldondeployments" else ["-l", f"{LABEL}={name}"]
        last: Body = {}
        for item in self._watch(kind, namespace, chosen, seconds):
            if until(item):
                return item
            last = item
        raise AssertionError(f"no {kind} of {name} is so within {seconds} s; the last one:\n{json.dumps(last, indent=1)}")

    def watch_pods(self, namespace: str, name: str) -> "subprocess.Popen[str]":
        """Print every pod of a SeldonDeployment whenever it moves, one a line."""
        return self._watching("pods", namespace, ["-l", f"{LABEL}={name}"], 600)

    def _watch(self, kind: str, namespace: str, chosen: list[str], seconds: float) -> Iterator[Body]:
        with self._watching(kind, namespace, chosen, seconds) as process:
            assert process.stdout is not None
            try:
                yield from map(json.loads, process.stdout)
            finally:
                process.kill()

    def _watching(self, kind: str, namespace: str, chosen: list[str], seconds: float) -> "subprocess.Popen[str]":
        command = [str(self.kubectl), f"--kubeconfig={self.kubeconfig}", "-n", namespace, "get", kind, *chosen]
        options = ["--watch", f"--request-timeout={seconds:g}s", '--output=jsonpath={@}{"\\n"}']
        return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


class Operator:
    """The operator's own hands on a resource: what it applies, and what it sees."""

    def __init__(self, endpoint: Endpoint, kubernetes: Kubernetes, session: aiohttp.ClientSession, namespace: str) -> None:
        self.endpoint, self.namespace = endpoint, namespace
        self._kubernetes, self._session = kubernetes, session

    def seldon(self, **settings: object) -> Seldon:
        """Build the adapter, with the administrator's settings changed."""
        if self.endpoint.endpoint_template:
            settings = {"endpoint_template": self.endpoint.endpoint_template, **settings}
        made = replace(Settings("http://kfp", "http://mlflow", "http://minio"), **settings)  # type: ignore[arg-type]
        return Seldon(self._kubernetes, Manifests(made.templates), made, self._session)

    def resource(self, name: str = "mlflow", **serving: object) -> WinePipeline:
        """Apply a resource, suspended, so that an operator of this cluster does nothing about it; return it as it is stored."""
        body = {
            "apiVersion": "winepipelines.io/v1alpha1",
            "kind": "WinePipeline",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"data": {"url": "http://data/wine.csv"}, "suspend": True, "serving": serving},
        }
        return WinePipeline.from_body(self.endpoint.apply(body))


class Kubelet:
    """Says of the pods of a SeldonDeployment what a node would: that those with a good model are ready, others not."""

    def __init__(self, endpoint: Endpoint, namespace: str, name: str, bad: str) -> None:
        """Pods that copy from an address with `bad` in it fail."""
        self._endpoint, self._namespace, self._bad = endpoint, namespace, bad
        self._process = endpoint.watch_pods(namespace, name)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Leave the pods as they are."""
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
                self._say(pod)

    def _say(self, pod: Body) -> None:
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
    """Have the pods of a SeldonDeployment run: on the cluster's nodes, or on none."""
    if endpoint.runs:
        yield
        return
    kubelet = Kubelet(endpoint, namespace, name, bad)
    try:
        yield
    finally:
        kubelet.stop()


def ready_pod(pod: Body) -> Body:
    """A pod's status when all is well."""
    state = {"running": {"startedAt": "2026-01-05T12:00:00Z"}}
    done = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    return {
        "phase": "Running",
        "conditions": [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")],
        "initContainerStatuses": [_container(container, done, ready=True) for container in pod["spec"]["initContainers"]],
        "containerStatuses": [_container(container, state, ready=True) for container in pod["spec"]["containers"]],
    }


def failing_pod(pod: Body) -> Body:
    """A pod's status when its init container cannot copy the model."""
    name = pod["metadata"]["name"]
    words = f"back-off 40s restarting failed container={INITIALIZER} pod={name}_team({pod['metadata']['uid']})"
    initial = {
        **_container(pod["spec"]["initContainers"][0], {"waiting": {"reason": "CrashLoopBackOff", "message": words}}),
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
