"""One run in Kubeflow Pipelines, from its submission to its success, for resources of either kind. Pure.

There is at most one live run, whatever crashes when: the status records a submission before it is made, and a run is searched by
its name before it is submitted. A failure that may pass is attempted again: each attempt is a run of its own, with the images and
settings of that time, and begins when the run before it has ended.
"""

from dataclasses import replace

from winecontract.reasons import UNSTARTABLE, Reason
from winepipelines.api.errors import NotSent, Refused
from winepipelines.api.messages import sentences
from winepipelines.api.observed import RunState
from winepipelines.api.status import RunProblem
from winepipelines.runs.context import RunContext, RunFailed, RunResult, RunWaiting, suspended
from winepipelines.runs.ending import deletions, submission_in_doubt, terminate
from winepipelines.runs.failures import (
    attempt_failed,
    explain,
    explain_termination,
    failure_is_explained,
    next_attempt,
    store_outage,
)


def check_run(context: RunContext) -> RunResult:
    """Return the result of the first check that does not hold. None if the run has succeeded."""
    for check in CHECKS:
        result = check(context)
        if isinstance(result, RunWaiting | RunFailed):
            return replace(result, check=check.__name__)
        if result is not None:
            return result
    return None


def run_is_submitted(context: RunContext) -> RunResult:
    """Kubeflow Pipelines has a run of this name."""
    run = context.recorded
    if context.own:
        return None
    if run.id:
        reason, message = run.end_reason or Reason.RUN_DELETED, f"Run {run.id} is no longer in Kubeflow Pipelines."
        if reason == Reason.WORKFLOW_DELETED:
            message = f"Someone deleted the Workflow {run.workflow} of run {run.id}."
        elif context.start_problem is not None:
            message = context.start_problem.message
        return attempt_failed(context, reason, message, run.started_at or context.now) or next_attempt(context, reason)
    if (error := context.failures.get(context.submission)) is not None:
        run = run.with_(submitted_at=None) if isinstance(error, NotSent | Refused) else run  # certainly not carried out
        return replace(RunWaiting.from_error(error, context.timeouts), run=run)
    if (doubt := submission_in_doubt(context)) is not None:
        return doubt
    if context.suspended:
        return suspended("The run has not been submitted.")
    run = run.with_(submitted_at=context.now, settings_hash=context.settings())
    message = "Submitting the run to Kubeflow Pipelines."
    return RunWaiting(Reason.RUN_SUBMITTING, message, (context.submission,), context.timeouts.retry_interval, run=run)


def run_is_single(context: RunContext) -> RunResult:
    """A submission that was carried out twice has left no duplicate."""
    kept = context.view
    duplicates = tuple(view for view in context.live if view.id != kept.id)
    if not duplicates:
        return None
    message = f"Kubeflow Pipelines has {len(duplicates)} duplicates of run {kept.id}. Deleting them."
    return RunWaiting(Reason.DUPLICATE_RUN, message, deletions(duplicates))


def run_is_recorded(context: RunContext) -> RunResult:
    """The status names the run and its state."""
    run, view = context.recorded, context.view
    changes: dict[str, object] = {"id": view.id, "url": view.url, "state": view.state.value}
    if run.started_at is None:
        changes["started_at"] = run.submitted_at or view.created_at
    if run.submitted_at is None:
        changes["submitted_at"] = view.created_at
    if view.state is RunState.CANCELING and run.end_requested_at is None:
        changes["end_reason"] = Reason.RUN_TERMINATED  # by someone else: Kubeflow Pipelines reports FAILED in the end
    recorded = run.with_(**changes)
    return None if recorded == run else recorded


