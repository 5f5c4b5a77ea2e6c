"""One run in Kubeflow Pipelines, from its submission to its end, whatever it is for. Pure; called by `train` and `predictions`.

There is one, whatever crashes when: it is looked for by its name before it is submitted, and it is written that it was asked for.
What fails for a passing reason is tried again: each attempt is a run of its own, with the images and settings of that time, and
begins when the run before it has ended.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.actions import DeleteRun, TerminateRun
from winepipelines.lifecycle.setback import past
from winepipelines.resource.errors import NotSent, PlatformError, Refused
from winepipelines.resource.observed import RunState, RunView, StepFailure, StepsView
from winepipelines.resource.policy import Policy
from winepipelines.resource.spec import parse_duration
from winepipelines.resource.status import Run


@dataclass(frozen=True)
class Words:
    """What is said differently of a run, by what it is for."""

    pending: str
    timeout: str  # the field that limits it
    after_timeout: str
    after_termination: str = ""


@dataclass(frozen=True)
class RunLook:
    """One look at a run: as it was recorded, as Kubeflow Pipelines has it, and what it may cost.

    `name` is that of the first attempt; `views` are all runs of the recorded name, `submission` is the action that starts it,
    `failures` are the actions of this look that failed. `failure` looks up what a step wrote of its failure to MLflow, `steps`
    how Workflow and pods are, `settings` with what a run is submitted now; they raise as `look.answer` does. `suspended`: nothing
    is started. `store` asks the object store anything, and raises where it does not answer.
    """

    name: str
    recorded: Run
    views: tuple[RunView, ...]
    now: datetime
    policy: Policy
    submission: Any
    failures: Mapping[Any, PlatformError]
    failure: Callable[[], StepFailure | None]
    steps: Callable[[], StepsView]
    settings: Callable[[], str]
    attempts: int
    timeout: str
    words: Words
    suspended: bool = False
    store: Callable[[], object] = lambda: None

    @property
    def own(self) -> tuple[RunView, ...]:
        """The runs of this name that the operator submitted: the one that counts, and what else its submission made.

        The one that counts is the recorded one, before that the oldest. A later run of its name is someone else's: a clone.
        """
        recorded = self.recorded.id
        counts = next((view for view in self.views if recorded in ("", view.id)), None)
        if counts is None:
            return ()
        latest = counts.created_at + self.policy.submit_grace
        return (counts, *(view for view in self.views if view.id != counts.id and view.created_at <= latest))

    @property
    def view(self) -> RunView:
        """The run that counts. There must be one."""
        return self.own[0]

    @property
    def seen_steps(self) -> StepsView:
        """How Workflow and pods are; not known where the API server does not say."""
        try:
            return self.steps()
        except PlatformError:
            return StepsView()

    @property
    def live(self) -> tuple[RunView, ...]:
        """All that may still do something."""
        return tuple(view for view in self.own if view.live)


@dataclass(frozen=True)
class Waits:
    """What the run waits for, and what is done about it. `run` is what is to be recorded of it."""

    reason: str
    message: str
    actions: tuple[Any, ...] = ()
    run: Run | None = None
    wake_in: timedelta | None = None
    stalled: bool = False


@dataclass(frozen=True)
class Lost:
    """It has failed for good."""

    reason: str
    message: str
    finished: datetime


Said = Run | Waits | Lost | None  # a Run is what has become known of it


def see_through(look: RunLook) -> Said:
    """See a run through to its success, of which there is nothing to say."""
    return next((said for check in CHECKS if (said := check(look)) is not None), None)


def run_is_submitted(look: RunLook) -> Said:
    """There is a run of this name in Kubeflow Pipelines."""
    run = look.recorded
    if look.own:
        return None
    if run.id:
        reason, message = run.end_reason or reasons.RUN_DELETED, f"run {run.id} is no longer in Kubeflow Pipelines"
        if reason == reasons.WORKFLOW_DELETED:
            message = f"someone deleted the Workflow {run.workflow} of run {run.id}"
        elif _never_started(run):
            message = run.problem_message
        return _attempt_failed(look, reason, message, run.started_at or look.now) or _next_attempt(look, reason)
    if (error := look.failures.get(look.submission)) is not None:
        run = run.with_(submitted_at=None) if isinstance(error, NotSent | Refused) else run  # certainly not carried out
        stalled = isinstance(error, Refused)
        return Waits(error.reason, error.message, (), run, look.policy.retry_interval, stalled)
    if (doubt := submission_in_doubt(look)) is not None:
        return doubt
    if look.suspended:
        return _suspended("the run has not begun")
    message, run = "submitting the run to Kubeflow Pipelines", run.with_(submitted_at=look.now, settings=look.settings())
    return Waits(reasons.SUBMITTING, message, (look.submission,), run, look.policy.retry_interval)


def run_is_single(look: RunLook) -> Said:
    """A submission that was carried out twice leaves one run too many."""
    kept = look.view
    extra = tuple(view for view in look.live if view.id != kept.id)
    if not extra:
        return None
    message = f"Kubeflow Pipelines has {len(extra)} more of run {kept.id}: removing them"
    return Waits(reasons.DUPLICATE_RUN, message, _deletions(extra))


def run_is_recorded(look: RunLook) -> Said:
    """The status says which run it is and how it stands."""
    run, view = look.recorded, look.view
    changes: dict[str, object] = {"id": view.id, "url": view.url, "state": view.state.value}
    if run.started_at is None:
        changes["started_at"] = run.submitted_at or view.created_at
    if run.submitted_at is None:
        changes["submitted_at"] = view.created_at
    if view.state is RunState.CANCELING and run.end_requested_at is None:
        changes["end_reason"] = reasons.RUN_TERMINATED  # by someone else; KFP says FAILED in the end
    recorded = run.with_(**changes)
    return None if recorded == run else recorded


def workflow_is_there(look: RunLook) -> Said:
    """A live run has its Workflow: without it the run would be live for ever, and its steps are gone."""
    run, view = look.recorded, look.view
    lost = run.end_reason == reasons.WORKFLOW_DELETED
    if not view.live or (run.end_requested_at is not None and not lost):
        return None
    seen = look.seen_steps
    if not lost and (not seen.known or seen.workflow or not run.workflow):
        known = run.with_(workflow=seen.workflow)
        return known if seen.workflow and known != run else None
    message = f"the Workflow {run.workflow} of the run was deleted: removing the run"
    ending = run.with_(end_requested_at=run.end_requested_at or look.now, end_reason=reasons.WORKFLOW_DELETED)
    return Waits(reasons.WORKFLOW_DELETED, message, _deletions(look.live), ending, look.policy.retry_interval)


def steps_can_start(look: RunLook) -> Said:
    """The pods of its steps start; what keeps one from it is told at once, and ends the attempt in the end.

    Sooner where the platform's settings have changed since it was submitted: an image that was corrected, for example.
    """
    run, view = look.recorded, look.view
    if not view.live or run.end_requested_at is not None:
        return None
    problem = look.seen_steps.problem
    if problem is None:
        if run.problem_since is None:
            return None
        waited = look.now - run.problem_since  # which is not the run's time
        started = run.started_at and min(run.started_at + waited, look.now)
        return run.with_(problem="", problem_message="", problem_since=None, started_at=started)
    message = f"step {problem.step} cannot start: {problem.message}"
    known = run.with_(problem=problem.reason, problem_message=message, problem_since=run.problem_since or look.now)
    if known != run:
        return known
    if run.settings != look.settings():
        return end(look, problem.reason, f"{message}; the platform's settings have changed since: starting anew")
    assert run.problem_since is not None, "it was just recorded"
    deadline = min(run.problem_since + look.policy.progress_deadline, _deadline(look))
    if look.now >= deadline:
        return end(look, problem.reason, f"{message}; ending the run")
    stalled = problem.reason in reasons.CANNOT_START
    return Waits(problem.reason, f"{message}; run {view.url or view.id}", wake_in=deadline - look.now, stalled=stalled)


def run_is_in_time(look: RunLook) -> Said:
    """A live run is waited for, and ended at the timeout."""
    run, view = look.recorded, look.view
    if not view.live:
        return None
    deadline = _deadline(look)
    if run.end_requested_at is not None or look.now >= deadline:
        return end(look, reasons.RUN_TIMED_OUT, f"{_why_it_ends(look)}: ending it")
    reason, message = {
        RunState.PENDING: (reasons.PENDING, look.words.pending),
        RunState.PAUSED: (reasons.PENDING, "the run is paused in Kubeflow Pipelines"),
        RunState.CANCELING: (reasons.ENDING, "someone has asked Kubeflow Pipelines to end the run"),
    }.get(view.state, (reasons.RUNNING, "the run is under way"))
    attempt = f", {_attempt(look, run)}" if run.attempt > 1 else ""
    return Waits(reason, f"{message}{attempt}: {view.url or view.id}", wake_in=deadline - look.now)


def run_succeeded(look: RunLook) -> Said:
    """A run that failed is tried again where that may help."""
    run, view = look.recorded, look.view
    if view.state is RunState.SUCCEEDED:
        return None
    finished = view.finished_at or run.started_at or look.now
    if (waits := _is_yet_to_be_explained(look, finished)) is not None:
        return waits
    reason, message, permanent = _why(look)
    if reason == reasons.RUN_FAILED and (outage := _outage(look)) is not None:
        return run.with_(problem=outage.reason, problem_message=f"{message}; {outage.message}")
    return _attempt_failed(look, reason, message, finished, permanent=permanent) or _next_attempt(look, reason)


def _next_attempt(look: RunLook, reason: str) -> Run:
    """Begin the next attempt, under a name of its own: its run is looked for before it is submitted, as the first one's."""
    run, uncounted = look.recorded, _is_uncounted(look.recorded, reason)
    attempt = run.attempt + 1
    return Run(name=f"{look.name}-{attempt}", attempt=attempt, spared=run.spared + uncounted)


