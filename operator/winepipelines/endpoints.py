"""Compare addresses of servers, independent of how they are written. Pure."""

from collections.abc import Collection
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443}
CLUSTER_DOMAIN = "cluster.local"


def server(url: str, namespaces: Collection[str] = ()) -> tuple[str, str, int]:
    """Read scheme, host and port of an address; without a scheme it is https.

    The names of one Service, `minio.kubeflow` and `minio.kubeflow.svc.cluster.local`, become one. Raises ValueError.
    """
    parts = urlsplit(url if "://" in url else f"https://{url}")
    host = (parts.hostname or "").rstrip(".").lower()
    return parts.scheme, service(host, namespaces) or host, parts.port or PORTS.get(parts.scheme, 0)


def are_written_alike(one: str, other: str, namespaces: Collection[str] = ()) -> bool:
    """Whether two addresses name the same server, without a DNS query. `namespaces` are known ones, see `service`."""
    try:
        return server(one, namespaces) == server(other, namespaces)
    except ValueError:
        return one == other


def service(host: str, namespaces: Collection[str] = ()) -> str:
    """Return the Service of a host name, as `service.namespace`; empty if it names no Service.

    Two labels, as in `minio.kubeflow`, may be an external host: they name a Service only if the second is one of `namespaces`.
    """
    labels = host.rstrip(".").lower().split(".")
    if len(labels) >= 3 and labels[2] == "svc":  # whatever the cluster's domain is
        return ".".join(labels[:2])
    if len(labels) == 2 and labels[1] in namespaces:
        return ".".join(labels)
    return ""


def is_of_the_cluster(host: str, namespaces: Collection[str]) -> bool:
    """Whether only the cluster's own DNS knows a host: one label, a Service's name, or the cluster's domain."""
    name = host.rstrip(".").lower()
    return "." not in name or bool(service(name, namespaces)) or name.endswith((".svc", f".{CLUSTER_DOMAIN}"))
