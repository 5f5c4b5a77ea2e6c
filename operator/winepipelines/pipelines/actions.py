"""Actions for a WinePipeline. `act` carries them out. All are idempotent, so that they may be repeated after a crash.

`backend` names the serving backend that an action works on; empty means that of records without a name.
"""

from dataclasses import dataclass, field

from winepipelines.api.naming import CHAMPION
from winepipelines.api.observed import ModelVersion
from winepipelines.api.rollout import Rollout
from winepipelines.runs.actions import SharedAction


@dataclass(frozen=True)
class ApplyChildren:
    """Apply the PodDefaults and the Secrets, among them those of the serving backends.

    Events report `drift_corrected`, what someone had changed, and `updated`, what follows a change of the source or of settings.
    """

    drift_corrected: str = field(default="", compare=False)
    updated: str = field(default="", compare=False)
    backends: tuple[str, ...] = ()


@dataclass(frozen=True)
class CreateRun:
    """Submit the run of a revision, unless a run of this name exists."""

    name: str
    revision: int


@dataclass(frozen=True)
class ApplyDeployment:
    """Apply a rollout. An Event reports `drift_corrected`, what someone had changed."""

    rollout: Rollout
    drift_corrected: str = field(default="", compare=False)
    backend: str = ""


@dataclass(frozen=True)
class DeleteDeployment:
    """Delete the object that serves the resource's models on a backend."""

    backend: str = ""


@dataclass(frozen=True)
class ReleaseDeployment:
    """Remove the owner of the object that serves, so that it outlives the resource."""

    backend: str = ""


@dataclass(frozen=True)
class SetAlias:
    """Point an alias of the registry at a version, if its MLflow run created that version."""

    model: ModelVersion
    alias: str = CHAMPION


@dataclass(frozen=True)
class RemoveAlias:
    """Remove an alias of the registry, if it points at this version, and its MLflow run created that version."""

    model: ModelVersion
    alias: str


@dataclass(frozen=True)
class TagOrphanedModels:
    """Tag these versions as those of a deleted resource, if their MLflow runs created them.

    `retired`: none of them serves any more, so that their aliases are removed.
    """

    models: tuple[ModelVersion, ...]
    retired: bool


@dataclass(frozen=True)
class CreateDataCheck:
    """Submit a run that compares the data with this SHA-256 and ETag."""

    name: str
    count: int
    sha256: str
    etag: str


Action = (
    SharedAction
    | ApplyChildren
    | CreateRun
    | ApplyDeployment
    | DeleteDeployment
    | ReleaseDeployment
    | SetAlias
    | RemoveAlias
    | TagOrphanedModels
    | CreateDataCheck
)
