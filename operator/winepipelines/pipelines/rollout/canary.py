"""Run a candidate beside the served model, and compare them, before it takes over.

The candidate is reachable at an endpoint of its own: a model that answers wrongly never receives traffic. With
`spec.serving.canary` it then receives its shares of the traffic one after another, if the serving backend splits traffic. If it
does not, the comparison at its own endpoint is the whole canary, and the status says so. After a failure, the served model
receives all traffic again at once.
"""

from datetime import timedelta

from winecontract.reasons import WITHOUT_EXAMPLE, Reason
from winepipelines.api.errors import PlatformError
from winepipelines.api.messages import capitalized, sentences
from winepipelines.api.observed import CanaryComparison
from winepipelines.api.rollout import Rollout
from winepipelines.api.status import CanaryStatus, Candidate, ServedModel
from winepipelines.pipelines.context import NotReady, ReconcileContext, StatusUpdate
from winepipelines.pipelines.queries import CompareCanary, GetDeployment, GetServer
from winepipelines.pipelines.rollout.candidates import is_canary
from winepipelines.pipelines.rollout.rollout import (
    UNANSWERED,
    deployment_can_be_applied,
    pod_starts,
    reject,
    roll_out,
    settling,
    wait_for_rollout,
)

ERROR_RATE = 0.05  # of the predictions of one comparison
SLOWDOWN = 2.0  # times the served model's median latency, or
SLACK = timedelta(milliseconds=100)  # above it


def run_canary(context: ReconcileContext, candidate: Candidate) -> StatusUpdate | NotReady | None:
    """Advance the canary; None if there is none, or it has passed and the candidate takes over."""
    served = context.status.served
    if served is None or not is_canary(context, candidate):
        return None
    progress = candidate.canary or CanaryStatus()
    if progress.passed:
        return _promote(context, candidate, served)
    steps = _steps(context, candidate)
    step = min(progress.step, len(steps))
    rollout = canary_rollout(context, candidate, served)
    view = context.observe(GetDeployment(rollout, context.backend))
    if (blocked := deployment_can_be_applied(context, view) or roll_out(context, candidate, view, rollout)) is not None:
        return blocked
    if not view.canary_rolled_out and (waiting := wait_for_rollout(context, candidate, view)) is not None:
        return waiting
    if candidate.rollout_started_at is not None:  # its pods are ready, whatever the state of the served model's
        return StatusUpdate(
            context.status.with_(candidate=candidate.with_(rollout_started_at=None, verification_started_at=context.now))
        )
    if view.scaled_to_zero and (starting := _pods_start(context, candidate, served)) is not None:
        return starting
    if (objection := _compare(context, candidate, served)) is not None:
        return _fail(context, candidate, step, *objection)
    return _advance(context, candidate, progress.with_(step=step), steps)


def canary_rollout(context: ReconcileContext, candidate: Candidate, served: ServedModel) -> Rollout:
    """Return the rollout of both models in the present step of the canary."""
    steps = _steps(context, candidate)
    step = min((candidate.canary or CanaryStatus()).step, len(steps))
    return Rollout(served.revision, served.model, candidate.model, steps[step - 1] if step else 0)


def _steps(context: ReconcileContext, candidate: Candidate) -> tuple[int, ...]:
    canary = context.spec.serving.canary
    if canary is None or not context.observe(GetServer(candidate.model.runtime, context.backend)).splits_traffic:
        return ()
    return canary.steps


def _pods_start(context: ReconcileContext, candidate: Candidate, served: ServedModel) -> StatusUpdate | NotReady | None:
    """One of the models was scaled to zero, and the comparison has started a pod: neither is judged before that answers."""
    try:
        comparison = context.observe(CompareCanary(candidate.model, served.model, context.backend))
    except PlatformError:
        return None
    if comparison.wrong or not {comparison.reason, comparison.served_reason} & set(UNANSWERED):
        return None
    if candidate.verification_started_at is None:
        return StatusUpdate(context.status.with_(candidate=candidate.with_(verification_started_at=context.now)))
    revision = candidate.revision if comparison.reason in UNANSWERED else served.revision
    return pod_starts(context, revision, "its own endpoint", candidate.verification_started_at, candidate.model.runtime)


