"""Write runs to MLflow with the tags by which the operator finds them.

MLflow is imported in functions: a download or preprocess step that succeeds does not need it. All requests work with MLflow 2.22
and 3 (no logged models).
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from winecontract.tags import FALSE, PREFIX, TRUE, Tag

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

CHECK_NAME = "data-check"
"""Name of the runs of data checks."""


@dataclass(frozen=True)
class Record:
    """The MLflow server and experiment of a step, and the owner of its run.

    `owner` has namespace, name, uid and revision of the resource; it is empty if the pipeline is run by hand. A data check has
    `check`, its id, instead of a revision.
    """

    tracking_uri: str
    experiment: str
    s3_endpoint_url: str = ""
    owner: Mapping[str, Any] = field(default_factory=dict)
    kfp_run: str = ""

    @property
    def owner_tags(self) -> dict[str, str]:
        """The tags namespace, name, uid, revision and check, without prefix; revision is an integer."""
        tags = {key: str(self.owner[key]) for key in ("namespace", "name", "uid", "check") if key in self.owner}
        if "revision" in self.owner:
            tags["revision"] = str(int(self.owner["revision"]))  # Kubeflow passes numbers in a struct as floats
        return tags

    @property
    def identity_tags(self) -> dict[str, str]:
        """The tags by which the operator finds a run."""
        tags = {PREFIX + key: value for key, value in self.owner_tags.items()}
        return tags | ({Tag.KFP_RUN: self.kfp_run} if self.kfp_run else {})

    @property
    def uid(self) -> str:
        """The owner's uid; empty if there is none, or if it is not a valid uid of Kubernetes."""
        uid = str(self.owner.get("uid", ""))
        return uid if re.fullmatch("[A-Za-z0-9-]{1,64}", uid) else ""

    @property
    def run_name(self) -> str | None:
        """`<name>-<revision>`, the name of data checks, or None: MLflow then generates a name."""
        if "check" in self.owner:
            return CHECK_NAME
        return f"{self.owner['name']}-{int(self.owner['revision'])}" if {"name", "revision"} <= set(self.owner) else None


def connect(record: Record) -> "MlflowClient":
    """Return a client of the MLflow server; it uses the AWS credentials of the environment for the artifact store."""
    # If the server does not answer, the step fails within half a minute: the operator retries later.
    for name, value in {"RETRIES": "3", "BACKOFF_FACTOR": "1", "TIMEOUT": "30"}.items():
        os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{'MAX_' if name == 'RETRIES' else ''}{name}", value)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it calls an external host, and delays the exit
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # printing it needs a request
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # the image has no git
    if record.s3_endpoint_url:
        os.environ["MLFLOW_S3_ENDPOINT_URL"] = record.s3_endpoint_url
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=record.tracking_uri, registry_uri=record.tracking_uri)


def start_run(client: "MlflowClient", record: Record) -> str:
    """Create a run with the identity tags, and the experiment if it does not exist; return the run's id."""
    run = client.create_run(_experiment_id(client, record.experiment), tags=record.identity_tags, run_name=record.run_name)
    return str(run.info.run_id)


def runs_of_owner(client: "MlflowClient", record: Record, condition: str, limit: int) -> "list[Run]":
    """Search the owner's runs in the experiment that match a condition, newest first; none without an owner."""
    if not record.uid:
        return []
    filtered = f"tags.`{Tag.UID}` = '{record.uid}' AND {condition}"
    experiment = _experiment_id(client, record.experiment)
    return list(client.search_runs([experiment], filtered, max_results=limit, order_by=["attributes.start_time DESC"]))


def _experiment_id(client: "MlflowClient", name: str) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        raise _deleted(name, str(experiment.experiment_id))
    if experiment is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)  # another run was faster
            if experiment is None:
                raise
    return str(experiment.experiment_id)


def _deleted(name: str, experiment_id: str) -> Exception:
    """Return the failure for a deleted experiment, which accepts no runs until it is restored."""
    from winecontract.reasons import Reason
    from winesteps.failures import StepFailure

    restore = f"mlflow experiments restore --experiment-id {experiment_id}"
    message = f"The MLflow experiment {name!r} is deleted. Restore it ({restore}), or use another one."
    return StepFailure(Reason.EXPERIMENT_DELETED, message)


def record_failure(record: Record, step: str, reason: str, message: str, *, permanent: bool, run_id: str | None) -> None:
    """Write a step's failure to the run that it started, or to a new one, and end that run as FAILED."""
    from mlflow.entities import RunTag

    client = connect(record)
    run_id = run_id or start_run(client, record)
    client.log_batch(
        run_id,
        tags=[
            RunTag(Tag.FAILED_STEP, step),
            RunTag(Tag.FAILURE_REASON, reason),
            RunTag(Tag.FAILURE_MESSAGE, message),
            RunTag(Tag.FAILURE_PERMANENT, TRUE if permanent else FALSE),
        ],
    )
    client.set_terminated(run_id, "FAILED")
