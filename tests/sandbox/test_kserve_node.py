"""KServe's controller and the node that runs its pods, in a sandbox. The contract tests hold what KServe itself does."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from seldon_cluster import alive
from seldon_support import save_model, store, until, upload

from sandbox.platform import Sandbox

NAMESPACE, NAME = "admin", "wine"
FOLDER = "kserve-node"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    without = {"operator", "kubeflow", "mlflow", "data", "seldon"}
    folder = tmp_path_factory.mktemp("sandbox") / "a sandbox"
    with Sandbox("kserve-test", folder, without=without, backend="kserve") as running:
        model = tmp_path_factory.mktemp("models") / "model"
        save_model(model, 2)
        upload(running.info, model, "wine/model")
        store(running.info).put_object(Bucket="mlflow", Key="wine/model-of-another/MLmodel", Body=b"another")
        running.kubectl(
            "apply", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": _objects(running)})
        )
        running.kubectl("wait", "--for=condition=Ready", f"isvc/{NAME}", f"--namespace={NAMESPACE}", "--timeout=90s")
        yield running


def _objects(sandbox: Sandbox) -> list[dict[str, object]]:
    info = sandbox.info
    settings = {"s3-endpoint": info.s3_endpoint.removeprefix("http://"), "s3-usehttps": "0", "s3-region": "us-east-1"}
    annotations = {f"serving.kserve.io/{name}": value for name, value in settings.items()}
    keys = {"AWS_ACCESS_KEY_ID": info.s3_access_key, "AWS_SECRET_ACCESS_KEY": info.s3_secret_key}
    container = {
        "name": "kserve-container",
        "image": "winepipelines/server:0.1.0",
        "ports": [{"containerPort": 8080}],
        "env": [{"name": "MLSERVER_HTTP_PORT", "value": "8080"}, {"name": "MLSERVER_MODEL_NAME", "value": NAME}],
    }
    service = {"deploymentMode": "Standard", "autoscalerClass": "none", "storageSecretName": "models"}
    model = {"modelFormat": {"name": "wine"}, "runtime": "wine", "storageUri": "s3://mlflow/wine/model/"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "models", "namespace": NAMESPACE, "annotations": annotations},
            "stringData": keys,
        },
        {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "ServingRuntime",
            "metadata": {"name": "wine", "namespace": NAMESPACE},
            "spec": {"supportedModelFormats": [{"name": "wine"}], "containers": [container]},
        },
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {
                "name": NAME,
                "namespace": NAMESPACE,
                "annotations": {f"serving.kserve.io/{name}": value for name, value in service.items()},
            },
            "spec": {"predictor": {"model": model}},
        },
    ]


def _predict(sandbox: Sandbox) -> float:
    url = f"{sandbox.info.kserve_url}/kserve/{NAMESPACE}/{NAME}/v2/models/{NAME}/infer"
    tensor = {"name": "input", "shape": [1, 2], "datatype": "FP64", "data": [1.0, 2.0]}
    request = urllib.request.Request(url, json.dumps({"inputs": [tensor]}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return float(json.load(answer)["outputs"][0]["data"][0])


def _pod(sandbox: Sandbox) -> Path:
    [folder] = (sandbox.folder / FOLDER / "pods" / NAMESPACE).iterdir()
    return folder


def test_pod_answers_and_has_only_the_files_of_its_model(sandbox: Sandbox) -> None:
    assert _predict(sandbox) == pytest.approx(4.0)
    files = {path.name for path in (_pod(sandbox) / "models").rglob("*")}
    assert "MLmodel" in files
    assert not any("another" in path.name for path in (_pod(sandbox) / "models").iterdir())


def test_log_of_the_initializer_is_that_of_the_pod(sandbox: Sandbox) -> None:
    [log] = (sandbox.folder / FOLDER / "logs").glob(f"{NAMESPACE}.{NAME}-predictor-*.log")
    text = log.read_text()
    assert "Successfully copied s3://mlflow/wine/model/ to /mnt/models" in text
    assert sandbox.info.s3_secret_key not in text


def test_server_survives_a_killed_node(sandbox: Sandbox) -> None:
    pid = int((_pod(sandbox) / "process").read_text().split()[0])
    sandbox.restart("kserve-node", kill=True)
    assert alive(pid)
    assert _predict(sandbox) == pytest.approx(4.0)


def test_deleted_service_ends_the_server(sandbox: Sandbox) -> None:
    pid = int((_pod(sandbox) / "process").read_text().split()[0])
    sandbox.kubectl("delete", "isvc", NAME, f"--namespace={NAMESPACE}", "--timeout=60s")
    until(lambda: not alive(pid), 60)
    until(lambda: not list((sandbox.folder / FOLDER / "pods" / NAMESPACE).iterdir()))
