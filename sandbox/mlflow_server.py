"""MLflow as platforms run it: the variants of a sandbox's tracking server. Called by `components`, `manifests` and `platform`.

Each is started as `mlflow server` starts it in the end, without that outer process, which would double time and memory. The
variables are those that it would set.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError

USER = "admin"
BUCKET = "mlflow"
AUTHENTICATION = "basic_auth.ini"


@dataclass(frozen=True)
class Variant:
    """How a server is set up. `environment` is the one of `dev/environment` that it runs in.

    `proxied`: it hands artifacts on itself (`mlflow-artifacts:/`), asks for a user and a password, and lies under `prefix`.
    """

    environment: str
    series: int = 3
    proxied: bool = False
    prefix: str = ""
    folder: str = ""  # of the bucket


VARIANTS: Mapping[str, Variant] = {
    "direct": Variant("pipeline"),
    "proxied": Variant("pipeline-dev", proxied=True, prefix="/mlflow", folder="served"),
    "2.22": Variant("mlflow2", series=2),
}


def variant(name: str) -> Variant:
    """A variant by its name. Raises SandboxError."""
    if name not in VARIANTS:
        raise SandboxError(f"there is no MLflow '{name}'; there are {', '.join(VARIANTS)}")
    return VARIANTS[name]


def destination(kind: Variant) -> str:
    """Where artifacts end up in the object store."""
    return f"s3://{BUCKET}/{kind.folder}".rstrip("/")


def command(kind: Variant, python: str, port: int) -> list[str]:
    """The command line of a server."""
    if kind.series == 2:
        listen = ["--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", "--workers", "1", "--threads", "8"]
        return [python, "-m", "gunicorn", *listen, "mlflow.server:app"]
    app = ["--factory", "mlflow.server.auth:create_app"] if kind.proxied else ["mlflow.server.fastapi_app:app"]
    return [python, "-m", "uvicorn", "--port", str(port), *app]


def environment(kind: Variant, folder: Path) -> dict[str, str]:
    """A server's variables, but for the object store's; `folder` is the sandbox's."""
    database = f"sqlite:///{folder / 'mlflow.db'}"
    variables = {
        "_MLFLOW_SERVER_FILE_STORE": database,
        "_MLFLOW_SERVER_REGISTRY_STORE": database,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": f"{destination(kind)}/",
        "MLFLOW_SERVER_ALLOWED_HOSTS": "127.0.0.1:*,localhost:*",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    if not kind.proxied:
        return variables
    return variables | {
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": destination(kind),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_STATIC_PREFIX": kind.prefix,
        "_MLFLOW_SGI_NAME": "uvicorn",
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / AUTHENTICATION),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": folder.name,  # of the forms for browsers, which nobody here uses
    }


def authentication(folder: Path, password: str) -> str:
    """The content of the file that says whom a server knows."""
    return "\n".join(
        (
            "[mlflow]",
            "default_permission = NO_PERMISSIONS",
            f"database_uri = sqlite:///{folder / 'users.db'}",
            f"admin_username = {USER}",
            f"admin_password = {password}",
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth",
            "auth_cache_ttl_seconds = 60",  # a password is slow to check, by design
            "",
        )
    )
