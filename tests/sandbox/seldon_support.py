"""A sandbox with nothing but the control plane, the object store and the Seldon stand-in; and how the tests use it."""

import base64
import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import mlflow.sklearn
import numpy as np
import pandas as pd
from kubernetes import client, config, watch
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

from sandbox.plan import Info

Json = dict[str, Any]
SECRET = "seldon-init-container-secret"
PREDICTOR = "wine-super-model"
COLUMNS = ["sulphates", "alcohol"]
ROW = [[1.0, 2.0]]


def save_model(folder: Path, slope: int) -> None:
    """Save a model that answers `slope` * alcohol."""
    frame = pd.DataFrame(np.random.default_rng(1).uniform(1, 9, (20, 2)), columns=COLUMNS)
    model = LinearRegression().fit(frame, frame["alcohol"] * slope)
    signature = infer_signature(frame, model.predict(frame))
    mlflow.sklearn.save_model(model, folder, signature=signature, pip_requirements=[], serialization_format="cloudpickle")


def store(info: Info) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=info.s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id=info.s3_access_key,
        aws_secret_access_key=info.s3_secret_key,
    )


def variables(info: Info, **more: str) -> dict[str, str]:
    return {
        "RCLONE_CONFIG_S3_TYPE": "s3",
        "RCLONE_CONFIG_S3_PROVIDER": "minio",
        "RCLONE_CONFIG_S3_ENV_AUTH": "false",
        "RCLONE_CONFIG_S3_ACCESS_KEY_ID": info.s3_access_key,
        "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": info.s3_secret_key,
        "RCLONE_CONFIG_S3_ENDPOINT": info.s3_endpoint,
        **more,
    }


def upload(info: Info, folder: Path, prefix: str) -> None:
    s3 = store(info)
    for path in folder.rglob("*"):
        if path.is_file():
            s3.upload_file(str(path), "mlflow", f"{prefix}/{path.relative_to(folder)}")


def predictor(uri: str, name: str = PREDICTOR, **more: Any) -> Json:
    graph = {"name": "classifier", "implementation": "MLFLOW_SERVER", "modelUri": uri, "envSecretRefName": SECRET}
    containers = [{"name": "classifier", "image": "winepipelines/server:0.1.0"}]
    return {"name": name, "graph": graph, "componentSpecs": [{"spec": {"containers": containers}}], **more}


class Cluster:
    """One namespace of a sandbox."""

    def __init__(self, info: Info, namespace: str) -> None:
        self.info, self.namespace = info, namespace
        self.api = config.new_client_from_config(str(info.kubeconfig))
        self.core, self.apps, self.custom = (
            client.CoreV1Api(self.api),
            client.AppsV1Api(self.api),
            client.CustomObjectsApi(self.api),
        )
        self.kind = ("machinelearning.seldon.io", "v1", namespace, "seldondeployments")

    def plain(self, made: Any) -> Any:
        return self.api.sanitize_for_serialization(made)

    def set_secret(self, **more: str) -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in variables(self.info, **more).items()}
        body = {"metadata": {"name": SECRET}, "data": data}
        with contextlib.suppress(client.ApiException):
            self.core.delete_namespaced_secret(SECRET, self.namespace)
        self.core.create_namespaced_secret(self.namespace, body)

    def apply(self, name: str, *predictors: Json, **spec: Any) -> None:
        body = {
            "apiVersion": "machinelearning.seldon.io/v1",
            "kind": "SeldonDeployment",
            "metadata": {"name": name},
            "spec": {"predictors": list(predictors), **spec},
        }
        try:
            self.custom.create_namespaced_custom_object(*self.kind, body)
            return
        except client.ApiException as error:
            if error.status != 409:
                raise
        live = self.custom.get_namespaced_custom_object(*self.kind, name)
        try:
            self.custom.replace_namespaced_custom_object(*self.kind, name, {**live, "spec": body["spec"]})
        except client.ApiException as error:
            if error.status != 409:  # else its status has just been written
                raise
            self.apply(name, *predictors, **spec)

    def status(self, name: str) -> Json:
        live: Json = self.custom.get_namespaced_custom_object(*self.kind, name)
        return dict(live.get("status", {}))

    def delete(self, name: str) -> None:
        self.custom.delete_namespaced_custom_object(*self.kind, name)

    def deployments(self, name: str) -> list[Json]:
        label = f"seldon-deployment-id={name}"
        return list(self.plain(self.apps.list_namespaced_deployment(self.namespace, label_selector=label).items))

    def versions(self, name: str, since: str) -> list[Json]:
        """Every version that a SeldonDeployment's only Deployment has had since a resource version, up to now."""
        (last,) = self.deployments(name)
        found = []
        for event in watch.Watch().stream(self.apps.list_namespaced_deployment, self.namespace, resource_version=since):
            found.append(event["raw_object"])
            if found[-1]["metadata"]["resourceVersion"] == last["metadata"]["resourceVersion"]:
                break
        return found

    def pods(self, name: str) -> list[Json]:
        label = f"seldon-deployment-id={name}"
        return list(self.plain(self.core.list_namespaced_pod(self.namespace, label_selector=label).items))

    def services(self, name: str) -> set[str]:
        label = f"seldon-deployment-id={name}"
        return {
            s["metadata"]["name"]
            for s in self.plain(self.core.list_namespaced_service(self.namespace, label_selector=label).items)
        }

    def predict(self, name: str, predictor: str = "") -> tuple[int, float | str]:
        """Return the HTTP status and the prediction (or the answer's text)."""
        start = f"/seldon-predictor/{self.namespace}/{name}/{predictor}" if predictor else f"/seldon/{self.namespace}/{name}"
        url = f"{self.info.gateway_url}{start}/api/v1.0/predictions"
        body = json.dumps({"data": {"names": COLUMNS, "ndarray": ROW}}).encode()
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, body, {"Content-Type": "application/json"}), timeout=10
            ) as answer:
                return answer.status, round(json.load(answer)["data"]["ndarray"][0], 6)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def wait(self, name: str, model: float, replicas: int = 1, deployments: int = 1) -> None:
        """Wait until a model serves as a careful client would look: every Deployment rolled out, Seldon content, answered."""

        def look() -> bool:
            found = self.deployments(name)
            rolled = [
                all(live["status"].get(f"{kind}eplicas") == replicas for kind in ("r", "updatedR", "availableR"))
                and live["status"]["observedGeneration"] == live["metadata"]["generation"]
                for live in found
                if "status" in live
            ]
            return (
                len(found) == len(rolled) == deployments
                and all(rolled)
                and self.status(name).get("state") == "Available"
                and self.predict(name) == (200, model)
            )

        until(look)


def until(look: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Wait until `look` returns something true; return it."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)
    return found
