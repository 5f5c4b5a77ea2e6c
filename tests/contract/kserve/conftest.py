"""The cluster of KServe's contract tests: a sandbox with the real controller, or `CONTRACT_KUBECONFIG` (see README.md)."""

import itertools
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from contract.kserve.models import upload
from contract.kserve.target import MODE, SECRET, Body, Cluster, Target

from sandbox import programs
from sandbox.plan import Info
from sandbox.platform import Sandbox

KNATIVE: Body = {"ports": [{"name": "http1", "containerPort": 8080, "protocol": "TCP"}], "lifecycle": None}
"""What Knative requires of a container: one of its own names for the port, and no lifecycle."""
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def target() -> Iterator[Target]:
    if kubeconfig := os.environ.get("CONTRACT_KUBECONFIG"):
        yield _given(Path(kubeconfig))
        return
    without = {"operator", "kubeflow", "mlflow", "seldon", "data"}
    with Sandbox(f"contract-kserve-{os.getpid()}", without=without, backend="kserve", mode=MODE) as sandbox:
        info = sandbox.info
        models = upload(info.s3_endpoint, info.s3_access_key, info.s3_secret_key)
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
    made.runtime(**(KNATIVE if MODE == "Knative" else {}))
    yield made
    target.run("delete", "namespace", name, "--wait=false")


@pytest.fixture
def models(target: Target) -> tuple[str, str]:
    """Addresses of two models, of which the first predicts twice the alcohol and the second three times."""
    if len(target.models) < 2:
        pytest.skip("CONTRACT_KSERVE_MODELS does not name two models that the pods of this cluster can copy")
    return target.models[0], target.models[1]
