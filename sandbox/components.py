"""The command line, environment and readiness of every component, as functions of the plan.

No credential ever stands in a command line, which any user of the machine can read.
"""

import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sandbox import mlflow_server
from sandbox.kserve import installation as kserve
from sandbox.kserve import knative
from sandbox.places import ROOT
from sandbox.plan import BOTH, BUILTIN, MLFLOW_SECRET, PLATFORM_NAMESPACE, Plan

# The caller's variables that would lead a component to another cluster, store or port, or give it other credentials.
FOREIGN: tuple[str, ...] = ("AWS_", "BOTO_", "DATABRICKS_", "ETCD_", "FLASK_", "GUNICORN_", "HELM_", "KF_", "KFP_", "KUBE")
FOREIGN += ("MLFLOW_", "MLSERVER_", "OTEL_", "PREDICTIVE_UNIT_", "PYTEST_", "PYTHON", "RCLONE_", "SELDON_", "UVICORN_")
FOREIGN += ("WINE_",)
KEPT = ("WINE_CACHE", "KUBEBUILDER_ASSETS", "PYTHONDONTWRITEBYTECODE")
# The caller's files that the same clients would read, and a cloud's metadata service that they would get credentials from.
NOTHING = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "NETRC"), os.devnull)
NOTHING |= {"AWS_EC2_METADATA_DISABLED": "true"}
STORE_HEALTH = "/health"  # answers without keys, and hides a bucket of that name
AUDIT_POLICY = ROOT / "sandbox" / "audit.yaml"


@dataclass(frozen=True)
class Component:
    """One process. `ready` is called often and returns within a second."""

    name: str
    command: list[str]
    ready: Callable[[], bool]
    needs: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 90.0  # seconds until it must be ready


