"""The cluster of the Seldon contract tests: the stand-in's, or `CONTRACT_KUBECONFIG` (docs/explanation/seldon-contract.md)."""

import base64
import itertools
import os
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from kubernetes.aio import client, config
from minio import Minio
from support.seldon import Body, Endpoint, Operator

from sandbox import programs
from sandbox.kubectl import await_kinds
from sandbox.places import ROOT, interpreter
from sandbox.platform import Sandbox
from winepipelines.platform.kubernetes import Kubernetes

SECRET = "seldon-init-container-secret"
SAVE = """
import sys
from pathlib import Path
from seldon_support import save_model
for slope in (2, 3):
    save_model(Path(sys.argv[1], str(slope)), slope)
"""
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    if kubeconfig := os.environ.get("CONTRACT_KUBECONFIG"):
        kubectl = shutil.which("kubectl") or programs.find(lambda _: None)["kubectl"]
        models = tuple(filter(None, os.environ.get("CONTRACT_SELDON_MODELS", "").split(",")))
        runs = os.environ.get("CONTRACT_SELDON_RUNS", "1") != "0"
        template = os.environ.get("CONTRACT_SELDON_ENDPOINT", "")
        yield Endpoint(Path(kubectl), Path(kubeconfig), runs, models, template)
        return
    with Sandbox(f"contract-seldon-{os.getpid()}", without={"operator", "kubeflow", "mlflow"}) as sandbox:
        info = sandbox.info
        models = _upload(sandbox, tmp_path_factory.mktemp("models"))
        template = info.gateway_url + "/seldon/{namespace}/{name}"
        yield Endpoint(info.kubectl, info.kubeconfig, True, models, template)


def _upload(sandbox: Sandbox, folder: Path) -> tuple[str, ...]:
    """Upload models that predict twice and three times the alcohol to the sandbox's object store. Return their addresses."""
    sources = (ROOT, ROOT / "pipeline", ROOT / "contract", ROOT / "tests" / "sandbox")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sources))}
    subprocess.run([interpreter("pipeline"), "-c", SAVE, str(folder)], check=True, env=environment, capture_output=True)
    info = sandbox.info
    store = Minio(urlsplit(info.s3_endpoint).netloc, info.s3_access_key, info.s3_secret_key, secure=False)
    for path in filter(Path.is_file, folder.rglob("*")):
        store.fput_object("mlflow", f"contract/{path.relative_to(folder)}", str(path))
    return "s3://mlflow/contract/2", "s3://mlflow/contract/3"


@pytest.fixture
def namespace(endpoint: Endpoint) -> Iterator[str]:
    """Create a namespace with the Secret for copying models. Delete it after the test."""
    name = f"contract-{uuid.uuid4().hex[:6]}-{next(_numbers)}"
    endpoint.run("create", "namespace", name)
    endpoint.apply(_secret(endpoint, name))
    yield name
    endpoint.run("delete", "namespace", name, "--wait=false")


def _secret(endpoint: Endpoint, namespace: str) -> Body:
    """Copy the platform's Secret if it exists. If no pod runs, nothing reads it."""
    source = endpoint.get("secret", "kubeflow", "mlflow-server-seldon-init-container-s3-credentials")
    nothing = {"RCLONE_CONFIG_S3_TYPE": base64.b64encode(b"s3").decode()}
    data = source["data"] if source else nothing
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": namespace}, "data": data}


@pytest.fixture(scope="session")
def kinds(endpoint: Endpoint) -> None:
    """The operator's own kind, whose resources own what is applied."""
    endpoint.run("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds" / "winepipelines.yaml"))
    await_kinds(endpoint.run, "crd/winepipelines.winepipelines.io")


@pytest.fixture
async def operator(endpoint: Endpoint, namespace: str, kinds: None) -> AsyncIterator[Operator]:
    configuration = client.Configuration()
    await config.load_kube_config(config_file=str(endpoint.kubeconfig), client_configuration=configuration)
    kubernetes = Kubernetes(client.ApiClient(configuration))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield Operator(endpoint, kubernetes, session, namespace)
    await kubernetes.close()
