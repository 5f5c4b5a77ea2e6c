"""The train step: from the table to a registered, evaluated model in MLflow.

Called by the `train` component. The learning is in estimator.py, the model's folder and its registration in model.py.
The tags that tell the operator of success are written last, in one request: where they are, everything else is.
"""

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from winesteps import estimator, model, report, servers, tracking
from winesteps.failures import Attempt, Reason, StepFailure
from winesteps.preprocess import lower_snake

EXAMPLE_ROWS = 3
"""Held-out rows that the operator asks a served model about."""
TAG_LENGTH = 5000
"""Most characters of a tag that every MLflow server takes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What shall be learned, from what. `source` only describes: it is logged beside the parameters.

    `server_version` is that of Seldon's mlflowserver where it shall read the model, see `servers`.
    """

    target: str = "quality"
    algorithm: str = "ElasticNet"
    parameters: Mapping[str, Any] | None = None
    test_fraction: float = 0.25
    seed: int = 1337
    registered_model: str = "wine-elasticnet"
    server_version: str = ""
    source: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Trained:
    """The outcome: the model folder's address in the artifact store, registry version, metrics, report page."""

    model_uri: str
    version: str
    run_id: str
    metrics: dict[str, float]
    html: str


def train(table_file: Path, task: Task, record: tracking.Record, attempt: Attempt) -> Trained:
    """Fit, measure, save, reload, log and register a model.

    Args:
        table_file: parquet as `preprocess` writes it.
        task: what shall be learned.
        record: the MLflow server, and in whose name.
        attempt: gets the MLflow run's id as soon as there is one, so that a failure is written to that run.

    Raises:
        StepFailure: ParametersInvalid, TooFewRows, DataInvalid, TrainingFailed or TrackingUnavailable.

    """
    parameters = estimator.check_parameters(task.algorithm, task.parameters or {}, task.test_fraction, task.seed)
    server = servers.server(task.server_version, task.algorithm)
    target = lower_snake(task.target)
    split = estimator.split_rows(pq.read_table(table_file).to_pandas(), target, task.test_fraction, task.seed)
    with model.tracking_errors(record.tracking_uri):
        client = tracking.connect(record)
        attempt.run_id = tracking.start_run(client, record)
    fitted, warnings = estimator.fit(task.algorithm, parameters, split)
    for warning in warnings:
        log.warning("scikit-learn: %s", warning)
    predicted = fitted.predict(split.x_test)
    metrics = estimator.evaluate(split.y_test, predicted)
    log.info("held-out rows: %s", ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
    png = report.scatter_png(split.y_test.to_numpy(), predicted, target, metrics)
    params = _params(task, parameters, split, target)

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        example = split.x_test.head(EXAMPLE_ROWS)
        model.save(fitted, root / model.FOLDER, split.x_train, example)
        if server is not None:
            servers.adapt(root / model.FOLDER, fitted, list(split.x_train.columns), server)
        answers = model.load(root / model.FOLDER).predict(example)
        example_tags = _example_tags(example, [float(value) for value in answers])
        (root / "evaluation").mkdir()
        (root / "evaluation" / "predicted-against-actual.png").write_bytes(png)
        with model.tracking_errors(record.tracking_uri):
            stored = model.store(client, attempt.run_id, root, params, metrics)
            version = model.register(client, stored, attempt.run_id, task.registered_model, record.owner_tags)
            client.set_terminated(attempt.run_id, "FINISHED")
            tags = {"model-uri": stored, "model-version": version} | example_tags
            model.set_tags(client, attempt.run_id, {tracking.PREFIX + key: value for key, value in tags.items()})
    log.info("registered %s version %s, %s", task.registered_model, version, stored)
    facts = {"model": f"{task.registered_model} version {version}", "address": stored} | params
    facts |= {name: f"{value:.4f}" for name, value in metrics.items()}
    return Trained(stored, version, attempt.run_id, metrics, report.as_html(png, f"{task.registered_model} {version}", facts))


def _params(task: Task, parameters: Mapping[str, float], split: estimator.Split, target: str) -> dict[str, str]:
    values = {
        "algorithm": task.algorithm,
        **dict(sorted(parameters.items())),
        "target": target,
        "features": len(split.x_train.columns),
        "test_fraction": task.test_fraction,
        "seed": task.seed,
        "stratified": str(split.stratified).lower(),
        "rows_train": len(split.x_train),
        "rows_test": len(split.x_test),
        **(task.source or {}),
    }
    return {name: str(value) for name, value in values.items()}


def _example_tags(example: Any, answers: list[float]) -> dict[str, str]:
    """The example and its predictions as tags: as many rows as a tag can hold, at least one."""
    for rows in range(len(answers), 0, -1):
        content = {"names": list(example.columns), "ndarray": example.head(rows).to_numpy().tolist()}
        text = json.dumps(content, separators=(",", ":"))
        if len(text) <= TAG_LENGTH:
            return {"example": text, "prediction": json.dumps(answers[:rows])}
    raise StepFailure(
        Reason.DATA_INVALID,
        f"The table has {len(example.columns)} columns, too many for the example that a served model is checked with "
        f"({TAG_LENGTH} characters a row). Leave columns out.",
    )
