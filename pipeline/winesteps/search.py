"""A search: which of some parameters' values do best by cross-validation on the training rows. Called by `train`.

The held-out rows have no part in it: they measure what was chosen. Every trial is a child run in MLflow, written when it is over.
It has none of the tags by which the operator looks for a run.
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

from winesteps import tracking
from winesteps.estimator import Split, evaluate, fit
from winesteps.failures import Reason, StepFailure

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDS = 5
PARENT = "mlflow.parentRunId"
"""MLflow's own tag of a child run."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """One combination of values. `metrics` has cv_r2, cv_rmse and cv_mae, means over the folds, and each with `_std`.

    Where it failed it has none, and `problem` says why.
    """

    number: int
    parameters: Mapping[str, float]
    metrics: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""


def trials(
    algorithm: str, fixed: Mapping[str, float], search: Mapping[str, Sequence[float]], split: Split, seed: int
) -> Iterator[Trial]:
    """Try every combination, in the same order and on the same folds whatever happens; raises `StepFailure` TooFewRows."""
    if len(split.x_train) < 2 * FOLDS:
        raise StepFailure(
            Reason.TOO_FEW_ROWS,
            f"A search needs {2 * FOLDS} rows to learn from, two for each of {FOLDS} folds; there are {len(split.x_train)}.",
        )
    names = sorted(search)
    for number, values in enumerate(itertools.product(*(search[name] for name in names)), 1):
        parameters = {**fixed, **dict(zip(names, values, strict=True))}
        try:
            yield Trial(number, parameters, _validated(algorithm, parameters, split, seed))
        except StepFailure as failure:
            yield Trial(number, parameters, problem=failure.message)


def best(tried: Sequence[Trial]) -> Trial:
    """The trial with the highest cv_r2, the first of equals; raises `StepFailure` TrainingFailed where every one failed."""
    worked = [trial for trial in tried if not trial.problem]
    if not worked:
        raise StepFailure(Reason.TRAINING_FAILED, f"All {len(tried)} trials of the search failed. The first: {tried[0].problem}")
    return max(worked, key=lambda trial: trial.metrics["cv_r2"])


def record(client: "MlflowClient", parent: str, experiment_id: str, trial: Trial) -> None:
    """Write a trial as a child run: three requests."""
    from mlflow.entities import Metric, Param, RunTag

    run = client.create_run(experiment_id, tags={PARENT: parent}, run_name=f"trial-{trial.number}")
    now = int(time.time() * 1000)
    client.log_batch(
        run.info.run_id,
        params=[Param(name, str(value)) for name, value in trial.parameters.items()],
        metrics=[Metric(name, value, now, 0) for name, value in trial.metrics.items()],
        tags=[RunTag(f"{tracking.PREFIX}trial-problem", trial.problem)] if trial.problem else [],
    )
    client.set_terminated(run.info.run_id, "FAILED" if trial.problem else "FINISHED")


def _validated(algorithm: str, parameters: Mapping[str, float], split: Split, seed: int) -> dict[str, float]:
    folds: list[dict[str, float]] = []
    for learn, measure in KFold(FOLDS, shuffle=True, random_state=seed).split(split.x_train):
        x, y = split.x_train, split.y_train
        fold = Split(x.iloc[learn], x.iloc[measure], y.iloc[learn], y.iloc[measure], stratified=False)
        fitted, _warnings = fit(algorithm, parameters, fold, seed)
        measured = evaluate(fold.y_test, fitted.predict(fold.x_test))
        if not all(map(math.isfinite, measured.values())):
            raise StepFailure(Reason.TRAINING_FAILED, f"{algorithm} is measured by numbers that are not finite.")
        folds.append(measured)
    found: dict[str, float] = {}
    for name in folds[0]:
        values = [fold[name] for fold in folds]
        found |= {f"cv_{name}": statistics.fmean(values), f"cv_{name}_std": statistics.pstdev(values)}
    return found
