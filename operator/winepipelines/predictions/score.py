"""The way of a prediction: a model is chosen, one run scores the file with it, and its result is recorded. Called by `decide`.

One run, whatever crashes when: the model is written before the run is asked for, the run is looked for by its name before it is
created, and it is written that it was asked for. What fails for a passing reason is tried again in the same run.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from winepipelines.lifecycle import reasons as run_reasons
from winepipelines.lifecycle.actions import AddFinalizer, DeleteRun, RetryRun, TerminateRun
from winepipelines.lifecycle.questions import Runs
from winepipelines.predictions import reasons
from winepipelines.predictions.actions import DeleteResource, SubmitPrediction
from winepipelines.predictions.look import Held, Look, Record, failed
from winepipelines.predictions.questions import Outcome, Pipeline
from winepipelines.resource.errors import NotSent, Refused
from winepipelines.resource.observed import RunState, RunView, StepFailure
from winepipelines.resource.outcome import Scored
from winepipelines.resource.pipeline import FINALIZER
from winepipelines.resource.prediction import PredictionStage, PredictionStatus, Rejected
from winepipelines.resource.status import ConditionType, Run


def score(look: Look) -> Record | Held:
    """Run the checks; the last one always has something to say."""
    for check in CHECKS:
        if (said := check(look)) is not None:
            return said
    raise AssertionError("result_is_recorded always says something")


def it_is_not_over(look: Look) -> Held | None:
    """What has ended stays as it is, until it has been kept for long enough."""
    status = look.status
    if not status.is_over:
        return None
    ready = status.condition(ConditionType.READY)
    assert ready is not None, "the end was told with a condition"
    said = Held(
        ready.reason,
        ready.message,
        stage=status.stage or PredictionStage.FAILED,
        stalled=status.stage is PredictionStage.FAILED,
        is_settled=status.stage is PredictionStage.SUCCEEDED,
    )
    if look.spec.ttl is None or status.finished_at is None:
        return said
    due = status.finished_at + look.spec.ttl
    if look.now < due:
        return replace(said, wake_in=due - look.now)
    return replace(said, actions=(DeleteResource(),), wake_in=look.policy.retry_interval)


def finalizer_is_set(look: Look) -> Held | None:
    """Nothing is begun before its end is certain."""
    if FINALIZER in look.prediction.finalizers:
        return None
    return Held(run_reasons.APPLYING, "taking the resource into care", actions=(AddFinalizer(),))


def model_is_chosen(look: Look) -> Record | Held | None:
    """The model that serves now, whatever serves later. A WinePipeline that moves wakes who waits for it."""
    if look.status.model is not None:
        return None
    name = look.spec.pipeline
    view = look.at(Pipeline(name))
    if not view.exists:
        message = f"there is no WinePipeline {name!r} in this namespace; this waits until there is one that serves"
        return Held(reasons.PIPELINE_MISSING, message, wake_in=look.policy.check_interval)
    if view.served is None:
        message = f"WinePipeline {name!r} serves no model yet; this waits until it does: kubectl get winepipeline {name}"
        return Held(reasons.NOTHING_SERVED, message, wake_in=look.policy.check_interval)
    return Record(look.status.with_(model=view.served))


def run_is_submitted(look: Look) -> Record | Held | None:
    """There is a run of this name in Kubeflow Pipelines."""
    run = look.run
    if look.at(Runs(run.name)):
        return None
    if run.id:
        reason = run.end_reason or run_reasons.RUN_DELETED
        message = f"run {run.id} is no longer in Kubeflow Pipelines"
        return _attempt_failed(look, reason, message, run.started_at or look.now) or Record(
            look.status.with_(run=Run(name=run.name, attempt=run.attempt + 1, spared=run.spared))
        )
    submission = SubmitPrediction(run.name)
    if (error := look.failures.get(submission)) is not None:
        certainly_not = isinstance(error, NotSent | Refused)
        status = look.status.with_(run=run.with_(submitted_at=None)) if certainly_not else look.status
        return replace(failed(error, look.policy), status=status)
    if run.submitted_at is not None and look.now < (settled := run.submitted_at + look.policy.submit_grace):
        message = "the run was submitted, and Kubeflow Pipelines does not show it yet"
        return Held(run_reasons.SUBMITTING, message, wake_in=settled - look.now)
    return Held(
        run_reasons.SUBMITTING,
        "submitting the run to Kubeflow Pipelines",
        actions=(submission,),
        status=look.status.with_(run=run.with_(submitted_at=look.now), started_at=look.status.started_at or look.now),
        wake_in=look.policy.retry_interval,
    )


def run_is_single(look: Look) -> Held | None:
    """A submission that was carried out twice leaves one run too many."""
    kept = _view(look)
    extra = [view for view in look.at(Runs(kept.name)) if view.id != kept.id and view.live]
    if not extra:
        return None
    message = f"Kubeflow Pipelines has {len(extra)} more of run {kept.id}: removing them"
    return Held(run_reasons.DUPLICATE_RUN, message, actions=tuple(DeleteRun(view.id) for view in extra))


def run_is_recorded(look: Look) -> Record | None:
    """The status says which run it is and how it stands."""
    run, view = look.run, _view(look)
    changes: dict[str, object] = {"id": view.id, "url": view.url, "state": view.state.value}
    if run.started_at is None:
        changes["started_at"] = run.submitted_at or view.created_at
    if run.submitted_at is None:
        changes["submitted_at"] = view.created_at
    if view.state is RunState.CANCELING and run.end_requested_at is None:
        changes["end_reason"] = run_reasons.RUN_TERMINATED  # by someone else; KFP says FAILED in the end
    recorded = run.with_(**changes)
    if recorded == run:
        return None
    return Record(look.status.with_(run=recorded, started_at=look.status.started_at or view.created_at))


def run_is_in_time(look: Look) -> Held | None:
    """A live run is waited for, and ended at the timeout: one whose Workflow vanished is live for ever."""
    run, view = look.run, _view(look)
    if not view.live:
        return None
    deadline = (run.started_at or look.now) + look.spec.timeout_duration
    if run.end_requested_at is not None or look.now >= deadline:
        return _end(look, run, view)
    reason, message = {
        RunState.PENDING: (run_reasons.PENDING, "the run waits for its step to begin"),
        RunState.PAUSED: (run_reasons.PENDING, "the run is paused in Kubeflow Pipelines"),
        RunState.CANCELING: (run_reasons.ENDING, "someone has asked Kubeflow Pipelines to end the run"),
    }.get(view.state, (run_reasons.RUNNING, "the run is under way"))
    attempt = f", {_attempt(look, run)}" if run.attempt > 1 else ""
    return Held(reason, f"{message}{attempt}: {view.url or view.id}", wake_in=deadline - look.now)


def run_succeeded(look: Look) -> Held | None:
    """A run that failed is tried again where that may help."""
    run, view = look.run, _view(look)
    if view.state is RunState.SUCCEEDED:
        return None
    finished = view.finished_at or run.started_at or look.now
    if run.attempt > 1 and run.finished_at is not None and view.finished_at == run.finished_at:
        # asked for, and not yet carried out
        return Held(run_reasons.SUBMITTING, f"starting {_attempt(look, run)}", actions=(RetryRun(view.id),))
    if (waits := _is_yet_to_be_explained(look, run, view, finished)) is not None:
        return waits
    reason, message, permanent = _why(look, run, view)
    if (held := _attempt_failed(look, reason, message, finished, permanent=permanent)) is not None:
        return held
    next_run = run.with_(
        attempt=run.attempt + 1,
        spared=run.spared + (reason in run_reasons.SPARED),
        started_at=look.now,
        finished_at=finished,
        end_requested_at=None,
        end_reason="",
    )
    return Held(
        run_reasons.SUBMITTING,
        f"starting {_attempt(look, next_run)}",
        actions=(RetryRun(view.id),),
        status=look.status.with_(run=next_run),
        wake_in=look.policy.retry_interval,
    )


def result_is_recorded(look: Look) -> Held:
    """MLflow knows what the run has done."""
    found = look.at(Outcome(look.run.id))
    finished = _view(look).finished_at or look.now
    if found.scored is not None:
        return _succeed(look, found.scored, finished)
    if found.refused:
        return _fail(look, reasons.RESULT_REFUSED, found.refused, finished)
    if look.now < finished + look.policy.records_grace:
        message = "the run has succeeded; waiting for its result in MLflow"
        return Held(reasons.RESULT_PENDING, message, wake_in=look.policy.retry_interval)
    message = (
        "the run succeeded, but MLflow has no finished run of this resource and this Kubeflow run with a result in its tags; "
        "is the tracking server that steps write to the one that the operator asks?"
    )
    return _fail(look, reasons.RESULT_NOT_RECORDED, message, finished)


CHECKS = (
    it_is_not_over,  # what has ended is kept, and then deleted
    finalizer_is_set,  # nothing without a way out
    model_is_chosen,  # the one that serves now
    run_is_submitted,  # there is a run
    run_is_single,  # and only one
    run_is_recorded,  # which the status names
    run_is_in_time,  # which is waited for, but not for ever
    run_succeeded,  # tried again where that may help
    result_is_recorded,  # and has left its result
)


def _view(look: Look) -> RunView:
    """Choose the run that counts: the one that the status names, else the oldest."""
    views = look.at(Runs(look.run.name))
    return next((view for view in views if view.id == look.run.id), views[0])


def _end(look: Look, run: Run, view: RunView) -> Held:
    """Ask for the run's end; remove it where that has no effect."""
    asked = run.end_requested_at
    if asked is None:
        asked, run = look.now, run.with_(end_requested_at=look.now, end_reason=run_reasons.RUN_TIMED_OUT)
    actions: tuple[TerminateRun | DeleteRun, ...] = ()
    if look.now >= asked + look.policy.terminate_grace:
        actions = (DeleteRun(view.id),)
    elif view.state is not RunState.CANCELING:
        actions = (TerminateRun(view.id),)
    message = f"the run took longer than spec.timeout ({look.spec.timeout}): ending it"
    status = look.status.with_(run=run)
    return Held(run_reasons.ENDING, message, actions=actions, status=status, wake_in=look.policy.retry_interval)


