"""What one sandbox is made of: ports, credentials, programs, paths. Written once per start, read by every later command."""

import json
import secrets
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sandbox import mlflow_server, ports
from sandbox.certificates import write_secret

PORTS: tuple[str, ...] = ("etcd", "etcd-peer", "apiserver", "store", "mlflow", "data", "kubeflow", "seldon", "operator")
PORTS += ("kserve", "kserve-webhooks", "kserve-health", "knative-health")
PLATFORM_NAMESPACE = "kubeflow"
USER_NAMESPACE = "admin"
MLFLOW_SECRET = "mlflow-tracking-credentials"
FILE = "plan.json"
SELDON, KSERVE, BOTH = BACKENDS = ("seldon", "kserve", "both")  # the operator's serving backend; Seldon's stand-in always runs
STANDARD, KNATIVE = MODES = ("Standard", "Knative")  # how KServe deploys models
BUILTIN, KIND, CURRENT = CLUSTERS = ("builtin", "kind", "current")  # which API server, see `clusters`


@dataclass(frozen=True)
class Info:
    """What a user or a test needs to know of a running sandbox. URLs have no trailing slash."""

    name: str
    folder: Path
    cluster: str  # which API server: builtin, kind or current
    kubeconfig: Path  # the administrator's
    operator_kubeconfig: Path  # the operator's service account
    kubectl: Path
    kfp_url: str
    mlflow_url: str
    s3_endpoint: str
    s3_access_key: str
    s3_secret_key: str
    gateway_url: str  # predictions: <gateway_url>/seldon/<namespace>/<name>/api/v1.0/predictions
    kserve_url: str  # <kserve_url>/kserve/<namespace>/<name>/<path> is the predictor of an InferenceService; "" without KServe
    operator_probe_url: str
    data_url: str  # the wine table
    data_base_url: str  # any file in data_folder
    data_folder: Path
    log_folder: Path
    mlflow_user: str  # with its password if MLflow requires them, otherwise empty
    mlflow_password: str

    @property
    def exports(self) -> str:
        """The shell's words that point kubectl at it."""
        found = shutil.which("kubectl") == str(self.kubectl)  # the user's own, where it is not from the sandbox's control plane
        path = "" if found else f" PATH={shlex.quote(str(self.kubectl.parent))}:$PATH"
        return f"export KUBECONFIG={shlex.quote(str(self.kubeconfig))}{path}"


@dataclass(frozen=True)
class Plan:
    """One sandbox. Ports and programs by name; interpreters are paths; the credentials are the object store's.

    `backend` is the operator's serving backend, or `both`. With KServe, `kserve_python` runs the storage initializer,
    and `mode` is its deployment mode.
    `mlflow` is a variant of `mlflow_server`, and `mlflow_password` its user's.
    `environment` has, by component, variables beyond its usual ones. `authenticate`: Kubeflow Pipelines requires
    tokens, and reviews their rights with the API server; `audit`: the API server logs the operator's requests. `mark` tells
    what this sandbox has made in a cluster from all else.
    """

    name: str
    folder: Path
    ports: Mapping[str, int]
    access_key: str
    secret_key: str
    mlflow_password: str
    programs: Mapping[str, Path]
    pipeline_python: str
    operator_python: str
    mlflow_python: str
    mark: str = ""
    cluster: str = BUILTIN
    engine: str = ""  # container engine that kind made the cluster with
    backend: str = SELDON
    kserve_python: str = ""
    mode: str = STANDARD
    mlflow: str = "direct"
    authenticate: bool = False
    audit: bool = False
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def has_kserve(self) -> bool:
        """Whether KServe runs."""
        return self.backend in (KSERVE, BOTH)

    @property
    def has_knative(self) -> bool:
        """Whether Knative runs, and KServe uses it."""
        return self.has_kserve and self.mode == KNATIVE

    @property
    def certificates(self) -> Path:
        """The folder of certificates and keys."""
        return self.folder / "certificates"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "kubeconfig"

    @property
    def operator_kubeconfig(self) -> Path:
        """The operator's kubeconfig: its service account's token and nothing else."""
        return self.folder / "operator.kubeconfig"

    @property
    def kfp_token(self) -> Path:
        """The operator's token for Kubeflow Pipelines, if it requires one."""
        return self.folder / "kfp.token"

    @property
    def audit_log(self) -> Path:
        """The API server's log of the operator's requests, one JSON document a line, if auditing is on."""
        return self.folder / "audit.log"

    @property
    def logs(self) -> Path:
        """The folder of the components' logs, `<component>.log`."""
        return self.folder / "logs"

    @property
    def data(self) -> Path:
        """The folder that the data server serves; tests may add files."""
        return self.folder / "data"

    @property
    def mlflow_url(self) -> str:
        """MLflow's address, with the path that it is under."""
        return self.url("mlflow") + mlflow_server.variant(self.mlflow).prefix

    def url(self, component: str, scheme: str = "http") -> str:
        """A component's address."""
        return f"{scheme}://127.0.0.1:{self.ports[component]}"

    def info(self) -> Info:
        """What others need of it."""
        return Info(
            name=self.name,
            folder=self.folder,
            cluster=self.cluster,
            kubeconfig=self.kubeconfig,
            operator_kubeconfig=self.operator_kubeconfig,
            kubectl=self.programs["kubectl"],
            kfp_url=self.url("kubeflow"),
            mlflow_url=self.mlflow_url,
            s3_endpoint=self.url("store"),
            s3_access_key=self.access_key,
            s3_secret_key=self.secret_key,
            gateway_url=self.url("seldon"),
            kserve_url=self.url("kserve") if self.has_kserve else "",
            operator_probe_url=self.url("operator"),
            data_url=self.url("data") + "/winequality-red.csv",
            data_base_url=self.url("data"),
            data_folder=self.data,
            log_folder=self.logs,
            mlflow_user=mlflow_server.USER if mlflow_server.variant(self.mlflow).proxied else "",
            mlflow_password=self.mlflow_password if mlflow_server.variant(self.mlflow).proxied else "",
        )

    def save(self) -> None:
        """Write it for `load`; only the owner may read it, for it holds credentials."""
        write_secret(self.folder / FILE, json.dumps(asdict(self), indent=1, default=str).encode())


def load(folder: Path) -> Plan | None:
    """The plan in a sandbox's folder, None where there is none."""
    try:
        stored = json.loads((folder / FILE).read_text())
    except FileNotFoundError:
        return None
    stored["programs"] = {name: Path(path) for name, path in stored["programs"].items()}
    return Plan(**{**stored, "folder": folder})


def choose_ports(previous: Plan | None) -> dict[str, int]:
    """Free ports, the previous plan's where they are still free."""
    return ports.choose(PORTS, previous.ports if previous else {})


def choose_mark(name: str, previous: Plan | None) -> str:
    """A name of this sandbox alone, kept from the previous plan: it has created objects under it."""
    return (previous and previous.mark) or f"{name}-{secrets.token_hex(4)}"


def choose_credentials(previous: Plan | None) -> tuple[str, str, str]:
    """An access key, a secret key and MLflow's password, the previous plan's if any: the stores have data under them."""
    if previous:
        return previous.access_key, previous.secret_key, previous.mlflow_password
    return secrets.token_hex(8), secrets.token_hex(20), secrets.token_hex(20)
