"""Second stage: this revision has one run, and the run has logged a model. Called by `decide`.

One run a revision: the revision is written before the run is asked for, and `run` sees to it that there is one.
"""

from dataclasses import replace

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.candidates import current_candidate
from winepipelines.lifecycle.history import ended, entry_of
from winepipelines.lifecycle.look import Held, Look, Outcome, Passed, Record, first, held
from winepipelines.lifecycle.questions import Records, Server, Stored
from winepipelines.lifecycle.run import Lost, end, see_through, submission_in_doubt
from winepipelines.lifecycle.setback import past
from winepipelines.lifecycle.triggers import (
    cancel_is_possible,
    clocks_are_set,
    revision_is_begun,
    rollback_is_possible,
    superseded_run_has_ended,
)
from winepipelines.resource.observed import RunState
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
    ignored = f"; ignored: {candidate.ignored}" if candidate.ignored else ""
    message = f"revision {candidate.revision} has a model ({version}{r2}) at {candidate.uri}{ignored}"
    if candidate.warnings:
        message = f"{message}. {' '.join(candidate.warnings)}"
    return Passed(reasons.MODEL_LOGGED, message)


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
    run = look.run
    if any(view.state is RunState.SUCCEEDED for view in run.own):
        return None
    message = f"the annotation {GROUP}/cancel has ended revision {look.status.revision}"
    if run.live:
        return held(look, end(run, reasons.RUN_CANCELED, f"{message}: ending its run"))
    doubt = submission_in_doubt(run) if not run.own else None
    return held(look, doubt) or _finish(look, reasons.RUN_CANCELED, message, Ending.CANCELED)


def run_has_succeeded(look: Look) -> Record | Held | None:
    """The revision has one run, which is waited for, but not for ever, and tried again where that may help."""
    said = see_through(look.run)
    if isinstance(said, Lost):
        return _finish(look, said.reason, said.message)
    return Record(look.status.with_(run=said)) if isinstance(said, Run) else held(look, said)


def model_is_logged(look: Look) -> Held | None:
    """MLflow knows the model that the run trained."""
    found = look.at(_records(look))
    if found.model is not None:
        return None
    if found.refused:
        return _finish(look, found.refused_reason or reasons.MODEL_RECORD_REFUSED, found.refused)
    finished = past(look.run.view.finished_at or look.now, look.now)
    if look.now < finished + look.policy.records_grace:
        message = "the run has succeeded; waiting for its model in MLflow"
        return Held(reasons.MODEL_PENDING, message, wake_in=look.policy.retry_interval)
    return _finish(
        look,
        reasons.MODEL_NOT_LOGGED,
        f"the run succeeded, but MLflow has no finished run in experiment {look.spec.training.experiment!r} with this "
        "resource's uid, revision and Kubeflow run in its tags; is the tracking server that steps write to the one that the "
        f"operator asks?{f' Ignored: {found.foreign}' if found.foreign else ''}",
    )


def model_is_stored(look: Look) -> Held | None:
    """The serving platform will be able to copy it."""
    model = look.at(_records(look)).model
    assert model is not None, "model_is_logged comes first"
    stored = look.at(Stored(model.uri))
    if stored.readable:
        return None
    return Held(stored.reason, stored.message, stalled=True, wake_in=look.policy.retry_interval)


BEGINNING = (
    clocks_are_set,  # the schedules can be read
    cancel_is_possible,  # or it is told why not
    rollback_is_possible,  # and so is a rollback
    superseded_run_has_ended,  # of an earlier revision, where another begins
    server_can_read_the_model,  # nothing is trained in vain
    revision_is_begun,  # by another spec, a schedule, a person, other data
)
CHECKS = (
    revision_has_not_failed,  # what failed for good is not tried again
    run_is_wanted,  # unless a person has it ended
    run_has_succeeded,  # its one run, tried again where that may help
    model_is_logged,  # MLflow has the model
    model_is_stored,  # and the store has its files
)


def _records(look: Look) -> Records:
    """Ask for what this revision's own run recorded; a clone of it has another id."""
    return Records(look.status.revision, look.run.recorded.id)


def _run_of(look: Look) -> Record:
    found = look.at(_records(look))
    model = found.model
    assert model is not None, "model_is_logged has passed"
    uri, served, runtime = look.at(Stored(model.uri)).uri, look.status.served, look.spec.serving.runtime
    kept = served if served and served.uri == uri else look.at(Server(runtime))
    candidate = Candidate(
        revision=look.status.revision,
        uri=uri,
        mlflow_run=model.mlflow_run,
        version=model.version,
        runtime=runtime,
        image=kept.image,
        executor=kept.executor,
        registered_model=look.pipeline.registered_model,
        digest=model.digest,
        example_digest=model.example_digest,
        metrics=model.metrics,
        inputs=look.inputs,
        data_sha256=model.data_sha256,
        data_etag=model.data_etag,
        data_version=model.data_version,
        data=model.data,
        warnings=model.warnings,
        served_problem=model.served_problem,
        ignored=found.foreign,
    )
    run = look.run.recorded.with_(finished_at=look.run.view.finished_at)
    return Record(look.status.with_(candidate=candidate, run=run))


def _finish(look: Look, reason: str, message: str, ending: Ending = Ending.FAILED) -> Held:
    """End the revision: only another one helps."""
    final = _failed(reason, message)
    run = look.run.recorded
    finished = next((view.finished_at for view in look.run.views if view.id == run.id), None)
    status = look.status.with_(run=run.with_(finished_at=finished or look.now))
    status = ended(status, look.spec, ending, reason, look.now)
    return replace(final, status=status)


def _failed(reason: str, message: str) -> Held:
    return Held(reason, message, stage=Stage.FAILED, stalled=True)
