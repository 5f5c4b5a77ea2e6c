"""Check parameters, split rows, fit an estimator and evaluate it. Does no I/O.

The algorithms are those of `winecontract.algorithms`.
"""

import importlib
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sklearn.base import RegressorMixin
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from winecontract.algorithms import ALGORITHMS, MAX_COMBINATIONS, MAX_SEARCHED, MAX_VALUES, Algorithm, Parameter
from winecontract.reasons import Reason
from winesteps.failures import StepFailure

MIN_HELD_OUT = 3
"""Minimum number of rows to train on, and of held-out rows."""
MANY_ROWS = 50_000
"""With fewer rows, fit on one OpenMP thread: on two busy processors, synchronizing two took 5 s instead of 0.3 s."""
CONSTANT = 1e-9
"""Predictions whose relative difference is at most this are equal."""
MAX_CLASSES = 20
"""Maximum number of distinct target values to stratify by."""


TEST_FRACTION = Parameter("test_fraction", "the fraction of the rows that is held out", 0.01, 0.9)
SEED = Parameter("seed", "the seed of the split, the folds and the estimator", 0, 2**32 - 1, integer=True)


@dataclass(frozen=True)
class Split:
    """Training rows and held-out rows. `stratified`: both have the same distribution of target values."""

    x_train: pd.DataFrame
    x_test: pd.DataFrame
    y_train: "pd.Series[float]"
    y_test: "pd.Series[float]"
    stratified: bool


def check_parameters(algorithm: str, parameters: Mapping[str, Any], test_fraction: float, seed: int) -> dict[str, float]:
    """Check the parameters; return them as the estimator takes them, with this project's defaults of the algorithm.

    Raises:
        StepFailure: ParametersInvalid, with every parameter that is wrong.

    """
    known = _algorithm(algorithm).known
    wrong = [f"{name} is not a parameter of {algorithm}" for name in sorted(set(parameters) - set(known))]
    values = [(known[name], value) for name, value in parameters.items() if name in known]
    for parameter, value in (*values, (TEST_FRACTION, test_fraction), (SEED, seed)):
        if not parameter.accepts(value):
            wrong.append(f"{parameter.name} must be {parameter}, not {value!r}")
    _refuse(algorithm, wrong)
    return dict(_algorithm(algorithm).defaults) | {parameter.name: parameter.convert(value) for parameter, value in values}


def check_search(algorithm: str, search: Mapping[str, Any]) -> dict[str, list[float]]:
    """Check the candidate values of a search; return them as the estimator takes them.

    Raises:
        StepFailure: ParametersInvalid, with every parameter that is wrong.

    """
    known = _algorithm(algorithm).searchable
    wrong = [f"search.{name} is not a parameter of {algorithm} that can be searched" for name in sorted(set(search) - set(known))]
    candidates: dict[str, list[float]] = {}
    for name, values in search.items():
        if not isinstance(values, list) or not 1 <= len(values) <= MAX_VALUES:
            wrong.append(f"search.{name} must be a list of 1 to {MAX_VALUES} values")
        elif name in known:
            parameter = known[name]
            wrong += [
                f"each value of search.{name} must be {parameter}, not {value!r}"
                for value in values
                if not parameter.accepts(value)
            ]
            candidates[name] = [parameter.convert(value) for value in values if parameter.accepts(value)]
    if len(search) > MAX_SEARCHED or math.prod(map(len, candidates.values())) > MAX_COMBINATIONS:
        wrong.append(f"search must have at most {MAX_SEARCHED} parameters and {MAX_COMBINATIONS} combinations of values")
    _refuse(algorithm, wrong)
    return candidates


def _algorithm(name: str) -> Algorithm:
    if name not in ALGORITHMS:
        raise StepFailure(
            Reason.PARAMETERS_INVALID,
            f"{name!r} is not a known algorithm. Set training.algorithm to one of {', '.join(ALGORITHMS)}.",
        )
    return ALGORITHMS[name]