CHECKS = (
    run_is_submitted,  # there is a run
    run_is_single,  # and only one
    run_is_recorded,  # which the status names
    workflow_is_there,  # which Argo can carry out
    steps_can_start,  # and Kubernetes
    run_is_in_time,  # which is waited for, but not for ever
    run_succeeded,  # tried again where that may help
)


def submission_in_doubt(look: RunLook) -> Waits | None:
    """A submission that was not answered may yet be carried out: wait before believing that there is no run."""
    run = look.recorded
    if run.id or run.submitted_at is None or look.now >= (settled := run.submitted_at + look.policy.submit_grace):
        return None
    message = "the run was submitted, and Kubeflow Pipelines does not show it yet"
    return Waits(reasons.SUBMITTING, message, wake_in=settled - look.now)


def end(look: RunLook, reason: str, message: str) -> Waits:
    """Ask for the end of what is live; remove it where that has no effect."""
    run, asked = look.recorded, look.recorded.end_requested_at
    if asked is None:
        timeout = look.timeout if reason == reasons.RUN_TIMED_OUT else ""
        asked, run = look.now, run.with_(end_requested_at=look.now, end_reason=reason, exceeded_timeout=timeout)
    late = look.now >= asked + look.policy.terminate_grace
    actions = _deletions(look.live) if late else _terminations(look.live)
    return Waits(reasons.ENDING, message, actions, run, look.policy.retry_interval)


