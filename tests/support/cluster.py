"""Access to a running sandbox for integration tests: apply, get, watch until a condition holds, send requests."""

import json
import subprocess
import time
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

import yaml
from support.platforms import SELDON, Backend

from sandbox.plan import Info
from sandbox.platform import Sandbox
from winepipelines.api.body import Resource
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.prediction import WinePrediction
from winepipelines.api.status import ConditionType

Body = dict[str, Any]
R = TypeVar("R", bound=Resource[Any, Any])
EXAMPLE_ROW = [5.6, 0.31, 0.37, 1.4, 0.074, 12.0, 96.0, 0.9954, 3.32, 0.58, 9.2]


class Cluster:
    """A sandbox's API server, with an administrator's rights; `backend` serves the models."""

    def __init__(self, sandbox: Sandbox, backend: Backend = SELDON) -> None:
        self.sandbox = sandbox
        self.backend = backend
        self.info: Info = sandbox.info

    def namespace(self, name: str) -> str:
        """Create a user's namespace; return its name."""
        self.sandbox.add_namespace(name)
        return name

    def resource(self, namespace: str, name: str = "mlflow", url: str = "", **spec: Any) -> Body:
        """Build a WinePipeline. Without `url` it reads the sandbox's copy of the wine data.

        It names the backend, unless that is the first one, which is the default.
        """
        data = {"url": url or self.info.data_url, **spec.pop("data", {})}
        if self.backend is not SELDON:
            spec["serving"] = {"backend": self.backend.name, **spec.get("serving", {})}
        return {
            "apiVersion": "winepipelines.io/v1alpha1",
            "kind": "WinePipeline",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"data": data, **spec},
        }

    def apply(self, body: Body) -> None:
        """Apply an object."""
        self.sandbox.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(body))

    def get(self, kind: str, namespace: str, name: str) -> Body | None:
        """Get an object, or None if it does not exist."""
        text = self.sandbox.kubectl("-n", namespace, "get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text.strip() else None

    def objects(self, kind: str, namespace: str, selector: str = "") -> list[Body]:
        """List the objects of a namespace that match a label selector; without one, all."""
        listed = self.sandbox.kubectl("-n", namespace, "get", kind, "-o", "json", f"--selector={selector}")
        items: list[Body] = json.loads(listed)["items"]
        return items

    def serving_pods(self, namespace: str) -> list[Body]:
        """List the pods that serve models, without those of steps."""
        return self.objects("pods", namespace, self.backend.pods)

    def delete(self, kind: str, namespace: str, name: str, *options: str) -> None:
        """Delete an object and wait until it is gone."""
        self.sandbox.kubectl("-n", namespace, "delete", kind, name, "--timeout=60s", *options)

    def wait(
        self, namespace: str, until: Callable[[WinePipeline], bool], name: str = "mlflow", seconds: float = 90
    ) -> WinePipeline:
        """Watch a WinePipeline until `until` holds; return it.

        Raises AssertionError with the last status after `seconds`.
        """
        return self._wait("winepipelines", WinePipeline.from_body, namespace, until, name, seconds)

    def wait_for_prediction(
        self, namespace: str, until: Callable[[WinePrediction], bool], name: str = "scores", seconds: float = 90
    ) -> WinePrediction:
        """Watch a WinePrediction until `until` holds; return it.

        Raises AssertionError with the last status after `seconds`.
        """
        return self._wait("winepredictions", WinePrediction.from_body, namespace, until, name, seconds)

    def _wait(
        self, kind: str, read: Callable[[Body], R], namespace: str, until: Callable[[R], bool], name: str, seconds: float
    ) -> R:
        command = [str(self.info.kubectl), f"--kubeconfig={self.info.kubeconfig}", "-n", namespace, "get", kind]
        # A field selector instead of a name: by name, kubectl misses changes between its get and its watch.
        command.append(f"--field-selector=metadata.name={name}")
        watch = [*command, "--watch", f"--request-timeout={seconds:g}s", '--output=jsonpath={@}{"\\n"}']
        last = "nothing"
        with subprocess.Popen(watch, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    resource = read(json.loads(line))
                    last = resource.status.model_dump_json(indent=1)
                    if until(resource):
                        return resource
            finally:
                process.kill()
        raise AssertionError(f"the condition did not hold within {seconds:g} s; last status:\n{last}")

    def runs(self, namespace: str) -> list[Body]:
        """List all runs of Kubeflow Pipelines in a namespace."""
        answer = self.http(f"{self.info.kfp_url}/apis/v2beta1/runs?namespace={namespace}&page_size=200")
        return list(answer.get("runs") or [])

    def predict(self, namespace: str, name: str = "mlflow") -> float:
        """Predict the quality of the guide's example wine."""
        answer = self.http(self.backend.url(self.info, namespace, name), {"data": {"ndarray": [EXAMPLE_ROW]}})
        [value] = answer["data"]["ndarray"]
        return float(value)

    def http(self, url: str, body: Body | None = None) -> Body:
        """Send a GET request, or a POST request with a JSON body; return the JSON response."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
            return dict(json.loads(answer.read() or b"{}"))

    def events(self, namespace: str) -> list[tuple[str, str]]:
        """List reason and message of each Event in a namespace."""
        return [(event["reason"], event.get("message", "")) for event in self.objects("events", namespace)]


def ready(pipeline: WinePipeline) -> bool:
    """Whether a resource is Ready in its present generation."""
    condition = pipeline.status.condition(ConditionType.READY)
    return condition is not None and condition.status == "True" and pipeline.status.observed_generation == pipeline.generation


def settled(pipeline: WinePipeline) -> bool:
    """Whether a resource is Ready and its model has the alias in MLflow, which is the last write."""
    return ready(pipeline) and pipeline.status.served is not None and pipeline.status.served.alias != ""


def says(kind: ConditionType, reason: str) -> Callable[[WinePipeline], bool]:
    """Return a check whether a condition has this reason in the present generation."""

    def has_reason(pipeline: WinePipeline) -> bool:
        condition = pipeline.status.condition(kind)
        current = pipeline.status.observed_generation == pipeline.generation
        return condition is not None and current and condition.reason == reason

    return has_reason


def eventually(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Poll until a condition holds that no watch reports, such as the result of garbage collection."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"the condition did not hold within {seconds:g} s"
        time.sleep(0.2)
