"""The checks of a WinePrediction: a model is chosen, one run scores the file with it, and its result is recorded.

The status names the model before the run is submitted, so that a crash leads neither to a second run nor to another model.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from winecontract.addresses import AddressError, S3Address, may_be_object, parse
from winecontract.reasons import Reason
from winepipelines.api.clock_skew import past
from winepipelines.api.messages import sentences
from winepipelines.api.pipeline import FINALIZER, RETRAIN
from winepipelines.api.prediction import REPORT_SUFFIX, PredictionStage, PredictionStatus, Rejected
from winepipelines.api.scoring import Scored
from winepipelines.api.status import ConditionType, Run
from winepipelines.predictions.actions import DeleteResource
from winepipelines.predictions.context import NotReady, PredictionContext, StatusUpdate, run_not_ready, with_run
from winepipelines.predictions.queries import GetOutputAddress, GetPipeline, GetScoringResult, ListOutputUses
from winepipelines.runs.actions import AddFinalizer
from winepipelines.runs.context import RunFailed
from winepipelines.runs.run import check_run

NAMED = 3  # WinePipelines that a message names


def prediction_has_not_ended(context: PredictionContext) -> NotReady | None:
    """An ended prediction stays as it is until its time to live has passed."""
    status = context.status
    if not status.is_over:
        return None
    ready = status.condition(ConditionType.READY)
    assert ready is not None, "an ended prediction has its condition"
    ended = NotReady(
        ready.reason,
        ready.message,
        stage=status.stage or PredictionStage.FAILED,
        stalled=status.stage is PredictionStage.FAILED,
        is_settled=status.stage is PredictionStage.SUCCEEDED,
    )
    if context.spec.ttl is None or status.finished_at is None:
        return ended
    due = status.finished_at + context.spec.ttl
    if context.now < due:
        return replace(ended, requeue_after=due - context.now)
    return replace(ended, actions=(DeleteResource(),), requeue_after=context.timeouts.retry_interval)


def finalizer_is_set(context: PredictionContext) -> NotReady | None:
    """The resource has the finalizer, so that a deletion can clean up."""
    if FINALIZER in context.prediction.finalizers:
        return None
    return NotReady(Reason.APPLYING_RESOURCES, "Adding the finalizer.", actions=(AddFinalizer(),))


def output_is_chosen(context: PredictionContext) -> StatusUpdate | None:
    """The status has the address of the output: that of the spec, or one below the administrator's folder.

    It is stored before the run is submitted, so that a change of the administrator's setting does not move it.
    """
    if context.status.output:
        return None
    return StatusUpdate(context.status.with_(output=context.spec.output or context.observe(GetOutputAddress())))


def output_is_free(context: PredictionContext) -> NotReady | None:
    """Before the run: the output is not its own input, nor the data of a WinePipeline, nor the output of another prediction.

    The step itself checks whether the object exists already: see `winesteps.outputs`.
    """
    if context.status.run is not None:
        return None
    output = context.prediction.output
    if (overwritten := source_written_over(context.spec.input.url, output)) is not None:
        return _refuse(context, Reason.OUTPUT_IS_SOURCE, f"The {overwritten} is the input itself and would be overwritten.")
    use = context.observe(ListOutputUses())
    if use.trained_on:
        named = ", ".join(use.trained_on[:NAMED])
        message = f"Output {output}, or its report, is the training data of WinePipeline {named} and would be overwritten."
        return _refuse(context, Reason.OUTPUT_IS_SOURCE, message)
    for claim in use.claims:
        named = f"WinePrediction {claim.namespace}/{claim.name}"
        if claim.stage is PredictionStage.FAILED or (context.spec.overwrite and claim.stage is PredictionStage.SUCCEEDED):
            continue
        if claim.stage is PredictionStage.SUCCEEDED:
            message = f"{named} has written its output to {output}. Set spec.overwrite: true to replace it."
            return _refuse(context, Reason.OUTPUT_CLAIMED, message)
        if not claim.begun and (claim.created_at, claim.uid) > (context.prediction.created_at, context.prediction.uid):
            continue  # it was created later: it is the one that is refused
        if claim.deleting:
            message = f"{named} also writes to {output} and is being deleted. Waiting until it is gone."
            return NotReady(Reason.OUTPUT_CLAIMED, message, requeue_after=context.timeouts.retry_interval)
        return _refuse(context, Reason.OUTPUT_CLAIMED, f"{named} also writes its output to {output} and was created first.")
    return None


def source_written_over(url: str, address: str) -> str | None:
    """Name the written object that is the input at `url`; `address` is the output's. None if neither is."""
    try:
        source, output = parse(url), parse(address)
    except AddressError:
        return None  # the step reports what is wrong with it
    if not isinstance(output, S3Address):
        return None
    if may_be_object(source, output.bucket, output.key):
        return f"output {output}"
    report = f"{output.key}{REPORT_SUFFIX}"
    return f"report s3://{output.bucket}/{report}" if may_be_object(source, output.bucket, report) else None


