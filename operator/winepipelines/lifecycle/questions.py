"""What a decision may ask of the world. `observe` answers each with the value that its type names.

A question is a value: the answers to date are a mapping from question to answer.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from winepipelines.resource.naming import CHAMPION
from winepipelines.resource.observed import (
    ChildrenView,
    DataCheck,
    DeploymentView,
    ModelVersion,
    PlatformVerdict,
    PredictionCheck,
    RunView,
    ServerView,
    StepsView,
    StoredModel,
    TrainingRecords,
    TrialView,
)
from winepipelines.resource.rollout import ModelRef, Rollout
from winepipelines.resource.spec import Runtime

A = TypeVar("A", covariant=True)


class Question(Generic[A]):
    """Something that can be asked; `A` is the answer's type."""


@dataclass(frozen=True)
class Children(Question[ChildrenView]):
    """Are the Secrets and PodDefaults in the namespace?"""


@dataclass(frozen=True)
class Runs(Question[tuple[RunView, ...]]):
    """Which runs have this name? Oldest first; more than one where a submission was carried out twice."""

    name: str


@dataclass(frozen=True)
class Steps(Question[StepsView]):
    """How are the Workflow and the step pods of this Kubeflow run?"""

    run_id: str


@dataclass(frozen=True)
class RunSettings(Question[str]):
    """Which settings of the platform does a run get that is submitted now? A hash of them."""


@dataclass(frozen=True)
class Records(Question[TrainingRecords]):
    """What did the steps of this Kubeflow run record in MLflow, for this revision?"""

    revision: int
    run_id: str


@dataclass(frozen=True)
class Stored(Question[StoredModel]):
    """Can whoever serves it copy the model at this address (as MLflow gives it)?"""

    uri: str


@dataclass(frozen=True)
class Server(Question[ServerView]):
    """Which server does this runtime have on this platform, and can it read what the training writes?"""

    runtime: Runtime


@dataclass(frozen=True)
class Deployment(Question[DeploymentView]):
    """What serves, compared with what shall? Without that: is anything there?"""

    rollout: Rollout | None


@dataclass(frozen=True)
class Answer(Question[PredictionCheck]):
    """Does the endpoint answer as this model should?"""

    model: ModelRef


@dataclass(frozen=True)
class Tried(Question[TrialView]):
    """How does a model on trial answer at its own service, beside the one that serves?"""

    model: ModelRef
    served: ModelRef


@dataclass(frozen=True)
class DataChecked(Question[DataCheck | None]):
    """What did the Kubeflow run of this data check find? None where it has recorded no result yet."""

    count: int
    run_id: str


@dataclass(frozen=True)
class Aliased(Question[ModelVersion | None]):
    """Which version of this registered model has this alias? None where none has."""

    registered_model: str
    alias: str = CHAMPION


@dataclass(frozen=True)
class Platform(Question[PlatformVerdict | None]):
    """Is the platform as a whole as it should be? From memory: the last word of `doctor`, None before its first."""
