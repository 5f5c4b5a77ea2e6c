"""Check on a schedule whether the data behind `spec.data.url` has changed.

A run with a single step checks: the operator itself fetches nothing. A failure changes neither the model nor its conditions.
Changed data starts a revision, see `triggers`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from winepipelines.api.clock_skew import past
from winepipelines.api.errors import PlatformError
from winepipelines.api.naming import data_check_name
from winepipelines.api.observed import DataCheckResult, RunState, RunView
from winepipelines.api.status import DataCheckRun, DataCheckStatus, Status
from winepipelines.pipelines import schedule
from winepipelines.pipelines.actions import Action, CreateDataCheck
from winepipelines.pipelines.context import ReconcileContext
from winepipelines.pipelines.queries import GetDataCheck, GetSteps, ListRuns
from winepipelines.pipelines.rollout.candidates import current_candidate
from winepipelines.pipelines.triggers import is_settled
from winepipelines.runs.actions import DeleteRun, TerminateRun


@dataclass(frozen=True)
class BackgroundResult:
    """Status, actions and requeue delay of a background task."""

    status: Status
    actions: tuple[Action, ...] = ()
    requeue_after: timedelta | None = None


def check_data(context: ReconcileContext) -> BackgroundResult:
    """Start a check that is due, wait for one in progress, and record its result."""
    check = context.status.data_check
    if check is None:
        return BackgroundResult(context.status)
    try:
        if check.run is not None:
            return _in_progress(context, check, check.run)
        return _begin(context, check) if _is_due(context, check) else BackgroundResult(context.status)
    except PlatformError:
        return BackgroundResult(context.status, requeue_after=context.timeouts.retry_interval)


def _is_due(context: ReconcileContext, check: DataCheckStatus) -> bool:
    training = context.spec.training
    known = check.schedule
    if known is None or not schedule.is_of(known, context.spec.data.check_schedule, training.time_zone):
        return False  # `schedules_are_set` may not have been reached
    return context.now >= known.next_time and is_settled(context) and not context.spec.suspend and not check.changed


def _begin(context: ReconcileContext, check: DataCheckStatus) -> BackgroundResult:
    assert check.schedule is not None, "it is due"
    newest = current_candidate(context) or context.status.served
    known = check if check.sha256 or newest is None else newest.model.data
    count = check.count + 1
    advanced = schedule.advance(check.schedule, context.now)
    run = DataCheckRun(name=data_check_name(context.pipeline, count), inputs_hash=context.inputs_hash, submitted_at=context.now)
    begun = check.with_(schedule=advanced, count=count, run=run)
    action = CreateDataCheck(run.name, count, known.sha256, known.etag)
    return BackgroundResult(_with(context, begun), (action,), context.timeouts.retry_interval)


def _in_progress(context: ReconcileContext, check: DataCheckStatus, run: DataCheckRun) -> BackgroundResult:
    views = context.observe(ListRuns(run.name))
    live = tuple(view for view in views if view.live)
    deadline = run.submitted_at + context.timeouts.data_check_timeout
    if run.end_requested:
        return _end(context, check, live, deadline) if live else _over(context, check, check.failure_message)
    if run.inputs_hash != context.inputs_hash or not is_settled(context):
        return _end(context, check, live, deadline)  # a training run fetches the data anyway
    if not views:
        waited = context.now - run.submitted_at
        if waited < context.timeouts.submit_grace:
            return BackgroundResult(context.status, requeue_after=context.timeouts.submit_grace - waited)
        return _over(context, check, "The data check run could not be submitted, or was deleted.")
    if not live:
        return _found(context, check, next((view for view in views if view.id == run.id), views[0]))
    if context.now >= deadline:
        return _end(context, check.with_(failure_message="The data check run exceeded its timeout."), live, deadline)
    return BackgroundResult(_with(context, check.with_(run=run.with_(id=live[0].id))), requeue_after=deadline - context.now)


def _found(context: ReconcileContext, check: DataCheckStatus, view: RunView) -> BackgroundResult:
    result = context.observe(GetDataCheck(check.count, view.id)) or _failure_of_pod(context, view)
    finished = past(view.finished_at or context.now, context.now)
    if result is None:
        if context.now < finished + context.timeouts.records_grace:
            return BackgroundResult(context.status, requeue_after=context.timeouts.retry_interval)
        return _over(context, check, f"The data check run recorded no result in MLflow. See its log: {view.url}")
    if result.failure is not None:
        return _over(context, check, f"{result.failure.reason}: {result.failure.message}")
    ended = check.with_(
        run=None,
        failure_message="",
        checked_at=finished,
        changed=result.changed,
        sha256=result.sha256,
        etag=result.etag,
    )
    return BackgroundResult(_with(context, ended), requeue_after=timedelta() if result.changed else None)  # starts a revision


def _failure_of_pod(context: ReconcileContext, view: RunView) -> DataCheckResult | None:
    """Return why the step failed according to its pod, if MLflow has no result."""
    if view.state is RunState.SUCCEEDED:
        return None
    seen = context.observe(GetSteps(view.id))
    return DataCheckResult(failure=seen.failure) if seen.failure is not None else None


def _end(context: ReconcileContext, check: DataCheckStatus, live: tuple[RunView, ...], deadline: datetime) -> BackgroundResult:
    """Terminate the run, or delete it if it does not end."""
    if not live:
        return _over(context, check, check.failure_message)
    late = context.now >= deadline + context.timeouts.terminate_grace
    actions: list[Action] = [DeleteRun(view.id) for view in live] if late else []
    actions = actions or [TerminateRun(view.id) for view in live if view.state is not RunState.CANCELING]
    untried = tuple(action for action in actions if action not in context.failures)
    assert check.run is not None, "it is in progress"
    ending = check.with_(run=check.run.with_(id=live[0].id, end_requested=True))
    return BackgroundResult(_with(context, ending), untried, context.timeouts.retry_interval)


def _over(context: ReconcileContext, check: DataCheckStatus, message: str) -> BackgroundResult:
    return BackgroundResult(_with(context, check.with_(run=None, failure_message=message[:1024], checked_at=context.now)))


def _with(context: ReconcileContext, check: DataCheckStatus) -> Status:
    return context.status.with_(data_check=check)
