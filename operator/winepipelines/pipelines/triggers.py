"""What starts a revision: another spec, a schedule, a request by annotation, or other data.

Another spec and a rollback take effect at once and supersede the current revision. Everything else waits until the current
revision has ended, so that there is one at a time. `spec.suspend` delays whatever would submit a run.
"""

from winecontract.reasons import Reason
from winepipelines.api.naming import run_name
from winepipelines.api.observed import RunState
from winepipelines.api.status import (
    Candidate,
    ConditionType,
    DataCheckStatus,
    HistoryEntry,
    RevisionOutcome,
    Run,
    Stage,
    Status,
    Trigger,
)
from winepipelines.pipelines import schedule
from winepipelines.pipelines.context import NotReady, ReconcileContext, StatusUpdate, run_not_ready
from winepipelines.pipelines.history import SERVED_OUTCOMES, ended, entry_of, run_is_over
from winepipelines.pipelines.queries import CheckArtifact, GetServer
from winepipelines.pipelines.rollout.candidates import current_candidate, has_no_eligible_candidate, is_serving
from winepipelines.pipelines.schedule import ScheduleError
from winepipelines.runs.ending import submission_in_doubt, terminate


def schedules_are_set(context: ReconcileContext) -> StatusUpdate | NotReady | None:
    """The schedules are valid, and the status has their next times."""
    training, status = context.spec.training, context.status
    try:
        retraining = schedule.current(status.schedule, training.schedule, training.time_zone, context.now)
        checks = status.data_check or DataCheckStatus()
        checking = schedule.current(checks.schedule, context.spec.data.check_schedule, training.time_zone, context.now)
    except ScheduleError as error:
        message = f"spec.training.schedule, spec.training.timeZone or spec.data.checkSchedule is invalid: {error}"
        return NotReady(Reason.SCHEDULE_INVALID, message, stage=Stage.FAILED, stalled=True)
    changes: dict[str, object] = {"schedule": retraining}
    if checking is not None or status.data_check is not None:
        changes["data_check"] = checks.with_(schedule=checking)
    changed = status.with_(**changes)
    return None if changed == status else StatusUpdate(changed)


def rollback_is_possible(context: ReconcileContext) -> StatusUpdate | None:
    """A requested rollback that is not possible is reported once."""
    wanted = context.pipeline.requests.rollback
    if wanted == context.status.handled.rollback:
        return None
    problem = _rollback_problem(context, wanted) if wanted else ""
    if wanted and not problem:
        return None
    handled = context.status.handled.with_(rollback=wanted, rejection_message=problem)
    return StatusUpdate(context.status.with_(handled_requests=handled))


def cancel_is_possible(context: ReconcileContext) -> StatusUpdate | None:
    """A requested cancellation that is not possible is reported once.

    `run_is_wanted` handles that of the current revision, or of a later one.
    """
    wanted = context.pipeline.requests.cancel
    if wanted == context.status.handled.cancel or (problem := _cancel_problem(context, wanted)) is None:
        return None
    handled = context.status.handled.with_(cancel=wanted, rejection_message=problem)
    return StatusUpdate(context.status.with_(handled_requests=handled))


def superseded_run_has_ended(context: ReconcileContext) -> NotReady | None:
    """The run of an earlier revision has ended before the next one starts: at most one is live."""
    if context.status.run is None or run_is_over(context.status) or due(context) is None:
        return None
    run = context.run
    ending = terminate(run, Reason.SUPERSEDED, "Terminating the run of the earlier revision.") if run.live else None
    return run_not_ready(context, ending or submission_in_doubt(run))


def revision_is_begun(context: ReconcileContext) -> StatusUpdate | NotReady | None:
    """Nothing is due that starts another revision."""
    trigger = due(context)
    if trigger is None:
        return None
    if context.spec.suspend and trigger in (Trigger.CREATED, Trigger.SPEC_CHANGE):
        message = "The spec has changed. No run is submitted while spec.suspend is true."
        return NotReady(Reason.SUSPENDED, message, stage=Stage.SUSPENDED, waiting=False)
    return StatusUpdate(_started(context, trigger))


def due(context: ReconcileContext) -> Trigger | None:
    """Return what starts a revision now. None if nothing does."""
    status, requests = context.status, context.pipeline.requests
    if status.inputs_hash != context.inputs_hash:
        return Trigger.SPEC_CHANGE if status.revision else Trigger.CREATED
    if requests.rollback != status.handled.rollback:  # `rollback_is_possible` has checked it
        return Trigger.ROLLBACK
    settled = is_settled(context)
    if context.spec.suspend or not (settled or is_stuck(context)):
        return None
    if retrain_is_pending(context):
        return Trigger.REQUEST
    if not (settled or _is_without_model(status)):
        return None
    if status.schedule is not None and context.now >= status.schedule.next_time:
        return Trigger.SCHEDULE
    if status.data_check is not None and status.data_check.changed:
        return Trigger.DATA_CHANGE
    return None


def retrain_is_pending(context: ReconcileContext) -> bool:
    """Tell whether a requested retraining has not started."""
    return context.pipeline.requests.retrain not in ("", context.status.handled.retrain)


