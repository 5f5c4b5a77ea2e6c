"""Write a linear model's folder for a release of Seldon's prepackaged mlflowserver.

When it starts, such a server creates a conda environment from the model's `conda.yaml`, and installs its own requirements into
it: an MLflow, pandas and numpy far older than those of the train step, and, except 1.17, a PyYAML that cannot be installed on
Python after 3.9. The packages of the train step cannot be in that environment, so the server cannot load their pickle. Instead, a
linear model is written as coefficients with a small loader (`wine_linear`). Other models need this project's own server, whose
image has the packages of the train step.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from winecontract import linear, servers
from winecontract.algorithms import ALGORITHMS
from winecontract.reasons import Reason
from winecontract.servers import Server
from winesteps import wine_linear
from winesteps.failures import StepFailure

LINEAR = tuple(name for name, algorithm in ALGORITHMS.items() if algorithm.linear)
"""Algorithms whose models are coefficients and an intercept."""
CODE = "code"
KEPT_FIELDS = ("flavors", "mlflow_version", "model_uuid", "utc_time_created")
"""Fields of `MLmodel` that every MLflow since 1.23 accepts. MLflow before 2.10 rejects the signature, since it does not know
required columns. Without a signature, a server accepts rows with and without names; Seldon sends either."""


def server(version: str, algorithm: str) -> Server | None:
    """Return the server of a version such as 1.17.1; None for this project's own server, which has no version here.

    Raises:
        StepFailure: ParametersInvalid if the version is unknown, or cannot serve models of the algorithm.

    """
    if not version:
        return None
    if (found := servers.find(version)) is None:
        raise StepFailure(
            Reason.PARAMETERS_INVALID,
            f"No model can be written for Seldon's mlflowserver {version[:40]!r}. Use one of the known releases "
            f"({servers.known()}), or set serving.runtime to bundled.",
        )
    if algorithm not in LINEAR:
        raise StepFailure(
            Reason.PARAMETERS_INVALID,
            f"Seldon's mlflowserver {version[:40]} cannot serve {algorithm}: its packages are older than those of training. "
            f"It can only load coefficients ({', '.join(LINEAR)}). Set serving.runtime to bundled.",
        )
    return found


def adapt(folder: Path, target: Server) -> None:
    """Change a linear model's folder so that the server can load it. The scikit-learn flavor is kept."""
    (folder / CODE).mkdir()
    shutil.copy(wine_linear.__file__, folder / CODE)
    description = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
    description = {name: description[name] for name in KEPT_FIELDS}
    description["flavors"]["python_function"] = {
        "code": CODE,
        "data": linear.FILE,
        "env": "conda.yaml",  # the name of a file, which every release accepts, see `Server.env_mapping`
        "loader_module": wine_linear.__name__.rpartition(".")[2],
        "python_version": target.python,
    }
    _write(folder / "MLmodel", description)
    dependencies = [f"python={target.python}", "pip", {"pip": list(target.packages)}]
    _write(folder / "conda.yaml", {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": dependencies})
    (folder / "requirements.txt").write_text("\n".join(target.packages) + "\n", encoding="utf-8")
    (folder / "python_env.yaml").unlink()  # describes the environment of the train step


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(yaml.safe_dump(dict(content), sort_keys=False), encoding="utf-8")