def _promote(context: ReconcileContext, candidate: Candidate, served: ServedModel) -> StatusUpdate | NotReady:
    """Let the candidate take over.

    If its pods cannot become the served model's, they are removed before the served model's pods are replaced: the cluster may
    have no room for both beside those that serve.
    """
    if not context.observe(GetServer(candidate.model.runtime, context.backend)).promotes_in_place:
        rollout = Rollout(served.revision, served.model)
        view = context.observe(GetDeployment(rollout, context.backend))
        if (blocked := deployment_can_be_applied(context, view) or roll_out(context, candidate, view, rollout)) is not None:
            return blocked
        # A problem of the served model's pods is no reason to wait for them.
        if not view.reason and (waiting := wait_for_rollout(context, candidate, view)) is not None:
            return waiting
    progress = candidate.canary or CanaryStatus()
    return StatusUpdate(context.status.with_(candidate=candidate.with_(canary=progress.with_(promoted=True))))


def _compare(context: ReconcileContext, candidate: Candidate, served: ServedModel) -> tuple[str, str] | None:
    """Compare both models; return reason and message of an objection. A candidate without an example has not passed.

    Raises PlatformError and NotObserved as `ReconcileContext.observe` does.
    """
    try:
        return _objection(context.observe(CompareCanary(candidate.model, served.model, context.backend)))
    except PlatformError as error:
        if error.reason not in WITHOUT_EXAMPLE:
            raise
        return error.reason, error.message


def _objection(comparison: CanaryComparison) -> tuple[str, str] | None:
    """Return reason and message of what speaks against a candidate; the message stays the same while the problem does."""
    if comparison.wrong:
        return comparison.reason, comparison.message
    if comparison.failed > ERROR_RATE * comparison.asked:
        return comparison.reason, f"{comparison.failed} of {comparison.asked} predictions failed: {comparison.message}"
    limit = max(SLOWDOWN * comparison.served_milliseconds, comparison.served_milliseconds + SLACK / timedelta(milliseconds=1))
    if comparison.milliseconds > limit:
        compared = f"{comparison.milliseconds:.0f} ms, and {comparison.served_milliseconds:.0f} ms with the served model"
        return Reason.CANARY_TOO_SLOW, f"A prediction takes {compared}"
    return None


def _fail(context: ReconcileContext, candidate: Candidate, step: int, reason: str, message: str) -> StatusUpdate | NotReady:
    """Reject the candidate: at once if it has traffic, else after the time that any new model has to answer.

    A refusal by the service mesh says nothing about the model: the candidate stays as it is until the operator may ask.
    """
    if reason == Reason.MESH_ACCESS_DENIED:
        return NotReady(reason, capitalized(message), requeue_after=context.timeouts.retry_interval)
    if step == 0:
        if candidate.verification_started_at is None:
            return StatusUpdate(context.status.with_(candidate=candidate.with_(verification_started_at=context.now)))
        if (
            reason in UNANSWERED
            and (wait := settling(context, candidate, candidate.verification_started_at, "its own endpoint")) is not None
        ):
            return wait
        deadline = candidate.verification_started_at + context.timeouts.verify_window
        if context.now < deadline:
            return NotReady(
                reason,
                capitalized(message),
                requeue_after=min(context.timeouts.retry_interval, context.timeouts.verify_window / 4),
            )
    return reject(
        context, candidate, reason, sentences(f"The canary of revision {candidate.revision} failed", capitalized(message))
    )


def _advance(
    context: ReconcileContext, candidate: Candidate, progress: CanaryStatus, steps: tuple[int, ...]
) -> StatusUpdate | NotReady:
    """Take the next step once the current one has lasted for the pause."""
    since = progress.step_started_at or context.now
    canary = context.spec.serving.canary
    until = since + canary.pause_duration if canary is not None and progress.step else context.now
    if context.now >= until:
        last = progress.step >= len(steps)
        if last:
            following = CanaryStatus(step=progress.step, step_started_at=since, passed=True)
        else:
            following = CanaryStatus(step=progress.step + 1, percent=steps[progress.step], step_started_at=context.now)
        return StatusUpdate(context.status.with_(candidate=candidate.with_(canary=following, verification_started_at=None)))
    share = f"{steps[progress.step - 1]} % of the traffic until {until:%H:%M:%S} UTC (step {progress.step} of {len(steps)})"
    message = f"The canary of revision {candidate.revision} receives {share}."
    return NotReady(Reason.CANARY_IN_PROGRESS, message, requeue_after=min(context.timeouts.canary_interval, until - context.now))
