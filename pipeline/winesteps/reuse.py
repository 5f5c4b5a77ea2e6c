"""Find an existing model of the same data, the same settings and the same packages.

A run that trains a model is tagged with a fingerprint of everything that determines the model. A run that reuses a model is not:
the search always finds the run that has the model. Anyone who can write to MLflow can write tags, and a cloned Kubeflow run
copies them. So only two sets of MLflow runs are considered: those that the operator names, which it has matched with their
Kubeflow runs, and those of this Kubeflow run. Of these, only records that the train step has signed count, and only models whose
stored files still have the signed digest.
"""

import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from winecontract import signatures
from winecontract.tags import MODEL_FOLDER, Tag
from winesteps import model, tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

FORM = 1
"""Version of the training code. Increase it when the same inputs give another model."""
CHECKED = 5
"""Most runs of one fingerprint that are checked, newest first."""
KNOWN = 100
"""Most earlier models that are considered, newest first."""
RUN_ID = re.compile("[A-Za-z0-9_-]{1,64}")
log = logging.getLogger(__name__)

GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def fingerprint(table: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    """Hash a table, the settings of its training and the installed packages; SHA-256 in hexadecimal."""
    rows = hashlib.sha256()
    for column in table.columns:
        rows.update(table[column].to_numpy().tobytes())
    content = {
        "form": FORM,
        "columns": list(table.columns),
        "rows": rows.hexdigest(),
        "settings": settings,
        "packages": model.requirements(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Wanted:
    """The desired model: its fingerprint, its name in the registry, and the keys that can have signed its record."""

    fingerprint: str
    registered_model: str
    keys: signatures.Keys


def find(client: "MlflowClient", record: tracking.Record, wanted: Wanted, known: Sequence[str] = ()) -> "Run | None":
    """Find the newest of the `known` MLflow runs, or of this Kubeflow run's, that trained this model; None without an owner.

    Its registered version must still exist, and its stored files must have the signed digest.
    """
    mark = wanted.fingerprint
    made = f"tags.`{Tag.FINGERPRINT}` = '{mark}' AND attributes.status = 'FINISHED'"
    own = [f"tags.`{Tag.KFP_RUN}` = '{record.kfp_run}'"] if RUN_ID.fullmatch(record.kfp_run) else []
    named = ", ".join(f"'{run_id}'" for run_id in known[:KNOWN] if RUN_ID.fullmatch(run_id))
    earlier = [f"attributes.run_id IN ({named})"] if named else []
    for condition in (*own, *earlier):
        found = tracking.runs_of_owner(client, record, f"{made} AND {condition}", CHECKED)
        if (run := next((run for run in found if _is_whole(client, run, wanted)), None)) is not None:
            return run
    return None


def _is_whole(client: "MlflowClient", run: "Run", wanted: Wanted) -> bool:
    from mlflow.exceptions import MlflowException

    tags, folder = run.data.tags, f"{run.info.artifact_uri}/{MODEL_FOLDER}"
    if tags.get(Tag.MODEL_URI) != folder or Tag.REUSED_RUN in tags:
        return False
    signed = signatures.statement(run.info.run_id, wanted.registered_model, tags, run.data.metrics)
    if fault := signatures.verify(signed, tags.get(Tag.SIGNATURE, ""), wanted.keys):
        log.warning("not reusing MLflow run %s: its record does not verify (%s)", run.info.run_id, fault)
        return False
    try:
        version = client.get_model_version(wanted.registered_model, tags.get(Tag.MODEL_VERSION, ""))
    except MlflowException as error:
        if error.error_code not in GONE:
            raise
        return False
    return version.run_id == run.info.run_id and _is_stored(client, run)


def _is_stored(client: "MlflowClient", run: "Run") -> bool:
    """Tell whether the artifact store has the files of a run's model with the signed digest. Changed models are not reused."""
    if not model.is_stored(run, client.tracking_uri):
        return False
    with tempfile.TemporaryDirectory() as folder:
        try:
            model.verify(model.fetch(run, folder, client.tracking_uri), run.data.tags[Tag.DIGEST])
        except model.ModelRefusedError as error:
            log.warning("not reusing the model of MLflow run %s: %s", run.info.run_id, error)
            return False
    return True
