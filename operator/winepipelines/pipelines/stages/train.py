"""Stage train: the current revision has one run, and the run has logged a model.

The status names the revision before its run is submitted, so that a crash never leads to a second run.
"""

from dataclasses import replace
from functools import wraps

from winecontract.reasons import Reason
from winepipelines.api.clock_skew import past
from winepipelines.api.messages import sentences
from winepipelines.api.observed import RunState
from winepipelines.api.pipeline import GROUP
from winepipelines.api.status import Candidate, ConditionType, RevisionOutcome, Run, Stage
from winepipelines.pipelines.context import Check, Done, NotReady, ReconcileContext, StatusUpdate, run_not_ready
from winepipelines.pipelines.history import ended, entry_of
from winepipelines.pipelines.queries import CheckArtifact, GetRecords, GetServer
from winepipelines.pipelines.rollout.candidates import current_candidate, required_candidate
from winepipelines.pipelines.rollout.migration import move_is_recorded
from winepipelines.pipelines.rollout.serving_previous import served_model_is_deployed
from winepipelines.pipelines.triggers import (
    cancel_is_possible,
    revision_is_begun,
    rollback_is_possible,
    schedules_are_set,
    superseded_run_has_ended,
)
from winepipelines.runs.context import RunFailed
from winepipelines.runs.ending import submission_in_doubt, terminate
from winepipelines.runs.run import check_run


def until_trained(check: Check) -> Check:
    """Apply a check only while the current revision has no model."""

    @wraps(check)
    def applied(context: ReconcileContext) -> StatusUpdate | NotReady | None:
        return None if current_candidate(context) is not None else check(context)

    return applied


def server_can_read_the_model(context: ReconcileContext) -> NotReady | None:
    """The server of this runtime can load the model that the training writes, and the backend can serve the resource."""
    runtime = context.spec.serving.runtime
    view = context.observe(GetServer(runtime, context.backend))
    if not view.problem:
        return None
    retry, served = context.timeouts.retry_interval, context.status.served
    keeps = f"Revision {served.revision} keeps serving." if served is not None else ""
    return NotReady(
        view.problem_reason,
        sentences(view.problem, keeps) if keeps else view.problem,
        stage=Stage.FAILED,
        stalled=True,
        requeue_after=retry,
    )


@until_trained
def revision_has_not_failed(context: ReconcileContext) -> NotReady | None:
    """A failed revision stays failed until another one starts."""
    entry = entry_of(context.status, context.status.revision)
    if entry is None:
        return None
    trained = context.status.condition(ConditionType.TRAINED)
    return _failed(entry.reason, trained.message if trained else f"Revision {entry.revision} failed.")


@until_trained
def run_is_wanted(context: ReconcileContext) -> NotReady | None:
    """No cancellation was requested. A run that has succeeded has its model, and cannot be canceled any more."""
    if context.pipeline.requests.cancel != str(context.status.revision):
        return None
    run = context.run
    if any(view.state is RunState.SUCCEEDED for view in run.own):
        return None
    message = f"The annotation {GROUP}/cancel canceled revision {context.status.revision}."
    if run.live:
        return run_not_ready(context, terminate(run, Reason.RUN_CANCELED, f"{message} Terminating its run."))
    doubt = submission_in_doubt(run) if not run.own else None
    return run_not_ready(context, doubt) or _finish(context, Reason.RUN_CANCELED, message, RevisionOutcome.CANCELED)


@until_trained
def run_has_succeeded(context: ReconcileContext) -> StatusUpdate | NotReady | None:
    """The run of the revision has succeeded. A failed one is attempted again if that can help."""
    result = check_run(context.run)
    if isinstance(result, RunFailed):
        return replace(_finish(context, result.reason, result.message), check=result.check)
    return StatusUpdate(context.status.with_(run=result)) if isinstance(result, Run) else run_not_ready(context, result)


