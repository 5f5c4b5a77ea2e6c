"""What Seldon tells the container: the model's folder, its name and the port, all by environment variable.

Read by server.py once at start. Source of the names: seldon-core 1.18, `createContainerService` and `addModelEnvs`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PORTS = ("PREDICTIVE_UNIT_HTTP_SERVICE_PORT", "PREDICTIVE_UNIT_SERVICE_PORT", "MLSERVER_HTTP_PORT")
NAMES = ("PREDICTIVE_UNIT_ID", "MLSERVER_MODEL_NAME")
MEBIBYTE = 1024 * 1024


class EnvironmentInvalidError(ValueError):
    """A variable that cannot be what it says; the message names it."""


@dataclass(frozen=True)
class Environment:
    """Where the model is and where to answer. `max_body` is in bytes."""

    folder: Path
    name: str
    port: int
    host: str
    max_body: int

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "Environment":
        """Take the first variable that is set, in the order above. Raises EnvironmentInvalidError."""
        return cls(
            folder=Path(_model_uri(variables)),
            name=_first(variables, NAMES, "classifier"),
            port=_number(variables, PORTS, 9000),
            host=variables.get("MLSERVER_HOST") or "0.0.0.0",  # noqa: S104 - a pod is reached from other pods
            max_body=_number(variables, ("WINE_MAX_BODY_BYTES",), 10 * MEBIBYTE),
        )


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


def _number(variables: Mapping[str, str], names: tuple[str, ...], default: int) -> int:
    text = _first(variables, names, str(default))
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise EnvironmentInvalidError(f"{' or '.join(names)} is not a positive whole number: {text[:50]}")
    return int(text)
