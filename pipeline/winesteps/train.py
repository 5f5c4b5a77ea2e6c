"""The train step: from the table to a registered, evaluated model in MLflow.

estimator.py fits models, model.py saves and registers them. If a model of the same data and settings exists (reuse.py), the step
returns that one, and still measures the served model. The tags that report success to the operator are written last, in one
request: if they are there, everything else is.
"""

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from winecolumns import lower_snake
from winecontract import signatures
from winecontract.reasons import Reason
from winecontract.servers import Server
from winecontract.tags import MODEL_FOLDER, SERVED, Tag
from winesteps import estimator, model, report, reuse, search, served, servers, tracking
from winesteps.failures import Attempt, StepFailure
from winesteps.preprocess import Summary, summary_of
from winesteps.served import Served
from winesteps.trackingerrors import tracking_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXAMPLE_ROWS = 3
"""Held-out rows that the operator probes a served model with."""
TAG_LENGTH = 5000
"""Most characters of a tag that every MLflow server accepts."""
COPIED = (Tag.MODEL_URI, Tag.MODEL_VERSION, Tag.DIGEST, Tag.EXAMPLE, Tag.PREDICTION)
"""Tags that a run that reuses a model copies from the run that trained it."""
PICTURE = "evaluation/predicted-against-actual.png"
"""Path of the picture among the artifacts of a run that trained a model."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """Settings of a training.

    `search` has candidate values for parameters. `server_version` is the version of Seldon's mlflowserver that must be able to
    load the model, see `servers`. `served_run` is the MLflow run of the served model, which is measured on the same rows if its
    folder has `served_digest`, or without a digest if `allow_unsigned` is set. `reusable_runs` are the MLflow runs of the owner's
    earlier models. `source` describes the data (address, SHA-256); it is logged with the parameters.
    """

    target: str = "quality"
    algorithm: str = "ElasticNet"
    parameters: Mapping[str, Any] | None = None
    search: Mapping[str, Any] | None = None
    test_fraction: float = 0.25
    seed: int = 1337
    registered_model: str = "wine-elasticnet"
    server_version: str = ""
    served_run: str = ""
    served_digest: str = ""
    allow_unsigned: bool = False
    reusable_runs: Sequence[str] = ()
    source: Mapping[str, str] | None = None
    data_etag: str = ""
    data_version: str = ""


@dataclass(frozen=True)
class Trained:
    """The result: the model folder's address in the artifact store, registry version, metrics, report page.

    `run_id` is the MLflow run of this training, also if it reuses a model of another run.
    """

    model_uri: str
    version: str
    run_id: str
    metrics: dict[str, float]
    html: str


@dataclass(frozen=True)
class _Start:
    """State before a model is fitted. `served` and `served_problem` are the served model's metrics, or why there are none."""

    client: "MlflowClient"
    run_id: str
    parameters: dict[str, float]
    search: dict[str, list[float]]
    split: estimator.Split
    target: str
    server: Server | None
    fingerprint: str
    served: dict[str, float]
    served_problem: str
    summary: Summary
    keys: signatures.Keys | None


def train(table_file: Path, task: Task, record: tracking.Record, attempt: Attempt) -> Trained:
    """Fit, measure, save, reload, log and register a model, or find an existing model of the same data and settings.

    Args:
        table_file: parquet as `preprocess` writes it.
        task: settings of the training.
        record: the MLflow server, and the owner of the run.
        attempt: gets the id of the MLflow run when it has started, so that a failure is written to that run.

    Raises:
        StepFailure: ParametersInvalid, TooFewRows, DataInvalid, TrainingFailed, ModelKeyInvalid or TrackingUnavailable.

    """
    keys = _keys()
    parameters = estimator.check_parameters(task.algorithm, task.parameters or {}, task.test_fraction, task.seed)
    values = estimator.check_search(task.algorithm, task.search or {})
    parameters = {name: value for name, value in parameters.items() if name not in values}
    server = servers.server(task.server_version, task.algorithm)
    target = lower_snake(task.target)
    table = pq.read_table(table_file).to_pandas()
    split = estimator.split_rows(table, target, task.test_fraction, task.seed)
    fingerprint = reuse.fingerprint(table, _settings(task, parameters, values, target))
    with tracking_errors(record.tracking_uri):
        client = tracking.connect(record)
        attempt.run_id = tracking.start_run(client, record)
        original = None
        if keys is not None:
            wanted = reuse.Wanted(fingerprint, task.registered_model, keys)
            original = reuse.find(client, record, wanted, task.reusable_runs)
    serves = Served(task.served_run, task.served_digest, task.allow_unsigned)
    served_metrics, problem = served.measure(client, serves, record, split, target)
    if problem:
        log.warning("%s", problem)
    start = _Start(
        client,
        attempt.run_id,
        parameters,
        values,
        split,
        target,
        server,
        fingerprint,
        served_metrics,
        problem,
        summary_of(table_file),
        keys,
    )
    return _learn(start, task, record) if original is None else _reuse(start, task, record, original)


