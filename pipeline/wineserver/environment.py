"""What Seldon tells the container by environment variable: model, name, port, and whose pod it is.

Source of the names: seldon-core 1.18, `createContainerService`, `addPortEnvs` and `addModelEnvs`. The port is that of the
container port named `http`: 8000 where the Service sends requests straight here, 9000 where Seldon's executor stands in front.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from winecontract.reasons import Reason
from winecontract.signatures import DIGEST_VARIABLE

PORTS = ("PREDICTIVE_UNIT_HTTP_SERVICE_PORT", "PREDICTIVE_UNIT_SERVICE_PORT", "MLSERVER_HTTP_PORT")
NAMES = ("PREDICTIVE_UNIT_ID", "MLSERVER_MODEL_NAME")
EXECUTOR_PORT = 9000
"""Where Seldon's executor expects a model, unless a container port named `http` says otherwise."""
MEBIBYTE = 1024 * 1024
LABEL_LENGTH = 256


class EnvironmentInvalidError(ValueError):
    """A variable that cannot be what it says; the message names it."""

    reason = Reason.SETTINGS_INCOMPLETE


@dataclass(frozen=True)
class Identity:
    """Whose pod this is: the labels of the metrics, and `meta.requestPath` of an answer. Empty where Seldon does not say."""

    deployment: str = ""
    predictor: str = ""
    predictor_version: str = ""
    image: str = ""

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "Identity":
        """Read the variables; none of them is needed to serve."""
        try:
            labels = json.loads(variables.get("PREDICTOR_LABELS") or "{}")
            version = labels["version"]
        except (ValueError, TypeError, KeyError):
            version = ""
        return cls(
            deployment=variables.get("SELDON_DEPLOYMENT_ID", "")[:LABEL_LENGTH],
            predictor=variables.get("PREDICTOR_ID", "")[:LABEL_LENGTH],
            predictor_version=str(version)[:LABEL_LENGTH],
            image=variables.get("PREDICTIVE_UNIT_IMAGE", "")[:LABEL_LENGTH],
        )

    def image_parts(self) -> tuple[str, str]:
        """Split the image into its name and its tag or digest: `host:5000/server:1.0` is `host:5000/server` and `1.0`."""
        name, _, digest = self.image.partition("@")
        if digest:
            return name, digest
        name, separator, tag = self.image.rpartition(":")
        return (name, tag) if separator and "/" not in tag else (self.image, "")


@dataclass(frozen=True)
class Environment:
    """Where the model is and where to answer. The CORS values are answered as they stand.

    `max_body` is in bytes. `digest` is that of the model's folder, as the operator has verified it; empty for a model that was
    not signed. For `drain` seconds after SIGTERM the server takes requests while it reports that it is not ready: as long as the
    readiness probe needs to fail, and every node to hear of it.
    """

    folder: Path
    name: str
    port: int
    host: str
    max_body: int
    identity: Identity = Identity()
    metrics_path: str = "/prometheus"
    allowed_origins: str = "*"
    allowed_headers: str = "Accept, Accept-Encoding, Authorization, Content-Length, Content-Type, X-CSRF-Token"
    drain: int = 12
    digest: str = ""

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "Environment":
        """Take the first variable that is set, in the order above. Raises EnvironmentInvalidError."""
        return cls(
            folder=Path(_model_uri(variables)),
            name=_first(variables, NAMES, "classifier"),
            port=_number(variables, PORTS, EXECUTOR_PORT),
            host=variables.get("MLSERVER_HOST") or "0.0.0.0",  # noqa: S104 - a pod is reached from other pods
            max_body=_number(variables, ("WINE_MAX_BODY_BYTES",), 10 * MEBIBYTE),
            drain=_number(variables, ("WINE_DRAIN_SECONDS",), cls.drain, least=0),
            digest=variables.get(DIGEST_VARIABLE, ""),
            identity=Identity.read(variables),
            metrics_path=variables.get("PREDICTIVE_UNIT_METRICS_ENDPOINT") or cls.metrics_path,
            allowed_origins=_header_value(variables, "CORS_ALLOWED_ORIGINS", cls.allowed_origins),
            allowed_headers=_header_value(variables, "CORS_ALLOWED_HEADERS", cls.allowed_headers),
        )

    @property
    def behind_executor(self) -> bool:
        """Whether Seldon's executor stands in front, which then counts the requests."""
        return self.port == EXECUTOR_PORT


def _model_uri(variables: Mapping[str, str]) -> str:
    """`model_uri` of PREDICTIVE_UNIT_PARAMETERS; with protocol v2 Seldon sets MLSERVER_MODEL_URI instead."""
    text = variables.get("PREDICTIVE_UNIT_PARAMETERS") or "[]"
    try:
        parameters = {item["name"]: item["value"] for item in json.loads(text)}
    except (ValueError, TypeError, KeyError) as error:
        raise EnvironmentInvalidError(
            f"PREDICTIVE_UNIT_PARAMETERS is not a JSON list of {{name, value, type}}: {text[:200]}"
        ) from error
    return str(parameters.get("model_uri") or variables.get("MLSERVER_MODEL_URI") or "/mnt/models")


def _first(variables: Mapping[str, str], names: tuple[str, ...], default: str) -> str:
    return next((variables[name] for name in names if variables.get(name)), default)


def _number(variables: Mapping[str, str], names: tuple[str, ...], default: int, least: int = 1) -> int:
    text = _first(variables, names, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) >= least):
        raise EnvironmentInvalidError(f"{' or '.join(names)} is not a whole number from {least}: {text[:50]}")
    return int(text)


def _header_value(variables: Mapping[str, str], name: str, default: str) -> str:
    text = variables.get(name) or default
    if not (text.isascii() and text.isprintable()):
        raise EnvironmentInvalidError(f"{name} is not the value of an HTTP header: {text[:50]!r}")
    return text
