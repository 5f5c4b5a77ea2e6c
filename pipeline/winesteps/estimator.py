"""The learning itself: parameters checked, rows split, model fitted and measured; no I/O. Called by `train`, `search`, `served`.

An algorithm is added in one place: `ALGORITHMS`.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from sklearn.base import RegressorMixin
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import ElasticNet
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from winesteps.failures import Reason, StepFailure

MIN_HELD_OUT = 3
"""Fewest held-out rows that a model is measured on."""
MOST_SEARCHED, MOST_VALUES, MOST_TRIALS = 5, 10, 100
"""Parameters of a search, values of each, and combinations of them, at most."""
MANY_ROWS = 50_000
"""Below, OpenMP's threads (boosting) wait for each other longer than they work: 0.3 s alone, 5 s on two busy processors."""
CONSTANT = 1e-9
"""Predictions that differ by no greater share than this are the same."""
MAX_CLASSES = 20
"""A target with more distinct values than this is not one to stratify by."""


@dataclass(frozen=True)
class Range:
    """A number's bounds, both included; of a whole number where that is needed."""

    low: float
    high: float
    whole: bool = False

    def __str__(self) -> str:
        return f"a {'whole ' if self.whole else ''}number from {self.low:g} to {self.high:g}"

    def holds(self, value: object) -> bool:
        """Whether a value is such a number. Not a number compares false; Kubeflow hands whole numbers on as floats."""
        if not isinstance(value, int | float) or isinstance(value, bool) or not self.low <= value <= self.high:
            return False
        return not self.whole or float(value).is_integer()

    def read(self, value: float) -> float:
        """The value as the estimator takes it: whole numbers as such, since 1 and 1.0 can mean two things there."""
        return int(value) if self.whole else float(value)


@dataclass(frozen=True)
class Algorithm:
    """How an estimator is made, which parameters it takes, and defaults where they are not scikit-learn's."""

    make: Callable[..., RegressorMixin]
    parameters: Mapping[str, Range]
    defaults: Mapping[str, float] = field(default_factory=dict)


_DEPTH, _LEAF = Range(1, 100, whole=True), Range(1, 1000, whole=True)

ALGORITHMS = {
    "ElasticNet": Algorithm(
        ElasticNet,
        {"alpha": Range(0, 1000), "l1_ratio": Range(0, 1)},
        defaults={"alpha": 0.5, "l1_ratio": 0.5},  # the guide's
    ),
    "RandomForest": Algorithm(
        RandomForestRegressor,
        {
            "n_estimators": Range(1, 1000, whole=True),
            "max_features": Range(0.01, 1),
            "max_depth": _DEPTH,
            "min_samples_leaf": _LEAF,
        },
    ),
    "HistGradientBoosting": Algorithm(
        HistGradientBoostingRegressor,
        {
            "learning_rate": Range(0.001, 1),
            "max_iter": Range(1, 1000, whole=True),
            "max_leaf_nodes": Range(2, 1024, whole=True),
            "l2_regularization": Range(0, 1000),
            "max_depth": _DEPTH,
            "min_samples_leaf": _LEAF,
        },
    ),
}
"""The ranges are the schema's, see crds/winepipelines.yaml."""


@dataclass(frozen=True)
class Split:
    """Rows to learn from and rows held out; `stratified` if both have the target's values in the same shares."""

    x_train: pd.DataFrame
    x_test: pd.DataFrame
    y_train: "pd.Series[float]"
    y_test: "pd.Series[float]"
    stratified: bool


def check_parameters(algorithm: str, parameters: Mapping[str, Any], test_fraction: float, seed: int) -> dict[str, float]:
    """The parameters as the estimator takes them, with the defaults that are not scikit-learn's.

    Raises `StepFailure` ParametersInvalid that names each one that is wrong.
    """
    known = _known(algorithm)
    wrong = [f"{name} is unknown" for name in sorted(set(parameters) - set(known))]
    for name, value in parameters.items():
        if name in known and not known[name].holds(value):
            wrong.append(f"{name} must be {known[name]}, not {value!r}")
    if not Range(0.01, 0.9).holds(test_fraction):
        wrong.append(f"test_fraction must be from 0.01 to 0.9, not {test_fraction!r}")
    if not Range(0, 2**32 - 1, whole=True).holds(seed):
        wrong.append(f"seed must be from 0 to {2**32 - 1}, not {seed!r}")
    refuse(algorithm, wrong)
    return dict(ALGORITHMS[algorithm].defaults) | {name: known[name].read(value) for name, value in parameters.items()}


