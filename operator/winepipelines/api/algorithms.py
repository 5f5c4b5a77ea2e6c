"""The algorithms and their parameters, typed.

Generated from `winecontract.algorithms` by `make generate`: change that.
"""

from enum import StrEnum

from pydantic import ConfigDict

from winepipelines.api.model import Model


class Algorithm(StrEnum):
    """The scikit-learn estimators of `spec.training.algorithm`."""

    ELASTIC_NET = "ElasticNet"
    RANDOM_FOREST = "RandomForest"
    HIST_GRADIENT_BOOSTING = "HistGradientBoosting"


class Parameters(Model):
    """Parameters of the estimator, under scikit-learn's names. None is the default of the algorithm."""

    model_config = ConfigDict(alias_generator=None)

    alpha: float | None = None
    l1_ratio: float | None = None
    n_estimators: int | None = None
    max_features: float | None = None
    learning_rate: float | None = None
    max_iter: int | None = None
    max_leaf_nodes: int | None = None
    l2_regularization: float | None = None
    max_depth: int | None = None
    min_samples_leaf: int | None = None


class Search(Model):
    """Candidate values of parameters."""

    model_config = ConfigDict(alias_generator=None)

    alpha: tuple[float, ...] | None = None
    l1_ratio: tuple[float, ...] | None = None
    n_estimators: tuple[int, ...] | None = None
    max_features: tuple[float, ...] | None = None
    learning_rate: tuple[float, ...] | None = None
    max_iter: tuple[int, ...] | None = None
    max_leaf_nodes: tuple[int, ...] | None = None
    l2_regularization: tuple[float, ...] | None = None
    max_depth: tuple[int, ...] | None = None
    min_samples_leaf: tuple[int, ...] | None = None