def end_for_deletion(look: RunLook) -> Waits | None:
    """Have Kubeflow Pipelines told to end the run of a resource that goes; None where that is done."""
    again = look.policy.retry_interval
    if stuck := tuple(view for view in look.live if _cannot_be_ended(look, view)):
        return Waits(reasons.DELETING, "removing a run that does not end", _deletions(stuck), wake_in=again)
    if asked := _terminations(look.live):
        return Waits(reasons.DELETING, "ending the run", asked, wake_in=again)
    doubt = None if look.own else submission_in_doubt(look)
    return doubt and Waits(reasons.DELETING, "waiting for the submitted run to show", wake_in=doubt.wake_in)


def _cannot_be_ended(look: RunLook, view: RunView) -> bool:
    """Tell whether asking for a run's end has failed: without its Workflow it would be CANCELING for ever."""
    error = look.failures.get(TerminateRun(view.id))
    return error is not None and not isinstance(error, NotSent)


def _deletions(views: tuple[RunView, ...]) -> tuple[DeleteRun, ...]:
    return tuple(DeleteRun(view.id) for view in views)


def _terminations(views: tuple[RunView, ...]) -> tuple[TerminateRun, ...]:
    return tuple(TerminateRun(view.id) for view in views if view.state is not RunState.CANCELING)


def _why(look: RunLook) -> tuple[str, str, bool]:
    """Say why a run failed: reason, message, and whether only a change helps."""
    run, view = look.recorded, look.view
    if run.end_reason == reasons.RUN_TIMED_OUT:
        return run.end_reason, f"{_timed_out(look)}{look.words.after_timeout} {view.url}", False
    if run.end_reason == reasons.RUN_TERMINATED or view.state is RunState.CANCELED:
        message = f"someone ended run {view.id} in Kubeflow Pipelines{look.words.after_termination}"
        return reasons.RUN_TERMINATED, message, True
    if _never_started(run):
        return run.problem, run.problem_message, False
    if run.problem == reasons.STORE_UNAVAILABLE:
        return run.problem, run.problem_message, False
    if (failure := _failure(look)) is not None:
        return failure.reason, f"step {failure.step}: {failure.message}", failure.permanent
    step = f"step {view.failed_step} failed" if view.failed_step else "the run failed before any step did"
    return reasons.RUN_FAILED, f"{step} and left no reason, neither in its pod nor in MLflow; its log is at {view.url}", False