@until_trained
def model_is_logged(context: ReconcileContext) -> NotReady | None:
    """MLflow has the model that the run trained."""
    found = context.observe(_records(context))
    if found.model is not None:
        return None
    if found.refused:
        return _finish(context, found.refused_reason or Reason.MODEL_RECORD_REJECTED, found.refused)
    finished = past(context.run.view.finished_at or context.now, context.now)
    if context.now < finished + context.timeouts.records_grace:
        message = "The run has succeeded. Waiting for its model in MLflow."
        return NotReady(Reason.MODEL_PENDING, message, requeue_after=context.timeouts.retry_interval)
    message = (
        f"The run succeeded, but MLflow has no finished run in experiment {context.spec.training.experiment!r} that is tagged "
        "with this resource's uid, revision and Kubeflow run. Check that the steps write to the tracking server that the "
        "operator reads."
    )
    ignored = f"Ignored: {found.foreign}" if found.foreign else ""
    return _finish(context, Reason.MODEL_NOT_LOGGED, sentences(message, ignored))


@until_trained
def model_is_stored(context: ReconcileContext) -> NotReady | None:
    """The object store has the files of the model."""
    model = context.observe(_records(context)).model
    assert model is not None, "model_is_logged comes first"
    stored = context.observe(CheckArtifact(model.uri, context.backend))
    if stored.readable:
        return None
    return NotReady(stored.reason, stored.message, stalled=True, requeue_after=context.timeouts.retry_interval)


@until_trained
def model_is_recorded(context: ReconcileContext) -> StatusUpdate:
    """The status has the model of the run."""
    found = context.observe(_records(context))
    model = found.model
    assert model is not None, "model_is_logged has passed"
    uri, served, runtime = (
        context.observe(CheckArtifact(model.uri, context.backend)).uri,
        context.status.served,
        context.spec.serving.runtime,
    )
    known = (
        served.model.server if served and served.model.uri == uri else context.observe(GetServer(runtime, context.backend)).server
    )
    candidate = Candidate(
        revision=context.status.revision,
        model=model.with_(
            revision=context.status.revision,
            uri=uri,
            registered_model=context.pipeline.registered_model,
            runtime=runtime,
            server=known,
            inputs_hash=context.inputs_hash,
        ),
        ignored_record=found.foreign,
        comparison_failure_message=found.comparison_failure,
    )
    run = context.run.recorded.with_(finished_at=context.run.view.finished_at)
    return StatusUpdate(context.status.with_(candidate=candidate, run=run))


CHECKS = (
    move_is_recorded,  # the status says which serving backend the served model is on
    served_model_is_deployed,  # while this revision has no model that may serve, the served one does
    # What starts a revision
    schedules_are_set,  # the schedules are valid
    cancel_is_possible,  # a cancellation that is not possible is reported
    rollback_is_possible,  # and so is a rollback
    superseded_run_has_ended,  # at most one run is live
    server_can_read_the_model,  # no model is trained that its server cannot read
    revision_is_begun,  # by another spec, a schedule, a person, or other data
    # What the current revision needs until it has a model
    revision_has_not_failed,  # a failed revision stays failed
    run_is_wanted,  # nobody canceled the run
    run_has_succeeded,  # the run succeeded, after a retry if that can help
    model_is_logged,  # MLflow has the model
    model_is_stored,  # and the object store has its files
    model_is_recorded,  # and the status names it
)


def trained(context: ReconcileContext) -> Done:
    """Describe the model."""
    candidate = required_candidate(context)
    model = candidate.model
    version = f"version {model.version}, " if model.version else ""
    r2 = f"r2 {model.metrics['r2']:.4f}" if "r2" in model.metrics else "no r2"
    ignored = f"Ignored: {candidate.ignored_record}" if candidate.ignored_record else ""
    message = f"Revision {candidate.revision} has a model ({version}{r2}) at {model.uri}"
    return Done(Reason.MODEL_LOGGED, sentences(message, ignored, *model.warnings))


def _records(context: ReconcileContext) -> GetRecords:
    """Query what the run of this revision recorded. A clone of the run has another id."""
    return GetRecords(context.status.revision, context.run.recorded.id)


def _finish(context: ReconcileContext, reason: str, message: str, ending: RevisionOutcome = RevisionOutcome.FAILED) -> NotReady:
    """End the revision. Only another one can succeed."""
    final = _failed(reason, message)
    run = context.run.recorded
    finished = next((view.finished_at for view in context.run.views if view.id == run.id), None)
    status = context.status.with_(run=run.with_(finished_at=finished or context.now))
    status = ended(status, context.spec, ending, reason, context.now)
    return replace(final, status=status)


def _failed(reason: str, message: str) -> NotReady:
    return NotReady(reason, message, stage=Stage.FAILED, stalled=True)
