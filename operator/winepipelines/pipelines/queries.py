"""The queries of a WinePipeline's decisions. `observe` answers each with a value of the type that it names.

A query is a value: the answers so far are a mapping from query to answer. `backend` names the serving backend that a query is
about; empty means that of records without a name.
"""

from dataclasses import dataclass

from winepipelines.api.modelrecord import ModelRecord
from winepipelines.api.naming import CHAMPION
from winepipelines.api.observed import (
    BackendsView,
    CanaryComparison,
    ChildrenView,
    DataCheckResult,
    DeploymentView,
    ModelVersion,
    PlatformVerdict,
    PredictionCheck,
    RunView,
    ServerView,
    StepsView,
    StoredModel,
    TrainingRecords,
)
from winepipelines.api.rollout import Rollout
from winepipelines.api.spec import Runtime
from winepipelines.engine.decision import Query


@dataclass(frozen=True)
class GetBackends(Query[BackendsView]):
    """Get the serving backends that resources may use, and the default."""


@dataclass(frozen=True)
class GetChildren(Query[ChildrenView]):
    """Get the state of the Secrets and PodDefaults in the namespace, for these serving backends."""

    backends: tuple[str, ...] = ()


@dataclass(frozen=True)
class ListRuns(Query[tuple[RunView, ...]]):
    """List the runs of this name, oldest first: more than one if a submission was carried out twice."""

    name: str


@dataclass(frozen=True)
class GetSteps(Query[StepsView]):
    """Get the state of the Workflow and the step pods of this Kubeflow run."""

    run_id: str


@dataclass(frozen=True)
class GetRunSettings(Query[str]):
    """Get a hash of the platform settings that a run submitted now would have."""


@dataclass(frozen=True)
class GetRecords(Query[TrainingRecords]):
    """Get the records of this Kubeflow run's steps in MLflow, for this revision."""

    revision: int
    run_id: str


@dataclass(frozen=True)
class CheckArtifact(Query[StoredModel]):
    """Check whether a serving backend can copy the model at this address of MLflow."""

    uri: str
    backend: str = ""


@dataclass(frozen=True)
class GetServer(Query[ServerView]):
    """Get the server of this runtime on this platform, and whether it can read the models that training writes."""

    runtime: Runtime
    backend: str = ""


@dataclass(frozen=True)
class GetDeployment(Query[DeploymentView]):
    """Compare the deployment with a rollout; with None, get only whether it exists and who owns it."""

    rollout: Rollout | None
    backend: str = ""


@dataclass(frozen=True)
class ProbeEndpoint(Query[PredictionCheck]):
    """Check that the endpoint answers with this model's prediction."""

    model: ModelRecord
    backend: str = ""


@dataclass(frozen=True)
class CompareCanary(Query[CanaryComparison]):
    """Compare the answers of a candidate, at its own Service, with those of the served model."""

    model: ModelRecord
    served: ModelRecord
    backend: str = ""


@dataclass(frozen=True)
class GetDataCheck(Query[DataCheckResult | None]):
    """Get the result of a data check's Kubeflow run; None if it has recorded none yet."""

    count: int
    run_id: str


@dataclass(frozen=True)
class GetAlias(Query[ModelVersion | None]):
    """Get the version of this registered model that has this alias; None if none has."""

    registered_model: str
    alias: str = CHAMPION


@dataclass(frozen=True)
class GetPlatformHealth(Query[PlatformVerdict | None]):
    """Get the result of the last platform check, from memory; None before the first."""
