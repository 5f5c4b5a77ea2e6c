"""Second stage: this revision has one run, and the run has logged a model. Called by `decide`.

One run a revision: the revision is written before the run is asked for, the run is looked for by its name before it is created,
and it is written that it was asked for. What fails for a passing reason is tried again in the same run.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.actions import CreateRun, DeleteRun, RetryRun
from winepipelines.lifecycle.candidates import current_candidate
from winepipelines.lifecycle.ending import end, submission_in_doubt
from winepipelines.lifecycle.history import ended, entry_of
from winepipelines.lifecycle.look import Held, Look, Outcome, Passed, Record, failed, first
from winepipelines.lifecycle.questions import Records, Runs, Server, Stored
from winepipelines.lifecycle.setback import past
from winepipelines.lifecycle.triggers import clocks_are_set, revision_is_begun, rollback_is_possible, superseded_run_has_ended
from winepipelines.resource.errors import NotSent, Refused
from winepipelines.resource.naming import run_name
from winepipelines.resource.observed import RunState, RunView, StepFailure
from winepipelines.resource.pipeline import GROUP
from winepipelines.resource.spec import Runtime
from winepipelines.resource.status import Candidate, ConditionType, Run, Stage
from winepipelines.resource.status import Outcome as Ending


def train(look: Look) -> Outcome:
    """See to the model of this revision, and to what begins another one."""
    if (said := first(BEGINNING, look)) is not None:
        return said
    candidate = current_candidate(look)
    if candidate is None:
        return first(CHECKS, look) or _run_of(look)
    version = f"version {candidate.version}, " if candidate.version else ""
    r2 = f"r2 {candidate.metrics['r2']:.4f}" if "r2" in candidate.metrics else "no r2"
    return Passed(reasons.MODEL_LOGGED, f"revision {candidate.revision} has a model ({version}{r2}) at {candidate.uri}")


def server_can_read_the_model(look: Look) -> Held | None:
    """No model is trained that its server could not read."""
    runtime = look.spec.serving.runtime
    if runtime is Runtime.BUNDLED or not (problem := look.at(Server(runtime)).problem):
        return None
    return Held(reasons.RUNTIME_UNSUPPORTED, problem, stage=Stage.FAILED, stalled=True, wake_in=look.policy.retry_interval)


def revision_has_not_failed(look: Look) -> Held | None:
    """What failed for good stays failed until another revision begins."""
    entry = entry_of(look.status, look.status.revision)
    if entry is None:
        return None
    trained = look.status.condition(ConditionType.TRAINED)
    return _failed(entry.reason, trained.message if trained else f"revision {entry.revision} failed")


def run_is_wanted(look: Look) -> Held | None:
    """Nobody has asked for the run's end. One that has succeeded has its model, and is not ended any more."""
    if look.pipeline.asks.cancel != str(look.status.revision):
        return None
    run = _run(look)
    views = look.at(Runs(run.name))
    if any(view.state is RunState.SUCCEEDED for view in views):
        return None
    message = f"the annotation {GROUP}/cancel has ended revision {look.status.revision}"
    if live := [view for view in views if view.live]:
        return end(look, run, live, reasons.RUN_CANCELED, f"{message}: ending its run")
    doubt = submission_in_doubt(look, run) if not views else None
    return doubt or _finish(look, reasons.RUN_CANCELED, message, Ending.CANCELED)


def run_is_submitted(look: Look) -> Record | Held | None:
    """There is a run of this revision's name in Kubeflow Pipelines."""
    run = _run(look)
    if look.at(Runs(run.name)):
        return None
    if run.id:
        reason = run.end_reason or reasons.RUN_DELETED
        message = f"run {run.id} is no longer in Kubeflow Pipelines"
        return _attempt_failed(look, reason, message, run.started_at or look.now) or Record(
            look.status.with_(run=Run(name=run.name, attempt=run.attempt + 1, spared=run.spared))
        )
    submission = CreateRun(run.name, look.status.revision)
    if (error := look.failures.get(submission)) is not None:
        certainly_not = isinstance(error, NotSent | Refused)
        status = look.status.with_(run=run.with_(submitted_at=None)) if certainly_not else look.status
        return replace(failed(error, look.policy), status=status)
    if (doubt := submission_in_doubt(look, run)) is not None:
        return doubt
    if look.spec.suspend:
        return _suspended("the run has not begun")
    return Held(
        reasons.SUBMITTING,
        "submitting the run to Kubeflow Pipelines",
        actions=(submission,),
        status=look.status.with_(run=run.with_(submitted_at=look.now)),
        wake_in=look.policy.retry_interval,
    )


def run_is_single(look: Look) -> Held | None:
    """A submission that was carried out twice leaves one run too many."""
    kept = _view(look)
    extra = [view for view in look.at(Runs(kept.name)) if view.id != kept.id and view.live]
    if not extra:
        return None
    message = f"Kubeflow Pipelines has {len(extra)} more of run {kept.id}: removing them"
    return Held(reasons.DUPLICATE_RUN, message, actions=tuple(DeleteRun(view.id) for view in extra))


