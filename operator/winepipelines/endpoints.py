"""Addresses of servers, compared by what they mean rather than by how they are written. Pure."""

from collections.abc import Collection
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443}
CLUSTER_DOMAIN = "cluster.local"


def server(url: str) -> tuple[str, str, int]:
    """Read scheme, host and port of an address; without a scheme it is https, as rclone reads it.

    The names of one Service, `minio.kubeflow` and `minio.kubeflow.svc.cluster.local`, become one. Raises ValueError.
    """
    parts = urlsplit(url if "://" in url else f"https://{url}")
    host = (parts.hostname or "").rstrip(".").lower()
    return parts.scheme, service(host) or host, parts.port or PORTS.get(parts.scheme, 0)


def are_written_alike(one: str, other: str) -> bool:
    """Tell whether two addresses are of one server by their words alone, without asking DNS."""
    try:
        return server(one) == server(other)
    except ValueError:
        return one == other


def service(host: str, namespaces: Collection[str] = ()) -> str:
    """Name the Service that a host names, as `service.namespace`; "" where it is no Service's.

    Two labels alone, as in `minio.kubeflow`, may be a host outside: they name a Service where the second is one of `namespaces`.
    """
    labels = host.rstrip(".").lower().split(".")
    if len(labels) >= 3 and labels[2] == "svc":  # whatever the cluster's domain is
        return ".".join(labels[:2])
    if len(labels) == 2 and labels[1] in namespaces:
        return ".".join(labels)
    return ""


def is_of_the_cluster(host: str, namespaces: Collection[str]) -> bool:
    """Tell a host that only the cluster's own DNS knows: one label, a Service's name, or the cluster's domain."""
    name = host.rstrip(".").lower()
    return "." not in name or bool(service(name, namespaces)) or name.endswith((".svc", f".{CLUSTER_DOMAIN}"))
