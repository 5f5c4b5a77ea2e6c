"""Explain why a run failed, and decide whether it is attempted again."""

from datetime import datetime, timedelta

from winecontract.reasons import UNCOUNTED, Reason
from winepipelines.api.clock_skew import past
from winepipelines.api.errors import PlatformError
from winepipelines.api.messages import sentences
from winepipelines.api.observed import RunState, StepFailure
from winepipelines.api.status import Run
from winepipelines.runs.context import RunContext, RunFailed, RunWaiting, suspended

EXPLAIN_INTERVAL = timedelta(seconds=1)
UNCOUNTED_LIMIT = 20  # attempts that the platform failed, after which the run fails for good


def explain(context: RunContext) -> tuple[str, str, bool]:
    """Explain why a run failed: reason, message, and whether only a change can help."""
    run, view = context.recorded, context.view
    if run.end_reason == Reason.RUN_TIMED_OUT:
        return run.end_reason, f"{timed_out(context)} {context.wording.after_timeout} {view.url}", False
    if run.end_reason == Reason.RUN_TERMINATED or view.state is RunState.CANCELED:
        message = f"Someone terminated run {view.id} in Kubeflow Pipelines."
        return Reason.RUN_TERMINATED, sentences(message, context.wording.after_termination), True
    if run.problem is not None and run.problem.reason in (run.end_reason, Reason.OBJECT_STORE_UNAVAILABLE):
        return run.problem.reason, run.problem.message, False
    if (failure := _failure(context)) is not None:
        return failure.reason, f"Step {failure.step} failed: {failure.message}", failure.permanent
    step = f"Step {view.failed_step} failed" if view.failed_step else "The run failed before any of its steps,"
    message = f"{step} and recorded no reason in its pod or in MLflow. See its log: {view.url}"
    return Reason.RUN_FAILED, message, False


def explain_termination(context: RunContext) -> str:
    """Explain why a live run is terminated."""
    run = context.recorded
    if run.end_reason in ("", Reason.RUN_TIMED_OUT):
        return timed_out(context)
    return run.problem.message if run.problem is not None else f"The termination of the run was requested ({run.end_reason})."


def timed_out(context: RunContext) -> str:
    """Quote the timeout that the run exceeded: the spec may have another one by now."""
    return f"The run exceeded {context.wording.timeout} ({context.recorded.exceeded_timeout or context.timeout})."


def store_outage(context: RunContext) -> PlatformError | None:
    """Return the error if the object store is unavailable. Kubeflow's launcher then fails a step without a reason."""
    try:
        context.store()
    except PlatformError as error:
        return error if error.reason == Reason.OBJECT_STORE_UNAVAILABLE else None
    return None


def failure_is_explained(context: RunContext, finished: datetime) -> RunWaiting | None:
    """Wait shortly for the reason of a failure: Kubeflow Pipelines reports a failed run before its failed task."""
    view, deadline = context.view, past(finished, context.now) + context.timeouts.explain_grace
    was_terminated = context.recorded.end_reason or view.state is RunState.CANCELED
    if was_terminated or view.failed_step or context.now >= deadline or _failure(context) is not None:
        return None
    message = "The run has failed. Waiting for Kubeflow Pipelines to show the failed step."
    return RunWaiting(Reason.RUN_TERMINATING, message, requeue_after=EXPLAIN_INTERVAL)


def attempt_failed(
    context: RunContext, reason: str, message: str, finished: datetime, *, permanent: bool = False
) -> RunWaiting | RunFailed | None:
    """Judge a failed attempt. None if the next one may start now."""
    run, timeouts = context.recorded, context.timeouts
    uncounted = _is_uncounted(context, reason)
    too_many = reason in UNCOUNTED and run.uncounted_attempts >= UNCOUNTED_LIMIT
    if permanent or too_many or (not uncounted and run.attempt - run.uncounted_attempts >= context.attempts):
        attempts = f"This was {context.attempt}." if not permanent and context.attempts > 1 else ""
        attempts = f"The platform failed {run.uncounted_attempts + 1} attempts." if too_many else attempts
        return RunFailed(reason, sentences(message, attempts), finished)
    if context.suspended:
        return suspended("An attempt has failed.")
    never_started = context.start_problem is not None
    if never_started and run.settings_hash != context.settings():
        return None
    limit = timeouts.start_backoff_limit if never_started else timeouts.attempt_backoff_limit
    due = past(finished, context.now) + min(timeouts.attempt_backoff * 2 ** min(run.attempt - 1, 16), limit)
    if context.now >= due:
        return None
    counted = "This attempt does not count." if uncounted else f"This was {context.attempt}."
    message = sentences(message, counted, f"The next attempt starts at {due:%H:%M:%S} UTC.")
    return RunWaiting(reason, message, requeue_after=due - context.now, stalled=never_started)


def next_attempt(context: RunContext, reason: str) -> Run:
    """Begin the next attempt. It has a name of its own, so that its submission can be found after a crash."""
    run, uncounted = context.recorded, _is_uncounted(context, reason)
    attempt = run.attempt + 1
    return Run(name=f"{context.name}-{attempt}", attempt=attempt, uncounted_attempts=run.uncounted_attempts + uncounted)


def _failure(context: RunContext) -> StepFailure | None:
    """Return why a step failed: its own reason from its pod or MLflow, else that of Kubernetes."""
    seen = context.seen_steps
    if seen.explained:
        return seen.failure
    try:
        return context.failure() or seen.failure
    except PlatformError:
        if seen.failure is None:
            raise
        return seen.failure


def _is_uncounted(context: RunContext, reason: str) -> bool:
    """Tell whether the platform failed the attempt, so that it does not count."""
    return reason in UNCOUNTED or context.start_problem is not None
