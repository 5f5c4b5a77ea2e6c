"""The model that exists already: of the same data, the same wishes and the same packages. Called by `train`.

A run that makes a model is tagged with a fingerprint of all that shapes it. One that reuses a model is not, so that what is found
here is always the run that has the model. Whoever writes to MLflow can write tags, and whoever clones a Kubeflow run copies them.
So only the MLflow runs that the operator names, which it has matched with their Kubeflow runs, and this Kubeflow run's own are
considered; of these only records that the train step has signed, and models whose stored files still have the signed digest.
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
log = logging.getLogger(__name__)

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


@dataclass(frozen=True)
class Wanted:
    """The model that is looked for: its fingerprint, its name in the registry, and the keys that may have signed its record."""

    fingerprint: str
    registered_model: str
    keys: signatures.Keys


def find(client: "MlflowClient", record: tracking.Record, wanted: Wanted, known: Sequence[str] = ()) -> "Run | None":
    """The newest of these MLflow runs, or of those of this Kubeflow run, that made this very model; None without an owner.

    Its model, as it was signed, and its registered version must still exist.
    """
    mark = wanted.fingerprint
    made = f"tags.`{tracking.PREFIX}fingerprint` = '{mark}' AND attributes.status = 'FINISHED'"
    own = [f"tags.`{tracking.PREFIX}kfp-run` = '{record.kfp_run}'"] if RUN_ID.fullmatch(record.kfp_run) else []
    named = ", ".join(f"'{run_id}'" for run_id in known[:KNOWN] if RUN_ID.fullmatch(run_id))
    earlier = [f"attributes.run_id IN ({named})"] if named else []
    for condition in (*own, *earlier):
        found = tracking.runs_of_owner(client, record, f"{made} AND {condition}", LOOKED_AT)
        if (run := next((run for run in found if _is_whole(client, run, wanted)), None)) is not None:
            return run
    return None


def _is_whole(client: "MlflowClient", run: "Run", wanted: Wanted) -> bool:
    from mlflow.exceptions import MlflowException

    tags, folder = run.data.tags, f"{run.info.artifact_uri}/{model.FOLDER}"
    if tags.get(f"{tracking.PREFIX}model-uri") != folder or f"{tracking.PREFIX}reused-run" in tags:
        return False
    said = signatures.statement(run.info.run_id, wanted.registered_model, tags, run.data.metrics)
    if fault := signatures.verify(said, tags.get(signatures.SIGNATURE_TAG, ""), wanted.keys):
        log.warning("not reused: the record of MLflow run %s does not verify (%s)", run.info.run_id, fault)
        return False
    try:
        version = client.get_model_version(wanted.registered_model, tags.get(f"{tracking.PREFIX}model-version", ""))
    except MlflowException as error:
        if error.error_code not in GONE:
            raise
        return False
    return version.run_id == run.info.run_id and _is_stored(client, run)


def _is_stored(client: "MlflowClient", run: "Run") -> bool:
    """Whether a run's model is in the artifact store as it was signed: what was changed there is made anew."""
    if not model.is_stored(run, client.tracking_uri):
        return False
    with tempfile.TemporaryDirectory() as folder:
        try:
            model.verify(model.fetch(run, folder, client.tracking_uri), run.data.tags[signatures.DIGEST_TAG])
        except model.ModelRefusedError as error:
            log.warning("not reused: the model of MLflow run %s: %s", run.info.run_id, error)
            return False
    return True