def run_is_recorded(look: Look) -> Record | None:
    """The status says which run it is and how it stands."""
    run, view = _run(look), _view(look)
    changes: dict[str, object] = {"id": view.id, "url": view.url, "state": view.state.value}
    if run.started_at is None:
        changes["started_at"] = run.submitted_at or view.created_at
    if run.submitted_at is None:
        changes["submitted_at"] = view.created_at
    if view.state is RunState.CANCELING and run.end_requested_at is None:
        changes["end_reason"] = reasons.RUN_TERMINATED  # by someone else; KFP says FAILED in the end
    recorded = run.with_(**changes)
    return None if recorded == run else Record(look.status.with_(run=recorded))


def run_is_in_time(look: Look) -> Held | None:
    """A live run is waited for, and ended at the timeout: one whose Workflow vanished is live for ever."""
    run, view = _run(look), _view(look)
    if not view.live:
        return None
    started = run.started_at or look.now
    deadline = started + look.spec.training.timeout_duration
    if run.end_requested_at is not None or look.now >= deadline:
        message = f"the run took longer than spec.training.timeout ({look.spec.training.timeout}): ending it"
        return end(look, run, [view], reasons.RUN_TIMED_OUT, message)
    reason, message = {
        RunState.PENDING: (reasons.PENDING, "the run waits for its first step"),
        RunState.PAUSED: (reasons.PENDING, "the run is paused in Kubeflow Pipelines"),
        RunState.CANCELING: (reasons.ENDING, "someone has asked Kubeflow Pipelines to end the run"),
    }.get(view.state, (reasons.RUNNING, "the run is under way"))
    attempt = f", {_attempt(look, run)}" if run.attempt > 1 else ""
    return Held(reason, f"{message}{attempt}: {view.url or view.id}", wake_in=deadline - look.now)


def run_succeeded(look: Look) -> Held | None:
    """A run that failed is tried again where that may help."""
    run, view = _run(look), _view(look)
    if view.state is RunState.SUCCEEDED:
        return None
    finished = view.finished_at or run.started_at or look.now
    if _retry_is_due(run, view):  # asked for, and not yet carried out
        return Held(reasons.SUBMITTING, _retrying(look, run), actions=(RetryRun(view.id),))
    if (waits := _is_yet_to_be_explained(look, run, view, past(finished, look.now))) is not None:
        return waits
    reason, message, permanent = _why(look, run, view)
    if (held := _attempt_failed(look, reason, message, past(finished, look.now), permanent=permanent)) is not None:
        return held
    next_run = run.with_(
        attempt=run.attempt + 1,
        spared=run.spared + (reason in reasons.SPARED),
        started_at=look.now,
        finished_at=finished,
        end_requested_at=None,
        end_reason="",
    )
    return Held(
        reasons.SUBMITTING,
        _retrying(look, next_run),
        actions=(RetryRun(view.id),),
        status=look.status.with_(run=next_run),
        wake_in=look.policy.retry_interval,
    )


def model_is_logged(look: Look) -> Held | None:
    """MLflow knows the model that the run trained."""
    found = look.at(Records(look.status.revision))
    if found.model is not None:
        return None
    if found.refused:
        return _finish(look, reasons.MODEL_RECORD_REFUSED, found.refused)
    finished = past(_view(look).finished_at or look.now, look.now)
    if look.now < finished + look.policy.records_grace:
        message = "the run has succeeded; waiting for its model in MLflow"
        return Held(reasons.MODEL_PENDING, message, wake_in=look.policy.retry_interval)
    return _finish(
        look,
        reasons.MODEL_NOT_LOGGED,
        f"the run succeeded, but MLflow has no finished run in experiment {look.spec.training.experiment!r} with this "
        "resource's uid and revision in its tags; is the tracking server that steps write to the one that the operator asks?",
    )


def model_is_stored(look: Look) -> Held | None:
    """The serving platform will be able to copy it."""
    model = look.at(Records(look.status.revision)).model
    assert model is not None, "model_is_logged comes first"
    stored = look.at(Stored(model.uri))
    if stored.readable:
        return None
    return Held(stored.reason, stored.message, stalled=True, wake_in=look.policy.retry_interval)


BEGINNING = (
    clocks_are_set,  # the schedules can be read
    rollback_is_possible,  # or it is told why not
    superseded_run_has_ended,  # of an earlier revision, where another begins
    server_can_read_the_model,  # nothing is trained in vain
    revision_is_begun,  # by another spec, a schedule, a person, other data
)
CHECKS = (
    revision_has_not_failed,  # what failed for good is not tried again
    run_is_wanted,  # unless a person has it ended
    run_is_submitted,  # the revision has a run
    run_is_single,  # and only one
    run_is_recorded,  # which the status names
    run_is_in_time,  # which is waited for, but not for ever
    run_succeeded,  # tried again where that may help
    model_is_logged,  # MLflow has the model
    model_is_stored,  # and the store has its files
)


