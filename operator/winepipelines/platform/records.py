"""Read and validate what the steps of a run recorded in MLflow. Pure.

MLflow is shared, and steps write tags from users' namespaces: whoever may write there can tag a run with any resource's uid. So a
model's address must be in the artifact folder of the same MLflow run, or of the run of the same resource that it reuses
(`objectstore` checks its form). Numbers must be finite and texts short. Invalid values are omitted or reported as a refusal.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from winecontract.parsing import UnreadableError, is_finite_number, parse_json, parse_object
from winecontract.reasons import Reason
from winecontract.signatures import DIGEST
from winecontract.tags import METRICS, MODEL_FOLDER, SERVED, TRUE, Tag
from winecontract.text import clean
from winepipelines.api.modelrecord import ModelRecord, TrainingData
from winepipelines.api.observed import DataCheckResult, StepFailure, TrainingRecords

METRIC = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. /-]{0,63}")
VERSION = re.compile(r"[0-9]{1,18}")
RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
SHA256 = re.compile(r"[0-9a-f]{64}")
ETAG = re.compile(r"[!-~]{1,256}")  # the next data check sends it to the server
DATA_VERSION = re.compile(r"[!-~]{1,256}")
REASON = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
FALLBACK_REASON = Reason.UNEXPECTED_ERROR
METRICS_KEPT = 32
INFINITE = 1e300  # the server's database keeps infinity as the largest number
FIRST_METRICS = (*METRICS, *(f"{SERVED}{name}" for name in METRICS))
MESSAGE_LIMIT = 1000
WORD_LIMIT = 64
EXAMPLE_LIMIT = 100_000  # characters; a server's own limit is lower
TABLE_LIMIT = 10_000
COLUMNS_SHOWN, WARNINGS_SHOWN, WARNING_LIMIT = 16, 5, 301
ROWS_LIMIT = 10
COLUMNS_LIMIT = 1000


@dataclass(frozen=True)
class Example:
    """Input rows of a model, with the predictions that the train step recorded for them."""

    names: list[str]
    rows: list[list[float]]
    predictions: list[float]


def reused_run(runs: Iterable[Any]) -> str:
    """Return the id of the MLflow run whose model the first run with a model reuses; empty if it has its own."""
    first = next((run for run in runs if has_model(run)), None)
    named = "" if first is None else str(first.data.tags.get(Tag.REUSED_RUN, ""))
    return named if RUN_ID.fullmatch(named) else ""


def foreign(runs: Iterable[Any], kfp_run: str) -> str:
    """Describe the first of a revision's MLflow runs that has a model but was written by another Kubeflow run; else empty."""
    for run in runs:
        writer = run.data.tags.get(Tag.KFP_RUN, "")
        if has_model(run) and writer != kfp_run:
            by = f"Kubeflow run {clean(writer, WORD_LIMIT)}" if writer else "no Kubeflow run"
            named = f"MLflow run {clean(run.info.run_id, WORD_LIMIT)} has this revision's tags, but was written by {by}"
            return f"{named}, not by this revision's run {kfp_run}"
    return ""


def read(runs: Iterable[Any], original: Any = None, known: Collection[str] | None = None, foreign: str = "") -> TrainingRecords:
    """Read the MLflow runs of a revision's Kubeflow run: the first valid model and the first failure.

    Args:
        runs: the MLflow runs.
        original: the run that `reused_run` names, if it exists.
        known: the MLflow runs of the resource's earlier models. Only these and the Kubeflow run's own can be reused. None skips
            this check.
        foreign: goes into the result as is.

    """
    model: ModelRecord | None = None
    failure: StepFailure | None = None
    refused, comparison_failure = "", ""
    for run in runs:
        if has_model(run):
            why = "" if model else refusal(run, original, known)
            refused = refused or why
            if model is None and not why:
                model, comparison_failure = _model(run), clean(run.data.tags.get(Tag.SERVED_PROBLEM, ""), MESSAGE_LIMIT)
        if failure is None and Tag.FAILURE_REASON in run.data.tags:
            failure = failure_of(run)
    return TrainingRecords(model, failure, comparison_failure, "" if model else refused, foreign=foreign)


def read_check(runs: Iterable[Any]) -> DataCheckResult | None:
    """Read the MLflow runs of one data check, newest first; None if it has recorded no result yet."""
    for run in runs:
        tags = run.data.tags
        if run.info.status == "FINISHED" and Tag.DATA_CHANGED in tags:
            sha256, etag = (_text(tags, tag, form) for tag, form in ((Tag.DATA_SHA256, SHA256), (Tag.DATA_ETAG, ETAG)))
            return DataCheckResult(tags[Tag.DATA_CHANGED] == TRUE, sha256, etag)
        if Tag.FAILURE_REASON in tags:
            return DataCheckResult(failure=failure_of(run))
    return None


def refusal(run: Any, original: Any = None, known: Collection[str] | None = None) -> str:
    """Describe why a run's model is invalid; empty if it is valid."""
    if not RUN_ID.fullmatch(run.info.run_id):
        return f"an MLflow run of this resource has the id {clean(run.info.run_id, WORD_LIMIT)!r}, which is no id of MLflow's"
    if (reused := run.data.tags.get(Tag.REUSED_RUN)) is None:
        return _not_its_own(run)
    named = f"MLflow run {run.info.run_id} says that it reuses the model of MLflow run {clean(reused, WORD_LIMIT)}"
    if original is None or original.info.run_id != reused:
        return f"{named}, which is not there"
    tags = original.data.tags
    if original.info.status != "FINISHED" or tags.get(Tag.UID) != run.data.tags.get(Tag.UID):
        return f"{named}, which has no model of this resource"
    if Tag.REUSED_RUN in tags or tags.get(Tag.MODEL_URI) != run.data.tags[Tag.MODEL_URI]:
        return f"{named}, which has another model, or none of its own"
    if known is not None and reused not in known and tags.get(Tag.KFP_RUN) != run.data.tags.get(Tag.KFP_RUN):
        return f"{named}, which no run of this resource has made"
    return _not_its_own(original)


