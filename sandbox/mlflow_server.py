"""The variants of a sandbox's MLflow server, which platforms use.

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
    """The set-up of a server. It runs in the `environment` of `dev/environment`.

    `proxied`: it proxies artifacts (`mlflow-artifacts:/`), requires a user name and a password, and serves under `prefix`.
    """

    environment: str
    series: int = 3
    proxied: bool = False
    prefix: str = ""
    folder: str = ""  # in the bucket


VARIANTS: Mapping[str, Variant] = {
    "direct": Variant("pipeline"),
    "proxied": Variant("pipeline-dev", proxied=True, prefix="/mlflow", folder="served"),
    "2.22": Variant("mlflow2", series=2),
}


def variant(name: str) -> Variant:
    """Return a variant by its name. Raises SandboxError."""
    if name not in VARIANTS:
        raise SandboxError(f"there is no MLflow '{name}'; there are {', '.join(VARIANTS)}")
    return VARIANTS[name]


def destination(kind: Variant) -> str:
    """Return the artifacts' location in the object store."""
    return f"s3://{BUCKET}/{kind.folder}".rstrip("/")


def command(kind: Variant, python: str, port: int) -> list[str]:
    """Return the command line of a server."""
    if kind.series == 2:
        listen = ["--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", "--workers", "1", "--threads", "8"]
        return [python, "-m", "gunicorn", *listen, "mlflow.server:app"]
    app = ["--factory", "mlflow.server.auth:create_app"] if kind.proxied else ["mlflow.server.fastapi_app:app"]
    return [python, "-m", "uvicorn", "--port", str(port), *app]


def environment(kind: Variant, folder: Path) -> dict[str, str]:
    """Return a server's variables, except those for the object store. `folder` is the sandbox's."""
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
        "MLFLOW_FLASK_SERVER_SECRET_KEY": folder.name,  # for the forms of browsers, which are not used
    }


def authentication(folder: Path, password: str) -> str:
    """Return the content of the configuration file for basic authentication."""
    return "\n".join(
        (
            "[mlflow]",
            "default_permission = NO_PERMISSIONS",
            f"database_uri = sqlite:///{folder / 'users.db'}",
            f"admin_username = {USER}",
            f"admin_password = {password}",
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth",
            "auth_cache_ttl_seconds = 60",  # password checks are slow by design
            "",
        )
    )
