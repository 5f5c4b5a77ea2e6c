"""The cluster of KServe's contract tests: a sandbox with the real controller, or `CONTRACT_KUBECONFIG` (see README.md)."""

import itertools
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from contract.kserve.target import SECRET, Body, Cluster, Target
from minio import Minio

from sandbox import programs
from sandbox.places import ROOT, interpreter
from sandbox.plan import Info
from sandbox.platform import Sandbox

SAVE = """
import sys
from pathlib import Path
from seldon_support import save_model
for slope, name in ((2, "twice"), (3, "three-times")):
    save_model(Path(sys.argv[1], name), slope)
"""
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    if kubeconfig := os.environ.get("CONTRACT_KUBECONFIG"):
        yield _given(Path(kubeconfig))
        return
    without = {"operator", "kubeflow", "mlflow", "seldon", "data"}
    with Sandbox(f"contract-kserve-{os.getpid()}", without=without, backend="kserve") as sandbox:
        info = sandbox.info
        models = _upload(info, tmp_path_factory.mktemp("models"))
        endpoint = info.kserve_url + "/kserve/{namespace}/{name}"
        yield Target(info.kubectl, info.kubeconfig, _secret(info), models, endpoint=endpoint)


def _given(kubeconfig: Path) -> Target:
    kubectl = Path(shutil.which("kubectl") or programs.find(lambda _: None)["kubectl"])
    nothing = Target(kubectl, kubeconfig, {"metadata": {}, "data": {}})
    namespace, _, name = os.environ.get("CONTRACT_KSERVE_SECRET", "").partition("/")
    secret: Body = json.loads(nothing.run("-n", namespace, "get", "secret", name, "-o", "json")) if name else nothing.secret
    models = tuple(filter(None, os.environ.get("CONTRACT_KSERVE_MODELS", "").split(",")))
    image = os.environ.get("CONTRACT_KSERVE_IMAGE") or nothing.image
    return Target(kubectl, kubeconfig, secret, models, image, os.environ.get("CONTRACT_KSERVE_ENDPOINT", ""))


def _secret(info: Info) -> Body:
    """The keys of the sandbox's object store, and its address in KServe's annotations."""
    address = urlsplit(info.s3_endpoint).netloc
    settings = {"s3-endpoint": address, "s3-usehttps": "0", "s3-region": "us-east-1", "s3-verifyssl": "0"}
    annotations = {f"serving.kserve.io/{name}": value for name, value in settings.items()}
    keys = {"AWS_ACCESS_KEY_ID": info.s3_access_key, "AWS_SECRET_ACCESS_KEY": info.s3_secret_key}
    return {"metadata": {"annotations": annotations}, "stringData": keys}


def _upload(info: Info, folder: Path) -> tuple[str, ...]:
    """Put models into the sandbox's object store, which answer twice and three times the alcohol; return their addresses."""
    sources = (ROOT, ROOT / "pipeline", ROOT / "contract", ROOT / "tests" / "sandbox")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sources))}
    subprocess.run([interpreter("pipeline"), "-c", SAVE, str(folder)], check=True, env=environment, capture_output=True)
    store = Minio(urlsplit(info.s3_endpoint).netloc, info.s3_access_key, info.s3_secret_key, secure=False)
    for path in filter(Path.is_file, folder.rglob("*")):
        store.fput_object("mlflow", f"contract/{path.relative_to(folder)}", str(path))
    return "s3://mlflow/contract/twice/", "s3://mlflow/contract/three-times/"


@pytest.fixture
def cluster(target: Target) -> Iterator[Cluster]:
    """A namespace with the Secret that models are copied with, and the runtime that serves them; deleted after the test."""
    name = f"contract-{uuid.uuid4().hex[:6]}-{next(_numbers)}"
    target.run("create", "namespace", name)
    made = Cluster(target, name)
    data: Body = {key: target.secret[key] for key in ("data", "stringData") if key in target.secret}
    annotations = {
        key: value
        for key, value in target.secret["metadata"].get("annotations", {}).items()
        if key.startswith("serving.kserve.io/")
    }
    made.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "annotations": annotations}, **data})
    made.runtime()
    yield made
    target.run("delete", "namespace", name, "--wait=false")


@pytest.fixture
def models(target: Target) -> tuple[str, str]:
    """Addresses of two models, of which the first predicts twice the alcohol and the second three times."""
    if len(target.models) < 2:
        pytest.skip("CONTRACT_KSERVE_MODELS does not name two models that the pods of this cluster can copy")
    return target.models[0], target.models[1]
