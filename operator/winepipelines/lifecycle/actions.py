"""What a decision may have done. `act` carries each out; all are idempotent, so that a crash between two changes nothing."""

from dataclasses import dataclass, field

from winepipelines.resource.naming import CHAMPION
from winepipelines.resource.observed import ModelVersion
from winepipelines.resource.rollout import Rollout


@dataclass(frozen=True)
class AddFinalizer:
    """Have the API server wait for us at deletion."""


@dataclass(frozen=True)
class RemoveFinalizer:
    """Let the resource go. `left_behind` is told in an Event."""

    left_behind: tuple[str, ...] = ()


@dataclass(frozen=True)
class ApplyChildren:
    """Apply the PodDefaults and the Secrets.

    Told in Events: `mended` is what someone had changed, `updated` what follows a change of its source or of the settings.
    """

    mended: str = field(default="", compare=False)
    updated: str = field(default="", compare=False)


@dataclass(frozen=True)
class CreateRun:
    """Submit the run of a revision, unless one of this name is there."""

    name: str
    revision: int


@dataclass(frozen=True)
class TerminateRun:
    """Ask for a run's end."""

    id: str


@dataclass(frozen=True)
class DeleteRun:
    """Remove a run that does not end, or one too many."""

    id: str


@dataclass(frozen=True)
class ApplyDeployment:
    """Have this served. `mended`, told in an Event, is what someone had changed."""

    rollout: Rollout
    mended: str = field(default="", compare=False)


@dataclass(frozen=True)
class DeleteDeployment:
    """Have nothing served any more."""


@dataclass(frozen=True)
class ReleaseDeployment:
    """Give up the ownership of what serves, so that it outlives the resource."""


@dataclass(frozen=True)
class SetAlias:
    """Have the registry's alias name a version, if that version is of its MLflow run."""

    model: ModelVersion
    alias: str = CHAMPION


@dataclass(frozen=True)
class RemoveAlias:
    """Have the registry's alias name nothing, if it names this version, and the version is of its MLflow run."""

    model: ModelVersion
    alias: str


@dataclass(frozen=True)
class LeaveModels:
    """Tag these versions, where they are of their MLflow runs, as of a resource that is gone.

    `retired` says that none of them serves any more: they lose their aliases.
    """

    models: tuple[ModelVersion, ...]
    retired: bool


@dataclass(frozen=True)
class CreateDataCheck:
    """Submit the run that looks whether the data are still those of this SHA-256 and ETag."""

    name: str
    count: int
    sha256: str
    etag: str


Action = (
    AddFinalizer
    | RemoveFinalizer
    | ApplyChildren
    | CreateRun
    | TerminateRun
    | DeleteRun
    | ApplyDeployment
    | DeleteDeployment
    | ReleaseDeployment
    | SetAlias
    | RemoveAlias
    | LeaveModels
    | CreateDataCheck
)
