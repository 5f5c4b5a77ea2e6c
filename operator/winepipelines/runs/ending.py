"""Terminate a run: for a timeout, a cancellation, a newer revision, or a deletion."""

from winecontract.reasons import Reason
from winepipelines.api.errors import NotSent
from winepipelines.api.observed import RunState, RunView
from winepipelines.runs.actions import DeleteRun, TerminateRun
from winepipelines.runs.context import RunContext, RunWaiting


def submission_in_doubt(context: RunContext) -> RunWaiting | None:
    """Wait for a submission without an answer: Kubeflow Pipelines may still carry it out."""
    run = context.recorded
    if run.id or run.submitted_at is None or context.now >= (settled := run.submitted_at + context.timeouts.submit_grace):
        return None
    message = "The run was submitted, and Kubeflow Pipelines does not show it yet."
    return RunWaiting(Reason.RUN_SUBMITTING, message, requeue_after=settled - context.now)


def terminate(context: RunContext, reason: str, message: str) -> RunWaiting:
    """Request the termination of what is live. Delete it if that has no effect in time."""
    run, requested_at = context.recorded, context.recorded.end_requested_at
    if requested_at is None:
        timeout = context.timeout if reason == Reason.RUN_TIMED_OUT else ""
        requested_at = context.now
        run = run.with_(end_requested_at=context.now, end_reason=reason, exceeded_timeout=timeout)
    late = context.now >= requested_at + context.timeouts.terminate_grace
    actions = deletions(context.live) if late else terminations(context.live)
    return RunWaiting(Reason.RUN_TERMINATING, message, actions, context.timeouts.retry_interval, run=run)


def terminate_for_deletion(context: RunContext) -> RunWaiting | None:
    """Terminate the run of a resource that is being deleted. None once that is requested."""
    again = context.timeouts.retry_interval
    if stuck := tuple(view for view in context.live if _cannot_be_terminated(context, view)):
        return RunWaiting(Reason.DELETING, "Deleting a run that cannot be terminated.", deletions(stuck), again)
    if requests := terminations(context.live):
        return RunWaiting(Reason.DELETING, "Terminating the run.", requests, again)
    doubt = None if context.own else submission_in_doubt(context)
    if doubt is None:
        return None
    return RunWaiting(Reason.DELETING, "Waiting for the submitted run to appear.", requeue_after=doubt.requeue_after)


def _cannot_be_terminated(context: RunContext, view: RunView) -> bool:
    """Tell whether a termination has failed. A run without its Workflow would be CANCELING for ever."""
    error = context.failures.get(TerminateRun(view.id))
    return error is not None and not isinstance(error, NotSent)


def deletions(views: tuple[RunView, ...]) -> tuple[DeleteRun, ...]:
    """List the actions that delete runs."""
    return tuple(DeleteRun(view.id) for view in views)


def terminations(views: tuple[RunView, ...]) -> tuple[TerminateRun, ...]:
    """List the actions that terminate runs. One that is being terminated already needs none."""
    return tuple(TerminateRun(view.id) for view in views if view.state is not RunState.CANCELING)
