"""The way out: a deleted prediction ends its run, in bounded time. What it has written to the object store stays.

Called by `decide`.
"""

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.actions import RemoveFinalizer
from winepipelines.lifecycle.run import end_for_deletion
from winepipelines.predictions.look import Held, Look, held
from winepipelines.resource.errors import PlatformError
from winepipelines.resource.pipeline import FINALIZER


def finalize(look: Look) -> Held | None:
    """Clean up, then let the resource go. None where it has gone already, as far as this operator is concerned."""
    if FINALIZER not in look.prediction.finalizers:
        return None
    assert look.prediction.deleted_at is not None, "only deleted resources are finalized"
    try:
        said = run_has_ended(look)
    except PlatformError as error:
        said = Held(error.reason, error.message, wake_in=look.policy.retry_interval)
    if said is None:
        return _gone()
    if look.now < look.prediction.deleted_at + look.policy.delete_bound:
        return said
    if untried := tuple(action for action in said.actions if action not in look.failures):
        return Held(reasons.DELETING, "ending the run, for the last time", actions=(*untried, RemoveFinalizer()))
    why = next((look.failures[action].message for action in said.actions if action in look.failures), said.message)
    return _gone(f"its run ({why})")


def run_has_ended(look: Look) -> Held | None:
    """Kubeflow Pipelines has been told to end the run."""
    is_over = look.status.run is None or look.status.is_over
    return None if is_over else held(look, end_for_deletion(look.run))


def _gone(*left_behind: str) -> Held:
    return Held(reasons.DELETING, "everything is cleaned up", actions=(RemoveFinalizer(left_behind),))
