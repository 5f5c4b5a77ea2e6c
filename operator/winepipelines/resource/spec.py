"""What a person asks for: the spec of a `WinePipeline`, typed.

`crds/winepipelines.yaml` is the source of truth for ranges and defaults; `tests/unit/test_schema.py` holds the two together.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from winepipelines.resource.model import Model, Sha256


class DeletionPolicy(StrEnum):
    """What becomes of the SeldonDeployment when the resource is deleted."""

    DELETE = "Delete"
    RETAIN = "Retain"


class Resources(Model):
    """What a container asks for and may use: resource name to quantity."""

    requests: dict[str, str | int] = Field(default_factory=dict)
    limits: dict[str, str | int] = Field(default_factory=dict)


class Missing(StrEnum):
    """What is done about rows with missing values."""

    REFUSE = "refuse"
    DROP_ROWS = "dropRows"


class Columns(Model):
    """Columns to leave out, or the only ones to read: names, or positions from 1."""

    drop: tuple[int | str, ...] = ()
    only: tuple[int | str, ...] = ()

    @property
    def selection(self) -> dict[str, list[int | str]]:
        """As the steps take it."""
        return {name: list(listed) for name, listed in (("drop", self.drop), ("only", self.only)) if listed}


class Data(Model):
    """The table to learn from."""

    url: str
    sha256: Sha256 = ""
    separator: str = ";"
    decimal: Literal[".", ","] = "."
    columns: Columns | None = None
    missing: Missing = Missing.REFUSE
    target: str = "quality"
    check_schedule: str = ""
    credentials_secret: str = ""
    credentials_over_http: bool = Field(default=False, alias="credentialsOverHTTP")

    @property
    def selection(self) -> dict[str, list[int | str]]:
        """`columns` as the steps take it; empty: all."""
        return self.columns.selection if self.columns else {}

    @property
    def inputs(self) -> dict[str, object]:
        """All that shapes the table. Fields that came later are left out at their defaults, so that no stored hash changes."""
        later: dict[str, object] = {"decimal": self.decimal, "columns": self.selection, "missing": self.missing}
        used = {name for name, value in later.items() if value not in (".", {}, Missing.REFUSE)}
        others = {"check_schedule", "credentials_secret", "credentials_over_http"}
        return self.model_dump(exclude={*others, *later}) | {name: later[name] for name in used}


class Algorithm(StrEnum):
    """scikit-learn's estimators."""

    ELASTIC_NET = "ElasticNet"
    RANDOM_FOREST = "RandomForest"
    HIST_GRADIENT_BOOSTING = "HistGradientBoosting"


ELASTIC_NET_DEFAULTS = {"alpha": 0.5, "l1_ratio": 0.5}
"""The guide's. They are not the schema's: it would write them beside other algorithms too."""


class Parameters(Model):
    """Parameters of an estimator, under scikit-learn's own names. What is None is left to its default."""

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
    """Values to try for each of some parameters."""

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


class Training(Model):
    """How the model is trained."""

    algorithm: Algorithm = Algorithm.ELASTIC_NET
    parameters: Parameters = Parameters()
    search: Search | None = None
    test_fraction: float = 0.25
    seed: int = 1337
    experiment: str = "wine"
    registered_model: str = ""
    schedule: str = ""
    time_zone: str = "Etc/UTC"
    timeout: str = "30m"
    attempts: int = 3
    resources: Resources = Resources()

    @property
    def values_to_try(self) -> dict[str, list[float]]:
        """The search by parameter; empty where there is none."""
        if self.search is None:
            return {}
        return {name: list(values) for name, values in self.search.model_dump(exclude_none=True).items()}

    @property
    def fixed_parameters(self) -> dict[str, float]:
        """The parameters that are not searched for, with the guide's defaults for ElasticNet."""
        defaults = ELASTIC_NET_DEFAULTS if self.algorithm is Algorithm.ELASTIC_NET else {}
        values = defaults | self.parameters.model_dump(exclude_none=True)
        return {name: value for name, value in values.items() if name not in self.values_to_try}

    @property
    def timeout_duration(self) -> timedelta:
        """`timeout` as a duration."""
        return parse_duration(self.timeout)


class Protocol(StrEnum):
    """What predictions are asked in."""

    SELDON = "seldon"
    V2 = "v2"


class Runtime(StrEnum):
    """What serves. A model's files are written for one of them."""

    BUNDLED = "bundled"
    MLFLOWSERVER = "mlflowserver"


class Autoscaling(Model):
    """How many pods serve, where their load decides. `target_cpu_utilization` is in percent of what they request."""

    min_replicas: int = 1
    max_replicas: int
    target_cpu_utilization: int = Field(default=70, alias="targetCPUUtilization")


class Canary(Model):
    """How a candidate takes over: its shares of the traffic in percent, one after another, and how long each is watched."""

    steps: tuple[int, ...] = (10, 50)
    pause: str = "5m"

    @property
    def pause_duration(self) -> timedelta:
        """`pause` as a duration."""
        return parse_duration(self.pause)


class Serving(Model):
    """How the model is served. `replicas` counts without `autoscaling` only."""

    protocol: Protocol = Protocol.SELDON
    runtime: Runtime = Runtime.BUNDLED
    replicas: int = 1
    autoscaling: Autoscaling | None = None
    canary: Canary | None = None
    resources: Resources = Resources()


class Gate(Model):
    """What one metric of a model must show before it serves. One of the three is set."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    no_worse_than_served: float | None = None


class Spec(Model):
    """The model that shall be served."""

    LEAST: ClassVar[Mapping[str, Any]] = {"data": {"url": ""}}

    data: Data
    training: Training = Training()
    gate: tuple[Gate, ...] = ()
    serving: Serving = Serving()
    suspend: bool = False
    history_limit: int = 10
    deletion_policy: DeletionPolicy = DeletionPolicy.DELETE

    @cached_property
    def inputs(self) -> str:
        """Hash of all that makes another model: a change of it is a new revision, a change of anything else is not."""
        training = self.training.model_dump(exclude={"timeout", "attempts", "resources", "search", "schedule", "time_zone"})
        training["parameters"] = self.training.fixed_parameters  # with defaults: a resource that leaves them out is the same
        if values := self.training.values_to_try:
            training["search"] = values
        parts: list[object] = [self.data.inputs, training]
        if self.data.credentials_secret:  # another one is another try
            parts.append([self.data.credentials_secret, self.data.credentials_over_http])
        if self.serving.runtime is not Runtime.BUNDLED:  # whose models are written for it
            parts.append(self.serving.runtime)
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse_duration(text: str) -> timedelta:
    """Read a duration such as `1h30m`, `30m` or `90s`.

    Raises ValueError where the text is of another form.
    """
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if not text or match is None:
        raise ValueError(f"{text!r} is not a duration such as 90s, 30m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)