def _why(look: Look, run: Run, view: RunView) -> tuple[str, str, bool]:
    """Say why a run failed: reason, message, and whether trying again is of no use."""
    if run.end_reason == run_reasons.RUN_TIMED_OUT:
        return run.end_reason, f"the run took longer than spec.timeout ({look.spec.timeout}), see {view.url}", False
    if run.end_reason == run_reasons.RUN_TERMINATED or view.state is RunState.CANCELED:
        return run_reasons.RUN_TERMINATED, f"someone ended run {view.id} in Kubeflow Pipelines", True
    if (failure := _failure(look, run)) is not None:
        return failure.reason, f"step {failure.step}: {failure.message}", failure.permanent
    step = f"step {view.failed_step} failed" if view.failed_step else "the run failed before any step did"
    return run_reasons.RUN_FAILED, f"{step} and left no reason in MLflow; its log is at {view.url}", False


def _failure(look: Look, run: Run) -> StepFailure | None:
    """Look up what the step of this attempt has written about its failure."""
    failure = look.at(Outcome(run.id)).failure
    ours = failure is not None and (run.started_at is None or failure.at >= run.started_at - CLOCK_SKEW)
    return failure if ours else None


def _is_yet_to_be_explained(look: Look, run: Run, view: RunView, finished: datetime) -> Held | None:
    """Wait a moment for a word on a failure: Kubeflow Pipelines calls a run failed before it does its task."""
    asked_for = run.end_reason or view.state is RunState.CANCELED
    if asked_for or view.failed_step or look.now >= finished + look.policy.explain_grace or _failure(look, run) is not None:
        return None
    message = "the run has failed; waiting for the step that did to show"
    return Held(run_reasons.ENDING, message, wake_in=EXPLAIN_INTERVAL)


