"""The store under test: the one that CONTRACT_S3_URL names, else the sandbox's."""

import dataclasses
import os
import uuid
from collections.abc import Iterator

import pytest
from support.s3 import Store

from sandbox.platform import Sandbox

ALL_BUT_STORE = {"etcd", "apiserver", "controller-manager", "manifests", "mlflow", "data", "kubeflow", "seldon", "operator"}


@pytest.fixture(scope="session")
def server() -> Iterator[Store]:
    """The store with the keys of its administrator."""
    if url := os.environ.get("CONTRACT_S3_URL"):
        keys = os.environ["CONTRACT_S3_ACCESS_KEY"], os.environ["CONTRACT_S3_SECRET_KEY"]
        yield Store(url.rstrip("/"), *keys, region=os.environ.get("CONTRACT_S3_REGION") or "us-east-1")
        return
    with Sandbox(f"contract-store-{os.getpid()}", without=ALL_BUT_STORE) as sandbox:
        yield Store(sandbox.info.s3_endpoint, sandbox.info.s3_access_key, sandbox.info.s3_secret_key)


@pytest.fixture
def store(server: Store) -> Iterator[Store]:
    """The store with a new bucket, which is deleted at the end."""
    store = dataclasses.replace(server, bucket=f"contract-{uuid.uuid4().hex[:12]}")
    assert store.request("PUT").status == 200
    yield store
    uploads = store.request("GET", query={"uploads": ""})
    for key, upload in zip(uploads.texts("Upload", "Key"), uploads.texts("Upload", "UploadId"), strict=True):
        store.request("DELETE", key, query={"uploadId": upload})
    versions = store.request("GET", query={"versions": ""})
    for kind in ("Version", "DeleteMarker"):
        for key, version in zip(versions.texts(kind, "Key"), versions.texts(kind, "VersionId"), strict=True):
            store.request("DELETE", key, query={"versionId": version})
    assert store.request("DELETE").status == 204
