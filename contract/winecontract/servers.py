"""Releases of Seldon's prepackaged MLflow server (image seldonio/mlflowserver), and what a model for each of them must be like.

The operator rejects a release that is not listed before it starts a run; the train step writes models for those that are. Source:
servers/mlflowserver/mlflowserver/{requirements.txt,conda_env_create.py} of seldon-core.

When it starts, the server creates a conda environment from the model's conda.yaml, and installs its own requirements into it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Server:
    """A release: the environment for its models, and its own requirements, which must leave the environment unchanged.

    `python` and `packages` are the environment in the model's conda.yaml. `mlflow` and `pandas` are the versions that the server
    installs; empty if it does not require one. Without `env_mapping`, `flavors.python_function.env` of MLmodel must be the name
    of a file: a mapping, as MLflow 2 and later write it, ends the server ("join() argument must be str or bytes, not 'dict'").
    """

    python: str
    packages: tuple[str, ...]
    mlflow: str
    pandas: str
    env_mapping: bool = True


_OLDEST = Server(
    "3.8",
    ("mlflow==1.23.1", "pandas==1.1.5", "numpy==1.19.5", "sqlalchemy==1.4.54"),
    mlflow="<1.24.0",
    pandas="<1.2.0",
    env_mapping=False,
)

SERVERS: Mapping[tuple[int, int], Server] = {
    (1, 14): _OLDEST,
    (1, 15): _OLDEST,
    (1, 16): Server("3.8", ("mlflow==2.2.2", "pandas==1.5.3", "numpy==1.23.5"), "<=2.2.2", "<=2.0.0"),
    (1, 17): Server("3.8", ("mlflow==2.5.0", "pandas==2.0.0", "numpy==1.24.4"), "<=2.5.0", "<=2.0.0"),
    (1, 18): Server("3.8", ("mlflow==2.17.2", "pandas==2.0.0", "numpy==1.24.4"), ">=2.9.2,<3.0", "<=2.0.0"),
    (1, 19): Server("3.12", ("mlflow==3.1.1", "pandas==2.3.3", "numpy==1.26.4"), "==3.1.1", ""),
}
"""Servers by release, major and minor version."""

VERSION = re.compile(r"v?(\d{1,4})\.(\d{1,4})(?:[.-][0-9A-Za-z.-]{0,32})?")


def find(version: str) -> Server | None:
    """Return the server of a version such as 1.17.1; None if the release is unknown or the version is invalid."""
    match = VERSION.fullmatch(version)
    return SERVERS.get((int(match[1]), int(match[2]))) if match else None


def known() -> str:
    """List the known releases, for messages."""
    return ", ".join(f"{major}.{minor}" for major, minor in SERVERS)
