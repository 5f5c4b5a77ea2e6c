"""The learning itself: parameters checked, rows split, model fitted and measured. Called by `train`; no I/O.

An algorithm is added in one place: `ALGORITHMS`.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sklearn.base import RegressorMixin
from sklearn.linear_model import ElasticNet
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import train_test_split

from winesteps.failures import Reason, StepFailure

MODEL_SEED = 42
"""random_state of the estimator; the split has its own, `seed`."""
MIN_HELD_OUT = 3
"""Fewest held-out rows that a model is measured on."""
MAX_CLASSES = 20
"""A target with more distinct values than this is not one to stratify by."""


@dataclass(frozen=True)
class Range:
    """A number's bounds, both included."""

    low: float
    high: float


@dataclass(frozen=True)
class Algorithm:
    """How an estimator is made, and which parameters it takes."""

    make: Callable[..., RegressorMixin]
    parameters: Mapping[str, Range]


ALGORITHMS = {
    "ElasticNet": Algorithm(ElasticNet, {"alpha": Range(0, 1000), "l1_ratio": Range(0, 1)}),
}


@dataclass(frozen=True)
class Split:
    """Rows to learn from and rows held out; `stratified` if both have the target's values in the same shares."""

    x_train: pd.DataFrame
    x_test: pd.DataFrame
    y_train: "pd.Series[float]"
    y_test: "pd.Series[float]"
    stratified: bool


def check_parameters(algorithm: str, parameters: Mapping[str, Any], test_fraction: float, seed: int) -> dict[str, float]:
    """The parameters as numbers; raises `StepFailure` ParametersInvalid that names each one that is wrong."""
    if algorithm not in ALGORITHMS:
        raise StepFailure(Reason.PARAMETERS_INVALID, f"There is no algorithm {algorithm!r}; there is {', '.join(ALGORITHMS)}.")
    known = ALGORITHMS[algorithm].parameters
    wrong = [f"{name} is unknown" for name in sorted(set(parameters) - set(known))]
    for name, value in parameters.items():
        if name in known and not _within(value, known[name]):
            wrong.append(f"{name} must be a number from {known[name].low:g} to {known[name].high:g}, not {value!r}")
    if not _within(test_fraction, Range(0.01, 0.9)):
        wrong.append(f"test_fraction must be from 0.01 to 0.9, not {test_fraction!r}")
    if not _within(seed, Range(0, 2**32 - 1)):
        wrong.append(f"seed must be from 0 to {2**32 - 1}, not {seed!r}")
    if wrong:
        raise StepFailure(
            Reason.PARAMETERS_INVALID,
            f"{'; '.join(wrong)}. {algorithm} takes {', '.join(known)}.",
        )
    return {name: float(value) for name, value in parameters.items()}


def _within(value: object, bounds: Range) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and bounds.low <= value <= bounds.high
    )  # nan compares false


def split_rows(table: pd.DataFrame, target: str, test_fraction: float, seed: int) -> Split:
    """Hold a share of the rows out, stratified by the target where its values are few and each is frequent enough."""
    features, values = table.drop(columns=target), table[target]
    counts = values.value_counts()
    stratified = len(counts) <= MAX_CLASSES and bool(counts.min() * min(test_fraction, 1 - test_fraction) >= 2)
    held_out = math.ceil(len(table) * test_fraction)
    if held_out < MIN_HELD_OUT or len(table) - held_out < MIN_HELD_OUT:
        raise StepFailure(
            Reason.TOO_FEW_ROWS,
            f"{len(table)} rows with testFraction {test_fraction:g} leave {held_out} to measure and "
            f"{len(table) - held_out} to learn from; at least {MIN_HELD_OUT} are needed for each.",
        )
    x_train, x_test, y_train, y_test = train_test_split(
        features, values, test_size=test_fraction, random_state=seed, stratify=values if stratified else None
    )
    if y_test.nunique() == 1:
        raise StepFailure(
            Reason.DATA_INVALID,
            f"All {len(y_test)} held-out rows have the same {target!r}, so that r2 is undefined: use more rows or another seed.",
        )
    return Split(x_train, x_test, y_train, y_test, stratified)


def fit(algorithm: str, parameters: Mapping[str, float], split: Split) -> tuple[RegressorMixin, list[str]]:
    """The fitted model and what scikit-learn warned of; raises `StepFailure` TrainingFailed."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = ALGORITHMS[algorithm].make(**parameters, random_state=MODEL_SEED)
            model.fit(split.x_train, split.y_train)
            finite = all(map(math.isfinite, model.predict(split.x_test)))
        except (ValueError, ArithmeticError) as error:
            raise StepFailure(Reason.TRAINING_FAILED, f"{algorithm} cannot be fitted to this data: {error}") from None
    if not finite:
        raise StepFailure(
            Reason.TRAINING_FAILED, f"{algorithm} predicts values that are not finite: the data's values are too large."
        )
    return model, [str(warning.message) for warning in caught]


def evaluate(actual: "pd.Series[float]", predicted: Any) -> dict[str, float]:
    """r2 (1 is perfect), and rmse and mae in the target's unit."""
    return {
        "r2": float(r2_score(actual, predicted)),
        "rmse": float(root_mean_squared_error(actual, predicted)),
        "mae": float(mean_absolute_error(actual, predicted)),
    }
