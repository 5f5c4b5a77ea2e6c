"""What MLflow's records of a run say, as far as it can be believed. Pure; called by `mlflow`.

MLflow is shared, and tags are written by the steps in users' namespaces: whoever may write there can tag a run with any
resource's uid. So a model's address must be where the server keeps that very run's artifacts (`objectstore` looks at its form),
or those of the run that it reuses, of the same resource; numbers must be finite, words short. What is not so is left out, or
said.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from winecontract.parsing import UnreadableError, is_finite_number, parse_json, parse_object
from winecontract.signatures import DIGEST
from winecontract.text import clean
from winepipelines.resource.observed import DataCheck, LoggedModel, StepFailure, TrainingRecords
from winepipelines.resource.pipeline import GROUP
from winepipelines.resource.table import TableRead

MODEL_FOLDER = "model"
METRIC = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. /-]{0,63}")
VERSION = re.compile(r"[0-9]{1,18}")
RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
SHA256 = re.compile(r"[0-9a-f]{64}")
ETAG = re.compile(r"[!-~]{1,256}")  # sent back to a server by the next check
DATA_VERSION = re.compile(r"[!-~]{1,256}")
REASON = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
FALLBACK_REASON = "Unexpected"
METRICS_KEPT = 32
INFINITE = 1e300  # the server's database keeps infinity as the largest number
FIRST_METRICS = ("r2", "rmse", "mae", "served_r2", "served_rmse", "served_mae")
MESSAGE_LIMIT = 1000
WORD_LIMIT = 64
EXAMPLE_LIMIT = 100_000  # characters; a server's own limit is lower
TABLE_LIMIT = 10_000
COLUMNS_SHOWN, WARNINGS_SHOWN, WARNING_LIMIT = 16, 5, 301
ROWS_LIMIT = 10
COLUMNS_LIMIT = 1000


@dataclass(frozen=True)
class Example:
    """Rows that a model can be asked about, with what it answered when it was trained."""

    names: list[str]
    rows: list[list[float]]
    predictions: list[float]


def reused_run(runs: Iterable[Any]) -> str:
    """Name the MLflow run whose model the first of these reuses; empty where it has its own, or names none."""
    first = next((run for run in runs if has_model(run)), None)
    named = "" if first is None else str(first.data.tags.get(f"{GROUP}/reused-run", ""))
    return named if RUN_ID.fullmatch(named) else ""


def foreign(runs: Iterable[Any], kfp_run: str) -> str:
    """Name the first of a revision's MLflow runs that is not of its Kubeflow run and claims a model; empty where none does."""
    for run in runs:
        writer = run.data.tags.get(f"{GROUP}/kfp-run", "")
        if has_model(run) and writer != kfp_run:
            by = f"Kubeflow run {clean(writer, WORD_LIMIT)}" if writer else "no Kubeflow run"
            named = f"MLflow run {clean(run.info.run_id, WORD_LIMIT)} has this revision's tags, but was written by {by}"
            return f"{named}, not by this revision's run {kfp_run}"
    return ""


def read(runs: Iterable[Any], original: Any = None, known: Collection[str] | None = None, foreign: str = "") -> TrainingRecords:
    """Read the MLflow runs of a revision's Kubeflow run: the first model that is believable, and the first failure.

    `original` is the run that `reused_run` names, where it is there; `known` are the MLflow runs whose models the resource has
    had before, None where that is not looked at: only those can be reused, and the Kubeflow run's own. `foreign` is passed on.
    """
    model: LoggedModel | None = None
    failure: StepFailure | None = None
    refused = ""
    for run in runs:
        if has_model(run):
            said = "" if model else refusal(run, original, known)
            refused = refused or said
            model = model or (None if said else _model(run))
        if failure is None and f"{GROUP}/failure-reason" in run.data.tags:
            failure = failure_of(run)
    return TrainingRecords(model=model, failure=failure, refused="" if model else refused, foreign=foreign)


def read_check(runs: Iterable[Any]) -> DataCheck | None:
    """Read the MLflow runs of one check of the data, newest first; None where it has not said anything yet."""
    for run in runs:
        tags = run.data.tags
        if run.info.status == "FINISHED" and f"{GROUP}/data-changed" in tags:
            sha256, etag = (_text(tags, name, form) for name, form in (("data-sha256", SHA256), ("data-etag", ETAG)))
            return DataCheck(tags[f"{GROUP}/data-changed"] == "true", sha256, etag)
        if f"{GROUP}/failure-reason" in tags:
            return DataCheck(failure=failure_of(run))
    return None


def refusal(run: Any, original: Any = None, known: Collection[str] | None = None) -> str:
    """Say why a run's model is not to be believed in; empty where it is."""
    if not RUN_ID.fullmatch(run.info.run_id):
        return f"an MLflow run of this resource has the id {clean(run.info.run_id, WORD_LIMIT)!r}, which is none of MLflow's"
    if (reused := run.data.tags.get(f"{GROUP}/reused-run")) is None:
        return _not_its_own(run)
    named = f"MLflow run {run.info.run_id} says that it reuses the model of MLflow run {clean(reused, WORD_LIMIT)}"
    if original is None or original.info.run_id != reused:
        return f"{named}, which is not there"
    tags = original.data.tags
    if original.info.status != "FINISHED" or tags.get(f"{GROUP}/uid") != run.data.tags.get(f"{GROUP}/uid"):
        return f"{named}, which has no model of this resource"
    if f"{GROUP}/reused-run" in tags or tags.get(f"{GROUP}/model-uri") != run.data.tags[f"{GROUP}/model-uri"]:
        return f"{named}, which has another model, or none of its own"
    if known is not None and reused not in known and tags.get(f"{GROUP}/kfp-run") != run.data.tags.get(f"{GROUP}/kfp-run"):
        return f"{named}, which no run of this resource has made"
    return _not_its_own(original)


