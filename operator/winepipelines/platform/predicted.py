"""Read and validate what the run of a prediction recorded in MLflow. Pure.

As in `records`, steps write tags from users' namespaces. So the output must be at the chosen address, the model must be the
chosen one, the counts of rows must add up, and reasons must be short.
"""

import re
from collections.abc import Iterable
from typing import Any

from winecontract.parsing import UnreadableError, parse_json
from winecontract.tags import Tag
from winecontract.text import clean
from winepipelines.api.observed import StepFailure
from winepipelines.api.prediction import REPORT_SUFFIX, RejectedRows, WinePrediction
from winepipelines.api.scoring import PredictionRecords, Scored
from winepipelines.platform.records import REASON, WORD_LIMIT, failure_of

COUNT = re.compile(r"[0-9]{1,15}")
REASONS_KEPT = 16
TEXT_LIMIT = 5000


def read(runs: Iterable[Any], prediction: WinePrediction) -> PredictionRecords:
    """Read the MLflow runs of a prediction's Kubeflow run, newest first: its newest outcome and its newest failure."""
    scored: Scored | None = None
    failure: StepFailure | None = None
    refused = ""
    for run in runs:
        if run.info.status == "FINISHED" and Tag.PREDICTION_OUTPUT in run.data.tags:
            outcome = _outcome(run, prediction)
            if isinstance(outcome, str):
                refused = refused or outcome
            else:
                scored = scored or outcome
        if failure is None and Tag.FAILURE_REASON in run.data.tags:
            failure = failure_of(run)
    return PredictionRecords(scored, failure, "" if scored else refused)


def _outcome(run: Any, prediction: WinePrediction) -> Scored | str:
    """Read an outcome, or describe why it is invalid."""
    tags, wanted = run.data.tags, prediction.output
    named = f"MLflow run {clean(run.info.run_id, WORD_LIMIT)}"
    if (output := tags[Tag.PREDICTION_OUTPUT]) != wanted:
        return f"{named} says that its output is at {clean(output, 200)}, not at {wanted}"
    model = prediction.status.model
    if model is None or tags.get(Tag.PREDICTION_MODEL) != model.mlflow_run:
        return f"{named} says that it used another model than the one that was chosen"
    rows, scored = _count(tags, Tag.PREDICTION_ROWS), _count(tags, Tag.PREDICTION_SCORED)
    rejected = _rejected(str(tags.get(Tag.PREDICTION_REJECTED, "")))
    if rows is None or scored is None or rejected is None or scored + sum(item.rows for item in rejected) != rows:
        return f"{named} counts rows in a way that does not add up"
    return Scored(output=wanted, report=f"{wanted}{REPORT_SUFFIX}", rows=rows, rejected=rejected)


def _count(tags: dict[str, str], tag: Tag) -> int | None:
    text = str(tags.get(tag, ""))
    return int(text) if COUNT.fullmatch(text) else None


def _rejected(text: str) -> tuple[RejectedRows, ...] | None:
    """Read how many rows were rejected for each reason; None if the text is malformed."""
    try:
        items = parse_json(text, TEXT_LIMIT)
        counts = [(item["reason"], item["rows"]) for item in items]
    except (TypeError, KeyError, UnreadableError):
        return None
    if len(counts) > REASONS_KEPT or len({str(reason) for reason, _ in counts}) < len(counts):
        return None
    for reason, rows in counts:
        if not (isinstance(reason, str) and REASON.fullmatch(reason)):
            return None
        if not isinstance(rows, int) or isinstance(rows, bool) or not 0 < rows < 10**15:
            return None
    return tuple(RejectedRows(reason=reason, rows=rows) for reason, rows in counts)
