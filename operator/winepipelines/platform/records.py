"""What MLflow's records of a run say, as far as it can be believed. Pure; called by `mlflow`.

MLflow is shared, and tags are written by the steps in users' namespaces: whoever may write there can tag a run with any
resource's uid. So a model's address must be where the server keeps that very run's artifacts (`objectstore` looks at its form),
numbers must be finite, words short. What is not so is left out, or said.
"""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from winepipelines.resource.observed import LoggedModel, StepFailure, TrainingRecords
from winepipelines.resource.pipeline import GROUP

MODEL_FOLDER = "model"
METRIC = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. /-]{0,63}")
VERSION = re.compile(r"[0-9]{1,18}")
RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
REASON = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
FALLBACK_REASON = "Unexpected"
METRICS_KEPT = 32
INFINITE = 1e300  # the server's database keeps infinity as the largest number
FIRST_METRICS = ("r2", "rmse", "mae")
MESSAGE_LIMIT = 1000
WORD_LIMIT = 64
EXAMPLE_LIMIT = 100_000  # characters; a server's own limit is lower
ROWS_LIMIT = 10
COLUMNS_LIMIT = 1000


@dataclass(frozen=True)
class Example:
    """Rows that a model can be asked about, with what it answered when it was trained."""

    names: list[str]
    rows: list[list[float]]
    predictions: list[float]


def read(runs: Iterable[Any]) -> TrainingRecords:
    """Read a revision's MLflow runs, newest first: its newest model and its newest failure."""
    model: LoggedModel | None = None
    failure: StepFailure | None = None
    refused = ""
    for run in runs:
        if run.info.status == "FINISHED" and f"{GROUP}/model-uri" in run.data.tags:
            said = "" if model else refusal(run)
            refused = refused or said
            model = model or (None if said else _model(run))
        if failure is None and f"{GROUP}/failure-reason" in run.data.tags:
            failure = _failure(run)
    return TrainingRecords(model=model, failure=failure, refused="" if model else refused)


def refusal(run: Any) -> str:
    """Say why a run's model is not to be believed in; empty where it is."""
    uri, root = run.data.tags[f"{GROUP}/model-uri"], str(run.info.artifact_uri).rstrip("/")
    if not RUN_ID.fullmatch(run.info.run_id):
        return f"an MLflow run of this resource has the id {line(run.info.run_id, WORD_LIMIT)!r}, which is none of MLflow's"
    named = f"MLflow run {run.info.run_id} says that its model is at {line(uri, 200)}"
    if uri != f"{root}/{MODEL_FOLDER}":
        return f"{named}, which is not its own {MODEL_FOLDER} folder, {line(root, 200)}/{MODEL_FOLDER}"
    return ""


def example(run: Any) -> Example | None:
    """Read a model's own example; None where it is absent, or no table of numbers with as many predictions."""
    tags = run.data.tags
    texts = [str(tags.get(f"{GROUP}/{name}", "")) for name in ("example", "prediction")]
    if max(map(len, texts)) > EXAMPLE_LIMIT:
        return None
    try:
        said, predictions = (json.loads(text) for text in texts)
        names, rows = said["names"], said["ndarray"]
    except (KeyError, TypeError, ValueError, RecursionError):
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


def metrics(values: dict[str, float]) -> dict[str, float]:
    """Choose the metrics that a status can hold: finite, with plain names, the usual ones first."""
    usable = {name: round(value, 6) for name, value in values.items() if METRIC.fullmatch(name) and abs(value) < INFINITE}
    order = sorted(usable, key=lambda name: (name not in FIRST_METRICS, name))
    return {name: usable[name] for name in order[:METRICS_KEPT]}


def line(text: object, limit: int) -> str:
    """Make one printable line of at most so many characters."""
    return "".join(character if character.isprintable() else " " for character in str(text)[:limit])


def _model(run: Any) -> LoggedModel:
    tags = run.data.tags
    version = str(tags.get(f"{GROUP}/model-version", ""))
    return LoggedModel(
        uri=tags[f"{GROUP}/model-uri"],
        mlflow_run=run.info.run_id,
        version=version if VERSION.fullmatch(version) else "",
        metrics=metrics(run.data.metrics),
    )


def _failure(run: Any) -> StepFailure:
    tags = run.data.tags
    reason = str(tags[f"{GROUP}/failure-reason"])
    return StepFailure(
        step=line(tags.get(f"{GROUP}/failed-step", "unknown"), WORD_LIMIT),
        reason=reason if REASON.fullmatch(reason) else FALLBACK_REASON,
        message=line(tags.get(f"{GROUP}/failure-message", ""), MESSAGE_LIMIT),
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
    return isinstance(values, list) and len(values) == length and all(_is_number(value) for value in values)


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False
