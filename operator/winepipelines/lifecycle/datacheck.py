"""Looking, on a schedule of its own, whether there are other bytes behind `spec.data.url`. Called by `decide`, beside the stages.

A run of one step looks: the operator itself fetches nothing. Whatever becomes of it, the model and its conditions stay as they
are; what it finds begins a revision (`triggers`).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from winepipelines.lifecycle import schedule
from winepipelines.lifecycle.actions import Action, CreateDataCheck, DeleteRun, TerminateRun
from winepipelines.lifecycle.candidates import current_candidate
from winepipelines.lifecycle.look import Look
from winepipelines.lifecycle.questions import DataChecked, Runs, Steps
from winepipelines.lifecycle.setback import past
from winepipelines.lifecycle.triggers import is_settled
from winepipelines.resource.errors import PlatformError
from winepipelines.resource.naming import data_check_name
from winepipelines.resource.observed import DataCheck as DataCheckResult
from winepipelines.resource.observed import RunState, RunView
from winepipelines.resource.status import DataCheck, Status


@dataclass(frozen=True)
class Aside:
    """What is done beside the stages, and when to look again."""

    status: Status
    actions: tuple[Action, ...] = ()
    wake_in: timedelta | None = None


def look_at_data(look: Look) -> Aside:
    """Begin a look that is due, wait for one under way, and record what it found."""
    check = look.status.data_check
    if check is None:
        return Aside(look.status)
    try:
        if check.name:
            return _under_way(look, check)
        return _begin(look, check) if _is_due(look, check) else Aside(look.status)
    except PlatformError:
        return Aside(look.status, wake_in=look.policy.retry_interval)


def _is_due(look: Look, check: DataCheck) -> bool:
    training = look.spec.training
    wanted = schedule.name(look.spec.data.check_schedule, training.time_zone)  # `clocks_are_set` may not have been reached
    due = check.clock is not None and check.clock.schedule == wanted and look.now >= check.clock.due
    return due and is_settled(look) and not look.spec.suspend and not check.changed


def _begin(look: Look, check: DataCheck) -> Aside:
    assert check.clock is not None, "it is due"
    candidate, served = current_candidate(look), look.status.served
    model = candidate or served
    sha256, etag = (check.sha256, check.etag) if check.sha256 else (model.data_sha256, model.data_etag) if model else ("", "")
    count = check.count + 1
    clock = schedule.rung(check.clock, look.spec.data.check_schedule, look.spec.training.time_zone, look.now)
    name = data_check_name(look.pipeline, count)
    begun = check.with_(clock=clock, count=count, name=name, run="", inputs=look.inputs, submitted_at=look.now)
    action = CreateDataCheck(name, count, sha256, etag)
    return Aside(_with(look, begun), (action,), look.policy.retry_interval)


def _under_way(look: Look, check: DataCheck) -> Aside:
    assert check.submitted_at is not None, "it has a name"
    views = look.at(Runs(check.name))
    live = tuple(view for view in views if view.live)
    deadline = check.submitted_at + look.policy.data_check_timeout
    if check.ending:
        return _end(look, check, live, deadline) if live else _over(look, check, check.problem)
    if check.inputs != look.inputs or not is_settled(look):
        return _end(look, check, live, deadline)  # a run is under way, which fetches the data anyway
    if not views:
        waited = look.now - check.submitted_at
        if waited < look.policy.submit_grace:
            return Aside(look.status, wake_in=look.policy.submit_grace - waited)
        return _over(look, check, "the run that looks at the data could not be submitted, or was deleted")
    if not live:
        return _found(look, check, next((view for view in views if view.id == check.run), views[0]))
    if look.now >= deadline:
        return _end(look, check.with_(problem="the run that looks at the data did not end in time"), live, deadline)
    return Aside(_with(look, check.with_(run=live[0].id)), wake_in=deadline - look.now)


def _found(look: Look, check: DataCheck, view: RunView) -> Aside:
    said = look.at(DataChecked(check.count, view.id)) or _told_by_its_pod(look, view)
    finished = past(view.finished_at or look.now, look.now)
    if said is None:
        if look.now < finished + look.policy.records_grace:
            return Aside(look.status, wake_in=look.policy.retry_interval)
        return _over(look, check, f"the run that looked at the data left no word in MLflow; its log is at {view.url}")
    if said.failure is not None:
        return _over(look, check, f"{said.failure.reason}: {said.failure.message}")
    ended = check.with_(
        name="", run="", ending=False, problem="", checked_at=finished, changed=said.changed, sha256=said.sha256, etag=said.etag
    )
    return Aside(_with(look, ended), wake_in=timedelta() if said.changed else None)  # it begins a revision


def _told_by_its_pod(look: Look, view: RunView) -> DataCheckResult | None:
    """Read why its step failed where MLflow does not know."""
    if view.state is RunState.SUCCEEDED:
        return None
    seen = look.at(Steps(view.id))
    return DataCheckResult(failure=seen.failure) if seen.failure is not None else None


def _end(look: Look, check: DataCheck, live: tuple[RunView, ...], deadline: datetime) -> Aside:
    """Ask for the end of the run, or remove one that does not end; it is over when it has."""
    if not live:
        return _over(look, check, check.problem)
    late = look.now >= deadline + look.policy.terminate_grace
    actions: list[Action] = [DeleteRun(view.id) for view in live] if late else []
    actions = actions or [TerminateRun(view.id) for view in live if view.state is not RunState.CANCELING]
    untried = tuple(action for action in actions if action not in look.failures)
    return Aside(_with(look, check.with_(ending=True, run=live[0].id)), untried, look.policy.retry_interval)


def _over(look: Look, check: DataCheck, problem: str) -> Aside:
    return Aside(_with(look, check.with_(name="", run="", ending=False, problem=problem[:1024], checked_at=look.now)))


def _with(look: Look, check: DataCheck) -> Status:
    return look.status.with_(data_check=check)
