"""The train step: from the table to a registered, evaluated model in MLflow.

Called by the `train` component. The learning is in estimator.py, the model's folder and its registration in model.py. Where the
same data and wishes have made a model already (reuse.py), that one is the outcome, measured against the one that serves as ever.
The tags that tell the operator of success are written last, in one request: where they are, everything else is.
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
from winesteps import estimator, model, report, reuse, search, served, servers, tracking
from winesteps.failures import Attempt, Reason, StepFailure
from winesteps.preprocess import Summary, summary_of
from winesteps.served import Served
from winesteps.trackingerrors import tracking_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXAMPLE_ROWS = 3
"""Held-out rows that the operator asks a served model about."""
TAG_LENGTH = 5000
"""Most characters of a tag that every MLflow server takes."""
PICTURE = "evaluation/predicted-against-actual.png"
"""Among the artifacts of a run that made a model."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What shall be learned, from what.

    `search` has values to try in place of parameters. `server_version` is that of Seldon's mlflowserver where it shall read the
    model, see `servers`; `served_run` the MLflow run of the model that serves, which is measured on the same rows if its folder
    has `served_digest`, or if it has none and `allow_unsigned` says so;
    `reusable_runs` are the MLflow runs of the owner's earlier models. `source` describes the data, its address and SHA-256; it is
    logged beside the parameters.
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
    """The outcome: the model folder's address in the artifact store, registry version, metrics, report page.

    `run_id` is the MLflow run of this training, also where it reuses another's model.
    """

    model_uri: str
    version: str
    run_id: str
    metrics: dict[str, float]
    html: str


@dataclass(frozen=True)
class _Start:
    """What is there before anything is learned. `served` and `served_problem` are of the model that serves."""

    client: "MlflowClient"
    run_id: str
    parameters: dict[str, float]
    search: dict[str, list[float]]
    split: estimator.Split
    target: str
    server: servers.Server | None
    fingerprint: str
    served: dict[str, float]
    served_problem: str
    summary: Summary
    keys: signatures.Keys | None


def train(table_file: Path, task: Task, record: tracking.Record, attempt: Attempt) -> Trained:
    """Fit, measure, save, reload, log and register a model, or find the one that all this would make.

    Args:
        table_file: parquet as `preprocess` writes it.
        task: what shall be learned.
        record: the MLflow server, and in whose name.
        attempt: gets the MLflow run's id as soon as there is one, so that a failure is written to that run.

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
    fingerprint = reuse.fingerprint(table, _wishes(task, parameters, values, target))
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
    """Make the model."""
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
        model.save(fitted, root / model.FOLDER, split.x_train, example)
        if start.server is not None:
            servers.adapt(root / model.FOLDER, start.server)
        answers = model.load(root / model.FOLDER).predict(example)
        tags = _example_tags(example, [float(value) for value in answers]) | {"fingerprint": start.fingerprint}
        (root / PICTURE).parent.mkdir()
        (root / PICTURE).write_bytes(png)
        with tracking_errors(record.tracking_uri):
            model.log_values(client, start.run_id, params, metrics)
            tags["digest"] = signatures.digest(root / model.FOLDER)  # of the files here, whatever the store makes of them
            stored = model.store(client, start.run_id, root)
            version = model.register(client, stored, start.run_id, task.registered_model, record.owner_tags)
            _announce(start, task, record, tags | {"model-uri": stored, "model-version": version}, metrics)
    log.info("registered %s version %s, %s", task.registered_model, version, stored)
    return _outcome(start, task, stored, version, params, metrics, png)


def _search(start: _Start, task: Task, record: tracking.Record) -> tuple[dict[str, float], dict[str, float]]:
    """The parameters that do best on the training rows, and how well; every trial is written as it is over."""
    tried: list[search.Trial] = []
    with tracking_errors(record.tracking_uri):
        experiment = str(start.client.get_run(start.run_id).info.experiment_id)
    for trial in search.trials(task.algorithm, start.parameters, start.search, start.split, task.seed):
        with tracking_errors(record.tracking_uri):
            search.record(start.client, start.run_id, experiment, trial)
        said = trial.problem or f"r2 {trial.metrics['cv_r2']:.4f}"
        log.info("trial %d, %s: %s", trial.number, dict(trial.parameters), said)
        tried.append(trial)
    chosen = search.best(tried)
    return dict(chosen.parameters), dict(chosen.metrics) | {"trials": float(len(tried))}


def _reuse(start: _Start, task: Task, record: tracking.Record, original: "Run") -> Trained:
    """Take the model that is there: nothing is fitted, stored or registered again."""
    said = {name.removeprefix(tracking.PREFIX): value for name, value in original.data.tags.items()}
    stored, version = said["model-uri"], said["model-version"]
    params = original.data.params | dict(task.source or {}) | start.summary.params
    metrics = {name: value for name, value in original.data.metrics.items() if not name.startswith("served_")} | start.served
    tags = {name: said[name] for name in ("model-uri", "model-version", "digest", "example", "prediction") if name in said}
    with tracking_errors(record.tracking_uri):
        model.log_values(start.client, start.run_id, params, metrics)
        _announce(start, task, record, tags | {"reused-run": original.info.run_id}, metrics)
    log.info("the same data and wishes: reused %s version %s, %s", task.registered_model, version, stored)
    facts = {"reused from MLflow run": original.info.run_id} | params
    return _outcome(start, task, stored, version, facts, metrics, None)


def _announce(start: _Start, task: Task, record: tracking.Record, tags: Mapping[str, str], metrics: Mapping[str, float]) -> None:
    """End the run, and write its tags last and at once, signed together with the run's metrics."""
    known = {
        "data": start.summary.to_json(),
        "data-sha256": (task.source or {}).get("data_sha256", ""),
        "data-etag": task.data_etag,
        "data-version": task.data_version,
        "served-problem": start.served_problem,
    }
    said = {name: value for name, value in known.items() if value and len(value) <= TAG_LENGTH} | dict(tags)
    written = {tracking.PREFIX + name: value for name, value in said.items()}
    if start.keys is not None:
        what = signatures.statement(start.run_id, task.registered_model, record.identity_tags | written, metrics)
        written[signatures.SIGNATURE_TAG] = signatures.sign(what, start.keys)
    start.client.set_terminated(start.run_id, "FINISHED")
    model.set_tags(start.client, start.run_id, written)


def _keys() -> signatures.Keys | None:
    """Read the keys that sign this model's record; None where there are none: the record is then unsigned."""
    try:
        keys = signatures.Keys.from_environment()
    except signatures.KeyInvalidError as error:
        advice = f"Delete the Secret {signatures.SECRET} in the namespace of the run: the operator makes a new one."
        raise StepFailure(Reason.MODEL_KEY_INVALID, f"The model cannot be signed: {error}. {advice}") from None
    if keys is None:
        log.warning("no key in the Secret %s: the model is not signed", signatures.SECRET)
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


def _wishes(task: Task, parameters: Mapping[str, float], values: Mapping[str, list[float]], target: str) -> dict[str, Any]:
    """All that shapes the model beside the table and the packages, and where it is registered."""
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
