"""What begins a revision: another spec, a schedule, a person, other data. Called by `train`.

A spec and a rollback take effect at once and supersede what is under way; all else waits until the present revision has come to
its end, so that there are never two at a time. `suspend` holds back whatever would start a run.
"""

from winepipelines.lifecycle import reasons, schedule
from winepipelines.lifecycle.candidates import current_candidate, is_in_charge, stands_back
from winepipelines.lifecycle.history import SERVED_OUTCOMES, ended, entry_of, run_is_over
from winepipelines.lifecycle.look import Held, Look, Record, held
from winepipelines.lifecycle.questions import Server, Stored
from winepipelines.lifecycle.run import end, submission_in_doubt
from winepipelines.lifecycle.schedule import ScheduleError
from winepipelines.resource.naming import run_name
from winepipelines.resource.observed import RunState
from winepipelines.resource.status import Candidate, ConditionType, DataCheck, HistoryEntry, Outcome, Run, Stage, Status, Trigger


def clocks_are_set(look: Look) -> Record | Held | None:
    """The schedules can be read, and the status says what is due next."""
    training, status = look.spec.training, look.status
    try:
        clock = schedule.current(status.clock, training.schedule, training.time_zone, look.now)
        checks = status.data_check or DataCheck()
        check_clock = schedule.current(checks.clock, look.spec.data.check_schedule, training.time_zone, look.now)
    except ScheduleError as error:
        message = f"spec.training.schedule, .timeZone or spec.data.checkSchedule: {error}"
        return Held(reasons.SCHEDULE_INVALID, message, stage=Stage.FAILED, stalled=True)
    changes: dict[str, object] = {"clock": clock, "next_run": clock.due if clock else None}
    if check_clock is not None or status.data_check is not None:
        changes["data_check"] = checks.with_(clock=check_clock)
    changed = status.with_(**changes)
    return None if changed == status else Record(changed)


def rollback_is_possible(look: Look) -> Record | None:
    """A rollback that cannot be is told, once."""
    wanted = look.pipeline.asks.rollback
    if wanted == look.status.asked.rollback:
        return None
    problem = _rollback_problem(look, wanted) if wanted else ""
    if wanted and not problem:
        return None
    told = look.status.asked.with_(rollback=wanted, problem=problem)
    return Record(look.status.with_(requests=told))


def cancel_is_possible(look: Look) -> Record | None:
    """A cancellation that cannot be is told, once. One of the present revision, or of one to come, is left to `train`."""
    wanted = look.pipeline.asks.cancel
    if wanted == look.status.asked.cancel or (problem := _cancel_problem(look, wanted)) is None:
        return None
    return Record(look.status.with_(requests=look.status.asked.with_(cancel=wanted, problem=problem)))


def superseded_run_has_ended(look: Look) -> Held | None:
    """A run of an earlier revision is ended before the next one begins: at most one is live."""
    if look.status.run is None or run_is_over(look.status) or due(look) is None:
        return None
    run = look.run
    ending = end(run, reasons.SUPERSEDED, "ending the run of the earlier revision") if run.live else None
    return held(look, ending or submission_in_doubt(run))


def revision_is_begun(look: Look) -> Record | Held | None:
    """What is due begins a revision."""
    trigger = due(look)
    if trigger is None:
        return None
    if look.spec.suspend and trigger in (Trigger.CREATED, Trigger.SPEC_CHANGE):
        message = "the spec has changed; spec.suspend is true, so no run is started"
        return Held(reasons.SUSPENDED, message, stage=Stage.SUSPENDED, waiting=False)
    return Record(_begun(look, trigger))


def due(look: Look) -> Trigger | None:
    """Tell what begins a revision now."""
    status, asks = look.status, look.pipeline.asks
    if status.inputs != look.inputs:
        return Trigger.SPEC_CHANGE if status.revision else Trigger.CREATED
    if asks.rollback != status.asked.rollback:  # which `rollback_is_possible` has let pass
        return Trigger.ROLLBACK
    settled = is_settled(look)
    if look.spec.suspend or not (settled or is_stuck(look)):
        return None
    if retrain_is_pending(look):
        return Trigger.REQUEST
    if not (settled or _is_without_model(status)):
        return None
    if status.clock is not None and look.now >= status.clock.due:
        return Trigger.SCHEDULE
    if status.data_check is not None and status.data_check.changed:
        return Trigger.DATA_CHANGE
    return None


def retrain_is_pending(look: Look) -> bool:
    """Tell whether a person has asked for a revision that has not begun."""
    return look.pipeline.asks.retrain not in ("", look.status.asked.retrain)


