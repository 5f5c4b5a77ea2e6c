"""Search for the best combination of parameters by cross-validation on the training rows.

The held-out rows are not used: they evaluate the model that is trained with the best combination. Each trial is logged as a child
run in MLflow when it ends. A child run has none of the tags by which the operator finds a run.
"""

import itertools
import logging
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sklearn.model_selection import KFold

from winecontract.reasons import Reason
from winecontract.tags import Tag
from winesteps.estimator import Split, evaluate, fit
from winesteps.failures import StepFailure

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDS = 5
PARENT = "mlflow.parentRunId"
"""Tag by which MLflow knows a child run."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """One combination of values and its result.

    `metrics` are the means over the folds, cv_r2, cv_rmse and cv_mae, and their standard deviations with the suffix _std. A
    failed trial has no metrics but a `problem`.
    """

    number: int
    parameters: Mapping[str, float]
    metrics: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""


def trials(
    algorithm: str, fixed: Mapping[str, float], search: Mapping[str, Sequence[float]], split: Split, seed: int
) -> Iterator[Trial]:
    """Try every combination, in a fixed order and on the same folds.

    Raises:
        StepFailure: TooFewRows.

    """
    if len(split.x_train) < 2 * FOLDS:
        raise StepFailure(
            Reason.TOO_FEW_ROWS,
            f"The search has {len(split.x_train)} training rows and needs {2 * FOLDS}, two for each of {FOLDS} folds. Use more "
            "rows, or remove training.search.",
        )
    names = sorted(search)
    for number, values in enumerate(itertools.product(*(search[name] for name in names)), 1):
        parameters = {**fixed, **dict(zip(names, values, strict=True))}
        try:
            yield Trial(number, parameters, _cross_validate(algorithm, parameters, split, seed))
        except StepFailure as failure:
            yield Trial(number, parameters, problem=failure.message)


def best(tried: Sequence[Trial]) -> Trial:
    """Return the trial with the highest cv_r2, the first of equal ones.

    Raises:
        StepFailure: TrainingFailed, when every trial failed.

    """
    worked = [trial for trial in tried if not trial.problem]
    if not worked:
        raise StepFailure(
            Reason.TRAINING_FAILED, f"All {len(tried)} trials of the search failed. The first one: {tried[0].problem}"
        )
    return max(worked, key=lambda trial: trial.metrics["cv_r2"])


def record(client: "MlflowClient", parent: str, experiment_id: str, trial: Trial) -> None:
    """Log a trial as a child run, in three requests."""
    from mlflow.entities import Metric, Param, RunTag

    run = client.create_run(experiment_id, tags={PARENT: parent}, run_name=f"trial-{trial.number}")
    now = int(time.time() * 1000)
    client.log_batch(
        run.info.run_id,
        params=[Param(name, str(value)) for name, value in trial.parameters.items()],
        metrics=[Metric(name, value, now, 0) for name, value in trial.metrics.items()],
        tags=[RunTag(Tag.TRIAL_PROBLEM, trial.problem)] if trial.problem else [],
    )
    client.set_terminated(run.info.run_id, "FAILED" if trial.problem else "FINISHED")


def _cross_validate(algorithm: str, parameters: Mapping[str, float], split: Split, seed: int) -> dict[str, float]:
    """Return the mean and the standard deviation of each metric over the folds.

    Raises:
        StepFailure: TrainingFailed.

    """
    folds: list[dict[str, float]] = []
    for training, validation in KFold(FOLDS, shuffle=True, random_state=seed).split(split.x_train):
        x, y = split.x_train, split.y_train
        fold = Split(x.iloc[training], x.iloc[validation], y.iloc[training], y.iloc[validation], stratified=False)
        fitted, _warnings = fit(algorithm, parameters, fold, seed)
        measured = evaluate(fold.y_test, fitted.predict(fold.x_test))
        if not all(map(math.isfinite, measured.values())):
            raise StepFailure(
                Reason.TRAINING_FAILED,
                f"The metrics of {algorithm} are not finite: values in the data are too large. Scale the columns.",
            )
        folds.append(measured)
    found: dict[str, float] = {}
    for name in folds[0]:
        values = [fold[name] for fold in folds]
        found |= {f"cv_{name}": statistics.fmean(values), f"cv_{name}_std": statistics.pstdev(values)}
    return found
