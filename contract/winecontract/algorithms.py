"""The algorithms that a model can be trained with.

Add an algorithm: one entry in `ALGORITHMS`, then `make generate`. The table makes the fields `spec.training.algorithm`,
`parameters` and `search` of the CRD with their rules, the operator's typed model, the reference in docs, and the checks and the
estimator of the train step. Estimators are constructed with scikit-learn's own parameter names and need `random_state`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Parameter:
    """A numeric parameter of one or more estimators. Both bounds are included.

    `meaning` completes the sentence "`name` is …". `searchable` says whether `spec.training.search` takes it.
    """

    name: str
    meaning: str
    low: float
    high: float
    integer: bool = False
    searchable: bool = True

    def __str__(self) -> str:
        return f"an integer from {self.low} to {self.high}" if self.integer else f"a number from {self.low:g} to {self.high:g}"

    def accepts(self, value: object) -> bool:
        """Whether a value is in range. NaN is not; Kubeflow Pipelines passes integers as floats, which are accepted."""
        if not isinstance(value, int | float) or isinstance(value, bool) or not self.low <= value <= self.high:
            return False
        return not self.integer or float(value).is_integer()

    def convert(self, value: float) -> float:
        """Convert a value to the type that the estimator distinguishes by: of `max_features`, 1 is one column and 1.0 all."""
        return int(value) if self.integer else float(value)


@dataclass(frozen=True)
class Algorithm:
    """An estimator and the parameters that a user can set.

    Args:
        name: value of `spec.training.algorithm`.
        estimator: import path of the scikit-learn class.
        parameters: in the order of the CRD.
        advice: what to do where the fitted model predicts one value for every row.
        defaults: values of this project, passed to the estimator. They are part of a revision's inputs: do not change them.
        estimator_defaults: scikit-learn's own values of the other parameters, for the reference; None is no limit.
        linear: the model is coefficients and an intercept, so that servers with older packages can read it.

    """

    name: str
    estimator: str
    parameters: tuple[Parameter, ...]
    advice: str
    defaults: Mapping[str, float] = field(default_factory=dict)
    estimator_defaults: Mapping[str, float | None] = field(default_factory=dict)
    linear: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def known(self) -> dict[str, Parameter]:
        """The parameters by name."""
        return {parameter.name: parameter for parameter in self.parameters}

    @property
    def searchable(self) -> dict[str, Parameter]:
        """The parameters that a search can vary, by name."""
        return {parameter.name: parameter for parameter in self.parameters if parameter.searchable}


MAX_DEPTH = Parameter("max_depth", "the maximum depth of each tree, in levels", 1, 100, integer=True)
MIN_SAMPLES_LEAF = Parameter("min_samples_leaf", "the minimum number of rows in each leaf", 1, 1000, integer=True)
TREES_ADVICE = "Lower min_samples_leaf or l2_regularization, or use more rows"

_TABLE = (
    Algorithm(
        name="ElasticNet",
        estimator="sklearn.linear_model.ElasticNet",
        parameters=(
            Parameter("alpha", "the regularization strength", 0, 1000),
            Parameter("l1_ratio", "the share of the L1 penalty: 0 is ridge (L2 only), 1 is lasso (L1 only)", 0, 1),
        ),
        advice="Lower alpha or l1_ratio: the penalty leaves no column a coefficient",
        defaults={"alpha": 0.5, "l1_ratio": 0.5},  # those of the Kubeflow guide
        linear=True,
    ),
    Algorithm(
        name="RandomForest",
        estimator="sklearn.ensemble.RandomForestRegressor",
        parameters=(
            Parameter("n_estimators", "the number of trees", 1, 1000, integer=True),
            Parameter("max_features", "the fraction of the columns that each split considers", 0.01, 1),
            MAX_DEPTH,
            MIN_SAMPLES_LEAF,
        ),
        advice=TREES_ADVICE,
        estimator_defaults={"n_estimators": 100, "max_features": 1, "max_depth": None, "min_samples_leaf": 1},
    ),
    Algorithm(
        name="HistGradientBoosting",
        estimator="sklearn.ensemble.HistGradientBoostingRegressor",
        parameters=(
            Parameter("learning_rate", "the factor that scales the contribution of each tree", 0.001, 1),
            Parameter("max_iter", "the maximum number of boosting iterations, each of which adds a tree", 1, 1000, integer=True),
            Parameter("max_leaf_nodes", "the maximum number of leaves of each tree", 2, 1024, integer=True),
            Parameter("l2_regularization", "the strength of the L2 regularization", 0, 1000),
            MAX_DEPTH,
            MIN_SAMPLES_LEAF,
        ),
        advice=TREES_ADVICE,
        estimator_defaults={
            "learning_rate": 0.1,
            "max_iter": 100,
            "max_leaf_nodes": 31,
            "l2_regularization": 0,
            "max_depth": None,
            "min_samples_leaf": 20,
        },
    ),
)

DEFAULT = "ElasticNet"
"""The algorithm of a resource that names none."""

MAX_SEARCHED, MAX_VALUES, MAX_COMBINATIONS = 5, 10, 100
"""Limits of a search: parameters, values of each, and combinations of values."""


def table(entries: Sequence[Algorithm]) -> Mapping[str, Algorithm]:
    """Index algorithms by name.

    Raises:
        ValueError: two algorithms share a name, or define a parameter of one name differently: it is one field of the CRD.

    """
    found = {entry.name: entry for entry in entries}
    if len(found) != len(entries):
        raise ValueError("two algorithms have the same name")
    for parameter in (parameter for entry in entries for parameter in entry.parameters):
        if any(entry.known.get(parameter.name, parameter) != parameter for entry in entries):
            raise ValueError(f"algorithms define the parameter {parameter.name} differently")
    return MappingProxyType(found)


def parameters(entries: Mapping[str, Algorithm]) -> Iterator[tuple[Parameter, tuple[str, ...]]]:
    """List each parameter once, with the names of its algorithms: those of one algorithm first, as the CRD has them."""
    owners: dict[Parameter, tuple[str, ...]] = {}
    for entry in entries.values():
        for parameter in entry.parameters:
            owners[parameter] = (*owners.get(parameter, ()), entry.name)
    yield from sorted(owners.items(), key=lambda item: len(item[1]))


ALGORITHMS = table(_TABLE)
"""The algorithms by name. The order is that of the CRD and the docs."""
