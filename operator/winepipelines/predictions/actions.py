"""Actions for a WinePrediction. All are idempotent."""

from dataclasses import dataclass

from winepipelines.runs.actions import SharedAction


@dataclass(frozen=True)
class SubmitPrediction:
    """Submit the run, unless one of this name exists."""

    name: str


@dataclass(frozen=True)
class DeleteResource:
    """Delete the resource: `spec.ttlAfterFinished` has passed."""


Action = SharedAction | SubmitPrediction | DeleteResource