def _learn(start: _Start, task: Task, record: tracking.Record) -> Trained:
    """Train and register a new model."""
    client, split = start.client, start.split
    parameters, validated = _search(start, task, record) if start.search else (start.parameters, {})
    fitted, warnings = estimator.fit(task.algorithm, parameters, split, task.seed)
    for warning in warnings:
        log.warning("scikit-learn: %s", warning)
    predicted = fitted.predict(split.x_test)
    estimator.refuse_constant(task.algorithm, fitted, split, predicted)
    metrics = estimator.evaluate(split.y_test, predicted)
    log.info("held-out rows: %s", ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
    png = report.scatter_png(split.y_test.to_numpy(), predicted, start.target, metrics)
    params = _params(task, parameters, split, start.target) | start.summary.params
    metrics |= validated | start.served

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        example = split.x_test.head(EXAMPLE_ROWS)
        model.save(fitted, root / MODEL_FOLDER, split.x_train, example)
        if start.server is not None:
            servers.adapt(root / MODEL_FOLDER, start.server)
        answers = model.load(root / MODEL_FOLDER).predict(example)
        tags = _example_tags(example, [float(value) for value in answers]) | {Tag.FINGERPRINT: start.fingerprint}
        (root / PICTURE).parent.mkdir()
        (root / PICTURE).write_bytes(png)
        with tracking_errors(record.tracking_uri):
            model.log_values(client, start.run_id, params, metrics)
            tags[Tag.DIGEST] = signatures.digest(root / MODEL_FOLDER)  # of the local files: the store could change its copy
            stored = model.store(client, start.run_id, root)
            version = model.register(client, stored, start.run_id, task.registered_model, record.owner_tags)
            _announce(start, task, record, tags | {Tag.MODEL_URI: stored, Tag.MODEL_VERSION: version}, metrics)
    log.info("registered %s version %s, %s", task.registered_model, version, stored)
    return _outcome(start, task, stored, version, params, metrics, png)


def _search(start: _Start, task: Task, record: tracking.Record) -> tuple[dict[str, float], dict[str, float]]:
    """Search for the best parameters on the training rows; return them and their metrics. Each trial is recorded when it ends."""
    tried: list[search.Trial] = []
    with tracking_errors(record.tracking_uri):
        experiment = str(start.client.get_run(start.run_id).info.experiment_id)
    for trial in search.trials(task.algorithm, start.parameters, start.search, start.split, task.seed):
        with tracking_errors(record.tracking_uri):
            search.record(start.client, start.run_id, experiment, trial)
        result = trial.problem or f"r2 {trial.metrics['cv_r2']:.4f}"
        log.info("finished trial %d parameters=%s: %s", trial.number, dict(trial.parameters), result)
        tried.append(trial)
    chosen = search.best(tried)
    return dict(chosen.parameters), dict(chosen.metrics) | {"trials": float(len(tried))}


def _reuse(start: _Start, task: Task, record: tracking.Record, original: "Run") -> Trained:
    """Record the existing model as the result: nothing is fitted, stored or registered again."""
    recorded = original.data.tags
    stored, version = recorded[Tag.MODEL_URI], recorded[Tag.MODEL_VERSION]
    params = original.data.params | dict(task.source or {}) | start.summary.params
    metrics = {name: value for name, value in original.data.metrics.items() if not name.startswith(SERVED)} | start.served
    tags = {tag: recorded[tag] for tag in COPIED if tag in recorded}
    with tracking_errors(record.tracking_uri):
        model.log_values(start.client, start.run_id, params, metrics)
        _announce(start, task, record, tags | {Tag.REUSED_RUN: original.info.run_id}, metrics)
    log.info("reused %s version %s, %s: same data and settings", task.registered_model, version, stored)
    facts = {"reused from MLflow run": original.info.run_id} | params
    return _outcome(start, task, stored, version, facts, metrics, None)


def _announce(start: _Start, task: Task, record: tracking.Record, tags: Mapping[str, str], metrics: Mapping[str, float]) -> None:
    """End the run, then write its tags in one request, with a signature of tags and metrics."""
    known = {
        Tag.DATA: start.summary.to_json(),
        Tag.DATA_SHA256: (task.source or {}).get("data_sha256", ""),
        Tag.DATA_ETAG: task.data_etag,
        Tag.DATA_VERSION: task.data_version,
        Tag.SERVED_PROBLEM: start.served_problem,
    }
    written = {tag: value for tag, value in known.items() if value and len(value) <= TAG_LENGTH} | dict(tags)
    if start.keys is not None:
        signed = signatures.statement(start.run_id, task.registered_model, record.identity_tags | written, metrics)
        written[Tag.SIGNATURE] = signatures.sign(signed, start.keys)
    start.client.set_terminated(start.run_id, "FINISHED")
    model.set_tags(start.client, start.run_id, written)


def _keys() -> signatures.Keys | None:
    """Read the keys that sign this model's record; None if there are none: the record is then unsigned."""
    try:
        keys = signatures.Keys.from_environment()
    except signatures.KeyInvalidError as error:
        advice = f"Delete the Secret {signatures.SECRET} in the namespace of the run: the operator creates a new one."
        raise StepFailure(Reason.MODEL_KEY_INVALID, f"The model cannot be signed: {error}. {advice}") from None
    if keys is None:
        log.warning("not signing the model: the Secret %s has no key", signatures.SECRET)
    return keys


def _outcome(
    start: _Start,
    task: Task,
    stored: str,
    version: str,
    facts: Mapping[str, str],
    metrics: dict[str, float],
    png: bytes | None,
) -> Trained:
    shown = {"model": f"{task.registered_model} version {version}", "address": stored} | dict(facts)
    shown |= {name: f"{value:.4f}" for name, value in metrics.items()}
    shown |= {f"warning {number}": warning for number, warning in enumerate(start.summary.warnings, 1)}
    page = report.as_html(png, f"{task.registered_model} {version}", shown)
    return Trained(stored, version, start.run_id, metrics, page)


def _settings(task: Task, parameters: Mapping[str, float], values: Mapping[str, list[float]], target: str) -> dict[str, Any]:
    """Return everything but the table and the packages that determines the model, and the name under which it is registered."""
    return {
        "target": target,
        "algorithm": task.algorithm,
        "parameters": dict(parameters),
        "search": dict(values),
        "test_fraction": task.test_fraction,
        "seed": task.seed,
        "registered_model": task.registered_model,
        "server_version": task.server_version,
        "data_sha256": (task.source or {}).get("data_sha256", ""),
    }


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
    """Return the example and its predictions as tags: as many rows as fit into a tag, at least one."""
    for rows in range(len(answers), 0, -1):
        content = {"names": list(example.columns), "ndarray": example.head(rows).to_numpy().tolist()}
        text = json.dumps(content, separators=(",", ":"))
        if len(text) <= TAG_LENGTH:
            return {Tag.EXAMPLE: text, Tag.PREDICTION: json.dumps(answers[:rows])}
    raise StepFailure(
        Reason.DATA_INVALID,
        f"The table has {len(example.columns)} columns, too many for the example that a served model is checked with "
        f"({TAG_LENGTH} characters a row). Drop columns with data.columns.",
    )
