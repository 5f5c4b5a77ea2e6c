"""The way out: a deleted prediction ends its run, in bounded time. What it has written to the object store stays.

Called by `decide`.
"""

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.actions import DeleteRun, RemoveFinalizer, TerminateRun
from winepipelines.lifecycle.questions import Runs
from winepipelines.predictions.look import Held, Look
from winepipelines.resource.errors import NotSent, PlatformError
from winepipelines.resource.observed import RunState, RunView
from winepipelines.resource.pipeline import FINALIZER


def finalize(look: Look) -> Held | None:
    """Clean up, then let the resource go. None where it has gone already, as far as this operator is concerned."""
    if FINALIZER not in look.prediction.finalizers:
        return None
    assert look.prediction.deleted_at is not None, "only deleted resources are finalized"
    try:
        held = run_has_ended(look)
    except PlatformError as error:
        held = Held(error.reason, error.message, wake_in=look.policy.retry_interval)
    if held is None:
        return _gone()
    if look.now < look.prediction.deleted_at + look.policy.delete_bound:
        return held
    if untried := tuple(action for action in held.actions if action not in look.failures):
        return Held(reasons.DELETING, "ending the run, for the last time", actions=(*untried, RemoveFinalizer()))
    why = next((look.failures[action].message for action in held.actions if action in look.failures), held.message)
    return _gone(f"its run ({why})")


def run_has_ended(look: Look) -> Held | None:
    """Kubeflow Pipelines has been told to end the run."""
    run, status = look.status.run, look.status
    if run is None or status.is_over:
        return None
    views = look.at(Runs(run.name))
    if stuck := [view for view in views if view.live and _cannot_be_ended(look, view)]:
        actions = tuple(DeleteRun(view.id) for view in stuck)
        return Held(reasons.DELETING, "removing a run that does not end", actions=actions, wake_in=look.policy.retry_interval)
    if running := [view for view in views if view.live and view.state is not RunState.CANCELING]:
        asked = tuple(TerminateRun(view.id) for view in running)
        return Held(reasons.DELETING, "ending the run", actions=asked, wake_in=look.policy.retry_interval)
    if not views and not run.id and run.submitted_at is not None:
        settled = run.submitted_at + look.policy.submit_grace
        if look.now < settled:  # a submission that was not answered may yet be carried out
            return Held(reasons.DELETING, "waiting for the submitted run to show", wake_in=settled - look.now)
    return None


def _cannot_be_ended(look: Look, view: RunView) -> bool:
    """Tell whether asking for a run's end has failed: without its Workflow it would be CANCELING for ever."""
    error = look.failures.get(TerminateRun(view.id))
    return error is not None and not isinstance(error, NotSent)


def _gone(*left_behind: str) -> Held:
    return Held(reasons.DELETING, "everything is cleaned up", actions=(RemoveFinalizer(left_behind),))
