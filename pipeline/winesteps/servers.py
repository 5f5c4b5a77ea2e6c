"""What each version of Seldon's prepackaged mlflowserver can read, and a model's folder written for it. Called by `train`.

Such a server makes a conda environment from the model's `conda.yaml` when it starts, and then installs its own requirements over
it: an MLflow, pandas and numpy far older than those that train here, and a PyYAML (1.17's apart) that no Python after 3.9 takes.
The training's own packages cannot be in that environment, so a pickle of theirs cannot be read there. What can be is a model of
numbers: a linear one is written as coefficients with the few lines that read them (`wine_linear`). Other models need the server
of this project, whose image has the very packages that trained them.
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from winecontract import linear
from winesteps import wine_linear
from winesteps.failures import Reason, StepFailure

LINEAR = ("ElasticNet",)
"""Algorithms whose models are coefficients and an intercept."""
CODE = "code"
KEPT_FIELDS = ("flavors", "mlflow_version", "model_uuid", "utc_time_created")
"""Fields of `MLmodel` that every MLflow since 1.23 takes. Of the others the signature stops those before 2.10, which do not know
that columns can be required. Without one a server takes rows with names and rows without, as Seldon sends either."""


@dataclass(frozen=True)
class Server:
    """The environment that a server ends up with: its Python, and packages that its own requirements leave as they are."""

    python: str
    packages: tuple[str, ...]


_OLDEST = Server("3.8", ("mlflow==1.23.1", "pandas==1.1.5", "numpy==1.19.5", "sqlalchemy==1.4.54"))

SERVERS: Mapping[tuple[int, int], Server] = {
    (1, 14): _OLDEST,
    (1, 15): _OLDEST,
    (1, 16): Server("3.8", ("mlflow==2.2.2", "pandas==1.5.3", "numpy==1.23.5")),
    (1, 17): Server("3.8", ("mlflow==2.5.0", "pandas==2.0.0", "numpy==1.24.4")),
    (1, 18): Server("3.8", ("mlflow==2.17.2", "pandas==2.0.0", "numpy==1.24.4")),
    (1, 19): Server("3.12", ("mlflow==3.1.1", "pandas==2.3.3", "numpy==1.26.4")),
}


def server(version: str, algorithm: str) -> Server | None:
    """Look a version such as 1.17.1 up; None for the server of this project, which has no version here.

    Raises StepFailure ParametersInvalid where the version is unknown, or cannot serve what the algorithm learns.
    """
    if not version:
        return None
    match = re.fullmatch(r"v?(\d{1,4})\.(\d{1,4})(?:[.-][0-9A-Za-z.-]{0,32})?", version)
    found = SERVERS.get((int(match[1]), int(match[2]))) if match else None
    if found is None:
        known = ", ".join(f"{major}.{minor}" for major, minor in SERVERS)
        raise StepFailure(
            Reason.PARAMETERS_INVALID,
            f"No model can be written for Seldon's mlflowserver {version[:40]!r}: known are {known}. "
            "Use one of these, or serving.runtime bundled.",
        )
    if algorithm not in LINEAR:
        raise StepFailure(
            Reason.PARAMETERS_INVALID,
            f"Seldon's mlflowserver {version[:40]} cannot serve {algorithm}: its packages are older than those that train, so "
            f"that only models of plain coefficients can be carried over ({', '.join(LINEAR)}). Use serving.runtime bundled.",
        )
    return found


def adapt(folder: Path, target: Server) -> None:
    """Turn a saved linear model's folder into one that the server reads. The scikit-learn flavor stays beside it."""
    (folder / CODE).mkdir()
    shutil.copy(wine_linear.__file__, folder / CODE)
    description = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
    description = {name: description[name] for name in KEPT_FIELDS}
    description["flavors"]["python_function"] = {
        "code": CODE,
        "data": linear.FILE,
        "env": "conda.yaml",  # a word, not a mapping: servers before 1.16 join it to the folder's path as it is
        "loader_module": wine_linear.__name__.rpartition(".")[2],
        "python_version": target.python,
    }
    _write(folder / "MLmodel", description)
    dependencies = [f"python={target.python}", "pip", {"pip": list(target.packages)}]
    _write(folder / "conda.yaml", {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": dependencies})
    (folder / "requirements.txt").write_text("\n".join(target.packages) + "\n", encoding="utf-8")
    (folder / "python_env.yaml").unlink()  # of the environment that trained


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(yaml.safe_dump(dict(content), sort_keys=False), encoding="utf-8")
