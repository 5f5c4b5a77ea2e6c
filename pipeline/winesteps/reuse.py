"""The model that exists already: of the same data, the same wishes and the same packages. Called by `train`.

A run that makes a model is tagged with a fingerprint of all that shapes it. One that reuses a model is not, so that what is found
here is always the run that has the model.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from winesteps import model, tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

FORM = 1
"""Raised where this code makes another model of the same inputs."""
LOOKED_AT = 5
"""Runs of one fingerprint that are looked at, newest first."""
GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def fingerprint(table: pd.DataFrame, wishes: Mapping[str, Any]) -> str:
    """Hash a table, what is wished of its model, and the packages that make it; SHA-256 in hexadecimal."""
    rows = hashlib.sha256()
    for column in table.columns:
        rows.update(table[column].to_numpy().tobytes())
    content = {
        "form": FORM,
        "columns": list(table.columns),
        "rows": rows.hexdigest(),
        "wishes": wishes,
        "packages": model.requirements(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def find(client: "MlflowClient", record: tracking.Record, mark: str, registered_model: str) -> "Run | None":
    """The newest run of the owner with this fingerprint whose model and registered version still exist; None without an owner."""
    condition = f"tags.`{tracking.PREFIX}fingerprint` = '{mark}' AND attributes.status = 'FINISHED'"
    found = tracking.runs_of_owner(client, record, condition, LOOKED_AT)
    return next((run for run in found if _is_whole(client, run, registered_model)), None)


def _is_whole(client: "MlflowClient", run: "Run", registered_model: str) -> bool:
    from mlflow.exceptions import MlflowException

    tags, folder = run.data.tags, f"{run.info.artifact_uri}/{model.FOLDER}"
    if tags.get(f"{tracking.PREFIX}model-uri") != folder or f"{tracking.PREFIX}reused-run" in tags:
        return False
    try:
        version = client.get_model_version(registered_model, tags.get(f"{tracking.PREFIX}model-version", ""))
    except MlflowException as error:
        if error.error_code not in GONE:
            raise
        return False
    return version.run_id == run.info.run_id and model.is_stored(run, client.tracking_uri)