def model_is_chosen(context: PredictionContext) -> StatusUpdate | NotReady | None:
    """The status names the model to score with: the one that serves now. A change of the WinePipeline triggers a reconcile."""
    if context.status.model is not None:
        return None
    name = context.spec.pipeline
    view = context.observe(GetPipeline(name))
    if not view.exists:
        message = f"WinePipeline {name!r} does not exist in this namespace. Waiting until it exists and serves a model."
        return NotReady(Reason.PIPELINE_MISSING, message, requeue_after=context.timeouts.check_interval)
    if view.served is None:
        message = f"WinePipeline {name!r} serves no model yet. Waiting until it does; check it: kubectl get winepipeline {name}"
        return NotReady(Reason.NOTHING_SERVED, message, requeue_after=context.timeouts.check_interval)
    if not view.served.model.digest and not view.takes_unsigned:
        message = (
            f"The model that WinePipeline {name!r} serves has no signed record: it was trained before records were signed. Train "
            f"another: kubectl -n {context.prediction.namespace} annotate --overwrite winepipeline {name} {RETRAIN}"
        )
        return NotReady(Reason.MODEL_UNSIGNED, message, requeue_after=context.timeouts.check_interval)
    served = view.served
    return StatusUpdate(context.status.with_(pipeline_uid=view.uid, revision=served.revision, model=served.model))


def run_has_succeeded(context: PredictionContext) -> StatusUpdate | NotReady | None:
    """The run has succeeded. A failed one is attempted again if that can help."""
    result = check_run(context.run)
    if isinstance(result, RunFailed):
        return replace(_fail(context, result.reason, result.message, result.finished), check=result.check)
    return StatusUpdate(with_run(context, result)) if isinstance(result, Run) else run_not_ready(context, result)


def result_is_recorded(context: PredictionContext) -> NotReady:
    """MLflow has the result of the run. This check always decides."""
    found = context.observe(GetScoringResult(context.run.recorded.id))
    finished = context.run.view.finished_at or context.now
    if found.scored is not None:
        return _succeed(context, found.scored, finished)
    if found.refused:
        return _fail(context, Reason.RESULT_REJECTED, found.refused, finished)
    if context.now < past(finished, context.now) + context.timeouts.records_grace:
        message = "The run has succeeded. Waiting for its result in MLflow."
        return NotReady(Reason.RESULT_PENDING, message, requeue_after=context.timeouts.retry_interval)
    message = (
        "The run succeeded, but MLflow has no finished run of this resource and this Kubeflow run with a result in its tags. "
        "Check that the steps write to the tracking server that the operator reads."
    )
    return _fail(context, Reason.RESULT_NOT_RECORDED, message, finished)


CHECKS = (
    prediction_has_not_ended,  # an ended one is kept, and then deleted
    finalizer_is_set,  # a deletion can clean up
    output_is_chosen,  # the spec's, or below the administrator's folder
    output_is_free,  # nothing that others read or write is overwritten
    model_is_chosen,  # the one that serves now
    run_has_succeeded,  # after a retry if that can help
    result_is_recorded,  # MLflow has the result
)


def _succeed(context: PredictionContext, scored: Scored, finished: datetime) -> NotReady:
    rejected = Rejected(rows=sum(item.rows for item in scored.rejected), reasons=scored.rejected)
    status = _ended(context, finished).with_(rows=scored.rows, rejected=rejected, output=scored.output, report=scored.report)
    kept = scored.rows - rejected.rows
    model = context.status.model
    assert model is not None, "it was chosen before the run began"
    version = f" (version {model.version})" if model.version else ""
    scored_with = f"revision {context.status.revision}{version}"
    message = f"Scored {kept:,} of {scored.rows:,} rows with {scored_with} in {status.duration}: {scored.output}"
    if rejected.rows:
        first = ", ".join(f"{item.reason} {item.rows:,}" for item in scored.rejected[:3])
        message = sentences(message, f"Rejected {rejected.rows:,} ({first}); see {scored.report}")
    return NotReady(
        Reason.SCORED, message, status=status, stage=PredictionStage.SUCCEEDED, is_settled=True, requeue_after=context.spec.ttl
    )


def _fail(context: PredictionContext, reason: str, message: str, finished: datetime) -> NotReady:
    message = sentences(message, "Correct the cause and create another WinePrediction.")
    status = _ended(context, finished)
    return NotReady(reason, message, status=status, stage=PredictionStage.FAILED, stalled=True, requeue_after=context.spec.ttl)


def _refuse(context: PredictionContext, reason: str, message: str) -> NotReady:
    """End the prediction before its run is submitted."""
    message = sentences(message, "Create another WinePrediction with another output.")
    status = context.status.with_(finished_at=context.now)
    return NotReady(reason, message, status=status, stage=PredictionStage.FAILED, stalled=True, requeue_after=context.spec.ttl)


def _ended(context: PredictionContext, finished: datetime) -> PredictionStatus:
    finished = max(min(finished, context.now), context.status.started_at or finished)
    took = finished - (context.status.started_at or finished)
    run = context.run.recorded.with_(finished_at=finished)
    return context.status.with_(run=run, finished_at=finished, duration=_duration(took))


def _duration(took: timedelta) -> str:
    minutes, seconds = divmod(round(took.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"
