"""The spec of a `WinePipeline`, typed.

`crds/winepipelines.yaml` is the source of truth for descriptions, ranges and defaults; `tests/unit/test_schema.py` compares them.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field

from winecontract import protocols
from winecontract.algorithms import ALGORITHMS
from winepipelines.api.algorithms import Algorithm, Parameters, Search
from winepipelines.api.model import Model, Sha256


class DeletionPolicy(StrEnum):
    """What happens to the served model when the resource is deleted."""

    DELETE = "Delete"
    RETAIN = "Retain"


class Resources(Model):
    """Compute resources of a container: resource names and quantities."""

    requests: dict[str, str | int] = Field(default_factory=dict)
    limits: dict[str, str | int] = Field(default_factory=dict)


class Missing(StrEnum):
    """The policy for rows with a missing value."""

    REFUSE = "refuse"
    DROP_ROWS = "dropRows"


class Columns(Model):
    """Columns that are not read (`drop`) or the only ones that are (`only`): names, or positions from 1."""

    drop: tuple[int | str, ...] = ()
    only: tuple[int | str, ...] = ()

    @property
    def selection(self) -> dict[str, list[int | str]]:
        """Return the selection as the steps take it."""
        return {name: list(listed) for name, listed in (("drop", self.drop), ("only", self.only)) if listed}


class Data(Model):
    """The table to train on."""

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
        """Return `columns` as the steps take it. Empty selects all columns."""
        return self.columns.selection if self.columns else {}

    @property
    def inputs(self) -> dict[str, object]:
        """Return the fields that determine the table.

        Fields that were added later are left out at their defaults, so that stored hashes stay valid.
        """
        later: dict[str, object] = {"decimal": self.decimal, "columns": self.selection, "missing": self.missing}
        used = {name for name, value in later.items() if value not in (".", {}, Missing.REFUSE)}
        others = {"check_schedule", "credentials_secret", "credentials_over_http"}
        return self.model_dump(exclude={*others, *later}) | {name: later[name] for name in used}


class Pods(StrEnum):
    """Whether the steps of a training run have a pod each, or one together."""

    PER_STEP = "PerStep"
    SINGLE = "Single"


class Training(Model):
    """How the model is trained. `pods` does not change the model."""

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
    pods: Pods = Pods.PER_STEP
    resources: Resources = Resources()

    @property
    def values_to_try(self) -> dict[str, list[float]]:
        """Return the candidate values of the search by parameter. Empty without a search."""
        if self.search is None:
            return {}
        return {name: list(values) for name, values in self.search.model_dump(exclude_none=True).items()}

    @property
    def fixed_parameters(self) -> dict[str, float]:
        """Return the parameters that the search does not vary, with the defaults of the algorithm that are not scikit-learn's.

        These defaults are not the schema's: it would write them into resources with another algorithm too.
        """
        values = {**ALGORITHMS[self.algorithm].defaults, **self.parameters.model_dump(exclude_none=True)}
        return {name: value for name, value in values.items() if name not in self.values_to_try}


class Runtime(StrEnum):
    """The model server. The train step writes a model's files for one of them."""

    BUNDLED = "bundled"
    MLFLOWSERVER = "mlflowserver"


class Autoscaling(Model):
    """Bounds and target of the HorizontalPodAutoscaler. `target_cpu_utilization` is in percent of the request."""

    min_replicas: int = 1
    max_replicas: int
    target_cpu_utilization: int = Field(default=70, alias="targetCPUUtilization")


class Canary(Model):
    """How a candidate takes over: its traffic in percent, step by step, and how long each step is observed."""

    steps: tuple[int, ...] = (10, 50)
    pause: str = "5m"

    @property
    def pause_duration(self) -> timedelta:
        """Return `pause` as a duration."""
        return parse_duration(self.pause)


class Serving(Model):
    """How the model is served. `replicas` has no effect with `autoscaling`.

    An empty `backend` is the one that serves already, else the administrator's.
    """

    backend: str = ""
    protocol: protocols.Protocol = protocols.DEFAULT
    runtime: Runtime = Runtime.BUNDLED
    replicas: int = 1
    autoscaling: Autoscaling | None = None
    canary: Canary | None = None
    resources: Resources = Resources()
    migration_grace: str = "10m"

    @property
    def migration_grace_duration(self) -> timedelta:
        """Return `migration_grace` as a duration."""
        return parse_duration(self.migration_grace)


class Gate(Model):
    """A requirement on one metric of a new model. Exactly one of the three bounds is set."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    no_worse_than_served: float | None = None


class Spec(Model):
    """The desired model: its data, its training and how it is served."""

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
        """Return the hash of the fields that determine the model. A new hash starts a new revision."""
        others = {"timeout", "attempts", "pods", "resources", "search", "schedule", "time_zone"}
        training = self.training.model_dump(exclude=others)
        training["parameters"] = self.training.fixed_parameters  # with defaults, so that writing a default out changes nothing
        if values := self.training.values_to_try:
            training["search"] = values
        parts: list[object] = [self.data.inputs, training]
        if self.data.credentials_secret:  # another Secret is worth another run
            parts.append([self.data.credentials_secret, self.data.credentials_over_http])
        if self.serving.runtime is not Runtime.BUNDLED:  # the train step writes the model for the runtime
            parts.append(self.serving.runtime)
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as `1h30m`, `30m` or `90s`.

    Raises:
        ValueError: the text has another form.

    """
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if not text or match is None:
        raise ValueError(f"{text!r} is not a duration such as 90s, 30m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)