def is_stuck(look: Look) -> bool:
    """Tell whether the present revision waits for what only a person can correct: it may as well begin another one."""
    stalled, prepared = (look.status.condition(kind) for kind in (ConditionType.STALLED, ConditionType.PREPARED))
    current = stalled is not None and stalled.observed_generation == look.pipeline.generation
    if look.status.run is not None and look.status.run.end_reason == reasons.SUPERSEDED:
        return True  # its run is being ended for another one
    return current and prepared is not None and prepared.status == "True"


def _is_without_model(status: Status) -> bool:
    """Tell whether a run has succeeded whose model cannot be found or read: another run may make one that can."""
    return status.candidate is None and status.run is not None and status.run.state == RunState.SUCCEEDED


def is_settled(look: Look) -> bool:
    """Tell whether the present revision has come to its end, and nothing of it is being rolled out."""
    candidate = current_candidate(look)
    if entry_of(look.status, look.status.revision) is None:
        return False
    return candidate is None or stands_back(look, candidate) or is_in_charge(look.status, candidate)


def _begun(look: Look, trigger: Trigger) -> Status:
    status, asks, now = look.status, look.pipeline.asks, look.now
    if status.revision and entry_of(status, status.revision) is None:
        status = ended(status, look.spec, Outcome.SUPERSEDED, reasons.SUPERSEDED, now)
    revision = status.revision + 1
    changes: dict[str, object] = {"revision": revision, "trigger": trigger, "inputs": look.inputs, "candidate": None, "run": None}
    if trigger is Trigger.ROLLBACK:
        changes["candidate"] = _restored(look, revision)
        changes["requests"] = status.asked.with_(rollback=asks.rollback, problem="")
        return status.with_(**changes)
    changes["run"] = Run(name=run_name(look.pipeline, revision))
    if asks.retrain != status.asked.retrain:
        changes["requests"] = status.asked.with_(retrain=asks.retrain, problem="")
    if trigger is Trigger.SCHEDULE and status.clock is not None:
        training = look.spec.training
        clock = schedule.rung(status.clock, training.schedule, training.time_zone, now)
        changes |= {"clock": clock, "next_run": clock.due}
    if status.data_check is not None:
        changes["data_check"] = status.data_check.with_(changed=False, problem="", sha256="", etag="")
    return status.with_(**changes)


def _restored(look: Look, revision: int) -> Candidate:
    """Make the model of an earlier revision this one's."""
    entry = _entry_wanted(look, look.pipeline.asks.rollback)
    assert entry is not None, "rollback_is_possible has passed"
    taken = {name: getattr(entry, name) for name in TAKEN}
    return Candidate(revision=revision, **{**taken, "origin": entry.origin or entry.revision})


TAKEN = (
    "uri",
    "mlflow_run",
    "version",
    "runtime",
    "image",
    "executor",
    "digest",
    "example_digest",
    "metrics",
    "inputs",
)


def _entry_wanted(look: Look, wanted: str) -> HistoryEntry | None:
    return entry_of(look.status, int(wanted)) if wanted.isdecimal() and len(wanted) < 10 else None


def _cancel_problem(look: Look, wanted: str) -> str | None:
    """Say why a run cannot be canceled; "" where it has been, None where it can be."""
    if not wanted:
        return ""
    if not wanted.isdecimal() or len(wanted) >= 10:
        return f"cancel {wanted[:32]!r} is not possible: name the number of a revision"
    entry = entry_of(look.status, int(wanted))
    if entry is not None:
        return "" if entry.outcome is Outcome.CANCELED else f"cancel {wanted} is not possible: the revision has ended"
    if int(wanted) == look.status.revision and run_is_over(look.status):
        return f"cancel {wanted} is not possible: the revision has its model, and its run has ended"
    return None if int(wanted) >= look.status.revision else ""


def _rollback_problem(look: Look, wanted: str) -> str:
    """Say why a rollback cannot be; "" where it can. Raises as `Look.at` does."""
    entry, served = _entry_wanted(look, wanted), look.status.served
    known = sorted(item.revision for item in look.status.history if item.outcome in SERVED_OUTCOMES)
    if entry is None or entry.outcome not in SERVED_OUTCOMES:
        these = ", ".join(map(str, known)) or "none"
        return f"rollback to {wanted[:32]!r} is not possible: status.history has these revisions that served: {these}"
    if not entry.mlflow_run:
        return f"rollback to {wanted} is not possible: an older version of the operator recorded it"
    if served is not None and entry.uri == served.uri:
        return f"rollback to {wanted} is not needed: its model serves"
    if not entry.digest and not look.at(Server(entry.runtime)).takes_unsigned:
        return f"rollback to {wanted} is not possible: its model has no signed record, it was made before records were signed"
    stored = look.at(Stored(entry.uri))
    return "" if stored.readable else f"rollback to {wanted} is not possible: {stored.message}"
