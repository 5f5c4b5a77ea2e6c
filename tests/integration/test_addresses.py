"""Data URLs: a version of an object, and a host that requires authentication."""

import hashlib
import io
import json
from pathlib import Path
from urllib.parse import urlsplit

from minio import Minio
from minio.commonconfig import ENABLED
from minio.versioningconfig import VersioningConfig
from support.cluster import Cluster, ready, says
from support.operator import OperatorProcess
from support.website import Answer, Site

from winepipelines.api.status import ConditionType

WINE = (Path(__file__).parents[2] / "data" / "winequality-red.csv").read_bytes()
LINES = WINE.splitlines(keepends=True)
OLD, NEW = b"".join(LINES[:121]), b"".join(LINES[:61])


def test_named_object_version_is_trained_on(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    info = cluster.info
    store = Minio(urlsplit(info.s3_endpoint).netloc, info.s3_access_key, info.s3_secret_key, secure=False)
    bucket = f"versioned-{namespace}"
    store.make_bucket(bucket)
    store.set_bucket_versioning(bucket, VersioningConfig(ENABLED))
    first, second = (store.put_object(bucket, "a wine.csv", io.BytesIO(body), len(body)).version_id for body in (OLD, NEW))
    assert first
    cluster.apply(cluster.resource(namespace, url=f"s3://{bucket}/a wine.csv?versionId={first}"))
    served = cluster.wait(namespace, ready).status.served
    assert served is not None
    assert (served.model.data.sha256, served.model.data.version) == (hashlib.sha256(OLD).hexdigest(), first)

    cluster.apply(cluster.resource(namespace, "newest", url=f"s3://{bucket}/a wine.csv"))
    served = cluster.wait(namespace, ready, "newest").status.served
    assert served is not None
    assert (served.model.data.sha256, served.model.data.version) == (hashlib.sha256(NEW).hexdigest(), second)


def test_credentials_of_a_secret_are_sent_to_the_data_host_only(
    cluster: Cluster, operator: OperatorProcess, namespace: str, site: Site
) -> None:
    url = site.give("/private.csv", Answer(WINE))
    data = {"credentialsSecret": "wine-data", "credentialsOverHTTP": True}
    cluster.apply(cluster.resource(namespace, url=url, data=data))
    missing = cluster.wait(namespace, says(ConditionType.READY, "CredentialsMissing"))
    stalled = missing.status.condition(ConditionType.STALLED)
    assert stalled is not None
    assert "The Secret 'wine-data', which credentialsSecret names, is not in this namespace" in stalled.message
    assert site.asked == []

    cluster.sandbox.kubectl("-n", namespace, "create", "secret", "generic", "wine-data", "--from-literal=token=s3cr3t-t0ken")
    cluster.sandbox.kubectl("-n", namespace, "annotate", "wp", "mlflow", "winepipelines.io/retrain=1")
    cluster.wait(namespace, ready)
    assert [headers.get("Authorization") for _, headers in site.asked] == ["Bearer s3cr3t-t0ken"]
    shown = [cluster.get("wp", namespace, "mlflow"), cluster.objects("events", namespace), cluster.runs(namespace)]
    assert "s3cr3t-t0ken" not in json.dumps(shown)

    prediction = {
        "apiVersion": "winepipelines.io/v1alpha1",
        "kind": "WinePrediction",
        "metadata": {"name": "scores", "namespace": namespace},
        "spec": {"pipeline": "mlflow", "input": {"url": url, **data}, "output": f"s3://mlpipeline/{namespace}/private.csv"},
    }
    cluster.apply(prediction)
    status = cluster.wait_for_prediction(namespace, lambda seen: seen.status.is_over).status
    assert status.rows == 1599, status
    assert [headers.get("Authorization") for _, headers in site.asked] == ["Bearer s3cr3t-t0ken"] * 2