def _not_its_own(run: Any) -> str:
    uri, root = run.data.tags[Tag.MODEL_URI], str(run.info.artifact_uri).rstrip("/")
    if uri == f"{root}/{MODEL_FOLDER}":
        return ""
    named = f"MLflow run {run.info.run_id} says that its model is at {clean(uri, 200)}"
    return f"{named}, which is not its own {MODEL_FOLDER} folder, {clean(root, 200)}/{MODEL_FOLDER}"


def example(run: Any) -> Example | None:
    """Read a model's input example; None if it is absent, or is not a table of numbers with one prediction per row."""
    tags = run.data.tags
    texts = [str(tags.get(tag, "")) for tag in (Tag.EXAMPLE, Tag.PREDICTION)]
    if max(map(len, texts)) > EXAMPLE_LIMIT:
        return None
    try:
        table, predictions = parse_object(texts[0]), parse_json(texts[1])
        names, rows = table["names"], table["ndarray"]
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
    """Hash a model's input example and its predictions, so that later changes are detected."""
    texts = [str(tags.get(tag, "")) for tag in (Tag.EXAMPLE, Tag.PREDICTION)]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:32]


def metrics(values: dict[str, float]) -> dict[str, float]:
    """Select the metrics for the status: finite values with plain names, common metrics first."""
    usable = {name: round(value, 6) for name, value in values.items() if METRIC.fullmatch(name) and abs(value) < INFINITE}
    order = sorted(usable, key=lambda name: (name not in FIRST_METRICS, name))
    return {name: usable[name] for name in order[:METRICS_KEPT]}


def has_model(run: Any) -> bool:
    """Whether a run has finished successfully and names a model."""
    return run.info.status == "FINISHED" and Tag.MODEL_URI in run.data.tags


def _model(run: Any) -> ModelRecord:
    tags = run.data.tags
    data, warnings = _data(tags)
    return ModelRecord(
        uri=tags[Tag.MODEL_URI],
        mlflow_run=tags.get(Tag.REUSED_RUN) or run.info.run_id,
        version=_text(tags, Tag.MODEL_VERSION, VERSION),
        metrics=metrics(run.data.metrics),
        digest=_text(tags, Tag.DIGEST, DIGEST),
        example_digest=example_digest(tags),
        data=data,
        warnings=warnings,
    )


def _data(tags: dict[str, str]) -> tuple[TrainingData, tuple[str, ...]]:
    """Read what the steps recorded about the data, and their warnings. Malformed values are omitted."""
    file = TrainingData(
        sha256=_text(tags, Tag.DATA_SHA256, SHA256),
        etag=_text(tags, Tag.DATA_ETAG, ETAG),
        version=_text(tags, Tag.DATA_VERSION, DATA_VERSION),
    )
    text = str(tags.get(Tag.DATA, ""))
    try:
        recorded = parse_object(text, TABLE_LIMIT)
        counts = {name: recorded[name] for name in ("rows", "rowsDropped")}
        names, warnings = recorded["columnsDropped"], recorded["warnings"]
        lists = all(isinstance(items, list) and all(isinstance(item, str) for item in items) for items in (names, warnings))
        whole = all(isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12 for value in counts.values())
        if not (lists and whole):
            return file, ()
        dropped = [clean(name, WORD_LIMIT) for name in names[:COLUMNS_SHOWN]]
        table = {"rows": counts["rows"], "rows_dropped": counts["rowsDropped"], "columns_dropped": dropped}
        data = file.with_(**table, format=clean(recorded["format"], WORD_LIMIT))
    except (KeyError, TypeError, ValueError):
        return file, ()
    return data, tuple(clean(warning, WARNING_LIMIT) for warning in warnings[:WARNINGS_SHOWN])


def _text(tags: dict[str, str], tag: Tag, form: re.Pattern[str]) -> str:
    """Read a tag; empty if its value does not match the pattern."""
    text = str(tags.get(tag, ""))
    return text if form.fullmatch(text) else ""


def failure_of(run: Any) -> StepFailure:
    """Read why a step failed, from a run with a failure reason."""
    tags = run.data.tags
    reason = str(tags[Tag.FAILURE_REASON])
    return StepFailure(
        step=clean(tags.get(Tag.FAILED_STEP, "unknown"), WORD_LIMIT),
        reason=reason if REASON.fullmatch(reason) else FALLBACK_REASON,
        message=clean(tags.get(Tag.FAILURE_MESSAGE, ""), MESSAGE_LIMIT),
        permanent=tags.get(Tag.FAILURE_PERMANENT) == TRUE,
        at=_moment(run.info.end_time or run.info.start_time),
    )


def _moment(milliseconds: object) -> datetime:
    """Convert a timestamp, which clients may write; 1970 if it is invalid."""
    try:
        return datetime.fromtimestamp(float(str(milliseconds)) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def _are_numbers(values: object, length: int) -> bool:
    return isinstance(values, list) and len(values) == length and all(map(is_finite_number, values))
