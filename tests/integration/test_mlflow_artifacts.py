"""The operator reads MLflow's artifacts from the object store, at the addresses that real MLflow servers record."""

import io

import pytest
from minio import Minio
from support.backends import SOURCE
from support.mlflow import expected
from support.mlflow_server import MODEL_TAGS, Server

from sandbox.mlflow_server import destination, variant
from winepipelines.api.errors import Unavailable
from winepipelines.platform.objectstore import ObjectStore


def _put(server: Server, uri: str) -> str:
    """Upload an MLmodel where a step would. Return the address at which the object store has it."""
    kind = variant(server.name)
    address = uri.replace("mlflow-artifacts:", destination(kind)) if kind.proxied else uri
    bucket, _, folder = address.removeprefix("s3://").partition("/")
    client = Minio(
        server.info.s3_endpoint.partition("://")[2], server.info.s3_access_key, server.info.s3_secret_key, secure=False
    )
    client.put_object(bucket, f"{folder}/MLmodel", io.BytesIO(b"flavors: {}"), 11)
    return address


async def test_object_store_is_read_with_the_credentials_of_the_initializer(server: Server) -> None:
    run = server.log(server.experiment("stored"), MODEL_TAGS)
    uri = f"{run.info.artifact_uri}/model"
    store = ObjectStore(server.settings)
    missing = await store.stored(uri, server.access())
    assert (missing.readable, missing.reason) == (False, "ModelMissing")
    address = _put(server, uri)
    found = await store.stored(uri, server.access())
    assert (found.readable, found.uri) == (True, address)
    denied = await store.stored(uri, server.access(SECRET_ACCESS_KEY="another"))
    assert (denied.readable, denied.reason) == (False, "ObjectStoreAccessDenied")
    assert SOURCE.name in denied.message
    with pytest.raises(Unavailable, match="does not answer"):
        await store.stored(uri, server.access(ENDPOINT="http://127.0.0.1:9"))
    nowhere = await store.stored(uri, server.access(ENDPOINT="http://[::"))
    assert nowhere.reason == "ObjectStoreEndpointInvalid"
    absent = await store.stored("s3://no-such-bucket/1/model", server.access())
    assert (absent.readable, absent.reason) == (False, "BucketMissing")


async def test_model_is_not_readable_when_the_experiments_artifact_root_is_malicious(server: Server) -> None:
    """The creator of an experiment chooses its artifact root, and the run's own root is below it."""
    for number, root in enumerate(("s3,endpoint=http://evil.example:mlflow", "s3://mlflow,endpoint=evil/x", "gs://bucket/x")):
        try:
            experiment = server.experiment(f"evil-{number}", root)
        except Exception:  # noqa: S112 - this server refuses such a root
            continue
        server.log(experiment, MODEL_TAGS)
        records = await server.adapter().records(f"evil-{number}", expected())
        assert records.model is not None
        stored = await ObjectStore(server.settings).stored(records.model.uri, server.access())
        assert (stored.readable, stored.reason) == (False, "ModelAddressUnusable")
        assert "s3" in stored.message