def _not_its_own(run: Any) -> str:
    uri, root = run.data.tags[f"{GROUP}/model-uri"], str(run.info.artifact_uri).rstrip("/")
    if uri == f"{root}/{MODEL_FOLDER}":
        return ""
    named = f"MLflow run {run.info.run_id} says that its model is at {clean(uri, 200)}"
    return f"{named}, which is not its own {MODEL_FOLDER} folder, {clean(root, 200)}/{MODEL_FOLDER}"


def example(run: Any) -> Example | None:
    """Read a model's own example; None where it is absent, or no table of numbers with as many predictions."""
    tags = run.data.tags
    texts = [str(tags.get(f"{GROUP}/{name}", "")) for name in ("example", "prediction")]
    if max(map(len, texts)) > EXAMPLE_LIMIT:
        return None
    try:
        said, predictions = parse_object(texts[0]), parse_json(texts[1])
        names, rows = said["names"], said["ndarray"]
    except (UnreadableError, KeyError):
        return None
    columns = len(names) if isinstance(names, list) else 0
    fits = (
        1 <= columns <= COLUMNS_LIMIT
        and all(isinstance(name, str) and name for name in names)
        and isinstance(rows, list)
        and 1 <= len(rows) <= ROWS_LIMIT
        and all(_are_numbers(row, columns) for row in rows)
        and _are_numbers(predictions, len(rows))
    )
    return Example(names, rows, predictions) if fits else None


def example_digest(tags: Mapping[str, str]) -> str:
    """Hash a model's example and what it answered, to see later whether they are still those that were signed."""
    texts = [str(tags.get(f"{GROUP}/{name}", "")) for name in ("example", "prediction")]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:32]


def metrics(values: dict[str, float]) -> dict[str, float]:
    """Choose the metrics that a status can hold: finite, with plain names, the usual ones first."""
    usable = {name: round(value, 6) for name, value in values.items() if METRIC.fullmatch(name) and abs(value) < INFINITE}
    order = sorted(usable, key=lambda name: (name not in FIRST_METRICS, name))
    return {name: usable[name] for name in order[:METRICS_KEPT]}


def has_model(run: Any) -> bool:
    """Tell whether a run has ended well and names a model."""
    return run.info.status == "FINISHED" and f"{GROUP}/model-uri" in run.data.tags


def _model(run: Any) -> LoggedModel:
    tags = run.data.tags
    reused = tags.get(f"{GROUP}/reused-run")
    read, warnings = _table(tags)
    return LoggedModel(
        uri=tags[f"{GROUP}/model-uri"],
        mlflow_run=reused or run.info.run_id,
        version=_text(tags, "model-version", VERSION),
        metrics=metrics(run.data.metrics),
        reused=reused is not None,
        digest=_text(tags, "digest", DIGEST),
        example_digest=example_digest(tags),
        data_sha256=_text(tags, "data-sha256", SHA256),
        data_etag=_text(tags, "data-etag", ETAG),
        data_version=_text(tags, "data-version", DATA_VERSION),
        data=read,
        warnings=warnings,
        served_problem=clean(tags.get(f"{GROUP}/served-problem", ""), MESSAGE_LIMIT),
    )


def _table(tags: dict[str, str]) -> tuple[TableRead | None, tuple[str, ...]]:
    """Read what the steps say of the data, and their warnings; nothing where it has another form."""
    text = str(tags.get(f"{GROUP}/data", ""))
    try:
        said = parse_object(text, TABLE_LIMIT)
        counts = {name: said[name] for name in ("rows", "rowsDropped")}
        names, warnings = said["columnsDropped"], said["warnings"]
        lists = all(isinstance(items, list) and all(isinstance(item, str) for item in items) for items in (names, warnings))
        whole = all(isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12 for value in counts.values())
        if not (lists and whole):
            return None, ()
        dropped = [clean(name, WORD_LIMIT) for name in names[:COLUMNS_SHOWN]]
        read = TableRead.model_validate({**counts, "columnsDropped": dropped, "format": clean(said["format"], WORD_LIMIT)})
    except (KeyError, TypeError, ValueError):
        return None, ()
    return read, tuple(clean(warning, WARNING_LIMIT) for warning in warnings[:WARNINGS_SHOWN])


def _text(tags: dict[str, str], name: str, form: re.Pattern[str]) -> str:
    """Read a tag of a given form; empty where it has another."""
    text = str(tags.get(f"{GROUP}/{name}", ""))
    return text if form.fullmatch(text) else ""


def failure_of(run: Any) -> StepFailure:
    """Read why a step failed, from a run that says so."""
    tags = run.data.tags
    reason = str(tags[f"{GROUP}/failure-reason"])
    return StepFailure(
        step=clean(tags.get(f"{GROUP}/failed-step", "unknown"), WORD_LIMIT),
        reason=reason if REASON.fullmatch(reason) else FALLBACK_REASON,
        message=clean(tags.get(f"{GROUP}/failure-message", ""), MESSAGE_LIMIT),
        permanent=tags.get(f"{GROUP}/failure-permanent") == "true",
        at=_moment(run.info.end_time or run.info.start_time),
    )


def _moment(milliseconds: object) -> datetime:
    """Read a time, which clients write too; the beginning of time where it is none."""
    try:
        return datetime.fromtimestamp(float(str(milliseconds)) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def _are_numbers(values: object, length: int) -> bool:
    return isinstance(values, list) and len(values) == length and all(map(is_finite_number, values))