def _outage(look: RunLook) -> PlatformError | None:
    """Tell whether the object store is away: Kubeflow's launcher then fails a step before or after its work, without a word."""
    try:
        look.store()
    except PlatformError as error:
        return error if error.reason == reasons.STORE_UNAVAILABLE else None
    return None


def _why_it_ends(look: RunLook) -> str:
    """Say why a live run is ended: it may have been asked to end before its time."""
    run = look.recorded
    if run.end_reason in ("", reasons.RUN_TIMED_OUT):
        return _timed_out(look)
    return run.problem_message or f"the run was asked to end ({run.end_reason})"


def _timed_out(look: RunLook) -> str:
    """Quote the timeout that ended the run: the spec may have another one by now."""
    return f"the run took longer than {look.words.timeout} ({look.recorded.exceeded_timeout or look.timeout})"


def _failure(look: RunLook) -> StepFailure | None:
    """Look up why a step of this run failed: in its own words, from its pod or MLflow, else in those of Kubernetes."""
    seen = look.seen_steps
    if seen.explained:
        return seen.failure
    try:
        return look.failure() or seen.failure
    except PlatformError:
        if seen.failure is None:
            raise
        return seen.failure


def _never_started(run: Run) -> bool:
    """Tell whether the operator ended a run because one of its steps could not start."""
    return bool(run.problem) and run.end_reason == run.problem


def _is_uncounted(run: Run, reason: str) -> bool:
    """Tell whether the platform failed an attempt."""
    return reason in reasons.SPARED or _never_started(run)


def _deadline(look: RunLook) -> datetime:
    return (look.recorded.started_at or look.now) + parse_duration(look.timeout)


def _is_yet_to_be_explained(look: RunLook, finished: datetime) -> Waits | None:
    """Wait a moment for a word on a failure: Kubeflow Pipelines calls a run failed before it does its task."""
    view, explained = look.view, past(finished, look.now) + look.policy.explain_grace
    asked_for = look.recorded.end_reason or view.state is RunState.CANCELED
    if asked_for or view.failed_step or look.now >= explained or _failure(look) is not None:
        return None
    return Waits(reasons.ENDING, "the run has failed; waiting for the step that did to show", wake_in=EXPLAIN_INTERVAL)


def _attempt_failed(
    look: RunLook, reason: str, message: str, finished: datetime, *, permanent: bool = False
) -> Waits | Lost | None:
    """Judge a failed attempt; None where the next one may start now."""
    run, policy, never_started = look.recorded, look.policy, _never_started(look.recorded)
    uncounted = _is_uncounted(run, reason)
    too_many = reason in reasons.SPARED and run.spared >= UNCOUNTED_LIMIT
    if permanent or too_many or (not uncounted and run.attempt - run.spared >= look.attempts):
        tried = f" ({_attempt(look, run)})" if not permanent and look.attempts > 1 else ""
        tried = f" ({run.spared + 1} attempts in vain)" if too_many else tried
        return Lost(reason, f"{message}{tried}", finished)
    if look.suspended:
        return _suspended("an attempt has failed")
    if never_started and run.settings != look.settings():
        return None
    limit = policy.start_backoff_limit if never_started else policy.attempt_backoff_limit
    due = past(finished, look.now) + min(policy.attempt_backoff * 2 ** min(run.attempt - 1, 16), limit)
    if look.now >= due:
        return None
    failed = "this does not count as an attempt" if uncounted else f"{_attempt(look, run)} failed"
    message = f"{message} ({failed}, the next one starts at {due:%H:%M:%S} UTC)"
    return Waits(reason, message, wake_in=due - look.now, stalled=never_started)


def _suspended(what: str) -> Waits:
    return Waits(reasons.SUSPENDED, f"{what}; spec.suspend is true, so no run is started")


def _attempt(look: RunLook, run: Run) -> str:
    return f"attempt {run.attempt - run.spared} of {look.attempts}"


EXPLAIN_INTERVAL = timedelta(seconds=1)
UNCOUNTED_LIMIT = 20  # attempts that the platform failed, after which a person is asked