def base_environment() -> dict[str, str]:
    """The caller's environment without what leads elsewhere; local addresses bypass any proxy."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT or not name.startswith(FOREIGN)} | NOTHING
    for name in ("NO_PROXY", "no_proxy"):
        kept[name] = ",".join(filter(None, [kept.get(name), "127.0.0.1,localhost"]))
    return kept


def python_environment(*sources: str) -> dict[str, str]:
    """Variables for a Python process: the repository's source roots, and never the folder it happens to start in.

    `contract`, which steps and operator share, comes with any of the others.
    """
    path = os.pathsep.join(str(ROOT / source) for source in (*sources, *(["contract"] if sources else [])))
    return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def store_environment(plan: Plan) -> dict[str, str]:
    """Address and credentials of the object store, as MLflow and boto3 read them."""
    return {
        "MLFLOW_S3_ENDPOINT_URL": plan.url("store"),
        "AWS_ACCESS_KEY_ID": plan.access_key,
        "AWS_SECRET_ACCESS_KEY": plan.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def answers(url: str, context: ssl.SSLContext | None = None, status: int | None = 200) -> bool:
    """Whether a GET gets this status, or any answer at all where `status` is None. Proxies are not used."""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=1) as answer:
            return status in (None, answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return status in (None, error.code)
    except OSError:
        return False


def administrator(plan: Plan) -> ssl.SSLContext:
    """How to talk to the API server as its administrator."""
    context = ssl.create_default_context(cafile=plan.certificates / "ca.crt")
    context.load_cert_chain(plan.certificates / "admin.crt", plan.certificates / "admin.key")
    return context


def components(plan: Plan) -> dict[str, Component]:
    """All components by name. `needs` may also name the steps `buckets` and `manifests` of `platform`."""
    control_plane = _control_plane(plan) if plan.cluster == BUILTIN else ()
    made = (*control_plane, *_storage(plan), *_stand_ins(plan), *_kserve(plan), _operator(plan))
    return {component.name: component for component in made}


def _control_plane(plan: Plan) -> tuple[Component, ...]:
    context = administrator(plan)
    return _etcd(plan, context), _api_server(plan, context), _controller_manager(plan, context)


def _etcd(plan: Plan, context: ssl.SSLContext) -> Component:
    pki, etcd, peer = plan.certificates, plan.url("etcd", "https"), plan.url("etcd-peer")
    return Component(
        "etcd",
        [
            str(plan.programs["etcd"]),
            f"--data-dir={plan.folder / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            f"--cert-file={pki / 'apiserver.crt'}",
            f"--key-file={pki / 'apiserver.key'}",
            f"--trusted-ca-file={pki / 'ca.crt'}",
            "--client-cert-auth",
            "--unsafe-no-fsync",  # nothing here must survive a power cut
            "--log-level=warn",
        ],
        ready=lambda: answers(f"{etcd}/health", context),
    )


def _api_server(plan: Plan, context: ssl.SSLContext) -> Component:
    pki, server, etcd = plan.certificates, plan.url("apiserver", "https"), plan.url("etcd", "https")
    return Component(
        "apiserver",
        [
            str(plan.programs["kube-apiserver"]),
            "--bind-address=127.0.0.1",
            f"--secure-port={plan.ports['apiserver']}",
            f"--etcd-servers={etcd}",
            f"--etcd-cafile={pki / 'ca.crt'}",
            f"--etcd-certfile={pki / 'apiserver.crt'}",
            f"--etcd-keyfile={pki / 'apiserver.key'}",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--service-account-key-file={pki / 'service-accounts.key'}",
            f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",  # a laptop may have no address but the loopback one
            "--authorization-mode=RBAC",
            "--profiling=false",
            *([f"--audit-policy-file={AUDIT_POLICY}", f"--audit-log-path={plan.audit_log}"] if plan.audit else []),
        ],
        ready=lambda: answers(f"{server}/readyz", context),
    )


def _controller_manager(plan: Plan, context: ssl.SSLContext) -> Component:
    pki, server = plan.certificates, plan.url("apiserver", "https")
    return Component(
        "controller-manager",
        [
            str(plan.programs["kube-controllers"]),
            f"--kubeconfig={pki / 'controller-manager.kubeconfig'}",
            f"--service-account-private-key-file={pki / 'service-accounts.key'}",
            f"--root-ca-file={pki / 'ca.crt'}",
        ],
        ready=lambda: answers(f"{server}/api/v1/namespaces/default/serviceaccounts/default", context),
        needs=("manifests",),  # the garbage collector learns of later kinds only half a minute afterwards
    )


def _storage(plan: Plan) -> tuple[Component, ...]:
    mlflow = mlflow_server.variant(plan.mlflow)
    return (
        Component(
            "store",
            [
                str(plan.programs["versitygw"]),
                f"--address=127.0.0.1:{plan.ports['store']}",
                f"--folder={plan.folder / 'store'}",
            ],
            ready=lambda: answers(plan.url("store") + STORE_HEALTH),
            environment={"ROOT_ACCESS_KEY": plan.access_key, "ROOT_SECRET_KEY": plan.secret_key},
        ),
        Component(
            "mlflow",
            mlflow_server.command(mlflow, plan.mlflow_python, plan.ports["mlflow"]),
            # With authentication, an anonymous request gets 401: the server is up.
            ready=lambda: answers(
                plan.mlflow_url + "/api/2.0/mlflow/experiments/get?experiment_id=0", status=401 if mlflow.proxied else 200
            ),
            environment={**store_environment(plan), **mlflow_server.environment(mlflow, plan.folder)},
        ),
        Component(
            "data",
            [
                sys.executable,
                *("-m", "http.server", str(plan.ports["data"]), "--bind", "127.0.0.1", "--directory", str(plan.data)),
            ],
            ready=lambda: answers(plan.url("data")),
            environment=python_environment(),
        ),
    )


def _stand_ins(plan: Plan) -> tuple[Component, ...]:
    def stand_in(name: str, port_flag: str, path: str, status: int | None, *options: str) -> Component:
        state: Path = plan.folder / name
        return Component(
            name,
            [
                plan.pipeline_python,
                *("-m", f"sandbox.{name}", port_flag, str(plan.ports[name])),
                *("--state", str(state), "--kubeconfig", str(plan.kubeconfig), *options),
            ],
            ready=lambda: answers(plan.url(name) + path, status=status),
            needs=("manifests",),
            # No credentials: like the real ones they read them from the Secrets in the cluster.
            environment={**python_environment("", "pipeline"), "MLFLOW_S3_ENDPOINT_URL": plan.url("store")},
        )

    tokens = ["--authenticate"] if plan.authenticate else []
    return (
        stand_in("kubeflow", "--port", "/apis/v2beta1/healthz", 200, "--multi-user", "--terminate-seconds", "3", *tokens),
        stand_in("seldon", "--gateway-port", "/", None),
    )


def _kserve(plan: Plan) -> tuple[Component, ...]:
    if not plan.has_kserve:
        return ()
    temporary = plan.folder / "kserve"
    health = f"127.0.0.1:{plan.ports['kserve-health']}"
    controller = Component(
        "kserve",
        [
            str(plan.programs["kserve-manager"]),
            "--metrics-addr=0",
            f"--health-probe-addr={health}",
            f"--webhook-port={plan.ports['kserve-webhooks']}",
        ],
        ready=lambda: answers(f"http://{health}/readyz"),
        needs=("manifests",),
        environment={"KUBECONFIG": str(plan.kubeconfig), "POD_NAMESPACE": kserve.NAMESPACE, "TMPDIR": str(temporary)},
    )
    node = Component(
        "kserve-node",
        [
            plan.pipeline_python,
            *("-m", "sandbox.kserve", "--gateway-port", str(plan.ports["kserve"]), "--state", str(plan.folder / "kserve-node")),
            *("--kubeconfig", str(plan.kubeconfig), "--initializer-python", plan.kserve_python),
            *(["--knative"] if plan.has_knative else []),
        ],
        ready=lambda: answers(plan.url("kserve") + "/", status=None),
        needs=("manifests",),
        environment=python_environment("", "pipeline"),
    )
    return (controller, node, *_knative(plan))


def _knative(plan: Plan) -> tuple[Component, ...]:
    if not plan.has_knative:
        return ()
    health = plan.ports["knative-health"]
    controller = Component(
        "knative",
        [str(plan.programs["knative-controller"]), f"--kubeconfig={plan.kubeconfig}"],
        ready=lambda: answers(f"http://127.0.0.1:{health}/"),
        needs=("manifests",),
        environment={
            "SYSTEM_NAMESPACE": knative.NAMESPACE,
            "POD_NAME": "controller",
            "CONFIG_LOGGING_NAME": "config-logging",
            "CONFIG_OBSERVABILITY_NAME": "config-observability",
            "PROFILING_PORT": "0",  # one that is free
            "HEALTH_ADDRESS": f"127.0.0.1:{health}",
        },
    )
    return (controller,)


def _mlflow_settings(plan: Plan) -> dict[str, str]:
    """Settings of the operator for a server that proxies artifacts and requires authentication."""
    mlflow = mlflow_server.variant(plan.mlflow)
    if not mlflow.proxied:
        return {}
    return {"WINE_MLFLOW_SECRET": MLFLOW_SECRET, "WINE_ARTIFACTS_DESTINATION": mlflow_server.destination(mlflow)}


def _kserve_settings(plan: Plan) -> dict[str, str]:
    """Settings of the operator for serving on KServe, by default where it has the rights for nothing else."""
    if not plan.has_kserve:
        return {}
    return {
        "WINE_KSERVE_MODE": plan.mode,
        "WINE_KSERVE_ENDPOINT_TEMPLATE": plan.url("kserve") + "/kserve/{namespace}/{name}",
    }


def _operator(plan: Plan) -> Component:
    return Component(
        "operator",
        [plan.operator_python, "-m", "winepipelines", "run"],
        ready=lambda: answers(plan.url("operator") + "/healthz"),
        needs=("manifests",),
        environment={
            **python_environment("operator"),
            "MALLOC_ARENA_MAX": "2",  # as in the image: threads that wait for blocking clients need no memory of their own
            "KUBECONFIG": str(plan.operator_kubeconfig),
            "WINE_KFP_URL": plan.url("kubeflow"),
            "WINE_MLFLOW_URL": plan.mlflow_url,
            **_mlflow_settings(plan),
            "WINE_S3_ENDPOINT_URL": plan.url("store"),
            "WINE_PLATFORM_NAMESPACE": PLATFORM_NAMESPACE,
            "WINE_ENDPOINT_TEMPLATE": plan.url("seldon") + "/seldon/{namespace}/{name}",
            "WINE_PREDICTOR_TEMPLATE": plan.url("seldon") + "/seldon-predictor/{namespace}/{name}/{predictor}",
            "WINE_TRAFFIC_SPLITTING": "istio",
            "WINE_DATA_ALLOWED_NETWORKS": "127.0.0.0/8",  # all that is on this machine
            **({} if plan.backend == BOTH else {"WINE_SERVING_BACKEND": plan.backend}),
            **_kserve_settings(plan),
            "WINE_POLL_SECONDS": "0.5",
            "WINE_PROBE_HOST": "127.0.0.1",
            "WINE_PROBE_PORT": str(plan.ports["operator"]),
            **({"WINE_KFP_TOKEN_FILE": str(plan.kfp_token)} if plan.authenticate else {}),
        },
    )
