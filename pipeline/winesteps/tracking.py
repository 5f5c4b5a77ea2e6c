"""What a step writes to MLflow: runs that the operator finds by their tags.

Called by `failures` (any step), `train` and what it is made of, and `check`. MLflow is imported where it is used: a download or
preprocess that succeeds does without it. Only requests that MLflow 2.22 and 3 both understand are made (no logged models).
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PREFIX = "winepipelines.io/"
"""Begins every tag that is part of the contract with the operator."""

CHECK_NAME = "data-check"
"""Name of the runs that checks of the data write."""


@dataclass(frozen=True)
class Record:
    """Where a step reports, and in whose name.

    `owner` has namespace, name, uid and revision of the resource, or nothing when the pipeline was run by hand; a check of the
    data has `check`, its id, instead of a revision.
    """

    tracking_uri: str
    experiment: str
    s3_endpoint_url: str = ""
    owner: Mapping[str, Any] = field(default_factory=dict)
    kfp_run: str = ""

    @property
    def owner_tags(self) -> dict[str, str]:
        """namespace, name, uid, revision and check, without prefix; revision is a whole decimal number."""
        tags = {key: str(self.owner[key]) for key in ("namespace", "name", "uid", "check") if key in self.owner}
        if "revision" in self.owner:
            tags["revision"] = str(int(self.owner["revision"]))  # Kubeflow hands numbers in a struct on as floats
        return tags

    @property
    def identity_tags(self) -> dict[str, str]:
        """The tags by which the operator finds a run."""
        tags = self.owner_tags | ({"kfp-run": self.kfp_run} if self.kfp_run else {})
        return {PREFIX + key: value for key, value in tags.items()}

    @property
    def uid(self) -> str:
        """The owner's uid; empty where there is none, or none that Kubernetes gives."""
        uid = str(self.owner.get("uid", ""))
        return uid if re.fullmatch("[A-Za-z0-9-]{1,64}", uid) else ""

    @property
    def run_name(self) -> str | None:
        """`<name>-<revision>`, or None, which lets MLflow invent one."""
        if "check" in self.owner:
            return CHECK_NAME
        return f"{self.owner['name']}-{int(self.owner['revision'])}" if {"name", "revision"} <= set(self.owner) else None


def connect(record: Record) -> "MlflowClient":
    """A client of the record's MLflow server, whose store is reached with the AWS credentials of the environment."""
    # A server that does not answer fails the step within half a minute: the operator tries again later.
    for name, value in {"RETRIES": "3", "BACKOFF_FACTOR": "1", "TIMEOUT": "30"}.items():
        os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{'MAX_' if name == 'RETRIES' else ''}{name}", value)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it asks a host outside, and a step waits for that at exit
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # it costs a request each time
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # the image has no git
    if record.s3_endpoint_url:
        os.environ["MLFLOW_S3_ENDPOINT_URL"] = record.s3_endpoint_url
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=record.tracking_uri, registry_uri=record.tracking_uri)


def start_run(client: "MlflowClient", record: Record) -> str:
    """Create a run with the identity tags, its experiment too if there is none, and return the run's id."""
    run = client.create_run(_experiment_id(client, record.experiment), tags=record.identity_tags, run_name=record.run_name)
    return str(run.info.run_id)


def runs_of_owner(client: "MlflowClient", record: Record, condition: str, limit: int) -> "list[Run]":
    """The owner's runs in the experiment that a condition holds for, newest first; none where there is no owner."""
    if not record.uid:
        return []
    filtered = f"tags.`{PREFIX}uid` = '{record.uid}' AND {condition}"
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
    """What to say of a deleted experiment, which takes no runs until it is restored."""
    from winesteps.failures import Reason, StepFailure

    restore = f"mlflow experiments restore --experiment-id {experiment_id}"
    message = f"The MLflow experiment {name!r} is deleted. Restore it ({restore}), or name another one."
    return StepFailure(Reason.EXPERIMENT_DELETED, message)


def record_failure(record: Record, step: str, reason: str, message: str, *, permanent: bool, run_id: str | None) -> None:
    """Write why a step failed to the run it began, or to a new one, and end that run as FAILED."""
    from mlflow.entities import RunTag

    client = connect(record)
    run_id = run_id or start_run(client, record)
    client.log_batch(
        run_id,
        tags=[
            RunTag(PREFIX + "failed-step", step),
            RunTag(PREFIX + "failure-reason", reason),
            RunTag(PREFIX + "failure-message", message),
            RunTag(PREFIX + "failure-permanent", str(permanent).lower()),
        ],
    )
    client.set_terminated(run_id, "FAILED")