def check_search(algorithm: str, search: Mapping[str, Any]) -> dict[str, list[float]]:
    """The values to try as the estimator takes them; raises `StepFailure` ParametersInvalid that names each one that is wrong."""
    known = _known(algorithm)
    wrong = [f"search.{name} is unknown" for name in sorted(set(search) - set(known))]
    read: dict[str, list[float]] = {}
    for name, values in search.items():
        if not isinstance(values, list) or not 1 <= len(values) <= MOST_VALUES:
            wrong.append(f"search.{name} must be a list of 1 to {MOST_VALUES} values")
        elif name in known:
            wrong += [f"search.{name} must hold {known[name]}, not {value!r}" for value in values if not known[name].holds(value)]
            read[name] = [known[name].read(value) for value in values if known[name].holds(value)]
    if len(search) > MOST_SEARCHED or math.prod(map(len, read.values())) > MOST_TRIALS:
        wrong.append(f"search may have {MOST_SEARCHED} parameters and {MOST_TRIALS} combinations of values")
    refuse(algorithm, wrong)
    return read


def _known(algorithm: str) -> Mapping[str, Range]:
    if algorithm not in ALGORITHMS:
        raise StepFailure(Reason.PARAMETERS_INVALID, f"There is no algorithm {algorithm!r}; there is {', '.join(ALGORITHMS)}.")
    return ALGORITHMS[algorithm].parameters


def refuse(algorithm: str, wrong: list[str]) -> None:
    """Raise `StepFailure` ParametersInvalid where something is wrong."""
    if wrong:
        takes = ", ".join(ALGORITHMS[algorithm].parameters)
        raise StepFailure(Reason.PARAMETERS_INVALID, f"{'; '.join(wrong)}. {algorithm} takes {takes}.")


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


def fit(algorithm: str, parameters: Mapping[str, float], split: Split, seed: int) -> tuple[RegressorMixin, list[str]]:
    """The fitted model and what scikit-learn warned of; raises `StepFailure` TrainingFailed.

    It is the same whatever the number of processors. A forest grows on all of them, and predicts on one, as a small server has.
    """
    threads = 1 if len(split.x_train) < MANY_ROWS else None
    with warnings.catch_warnings(record=True) as caught, threadpool_limits(threads, user_api="openmp"):
        warnings.simplefilter("always")
        try:
            model = ALGORITHMS[algorithm].make(**parameters, random_state=int(seed))
            threaded = "n_jobs" in model.get_params()
            if threaded:
                model.set_params(n_jobs=-1)
            model.fit(split.x_train, split.y_train)
            if threaded:
                model.set_params(n_jobs=None)
            finite = all(map(math.isfinite, model.predict(split.x_test)))
        except (ValueError, ArithmeticError) as error:
            raise StepFailure(Reason.TRAINING_FAILED, f"{algorithm} cannot be fitted to this data: {error}") from None
    if not finite:
        raise StepFailure(
            Reason.TRAINING_FAILED, f"{algorithm} predicts values that are not finite: the data's values are too large."
        )
    return model, [str(warning.message) for warning in caught]


def refuse_constant(algorithm: str, model: RegressorMixin, split: Split, predicted: Any) -> None:
    """Raise `StepFailure` ModelConstant where a model predicts the same for every row, held out or not."""
    if _spread(predicted) > CONSTANT or _spread(model.predict(split.x_train)) > CONSTANT:
        return
    advice = {"ElasticNet": "Lower alpha or l1_ratio: the penalty leaves no column a coefficient"}
    raise StepFailure(
        Reason.MODEL_CONSTANT,
        f"{algorithm} predicts {float(predicted[0]):.6g} for every row, whatever is in it. "
        f"{advice.get(algorithm, 'Lower min_samples_leaf or l2_regularization, or use more rows')}.",
    )


def _spread(values: Any) -> float:
    """The range of values, as a share of their size."""
    low, high = float(min(values)), float(max(values))
    return (high - low) / max(abs(low), abs(high), 1e-300)


def evaluate(actual: "pd.Series[float]", predicted: Any) -> dict[str, float]:
    """r2 (1 is perfect), and rmse and mae in the target's unit."""
    return {
        "r2": float(r2_score(actual, predicted)),
        "rmse": float(root_mean_squared_error(actual, predicted)),
        "mae": float(mean_absolute_error(actual, predicted)),
    }
