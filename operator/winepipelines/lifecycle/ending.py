"""Ending a run, and not believing too soon that there is none. Called by `train` and `triggers`."""

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.actions import DeleteRun, TerminateRun
from winepipelines.lifecycle.look import Held, Look
from winepipelines.resource.observed import RunState, RunView
from winepipelines.resource.status import Run


def submission_in_doubt(look: Look, run: Run) -> Held | None:
    """A submission that was not answered may yet be carried out: wait before believing that there is no run."""
    if run.id or run.submitted_at is None:
        return None
    settled = run.submitted_at + look.policy.submit_grace
    if look.now >= settled:
        return None
    message = "the run was submitted, and Kubeflow Pipelines does not show it yet"
    return Held(reasons.SUBMITTING, message, wake_in=settled - look.now)


def end(look: Look, run: Run, live: list[RunView], reason: str, message: str) -> Held:
    """Ask for the end of runs; remove them where that has no effect."""
    asked = run.end_requested_at
    if asked is None:
        asked, run = look.now, run.with_(end_requested_at=look.now, end_reason=reason)
    if look.now >= asked + look.policy.terminate_grace:
        actions: tuple[TerminateRun | DeleteRun, ...] = tuple(DeleteRun(view.id) for view in live)
    else:
        actions = tuple(TerminateRun(view.id) for view in live if view.state is not RunState.CANCELING)
    return Held(
        reasons.ENDING,
        message,
        actions=actions,
        status=look.status.with_(run=run),
        wake_in=look.policy.retry_interval,
    )
