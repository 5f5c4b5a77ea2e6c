"""Comparison of server URLs, and recognition of cluster-internal host names."""

import pytest

from winepipelines.endpoints import are_written_alike, is_of_the_cluster

NAMESPACES = ("kubeflow", "seldon-system")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://minio.kubeflow.svc:9000", "http://minio.kubeflow.svc.cluster.local:9000"),
        ("http://minio.kubeflow.svc:9000", "http://minio.kubeflow.svc.example.internal:9000/"),
        ("http://minio.kubeflow.svc.cluster.local.:9000", "http://MINIO.kubeflow.svc.cluster.local:9000"),
        ("http://minio.example.org", "http://minio.example.org:80/"),
        ("https://s3.example.org:443", "s3.example.org"),
    ],
)
def test_are_written_alike_recognizes_spellings_of_one_server(one: str, other: str) -> None:
    assert are_written_alike(one, other)
    assert are_written_alike(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://minio.kubeflow.svc:9000", "http://minio.other.svc:9000"),
        ("http://minio.kubeflow.svc:9000", "http://minio.kubeflow.svc:9001"),
        ("http://minio.example.org", "https://minio.example.org"),
        ("http://[::1", "http://[::2"),
    ],
)
def test_are_written_alike_is_false_for_different_servers(one: str, other: str) -> None:
    assert not are_written_alike(one, other)


@pytest.mark.parametrize(
    "host",
    [
        "minio",
        "minio.kubeflow",
        "minio.kubeflow.",
        "MinIO.Kubeflow",
        "minio.kubeflow.svc",
        "minio.kubeflow.svc.cluster.local",
        "minio.kubeflow.svc.example.internal",
        "10-0-0-1.kubeflow.pod.cluster.local",
    ],
)
def test_is_of_the_cluster_recognizes_cluster_names(host: str) -> None:
    assert is_of_the_cluster(host, NAMESPACES)


@pytest.mark.parametrize("host", ["example.org", "minio.example.org", "kubeflow.org", "s3.eu-west-1.amazonaws.com", "192.0.2.1"])
def test_is_of_the_cluster_is_false_for_public_names(host: str) -> None:
    assert not is_of_the_cluster(host, NAMESPACES)
