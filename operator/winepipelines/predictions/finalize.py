"""Clean up for a deleted WinePrediction: terminate its run, in bounded time. Its output in the object store stays."""

from dataclasses import replace

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError
from winepipelines.api.pipeline import FINALIZER
from winepipelines.predictions.context import NotReady, PredictionContext, run_not_ready
from winepipelines.runs.actions import RemoveFinalizer
from winepipelines.runs.ending import terminate_for_deletion


def finalize(context: PredictionContext) -> NotReady | None:
    """Clean up, then remove the finalizer. None if the resource does not have it."""
    if FINALIZER not in context.prediction.finalizers:
        return None
    assert context.prediction.deleted_at is not None, "only deleted resources are finalized"
    try:
        not_ready = run_has_ended(context)
    except PlatformError as error:
        not_ready = NotReady(error.reason, error.message, requeue_after=context.timeouts.retry_interval)
    if not_ready is None:
        return _gone()
    if context.now < context.prediction.deleted_at + context.timeouts.delete_bound:
        return replace(not_ready, check=run_has_ended.__name__)
    if untried := tuple(action for action in not_ready.actions if action not in context.failures):
        return NotReady(Reason.DELETING, "Terminating the run, for the last time.", actions=(*untried, RemoveFinalizer()))
    failed = [context.failures[action].message for action in not_ready.actions if action in context.failures]
    return _gone(f"its run ({(failed or [not_ready.message])[0]})")


def run_has_ended(context: PredictionContext) -> NotReady | None:
    """The termination of the run was requested."""
    is_over = context.status.run is None or context.status.is_over
    return None if is_over else run_not_ready(context, terminate_for_deletion(context.run))


def _gone(*left_behind: str) -> NotReady:
    return NotReady(Reason.DELETING, "Everything is cleaned up.", actions=(RemoveFinalizer(left_behind),))
