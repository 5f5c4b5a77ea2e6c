"""Actions that both kinds share, on the finalizer and on runs of Kubeflow Pipelines. All are idempotent."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AddFinalizer:
    """Add the finalizer, so that a deletion waits for the cleanup."""


@dataclass(frozen=True)
class RemoveFinalizer:
    """Remove the finalizer. An Event reports what is `left_behind`."""

    left_behind: tuple[str, ...] = ()


@dataclass(frozen=True)
class TerminateRun:
    """Request the termination of a run."""

    id: str


@dataclass(frozen=True)
class DeleteRun:
    """Delete a duplicate run, or one that does not terminate."""

    id: str


SharedAction = AddFinalizer | RemoveFinalizer | TerminateRun | DeleteRun
