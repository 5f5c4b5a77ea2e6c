"""A running sandbox, as integration tests see it: apply, wait for a word of the status, look around."""

import json
import subprocess
import time
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

import yaml

from sandbox.plan import Info
from sandbox.platform import Sandbox
from winepipelines.resource.body import Resource
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.prediction import WinePrediction
from winepipelines.resource.status import ConditionType

Body = dict[str, Any]
R = TypeVar("R", bound=Resource[Any, Any])
EXAMPLE_ROW = [5.6, 0.31, 0.37, 1.4, 0.074, 12.0, 96.0, 0.9954, 3.32, 0.58, 9.2]


class Cluster:
    """One sandbox's API server, as its administrator."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.info: Info = sandbox.info

    def namespace(self, name: str) -> str:
        """Make a user's namespace."""
        self.sandbox.add_namespace(name)
        return name

    def resource(self, namespace: str, name: str = "mlflow", url: str = "", **spec: Any) -> Body:
        """Build a resource; its data is the sandbox's wine table unless said otherwise."""
        data = {"url": url or self.info.data_url, **spec.pop("data", {})}
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
        """Read an object; None where it is not there."""
        text = self.sandbox.kubectl("-n", namespace, "get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text.strip() else None

    def objects(self, kind: str, namespace: str, selector: str = "") -> list[Body]:
        """List a namespace's objects, or those that a label selector selects."""
        listed = self.sandbox.kubectl("-n", namespace, "get", kind, "-o", "json", f"--selector={selector}")
        items: list[Body] = json.loads(listed)["items"]
        return items

    def serving_pods(self, namespace: str) -> list[Body]:
        """List the pods that serve models; a namespace has pods of steps too."""
        return self.objects("pods", namespace, "seldon-deployment-id")

    def delete(self, kind: str, namespace: str, name: str, *options: str) -> None:
        """Delete an object and wait until it is gone."""
        self.sandbox.kubectl("-n", namespace, "delete", kind, name, "--timeout=60s", *options)

    def wait(
        self, namespace: str, until: Callable[[WinePipeline], bool], name: str = "mlflow", seconds: float = 90
    ) -> WinePipeline:
        """Watch a pipeline until something is so; as it is then."""
        return self._wait("winepipelines", WinePipeline.from_body, namespace, until, name, seconds)

    def wait_for_prediction(
        self, namespace: str, until: Callable[[WinePrediction], bool], name: str = "scores", seconds: float = 90
    ) -> WinePrediction:
        """Watch a prediction until something is so; as it is then."""
        return self._wait("winepredictions", WinePrediction.from_body, namespace, until, name, seconds)

    def _wait(
        self, kind: str, read: Callable[[Body], R], namespace: str, until: Callable[[R], bool], name: str, seconds: float
    ) -> R:
        command = [str(self.info.kubectl), f"--kubeconfig={self.info.kubeconfig}", "-n", namespace, "get", kind]
        # Not by name alone: kubectl then leaves out what changed between its get and its watch.
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
        raise AssertionError(f"not so within {seconds} s; the last status:\n{last}")

    def runs(self, namespace: str) -> list[Body]:
        """List every run of Kubeflow Pipelines in a namespace."""
        answer = self.http(f"{self.info.kfp_url}/apis/v2beta1/runs?namespace={namespace}&page_size=200")
        return list(answer.get("runs") or [])

    def predict(self, namespace: str, name: str = "mlflow") -> float:
        """Ask the endpoint for the quality of the guide's wine."""
        url = f"{self.info.gateway_url}/seldon/{namespace}/{name}/api/v1.0/predictions"
        answer = self.http(url, {"data": {"ndarray": [EXAMPLE_ROW]}})
        [value] = answer["data"]["ndarray"]
        return float(value)

    def http(self, url: str, body: Body | None = None) -> Body:
        """Get, or post, JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
            return dict(json.loads(answer.read() or b"{}"))

    def events(self, namespace: str) -> list[tuple[str, str]]:
        """List reasons and messages of all Events of a namespace."""
        return [(event["reason"], event.get("message", "")) for event in self.objects("events", namespace)]


def ready(pipeline: WinePipeline) -> bool:
    """Whether the resource is Ready, for its present spec."""
    condition = pipeline.status.condition(ConditionType.READY)
    return condition is not None and condition.status == "True" and pipeline.status.observed_generation == pipeline.generation


def settled(pipeline: WinePipeline) -> bool:
    """Whether it is Ready and nothing is left to write: MLflow's registry calls the model the champion."""
    return ready(pipeline) and pipeline.status.served is not None and pipeline.status.served.alias != ""


def says(kind: ConditionType, reason: str) -> Callable[[WinePipeline], bool]:
    """Whether a condition has a reason, for the present spec."""

    def so(pipeline: WinePipeline) -> bool:
        condition = pipeline.status.condition(kind)
        current = pipeline.status.observed_generation == pipeline.generation
        return condition is not None and current and condition.reason == reason

    return so


def eventually(what: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something that no watch tells of, such as the garbage collector's work."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "not so in time"
        time.sleep(0.2)
