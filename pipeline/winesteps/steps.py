"""The steps of a training: what the components do, each in a pod of its own or all in one.

`inputs` are the inputs of a component by name. Each step reports its failure under its own name, so that both forms fail alike.
Packages are imported within a step, which then reports that one is missing or damaged.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from winesteps.failures import redact_url, reporting, unquoted, without_templates
from winesteps.shortlived import uncollected
from winesteps.tracking import Record

if TYPE_CHECKING:
    from kfp import dsl

    from winesteps.preprocess import Preprocessed
    from winesteps.train import Trained

Inputs = Mapping[str, Any]
READING = ("separator", "decimal", "columns", "missing", "target", "max_bytes")
"""Inputs that are arguments of `preprocess`."""
TASK = (
    *("target", "algorithm", "parameters", "search", "test_fraction", "seed", "registered_model", "server_version"),
    *("served_run", "served_digest", "allow_unsigned", "reusable_runs", "data_etag", "data_version"),
)
"""Inputs that are fields of `train.Task`."""


class Fetched(NamedTuple):
    """The outputs of the download step, and the size of the file in bytes. `source` is the address without its query."""

    sha256: str
    etag: str
    version: str
    source: str
    redirected: bool
    size: int


def record_of(inputs: Inputs) -> Record:
    """Return the MLflow server, experiment and owner that a component's inputs name."""
    names = ("mlflow_tracking_uri", "experiment", "s3_endpoint_url", "owner", "kfp_run")
    return Record(*(inputs[name] for name in names))


def download(inputs: Inputs, data: Path) -> Fetched:
    """Fetch the file at the address into `data`.

    Raises:
        StepFailure: see `download.download`; reported as that of the step download.

    """
    with uncollected(), reporting("download", record_of(inputs)):
        from winesteps.credentials import from_environment
        from winesteps.download import download

        downloaded = download(
            inputs["data_url"],
            data,
            sha256=inputs["data_sha256"],
            max_bytes=inputs["max_bytes"],
            s3_endpoint_url=inputs["s3_endpoint_url"],
            credentials=from_environment(inputs["data_secret"], inputs["credentials_over_http"]),
        )
    source = without_templates(redact_url(inputs["data_url"]))
    return Fetched(downloaded.sha256, downloaded.etag, downloaded.version_id, source, downloaded.redirected, downloaded.size)


def preprocess(inputs: Inputs, data: Path, table: Path) -> "Preprocessed":
    """Check the CSV file `data` and write it as parquet to `table`.

    Raises:
        StepFailure: see `preprocess.preprocess`; reported as that of the step preprocess.

    """
    with uncollected(), reporting("preprocess", record_of(inputs)), unquoted(inputs["redirected"]):
        from winesteps.preprocess import preprocess

        return preprocess(data, table, **{name: inputs[name] for name in READING})


def train(inputs: Inputs, table: Path) -> "Trained":
    """Fit and evaluate a model on `table`, log it to MLflow and register it.

    Raises:
        StepFailure: see `train.train`; reported as that of the step train.

    """
    record = record_of(inputs)
    with uncollected(), reporting("train", record) as attempt:
        from winesteps.train import Task, train

        source = {"data_url": redact_url(inputs["data_url"]), "data_sha256": inputs["data_sha256"]}
        return train(table, Task(**{name: inputs[name] for name in TASK}, source=source), record, attempt)


def training(inputs: Inputs) -> "Trained":
    """Run the three steps one after the other. Their files are in a temporary folder.

    Raises:
        StepFailure: as the step that failed; the later ones do not run.

    """
    with tempfile.TemporaryDirectory() as folder:
        data, table = Path(folder, "data"), Path(folder, "table")
        fetched = download(inputs, data)
        preprocess({**inputs, "redirected": fetched.redirected}, data, table)
        outputs = {
            "data_url": fetched.source,
            "data_sha256": fetched.sha256,
            "data_etag": fetched.etag,
            "data_version": fetched.version,
        }
        return train({**inputs, **outputs}, table)


def publish(trained: "Trained", metrics: "dsl.Metrics", report: "dsl.HTML") -> str:
    """Write the artifacts that Kubeflow shows of a training; return the address of the model's folder."""
    for name, value in trained.metrics.items():
        metrics.log_metric(name, value)
    Path(report.path).write_text(trained.html, encoding="utf-8")
    return trained.model_uri
