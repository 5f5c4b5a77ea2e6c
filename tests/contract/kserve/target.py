"""A cluster with KServe, and what the contract tests apply to it and observe of it."""

import functools
import json
import os
import subprocess
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.kubectl import run_kubectl

Body = dict[str, Any]

MODE = os.environ.get("CONTRACT_KSERVE_MODE") or "Standard"
"""The deployment mode whose contract is tested."""
STANDARD_ONLY = pytest.mark.skipif(MODE != "Standard", reason="contract of Standard mode: make contract-kserve")
SECRET, RUNTIME, NAME = "model-store", "wine", "mlflow"
SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"
SERVICE_LABEL = "serving.kserve.io/inferenceservice"
PREFIX = "serving.kserve.io/"
CONTAINER, INITIALIZER = "kserve-container", "storage-initializer"
SERVICES, RUNTIMES = "inferenceservices.serving.kserve.io", "servingruntimes.serving.kserve.io"


@dataclass(frozen=True)
class Target:
    """A cluster with KServe.

    `models` are addresses of two models that pods can copy and serve, and `secret` has the keys of their store.
    `endpoint` is the address of an InferenceService's predictor, up to the path, with the fields `{namespace}` and `{name}`.
    """

    kubectl: Path
    kubeconfig: Path
    secret: Body
    models: tuple[str, ...] = ()
    image: str = "winepipelines/server:0.1.0"
    endpoint: str = ""

    @functools.cached_property
    def is_latest(self) -> bool:
        """Whether the release is 0.20 or later. Earlier ones do not watch pods, and report Ready Unknown during a rollout."""
        return "canary" in self._spec_fields()

    def _spec_fields(self) -> Body:
        document = json.loads(self.run("get", "--raw", "/openapi/v3/apis/serving.kserve.io/v1beta1"))
        schemas: Body = document["components"]["schemas"]
        service = next(schema for name, schema in schemas.items() if name.split(".")[-1] == "InferenceService")
        fields: Body = service["properties"]["spec"].get("properties") or {}
        return fields

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl; return its output. Raises Refused."""
        return run_kubectl(self.kubectl, self.kubeconfig, *arguments, stdin=stdin)


@dataclass(frozen=True)
class Cluster:
    """One namespace of a cluster with KServe."""

    target: Target
    namespace: str

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the namespace. Raises Refused."""
        return self.target.run("--namespace", self.namespace, *arguments, stdin=stdin)

    def apply(self, body: Body) -> Body:
        """Apply an object server-side; return the stored object. Raises Refused."""
        options = ("--server-side", "--force-conflicts", "--field-manager=contract", "--output=json", "--filename=-")
        stored: Body = json.loads(self.run("apply", *options, stdin=json.dumps(body)))
        return stored

    def get(self, kind: str, name: str) -> Body | None:
        """Get an object; None if it does not exist."""
        text = self.run("get", kind, name, "--ignore-not-found", "--output=json")
        return json.loads(text) if text.strip() else None

    def live(self, kind: str, name: str) -> Body:
        """Get an object that must exist."""
        found = self.get(kind, name)
        assert found is not None, f"{kind} {name} does not exist"
        return found

    def patch(self, kind: str, name: str, patch: Body) -> None:
        """Merge-patch an object. Raises Refused."""
        self.run("patch", kind, name, "--type=merge", f"--patch={json.dumps(patch)}")

    def pods(self, name: str = NAME) -> list[Body]:
        """List the pods of an InferenceService that are not terminating."""
        text = self.run("get", "pods", f"--selector={SERVICE_LABEL}={name}", "--output=json")
        return [pod for pod in json.loads(text)["items"] if "deletionTimestamp" not in pod["metadata"]]

    def wait(self, kind: str, until: Callable[[Body], object], selector: str = "", seconds: float = 90) -> Body:
        """Watch the objects of a kind until `until` holds for one; return it. Raises AssertionError with the last object.

        `selector` is a label selector, or the name of the object.
        """
        which = (
            ([f"--selector={selector}"] if "=" in selector else [f"--field-selector=metadata.name={selector}"])
            if selector
            else []
        )
        last: Body = {}
        for item in self._watch(kind, which, seconds):
            if until(item):
                return item
            last = item
        raise AssertionError(f"no {kind} meets the condition within {seconds:g} s; the last one:\n{json.dumps(last, indent=1)}")

    def _watch(self, kind: str, which: list[str], seconds: float) -> Iterator[Body]:
        command = [str(self.target.kubectl), f"--kubeconfig={self.target.kubeconfig}", "--namespace", self.namespace, "get", kind]
        options = ["--watch", "--output-watch-events", f"--request-timeout={seconds:g}s", "--output=json"]
        with subprocess.Popen(
            [*command, *which, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as watch:
            assert watch.stdout is not None
            try:
                for event in map(json.loads, watch.stdout):
                    if event["type"] != "DELETED":
                        yield event["object"]
            finally:
                watch.kill()

    # -- what is applied --

    def runtime(self, name: str = RUNTIME, **container: Any) -> None:
        """Apply the runtime of the model server, or one with a changed container; None leaves a field out."""
        made = {
            "name": CONTAINER,
            "image": self.target.image,
            "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
            "env": [{"name": "MLSERVER_HTTP_PORT", "value": "8080"}, {"name": "MLSERVER_MODEL_NAME", "value": NAME}],
            "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": 8080}, "periodSeconds": 1},
            "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }
        spec = {
            "supportedModelFormats": [{"name": "winepipelines"}],
            "protocolVersions": ["v2"],
            "containers": [{field: value for field, value in (made | container).items() if value is not None}],
        }
        self.apply(
            {"apiVersion": "serving.kserve.io/v1alpha1", "kind": "ServingRuntime", "metadata": {"name": name}, "spec": spec}
        )

    def serve(self, uri: str, name: str = NAME, annotations: Body | None = None, runtime: str = RUNTIME, **model: Any) -> Body:
        """Apply an InferenceService in Standard mode; return the stored object. Raises Refused."""
        own = {"deploymentMode": "Standard", "autoscalerClass": "none", "storageSecretName": SECRET} | (annotations or {})
        spec = {"modelFormat": {"name": "winepipelines"}, "runtime": runtime, "storageUri": uri, **model}
        return self.apply(
            {
                "apiVersion": "serving.kserve.io/v1beta1",
                "kind": "InferenceService",
                "metadata": {"name": name, "annotations": {PREFIX + key: value for key, value in own.items() if value}},
                "spec": {"predictor": {"minReplicas": 1, "model": spec}},
            }
        )

    # -- what is observed --

    def deployment(self, uri: str, name: str = NAME) -> Body:
        """Wait until an InferenceService's Deployment is that of a model."""
        return self.wait("deployments", lambda item: source(item) == uri, f"{name}-predictor")

    def rolled_out(self, uri: str, name: str = NAME) -> Body:
        """Wait until the Deployment runs a model on all its pods: how the operator judges a rollout."""
        return self.wait("deployments", lambda item: source(item) == uri and is_complete(item), f"{name}-predictor")

    def ready(self, name: str = NAME) -> Body:
        """Wait until an InferenceService reports Ready."""
        return self.wait(SERVICES, lambda item: condition(item, "Ready")["status"] == "True", name)

    def ready_while_rolling(self, name: str = NAME) -> bool:
        """Tell whether an InferenceService reports what this release does while its pods are replaced."""
        status = condition(self.live("inferenceservices.serving.kserve.io", name), "Ready")["status"]
        return status == "True" or (status in ("Unknown", "False") and not self.target.is_latest)

    def failing_pod(self, until: Callable[[Body], object], name: str = NAME) -> Body:
        """Wait for a pod of an InferenceService with a container status for which `until` holds; return that status."""

        def found(pod: Body) -> Body | None:
            return next((status for status in statuses(pod) if until(status)), None)

        status = found(self.wait("pods", found, f"{SERVICE_LABEL}={name}"))
        assert status is not None
        return status

    def predict(self, name: str = NAME) -> tuple[int, float | str]:
        """Predict over a new connection; return the HTTP status, and the prediction or the answer's text."""
        url = self.target.endpoint.format(namespace=self.namespace, name=name) + f"/v2/models/{NAME}/infer"
        tensor = {"name": "input", "shape": [1, 2], "datatype": "FP64", "data": [1.0, 2.0]}
        request = urllib.request.Request(url, json.dumps({"inputs": [tensor]}).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, round(json.load(answer)["outputs"][0]["data"][0], 6)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()[:200]
        except OSError as error:
            return 0, str(error)

    @contextmanager
    def requests(self, every: float = 0.1) -> Iterator[Counter[tuple[int, float | str]]]:
        """Predict every `every` seconds, each time over a new connection; count the answers."""
        answers: Counter[tuple[int, float | str]] = Counter()
        over = threading.Event()

        def send() -> None:
            while not over.wait(every):
                answers[self.predict()] += 1

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield answers
        finally:
            over.set()
            thread.join()


def source(deployment: Body) -> str:
    """Return the address of the model that a Deployment's pods copy."""
    return str((deployment["spec"]["template"]["metadata"].get("annotations") or {}).get(SOURCE, ""))


def is_complete(deployment: Body) -> bool:
    """Tell whether a Deployment is observed, and all its pods are updated and available."""
    status, replicas = deployment.get("status", {}), deployment["spec"]["replicas"]
    counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
    return status.get("observedGeneration") == deployment["metadata"]["generation"] and counts == [replicas] * 3


def condition(item: Body, kind: str) -> Body:
    """Return a condition of an object; its status is "" if there is none."""
    found = (each for each in (item.get("status") or {}).get("conditions") or [] if each["type"] == kind)
    return next(found, {"status": ""})


def model_status(service: Body) -> tuple[str, str, str]:
    """Return transition, target state and reason of the last failure of an InferenceService."""
    status = (service.get("status") or {}).get("modelStatus") or {}
    state = (status.get("states") or {}).get("targetModelState", "")
    return status.get("transitionStatus", ""), state, (status.get("lastFailureInfo") or {}).get("reason", "")


def statuses(pod: Body) -> list[Body]:
    """List the statuses of a pod's containers, init containers first."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def ended(status: Body) -> Body:
    """Return how a container ended the last time; empty if it did not end."""
    states = [(status.get(name) or {}).get("terminated") for name in ("lastState", "state")]
    return next(filter(None, states), {})
