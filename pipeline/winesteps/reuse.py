"""The model that exists already: of the same data, the same wishes and the same packages. Called by `train`.

A run that makes a model is tagged with a fingerprint of all that shapes it. One that reuses a model is not, so that what is found
here is always the run that has the model. Tags can be copied by whoever clones a Kubeflow run: only the MLflow runs that the
operator names, which it has matched with their Kubeflow runs, and this Kubeflow run's own are looked at.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
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
KNOWN = 100
"""Earlier models that are looked at, newest first."""
RUN_ID = re.compile("[A-Za-z0-9_-]{1,64}")
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


def find(
    client: "MlflowClient", record: tracking.Record, mark: str, registered_model: str, known: Sequence[str] = ()
) -> "Run | None":
    """The newest of these MLflow runs, or of those of this Kubeflow run, that made this very model; None without an owner.

    Its model and its registered version must still exist.
    """
    made = f"tags.`{tracking.PREFIX}fingerprint` = '{mark}' AND attributes.status = 'FINISHED'"
    own = [f"tags.`{tracking.PREFIX}kfp-run` = '{record.kfp_run}'"] if RUN_ID.fullmatch(record.kfp_run) else []
    named = ", ".join(f"'{run_id}'" for run_id in known[:KNOWN] if RUN_ID.fullmatch(run_id))
    earlier = [f"attributes.run_id IN ({named})"] if named else []
    for condition in (*own, *earlier):
        found = tracking.runs_of_owner(client, record, f"{made} AND {condition}", LOOKED_AT)
        if (run := next((run for run in found if _is_whole(client, run, registered_model)), None)) is not None:
            return run
    return None


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
