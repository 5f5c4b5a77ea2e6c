"""A model's folder in MLflow's format: save, upload, register, fetch, verify and load it.

`log_model` is not used: it needs an MLflow 3 server, stores the model outside its run, and infers requirements for seconds.
A saved folder, uploaded to `<run's artifacts>/model`, works with MLflow 2 and 3.
"""

import contextlib
import importlib.metadata
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winecontract import linear, signatures
from winecontract.tags import MODEL_FOLDER
from winesteps.wine_linear import LinearModel

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from sklearn.base import RegressorMixin

REQUIREMENTS = ("mlflow", "scikit-learn", "pandas", "numpy", "scipy", "cloudpickle")
"""Packages that the model needs to be loaded, each in the version that trained it."""


class ModelRefusedError(Exception):
    """A stored model must not be loaded. `fault` is the reason, `why` completes "The model …: "."""

    def __init__(self, fault: signatures.Fault, why: str) -> None:
        super().__init__(f"{fault}: {why}")
        self.fault, self.why = fault, why


def requirements() -> list[str]:
    """List the model's pip requirements, in the exact versions of this environment."""
    return [f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS]


def save(fitted: "RegressorMixin", folder: Path, features: "pd.DataFrame", example: "pd.DataFrame") -> None:
    """Write the model's folder: estimator, signature, input example, requirements.

    The format is cloudpickle. skops, MLflow's default since 3.14, is unknown to the servers that Seldon ships
    (seldonio/mlflowserver up to 1.19), and protects nothing here: an attacker who can write the folder can also write its list of
    trusted types. The protection is the folder's digest, which the train step signs and every program verifies before it loads
    the model. A linear model also has `linear.json`, which this project's server and steps load in place of the pickle.
    """
    from mlflow import sklearn as mlflow_sklearn
    from mlflow.models import infer_signature

    logging.getLogger("mlflow.sklearn").setLevel(logging.ERROR)  # it warns about cloudpickle: see above
    mlflow_sklearn.save_model(
        fitted,
        str(folder),
        serialization_format=mlflow_sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE,
        signature=infer_signature(features, fitted.predict(example)),
        input_example=example,
        pip_requirements=requirements(),
    )
    if hasattr(fitted, "coef_"):
        linear.Linear.of(features.columns, fitted.coef_, fitted.intercept_).write(folder)


def columns(loaded: Any) -> list[str]:
    """Return the columns that a loaded model needs, in its order; none if its signature does not name them."""
    if isinstance(loaded, LinearModel):
        return list(loaded.columns)
    schema = loaded.metadata.get_input_schema()
    return [str(name) for name in schema.input_names()] if schema is not None and schema.has_input_names() else []


def load(folder: Path | str) -> Any:
    """Load a saved model as a server does: its predictions are the answers that serving must give.

    Unless the model is linear, loading runs code from the folder: this step must have made the folder, or `verify` accepted it.
    """
    from mlflow import pyfunc

    if (numbers := linear.read(Path(folder))) is not None:
        return LinearModel(list(numbers.columns), list(numbers.coefficients), numbers.intercept)
    with _no_bytecode():
        return pyfunc.load_model(str(folder))


@contextlib.contextmanager
def _no_bytecode() -> Iterator[None]:
    """Keep Python from writing bytecode into the model's folder, which would change its digest."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


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
    return f"{client.get_run(run_id).info.artifact_uri}/{MODEL_FOLDER}"


def fetch(run: "Run", folder: str | Path, tracking_uri: str) -> Path:
    """Copy a run's model below a folder that only this step uses, and return its path. Nothing in it is read.

    The model is fetched by its address: given a run, the client requests logged models, which an MLflow 2 server does not know.
    Raises ModelRefusedError if the store has more files or bytes than a model can have.
    """
    from mlflow import artifacts

    address = f"{run.info.artifact_uri}/{MODEL_FOLDER}"
    _refuse_too_large(address, tracking_uri)
    return Path(artifacts.download_artifacts(address, dst_path=str(folder), tracking_uri=tracking_uri))


def _refuse_too_large(address: str, tracking_uri: str) -> None:
    from mlflow import artifacts

    files = size = 0
    waiting = [address]
    while waiting:
        below = waiting.pop()
        for entry in artifacts.list_artifacts(below, tracking_uri=tracking_uri):
            files += 1
            size += entry.file_size or 0
            if files > signatures.MAX_FILES or size > signatures.MAX_BYTES:
                raise ModelRefusedError(signatures.Fault.TAMPERED, "the store holds more files or bytes than a model has")
            if entry.is_dir:
                waiting.append(f"{below}/{entry.path.rpartition('/')[2]}")


def verify(folder: Path, digest: str, *, allow_unsigned: bool = False) -> None:
    """Check a copied folder against the digest that the operator verified, before anything in it is read.

    Args:
        folder: the copy that `fetch` made.
        digest: `sha256:…`; empty if no digest was signed.
        allow_unsigned: whether a model without a digest may be loaded.

    Raises:
        ModelRefusedError: the files differ from the signed ones, or none were signed.

    """
    if not digest:
        if allow_unsigned:
            return
        raise ModelRefusedError(signatures.Fault.UNSIGNED, "its digest is not signed: it was trained before models were signed")
    try:
        signatures.check(folder, digest)
    except (signatures.TamperedError, signatures.FolderInvalidError) as error:
        raise ModelRefusedError(
            signatures.Fault.TAMPERED, f"its files are not those that the train step stored: {error}"
        ) from None


def is_stored(run: "Run", tracking_uri: str) -> bool:
    """Tell whether a run's model is in the artifact store."""
    from mlflow import artifacts

    files = artifacts.list_artifacts(f"{run.info.artifact_uri}/{MODEL_FOLDER}", tracking_uri=tracking_uri)
    return any(file.path.rpartition("/")[2] == "MLmodel" for file in files)


def register(client: "MlflowClient", source: str, run_id: str, name: str, tags: Mapping[str, str]) -> str:
    """Register the model, creating the registered model if needed, and return the version."""
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