def is_stuck(context: ReconcileContext) -> bool:
    """Tell whether the current revision waits for a correction by a person. A request may then start another one."""
    stalled, prepared = (context.status.condition(kind) for kind in (ConditionType.STALLED, ConditionType.PREPARED))
    current = stalled is not None and stalled.observed_generation == context.pipeline.generation
    if context.status.run is not None and context.status.run.end_reason == Reason.SUPERSEDED:
        return True  # its run is being terminated for another one
    return current and prepared is not None and prepared.status == "True"


def _is_without_model(status: Status) -> bool:
    """Tell whether a run has succeeded whose model is missing or unreadable. Another run may produce a usable one."""
    return status.candidate is None and status.run is not None and status.run.state == RunState.SUCCEEDED


def is_settled(context: ReconcileContext) -> bool:
    """Tell whether the current revision has ended, and no rollout of its model is in progress."""
    candidate = current_candidate(context)
    if entry_of(context.status, context.status.revision) is None:
        return False
    return candidate is None or has_no_eligible_candidate(context, candidate) or is_serving(context.status, candidate)


def _started(context: ReconcileContext, trigger: Trigger) -> Status:
    status, requests, now = context.status, context.pipeline.requests, context.now
    if status.revision and entry_of(status, status.revision) is None:
        status = ended(status, context.spec, RevisionOutcome.SUPERSEDED, Reason.SUPERSEDED, now)
    revision = status.revision + 1
    changes: dict[str, object] = {
        "revision": revision,
        "trigger": trigger,
        "inputs_hash": context.inputs_hash,
        "candidate": None,
        "run": None,
    }
    if trigger is Trigger.ROLLBACK:
        changes["candidate"] = _restored(context, revision)
        changes["handled_requests"] = status.handled.with_(rollback=requests.rollback, rejection_message="")
        return status.with_(**changes)
    changes["run"] = Run(name=run_name(context.pipeline, revision))
    if requests.retrain != status.handled.retrain:
        changes["handled_requests"] = status.handled.with_(retrain=requests.retrain, rejection_message="")
    if trigger is Trigger.SCHEDULE and status.schedule is not None:
        changes["schedule"] = schedule.advance(status.schedule, now)
    if status.data_check is not None:
        changes["data_check"] = status.data_check.with_(changed=False, failure_message="", sha256="", etag="")
    return status.with_(**changes)


def _restored(context: ReconcileContext, revision: int) -> Candidate:
    """Make the model of an earlier revision the candidate of this one."""
    entry = _entry_wanted(context, context.pipeline.requests.rollback)
    assert entry is not None, "rollback_is_possible has passed"
    assert entry.model is not None, "rollback_is_possible has passed"
    return Candidate(revision=revision, model=entry.model)


def _entry_wanted(context: ReconcileContext, wanted: str) -> HistoryEntry | None:
    return entry_of(context.status, int(wanted)) if wanted.isdecimal() and len(wanted) < 10 else None


def _cancel_problem(context: ReconcileContext, wanted: str) -> str | None:
    """Explain why a revision cannot be canceled. Empty if it is canceled already, None if it can be."""
    if not wanted:
        return ""
    if not wanted.isdecimal() or len(wanted) >= 10:
        return f"Cannot cancel {wanted[:32]!r}: set the annotation to the number of a revision."
    entry = entry_of(context.status, int(wanted))
    if entry is not None:
        return "" if entry.outcome is RevisionOutcome.CANCELED else f"Cannot cancel revision {wanted}: it has ended."
    if int(wanted) == context.status.revision and run_is_over(context.status):
        return f"Cannot cancel revision {wanted}: its run has succeeded and its model is recorded."
    return None if int(wanted) >= context.status.revision else ""


def _rollback_problem(context: ReconcileContext, wanted: str) -> str:
    """Explain why a rollback is not possible. Empty if it is. Raises as `observe` does."""
    entry, served = _entry_wanted(context, wanted), context.status.served
    model = entry.model if entry is not None else None
    known = sorted(item.revision for item in context.status.history if item.outcome in SERVED_OUTCOMES)
    if entry is None or entry.outcome not in SERVED_OUTCOMES:
        these = ", ".join(map(str, known)) or "none"
        return f"Cannot roll back to {wanted[:32]!r}: the revisions in status.history that served are: {these}."
    if model is None or not model.mlflow_run:
        return f"Cannot roll back to revision {wanted}: an older version of the operator recorded it."
    if served is not None and model.uri == served.model.uri:
        return f"Cannot roll back to revision {wanted}: its model serves already."
    server = context.observe(GetServer(model.runtime, context.backend))
    if server.problem and model.runtime is not context.spec.serving.runtime:
        return f"Cannot roll back to revision {wanted}: {server.problem}"
    if not model.digest and not server.takes_unsigned:
        return f"Cannot roll back to revision {wanted}: its model has no signed record."
    stored = context.observe(CheckArtifact(model.uri, context.backend))
    return "" if stored.readable else f"Cannot roll back to revision {wanted}: {stored.message}"
