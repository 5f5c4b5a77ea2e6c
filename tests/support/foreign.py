"""The machine of another user: servers on all well-known ports, and settings of other tools that point elsewhere.

A program that connects to one of the servers has taken an address from the machine instead of from the test.
"""

import re
import selectors
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# etcd, API servers, kubelet, Kubeflow's gateway, MLflow, object stores, Seldon, MLServer, Prometheus, probes, webhooks, proxies.
WELL_KNOWN = {2379, 2380, 6443, 8443, 16443, 9443, 10250, 10257, 10259, 8888, 3000, 5000, 5001, 9000, 9001, 9500, 6000, 8000}
WELL_KNOWN |= {8080, 8081, 8082, 9090, 9091, 9093, 3128, 8001, 8265, 8333, 12379, 12380}
NAMED = ("deploy/charts/*/values.yaml", "deploy/charts/*/templates/*", "operator/winepipelines/settings.py", "sandbox/**/*.py")
PORT = re.compile(r"(?i)(?:port\W{1,4}|:)(\d{4,5})\b")
NOWHERE = "http://127.0.0.1:3128"  # this server is not a proxy


def ports() -> set[int]:
    """List the well-known ports, and those in charts, settings and sandbox."""
    texts = (path.read_text() for pattern in NAMED for path in ROOT.glob(pattern) if path.is_file())
    named = {int(port) for text in texts for port in PORT.findall(text)}
    return {port for port in WELL_KNOWN | named if 1024 <= port < 65536}


@dataclass
class Listeners:
    """Servers that accept and close all connections. `taken` has the ports that were in use already."""

    open: set[int] = field(default_factory=set)
    taken: set[int] = field(default_factory=set)
    connections: list[str] = field(default_factory=list)


@contextmanager
def listeners() -> Iterator[Listeners]:
    """Listen on all `ports` of every address of this machine."""
    found, sockets, waiting = Listeners(), [], selectors.DefaultSelector()
    for port in sorted(ports()):
        try:
            server = socket.create_server(("", port))
        except OSError:
            found.taken.add(port)
            continue
        server.setblocking(False)
        sockets.append(server)
        waiting.register(server, selectors.EVENT_READ, port)
        found.open.add(port)
    ours, theirs = socket.socketpair()
    waiting.register(theirs, selectors.EVENT_READ, 0)

    def answer() -> None:
        while True:
            for key, _ in waiting.select():
                if not key.data:
                    return
                with suppress(OSError):
                    connection, who = key.fileobj.accept()  # type: ignore[union-attr] # a server's socket
                    connection.settimeout(0.5)
                    with connection, suppress(OSError):
                        found.connections.append(f"{key.data} from {who[0]}: {connection.recv(200)!r}")

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ours.close()
        thread.join(10)
        for one in (theirs, *sockets):
            one.close()
        waiting.close()


def environment(folder: Path) -> Mapping[str, str]:
    """Return the environment of a user who uses these tools for other systems; write his files to `folder`."""
    kubeconfig = folder / "home/.kube/config"
    for path in (".kube", ".aws", ".mlflow", ".config/rclone"):
        (folder / "home" / path).mkdir(parents=True)
    kubeconfig.write_text(
        'apiVersion: v1\nkind: Config\nclusters: [{name: theirs, cluster: {server: "https://127.0.0.1:6443"}}]\n'
        "users: [{name: me, user: {token: foreign}}]\ncontexts: [{name: theirs, context: {cluster: theirs, user: me}}]\n"
        "current-context: theirs\n"
    )
    (folder / "home/.aws/config").write_text("[default]\nregion = eu-north-1\nendpoint_url = http://127.0.0.1:9000\n")
    (folder / "home/.aws/credentials").write_text("[default]\naws_access_key_id = foreign\naws_secret_access_key = foreign\n")
    (folder / "home/.mlflow/credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = me\nmlflow_tracking_password = foreign\n"
    )
    (folder / "home/.netrc").write_text("machine 127.0.0.1 login me password foreign\n")
    (folder / "home/.netrc").chmod(0o600)
    return {
        "HOME": str(folder / "home"),
        "KUBECONFIG": str(kubeconfig),
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": "6443",
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), NOWHERE),
        "NO_PROXY": "example.org",
        "AWS_ACCESS_KEY_ID": "foreign",
        "AWS_SECRET_ACCESS_KEY": "foreign",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
        "AWS_PROFILE": "nobody",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
        "MLFLOW_TRACKING_TOKEN": "foreign",
        "MLFLOW_S3_ENDPOINT_URL": "http://127.0.0.1:9000",
        "MLFLOW_REGISTRY_URI": "databricks",
        "MLFLOW_HOST": "0.0.0.0",
        "MLFLOW_PORT": "5000",
        "ETCD_LISTEN_CLIENT_URLS": "http://127.0.0.1:2379",
        "WINE_KFP_URL": "http://127.0.0.1:8888",
        "WINE_METRICS_PORT": "9090",
        "WINE_PROBE_PORT": "8080",
        "WINE_NAMESPACES": "theirs",
        "KF_PIPELINES_ENDPOINT": "http://127.0.0.1:8888",
        "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": "9000",
        "MLSERVER_HTTP_PORT": "8080",
        "UVICORN_PORT": "8000",
        "GUNICORN_CMD_ARGS": "--bind=0.0.0.0:8000",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
        "HELM_NAMESPACE": "theirs",
        "HELM_KUBECONTEXT": "theirs",
        "BUILDER": "none",
        "TZ": "Asia/Kathmandu",
    }