def estimator_class(algorithm: str) -> type[RegressorMixin]:
    """Import the scikit-learn class of an algorithm."""
    module, _, name = _algorithm(algorithm).estimator.rpartition(".")
    found: type[RegressorMixin] = getattr(importlib.import_module(module), name)
    return found


def _refuse(algorithm: str, wrong: list[str]) -> None:
    """Raise `StepFailure` ParametersInvalid where something is wrong."""
    if wrong:
        takes = ", ".join(_algorithm(algorithm).known)
        raise StepFailure(Reason.PARAMETERS_INVALID, f"{'; '.join(wrong)}. The parameters of {algorithm} are {takes}.")


def split_rows(table: pd.DataFrame, target: str, test_fraction: float, seed: int) -> Split:
    """Hold out a fraction of the rows, stratified by the target where it has few values and each is frequent enough.

    Raises:
        StepFailure: TooFewRows or DataInvalid.

    """
    features, values = table.drop(columns=target), table[target]
    counts = values.value_counts()
    stratified = len(counts) <= MAX_CLASSES and bool(counts.min() * min(test_fraction, 1 - test_fraction) >= 2)
    held_out = math.ceil(len(table) * test_fraction)
    if held_out < MIN_HELD_OUT or len(table) - held_out < MIN_HELD_OUT:
        raise StepFailure(
            Reason.TOO_FEW_ROWS,
            f"The table has {len(table)} rows. testFraction {test_fraction:g} leaves {held_out} to evaluate and "
            f"{len(table) - held_out} to train on; each needs at least {MIN_HELD_OUT}. Use more rows or another testFraction.",
        )
    x_train, x_test, y_train, y_test = train_test_split(
        features, values, test_size=test_fraction, random_state=seed, stratify=values if stratified else None
    )
    if y_test.nunique() == 1:
        raise StepFailure(
            Reason.DATA_INVALID,
            f"All {len(y_test)} held-out rows have the same {target!r}, so r2 is undefined. Use more rows or another seed.",
        )
    return Split(x_train, x_test, y_train, y_test, stratified)


def fit(algorithm: str, parameters: Mapping[str, float], split: Split, seed: int) -> tuple[RegressorMixin, list[str]]:
    """Fit the estimator; return it and scikit-learn's warnings.

    The model does not depend on the number of processors. A forest is fitted on all of them and predicts on one, as in a
    small server.

    Raises:
        StepFailure: TrainingFailed.

    """
    threads = 1 if len(split.x_train) < MANY_ROWS else None
    with warnings.catch_warnings(record=True) as caught, threadpool_limits(threads, user_api="openmp"):
        warnings.simplefilter("always")
        try:
            model = estimator_class(algorithm)(**parameters, random_state=int(seed))
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
            Reason.TRAINING_FAILED,
            f"{algorithm} predicts values that are not finite, because values in the data are too large. Scale the columns.",
        )
    return model, [str(warning.message) for warning in caught]


def refuse_constant(algorithm: str, model: RegressorMixin, split: Split, predicted: Any) -> None:
    """Raise `StepFailure` ModelConstant where the model predicts one value for all training rows and held-out rows."""
    if _spread(predicted) > CONSTANT or _spread(model.predict(split.x_train)) > CONSTANT:
        return
    raise StepFailure(
        Reason.MODEL_CONSTANT,
        f"{algorithm} predicts {float(predicted[0]):.6g} for every row, whatever its values. {_algorithm(algorithm).advice}.",
    )


def _spread(values: Any) -> float:
    """Return the range of values, relative to the largest magnitude."""
    low, high = float(min(values)), float(max(values))
    return (high - low) / max(abs(low), abs(high), 1e-300)


def evaluate(actual: "pd.Series[float]", predicted: Any) -> dict[str, float]:
    """Compute r2 (1 is best), and rmse and mae in the target's unit."""
    return {
        "r2": float(r2_score(actual, predicted)),
        "rmse": float(root_mean_squared_error(actual, predicted)),
        "mae": float(mean_absolute_error(actual, predicted)),
    }
