"""The way of a prediction: a model is chosen, one run scores the file with it, and its result is recorded. Called by `decide`.

One run, whatever crashes when: the model is written before the run is asked for, and `lifecycle.run` sees to the rest.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from winepipelines.lifecycle import reasons as run_reasons
from winepipelines.lifecycle.actions import AddFinalizer
from winepipelines.lifecycle.gate import RETRAIN
from winepipelines.lifecycle.run import Lost, see_through
from winepipelines.lifecycle.setback import past
from winepipelines.predictions import reasons
from winepipelines.predictions.actions import DeleteResource
from winepipelines.predictions.look import Held, Look, Record, held, recorded
from winepipelines.predictions.questions import Outcome, Pipeline, UsesOfOutput
from winepipelines.resource.addresses import AddressError, S3Address, may_be_object, parse
from winepipelines.resource.outcome import Scored
from winepipelines.resource.pipeline import FINALIZER
from winepipelines.resource.prediction import REPORT_SUFFIX, PredictionSpec, PredictionStage, PredictionStatus, Rejected
from winepipelines.resource.status import ConditionType, Run

NAMED = 3  # WinePipelines that a message names


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


def output_is_free(look: Look) -> Held | None:
    """Before the run: its output is neither what it reads, nor a pipeline's data, nor what another prediction writes.

    What is in the store already is the step's to judge, which can look: see `winesteps.outputs`.
    """
    if look.status.run is not None:
        return None
    output = look.spec.output
    if (what := source_written_over(look.spec)) is not None:
        return _refuse(look, reasons.OUTPUT_IS_SOURCE, f"{what} is the input itself: it would be lost")
    use = look.at(UsesOfOutput())
    if use.trained_on:
        named = ", ".join(use.trained_on[:NAMED])
        message = f"output {output}, or the report beside it, is the training data of WinePipeline {named}: it would be lost"
        return _refuse(look, reasons.OUTPUT_IS_SOURCE, message)
    for claim in use.claims:
        named = f"WinePrediction {claim.namespace}/{claim.name}"
        if claim.stage is PredictionStage.FAILED or (look.spec.overwrite and claim.stage is PredictionStage.SUCCEEDED):
            continue
        if claim.stage is PredictionStage.SUCCEEDED:
            message = f"{named} has written its output to {output}; only with spec.overwrite: true it is replaced"
            return _refuse(look, reasons.OUTPUT_CLAIMED, message)
        if not claim.begun and (claim.created_at, claim.uid) > (look.prediction.created_at, look.prediction.uid):
            continue  # it came later, and is the one that is refused
        if claim.deleting:
            message = f"{named}, which writes to {output} too, is being deleted; this waits until it is gone"
            return Held(reasons.OUTPUT_CLAIMED, message, wake_in=look.policy.retry_interval)
        return _refuse(look, reasons.OUTPUT_CLAIMED, f"{named} writes its output to {output} too, and came first")
    return None


def source_written_over(spec: PredictionSpec) -> str | None:
    """Say which of the objects that are written is the input; None where none is."""
    try:
        source, output = parse(spec.input.url), parse(spec.output)
    except AddressError:
        return None  # the step says what is wrong with it
    if not isinstance(output, S3Address):
        return None
    if may_be_object(source, output.bucket, output.key):
        return f"output {output}"
    report = f"{output.key}{REPORT_SUFFIX}"
    return f"the report s3://{output.bucket}/{report}" if may_be_object(source, output.bucket, report) else None


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
    if not view.served.digest and not view.takes_unsigned:
        message = (
            f"the model that WinePipeline {name!r} serves has no signed record: it was made before records were signed. This "
            f"waits for another: kubectl -n {look.prediction.namespace} annotate --overwrite winepipeline {name} {RETRAIN}"
        )
        return Held(run_reasons.MODEL_UNSIGNED, message, wake_in=look.policy.check_interval)
    return Record(look.status.with_(model=view.served))


def run_has_succeeded(look: Look) -> Record | Held | None:
    """There is one run, which is waited for, but not for ever, and tried again where that may help."""
    said = see_through(look.run)
    if isinstance(said, Lost):
        return _fail(look, said.reason, said.message, said.finished)
    return Record(recorded(look, said)) if isinstance(said, Run) else held(look, said)


def result_is_recorded(look: Look) -> Held:
    """MLflow knows what the run has done."""
    found = look.at(Outcome(look.run.recorded.id))
    finished = look.run.view.finished_at or look.now
    if found.scored is not None:
        return _succeed(look, found.scored, finished)
    if found.refused:
        return _fail(look, reasons.RESULT_REFUSED, found.refused, finished)
    if look.now < past(finished, look.now) + look.policy.records_grace:
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
    output_is_free,  # nothing is written over what others read or write
    model_is_chosen,  # the one that serves now
    run_has_succeeded,  # its one run, tried again where that may help
    result_is_recorded,  # which has left its result
)


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


def _refuse(look: Look, reason: str, message: str) -> Held:
    """End it before it has begun."""
    advice = "make another WinePrediction with another output"
    status = look.status.with_(finished_at=look.now)
    return Held(reason, f"{message}; {advice}", status=status, stage=PredictionStage.FAILED, stalled=True, wake_in=look.spec.ttl)


def _ended(look: Look, finished: datetime) -> PredictionStatus:
    finished = max(min(finished, look.now), look.status.started_at or finished)
    took = finished - (look.status.started_at or finished)
    run = look.run.recorded.with_(finished_at=finished)
    return look.status.with_(run=run, finished_at=finished, duration=_duration(took))


def _duration(took: timedelta) -> str:
    minutes, seconds = divmod(round(took.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"