def workflow_exists(context: RunContext) -> RunResult:
    """A live run has its Workflow. Without it the run would stay live for ever, and its steps are gone."""
    run, view = context.recorded, context.view
    is_lost = run.end_reason == Reason.WORKFLOW_DELETED
    if not view.live or (run.end_requested_at is not None and not is_lost):
        return None
    seen = context.seen_steps
    if not is_lost and (not seen.known or seen.workflow or not run.workflow):
        known = run.with_(workflow=seen.workflow)
        return known if seen.workflow and known != run else None
    message = f"Someone deleted the Workflow {run.workflow} of the run. Deleting the run."
    ending = run.with_(end_requested_at=run.end_requested_at or context.now, end_reason=Reason.WORKFLOW_DELETED)
    again = context.timeouts.retry_interval
    return RunWaiting(Reason.WORKFLOW_DELETED, message, deletions(context.live), again, run=ending)


def steps_can_start(context: RunContext) -> RunResult:
    """The pods of the steps start. A problem is reported at once, and terminates the run at the progress deadline.

    The run is terminated sooner if the platform's settings have changed since its submission: an image may have been corrected.
    """
    run, view = context.recorded, context.view
    if not view.live or run.end_requested_at is not None:
        return None
    problem = context.seen_steps.problem
    if problem is None:
        if run.problem is None or run.problem.since is None:
            return None
        waited = context.now - run.problem.since  # does not count towards the timeout
        started = run.started_at and min(run.started_at + waited, context.now)
        return run.with_(problem=None, started_at=started)
    message = f"Step {problem.step} cannot start: {problem.message}"
    since = (run.problem and run.problem.since) or context.now
    known = run.with_(problem=RunProblem(reason=problem.reason, message=message, since=since))
    if known != run:
        return known
    if run.settings_hash != context.settings():
        restart = "The platform's settings have changed since the run was submitted. Starting it again."
        return terminate(context, problem.reason, sentences(message, restart))
    deadline = min(since + context.timeouts.progress_deadline, context.deadline)
    if context.now >= deadline:
        return terminate(context, problem.reason, sentences(message, "Terminating the run."))
    stalled = problem.reason in UNSTARTABLE
    message = sentences(message, f"Run: {view.url or view.id}")
    return RunWaiting(problem.reason, message, requeue_after=deadline - context.now, stalled=stalled)


def run_is_in_time(context: RunContext) -> RunResult:
    """The run has ended. A live one is terminated at its timeout."""
    run, view = context.recorded, context.view
    if not view.live:
        return None
    if run.end_requested_at is not None or context.now >= context.deadline:
        return terminate(context, Reason.RUN_TIMED_OUT, sentences(explain_termination(context), "Terminating the run."))
    reason, message = {
        RunState.PENDING: (Reason.RUN_PENDING, context.wording.pending),
        RunState.PAUSED: (Reason.RUN_PENDING, "The run is paused in Kubeflow Pipelines"),
        RunState.CANCELING: (Reason.RUN_TERMINATING, "Someone requested the termination of the run in Kubeflow Pipelines"),
    }.get(view.state, (Reason.RUN_IN_PROGRESS, "The run is in progress"))
    attempt = f" ({context.attempt})" if run.attempt > 1 else ""
    return RunWaiting(reason, f"{message}{attempt}: {view.url or view.id}", requeue_after=context.deadline - context.now)


def run_succeeded(context: RunContext) -> RunResult:
    """The run has succeeded. A failed one is attempted again if that can help."""
    run, view = context.recorded, context.view
    if view.state is RunState.SUCCEEDED:
        return None
    finished = view.finished_at or run.started_at or context.now
    if (waiting := failure_is_explained(context, finished)) is not None:
        return waiting
    reason, message, permanent = explain(context)
    if reason == Reason.RUN_FAILED and (outage := store_outage(context)) is not None:
        since = run.problem.since if run.problem else None
        return run.with_(problem=RunProblem(reason=outage.reason, message=sentences(message, outage.message), since=since))
    return attempt_failed(context, reason, message, finished, permanent=permanent) or next_attempt(context, reason)


CHECKS = (
    run_is_submitted,  # there is a run
    run_is_single,  # and only one
    run_is_recorded,  # the status names it
    workflow_exists,  # Argo can execute it
    steps_can_start,  # Kubernetes can start its pods
    run_is_in_time,  # it has ended, within its timeout
    run_succeeded,  # with success, after a retry if that can help
)