def _run_of(look: Look) -> Record:
    model = look.at(Records(look.status.revision)).model
    assert model is not None, "model_is_logged has passed"
    uri, served = look.at(Stored(model.uri)).uri, look.status.served
    candidate = Candidate(
        revision=look.status.revision,
        uri=uri,
        mlflow_run=model.mlflow_run,
        version=model.version,
        runtime=look.spec.serving.runtime,
        image=served.image if served and served.uri == uri else look.at(Server(look.spec.serving.runtime)).image,
        metrics=model.metrics,
        inputs=look.inputs,
        data_sha256=model.data_sha256,
        data_etag=model.data_etag,
        served_problem=model.served_problem,
    )
    run = _run(look).with_(finished_at=_view(look).finished_at)
    return Record(look.status.with_(candidate=candidate, run=run))


def _run(look: Look) -> Run:
    return look.status.run or Run(name=run_name(look.pipeline, look.status.revision))


def _view(look: Look) -> RunView:
    """Choose the run that counts: the one that the status names, else the oldest."""
    run = _run(look)
    views = look.at(Runs(run.name))
    return next((view for view in views if view.id == run.id), views[0])


def _retry_is_due(run: Run, view: RunView) -> bool:
    return run.attempt > 1 and run.finished_at is not None and view.finished_at == run.finished_at


def _retrying(look: Look, run: Run) -> str:
    return f"starting {_attempt(look, run)}"


def _why(look: Look, run: Run, view: RunView) -> tuple[str, str, bool]:
    """Say why a run failed: reason, message, and whether only a change helps."""
    if run.end_reason == reasons.RUN_TIMED_OUT:
        timeout = look.spec.training.timeout
        message = f"the run took longer than spec.training.timeout ({timeout}); raise it, or see {view.url}"
        return run.end_reason, message, False
    if run.end_reason == reasons.RUN_TERMINATED or view.state is RunState.CANCELED:
        message = f"someone ended run {view.id} in Kubeflow Pipelines; a change of spec.data or spec.training starts a new one"
        return reasons.RUN_TERMINATED, message, True
    if (failure := _failure(look, run)) is not None:
        return failure.reason, f"step {failure.step}: {failure.message}", failure.permanent
    step = f"step {view.failed_step} failed" if view.failed_step else "the run failed before any step did"
    return reasons.RUN_FAILED, f"{step} and left no reason in MLflow; its log is at {view.url}", False


def _failure(look: Look, run: Run) -> StepFailure | None:
    """Look up what a step of this attempt has written about its failure."""
    failure = look.at(Records(look.status.revision)).failure
    ours = failure is not None and (run.started_at is None or failure.at >= run.started_at - CLOCK_SKEW)
    return failure if ours else None


def _is_yet_to_be_explained(look: Look, run: Run, view: RunView, finished: datetime) -> Held | None:
    """Wait a moment for a word on a failure: Kubeflow Pipelines calls a run failed before it does its task."""
    asked_for = run.end_reason or view.state is RunState.CANCELED
    if asked_for or view.failed_step or look.now >= finished + look.policy.explain_grace or _failure(look, run) is not None:
        return None
    return Held(reasons.ENDING, "the run has failed; waiting for the step that did to show", wake_in=EXPLAIN_INTERVAL)


def _attempt_failed(look: Look, reason: str, message: str, finished: datetime, *, permanent: bool = False) -> Held | None:
    """Judge a failed attempt; None where the next one may start now."""
    run, attempts = _run(look), look.spec.training.attempts
    if permanent or (reason not in reasons.SPARED and run.attempt - run.spared >= attempts):
        tried = f" ({_attempt(look, run)})" if not permanent and attempts > 1 else ""
        return _finish(look, reason, f"{message}{tried}")
    if look.spec.suspend:
        return _suspended("an attempt has failed")
    due = finished + min(look.policy.attempt_backoff * 2 ** min(run.attempt - 1, 16), look.policy.attempt_backoff_limit)
    if look.now < due:
        failed = "this does not count as an attempt" if reason in reasons.SPARED else f"{_attempt(look, run)} failed"
        again = f"{failed}, the next one starts at {due:%H:%M:%S} UTC"
        return Held(reason, f"{message} ({again})", wake_in=due - look.now)
    return None


def _attempt(look: Look, run: Run) -> str:
    return f"attempt {run.attempt - run.spared} of {look.spec.training.attempts}"


def _finish(look: Look, reason: str, message: str, ending: Ending = Ending.FAILED) -> Held:
    """End the revision: only another one helps."""
    final = _failed(reason, message)
    run = _run(look)
    finished = next((view.finished_at for view in look.at(Runs(run.name)) if view.id == run.id), None)
    status = look.status.with_(run=run.with_(finished_at=finished or look.now))
    status = ended(status, look.spec, ending, reason, look.now)
    return replace(final, status=status)


def _failed(reason: str, message: str) -> Held:
    return Held(reason, message, stage=Stage.FAILED, stalled=True)


def _suspended(what: str) -> Held:
    message = f"{what}; spec.suspend is true, so no run is started"
    return Held(reasons.SUSPENDED, message, stage=Stage.SUSPENDED, waiting=False)


EXPLAIN_INTERVAL = timedelta(seconds=1)
CLOCK_SKEW = timedelta(seconds=5)  # between the clocks of a step and of the operator
