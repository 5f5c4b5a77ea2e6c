"""What MLflow's records of a prediction's run say, as far as it can be believed. Pure; called by `mlflow`.

As in `records`, tags are written by steps in users' namespaces. So the output must be where the resource asked for it, the model
the one that was chosen, numbers must be counts that fit together, and reasons short words.
"""

import re
from collections.abc import Iterable
from typing import Any

from winecontract.parsing import UnreadableError, parse_json
from winecontract.text import clean
from winepipelines.platform.records import REASON, WORD_LIMIT, failure_of
from winepipelines.resource.observed import StepFailure
from winepipelines.resource.outcome import PredictionRecords, Scored
from winepipelines.resource.pipeline import GROUP
from winepipelines.resource.prediction import REPORT_SUFFIX, RejectedFor, WinePrediction

PREFIX = f"{GROUP}/prediction-"
COUNT = re.compile(r"[0-9]{1,15}")
REASONS_KEPT = 16
TEXT_LIMIT = 5000


def read(runs: Iterable[Any], prediction: WinePrediction) -> PredictionRecords:
    """Read the MLflow runs of a prediction's Kubeflow run, newest first: its newest outcome and its newest failure."""
    scored: Scored | None = None
    failure: StepFailure | None = None
    refused = ""
    for run in runs:
        if run.info.status == "FINISHED" and f"{PREFIX}output" in run.data.tags:
            said = _outcome(run, prediction)
            if isinstance(said, str):
                refused = refused or said
            else:
                scored = scored or said
        if failure is None and f"{GROUP}/failure-reason" in run.data.tags:
            failure = failure_of(run)
    return PredictionRecords(scored, failure, "" if scored else refused)


def _outcome(run: Any, prediction: WinePrediction) -> Scored | str:
    """Read an outcome, or say why it is not to be believed in."""
    tags, wanted = run.data.tags, prediction.spec.output
    named = f"MLflow run {clean(run.info.run_id, WORD_LIMIT)}"
    if (output := tags[f"{PREFIX}output"]) != wanted:
        return f"{named} says that its output is at {clean(output, 200)}, not at {wanted}"
    model = prediction.status.model
    if model is None or tags.get(f"{PREFIX}model") != model.mlflow_run:
        return f"{named} says that it used another model than the one that was chosen"
    rows, scored = _count(tags, "rows"), _count(tags, "scored")
    rejected = _rejected(str(tags.get(f"{PREFIX}rejected", "")))
    if rows is None or scored is None or rejected is None or scored + sum(item.rows for item in rejected) != rows:
        return f"{named} counts rows in a way that does not add up"
    return Scored(output=wanted, report=f"{wanted}{REPORT_SUFFIX}", rows=rows, rejected=rejected)


def _count(tags: dict[str, str], name: str) -> int | None:
    text = str(tags.get(f"{PREFIX}{name}", ""))
    return int(text) if COUNT.fullmatch(text) else None


def _rejected(text: str) -> tuple[RejectedFor, ...] | None:
    """Read how many rows were rejected for which reason; None where that is not what it says."""
    try:
        items = parse_json(text, TEXT_LIMIT)
        said = [(item["reason"], item["rows"]) for item in items]
    except (TypeError, KeyError, UnreadableError):
        return None
    if len(said) > REASONS_KEPT or len({str(reason) for reason, _ in said}) < len(said):
        return None
    for reason, rows in said:
        if not (isinstance(reason, str) and REASON.fullmatch(reason)):
            return None
        if not isinstance(rows, int) or isinstance(rows, bool) or not 0 < rows < 10**15:
            return None
    return tuple(RejectedFor(reason=reason, rows=rows) for reason, rows in said)