def _attempt_failed(look: Look, reason: str, message: str, finished: datetime, *, permanent: bool = False) -> Held | None:
    """Judge a failed attempt; None where the next one may start now."""
    run, attempts = look.run, look.spec.attempts
    if permanent or (reason not in run_reasons.SPARED and run.attempt - run.spared >= attempts):
        tried = f" ({_attempt(look, run)})" if not permanent and attempts > 1 else ""
        return _fail(look, reason, f"{message}{tried}", finished)
    due = finished + min(look.policy.attempt_backoff * 2 ** min(run.attempt - 1, 16), look.policy.attempt_backoff_limit)
    if look.now >= due:
        return None
    said = "this does not count as an attempt" if reason in run_reasons.SPARED else f"{_attempt(look, run)} failed"
    return Held(reason, f"{message} ({said}, the next one starts at {due:%H:%M:%S} UTC)", wake_in=due - look.now)


def _attempt(look: Look, run: Run) -> str:
    return f"attempt {run.attempt - run.spared} of {look.spec.attempts}"


def _succeed(look: Look, scored: Scored, finished: datetime) -> Held:
    rejected = Rejected(rows=sum(item.rows for item in scored.rejected), reasons=scored.rejected)
    status = _ended(look, finished).with_(rows=scored.rows, rejected=rejected, output=scored.output, report=scored.report)
    kept = scored.rows - rejected.rows
    model = look.status.model
    assert model is not None, "it was chosen before the run began"
    version = f" (version {model.version})" if model.version else ""
    message = (
        f"{kept:,} of {scored.rows:,} rows scored with revision {model.revision}{version} in {status.duration}: {scored.output}"
    )
    if rejected.rows:
        first = ", ".join(f"{item.reason} {item.rows:,}" for item in scored.rejected[:3])
        message += f"; {rejected.rows:,} rejected ({first}), see {scored.report}"
    return Held(reasons.SCORED, message, status=status, stage=PredictionStage.SUCCEEDED, is_settled=True, wake_in=look.spec.ttl)


def _fail(look: Look, reason: str, message: str, finished: datetime) -> Held:
    again = "correct what is wrong and make another WinePrediction"
    status = _ended(look, finished)
    return Held(reason, f"{message}; {again}", status=status, stage=PredictionStage.FAILED, stalled=True, wake_in=look.spec.ttl)


def _ended(look: Look, finished: datetime) -> PredictionStatus:
    finished = max(finished, look.status.started_at or finished)
    took = finished - (look.status.started_at or finished)
    run = look.run.with_(finished_at=finished)
    return look.status.with_(run=run, finished_at=finished, duration=_duration(took))


def _duration(took: timedelta) -> str:
    minutes, seconds = divmod(round(took.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"


EXPLAIN_INTERVAL = timedelta(seconds=1)
CLOCK_SKEW = timedelta(seconds=5)  # between the clocks of a step and of the operator
