"""What a decision may have done, beside what is done with a run of either kind. All are idempotent. Carried out by `act`."""

from dataclasses import dataclass

from winepipelines.lifecycle.actions import AddFinalizer, DeleteRun, RemoveFinalizer, TerminateRun


@dataclass(frozen=True)
class SubmitPrediction:
    """Submit the run, unless one of this name is there."""

    name: str


@dataclass(frozen=True)
class DeleteResource:
    """Delete the resource itself: it has been kept for as long as its spec says."""


Action = AddFinalizer | RemoveFinalizer | SubmitPrediction | TerminateRun | DeleteRun | DeleteResource
