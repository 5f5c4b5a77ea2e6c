"""A model's folder in MLflow's format, its upload and its entry in the model registry. Called by `train` and what it is made of.

`log_model` is not used: it asks an MLflow 2 server for what only version 3 has, stores the model outside its run, and
guesses requirements for seconds. A saved folder, uploaded to `<run's artifacts>/model`, works with both.
"""

import importlib.metadata
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from sklearn.base import RegressorMixin

FOLDER = "model"
"""The model's folder among the artifacts of its run."""

REQUIREMENTS = ("mlflow", "scikit-learn", "pandas", "numpy", "scipy", "cloudpickle")
"""Packages that the model needs where it is loaded, each in the version that trained it."""


def requirements() -> list[str]:
    """The model's pip requirements, with the running environment's exact versions."""
    return [f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS]


def save(fitted: "RegressorMixin", folder: Path, features: "pd.DataFrame", example: "pd.DataFrame") -> None:
    """Write the model's folder: estimator, signature, input example, requirements.

    The format is cloudpickle. skops, MLflow's default since 3.14, is unknown to the servers that Seldon ships
    (seldonio/mlflowserver up to 1.19), and guards nothing here: whoever can write the folder can write the list of types
    it asks to be trusted. Access to the bucket is the guard.
    """
    from mlflow import sklearn as mlflow_sklearn
    from mlflow.models import infer_signature

    logging.getLogger("mlflow.sklearn").setLevel(logging.ERROR)  # it warns of cloudpickle: see above
    mlflow_sklearn.save_model(
        fitted,
        str(folder),
        serialization_format=mlflow_sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE,
        signature=infer_signature(features, fitted.predict(example)),
        input_example=example,
        pip_requirements=requirements(),
    )


def load(folder: Path | str) -> Any:
    """The saved model, loaded back as a server would: what it predicts is what serving must answer."""
    from mlflow import pyfunc

    return pyfunc.load_model(str(folder))


def log_values(client: "MlflowClient", run_id: str, params: Mapping[str, str], metrics: Mapping[str, float]) -> None:
    """Log parameters and metrics in one request."""
    import time

    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    client.log_batch(
        run_id,
        params=[Param(name, value) for name, value in params.items()],
        metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
    )


def store(client: "MlflowClient", run_id: str, root: Path) -> str:
    """Upload every file under `root`; return the address of the model's folder."""
    client.log_artifacts(run_id, str(root))
    return f"{client.get_run(run_id).info.artifact_uri}/{FOLDER}"


def fetch(run: "Run", folder: str, tracking_uri: str) -> str:
    """Copy a run's model below a folder; return where it is.

    By its address: asked for by its run, the client asks a server of MLflow 2 for logged models, which that does not know.
    """
    from mlflow import artifacts

    return str(artifacts.download_artifacts(f"{run.info.artifact_uri}/{FOLDER}", dst_path=folder, tracking_uri=tracking_uri))


def is_stored(run: "Run", tracking_uri: str) -> bool:
    """Whether a run's model is in the artifact store."""
    from mlflow import artifacts

    files = artifacts.list_artifacts(f"{run.info.artifact_uri}/{FOLDER}", tracking_uri=tracking_uri)
    return any(file.path.rpartition("/")[2] == "MLmodel" for file in files)


def register(client: "MlflowClient", source: str, run_id: str, name: str, tags: Mapping[str, str]) -> str:
    """Enter the model into the registry, under a new name if need be, and return the version."""
    from mlflow.exceptions import MlflowException

    def create() -> str:
        return str(client.create_model_version(name, source, run_id, tags=dict(tags)).version)

    try:
        return create()
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another run was faster
            raise
    return create()


def set_tags(client: "MlflowClient", run_id: str, tags: Mapping[str, str]) -> None:
    """Set all tags in one request."""
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
