"""A PodDefault as the MLflow charm makes it in each profile."""

from collections.abc import Iterator
from contextlib import contextmanager

from support.cluster import Cluster

CHARM = "mlflow-server-access-minio"


@contextmanager
def conflicting_poddefault(cluster: Cluster, namespace: str) -> Iterator[None]:
    """Create the charm's PodDefault for the pods that `access-minio` selects, and delete it at the end."""
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    env: list[dict[str, object]] = [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": "mlflow-server-minio-artifact", "key": key, "optional": False}}}
        for key in keys
    ]
    env.append({"name": "MINIO_ENDPOINT_URL", "value": "http://minio.kubeflow:9000"})
    cluster.apply(
        {
            "apiVersion": "kubeflow.org/v1alpha1",
            "kind": "PodDefault",
            "metadata": {"name": CHARM, "namespace": namespace},
            "spec": {"desc": "Allow access to Minio", "selector": {"matchLabels": {"access-minio": "true"}}, "env": env},
        }
    )
    try:
        yield
    finally:
        cluster.sandbox.kubectl("-n", namespace, "delete", "poddefault", CHARM)
