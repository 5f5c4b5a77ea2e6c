"""Roll a model out: the checks that a canary and the takeover by a candidate have in common."""

from datetime import datetime, timedelta

from winecontract.reasons import PLATFORM_FAILURES, Reason
from winepipelines.api.messages import capitalized, sentences
from winepipelines.api.observed import DeploymentView, Presence
from winepipelines.api.rollout import Rollout
from winepipelines.api.spec import Runtime
from winepipelines.api.status import Candidate, ConditionType, Rejection, RevisionOutcome, Stage
from winepipelines.pipelines.actions import ApplyDeployment
from winepipelines.pipelines.conditions import MESSAGE_LIMIT
from winepipelines.pipelines.context import NotReady, ReconcileContext, StatusUpdate
from winepipelines.pipelines.history import ended
from winepipelines.pipelines.rollout.candidates import is_serving

SETTLING = timedelta(seconds=10)  # after a rollout: from then on, an endpoint that does not answer is reported
PROBE_INTERVAL = timedelta(seconds=0.5)  # meanwhile
UNANSWERED = (Reason.ENDPOINT_UNREACHABLE, Reason.PREDICTION_REJECTED)  # also while pods start, or no node knows them yet


def deployment_can_be_applied(context: ReconcileContext, view: DeploymentView) -> NotReady | None:
    """The API server serves the backend's kind, and the object of this name is the resource's own."""
    retry, serving = context.timeouts.retry_interval, view.object
    if view.presence is Presence.KIND_MISSING:
        message = (
            f"The API server does not serve the kind {serving.kind}. Ask the platform's administrator to install "
            f"{serving.product}."
        )
        return NotReady(Reason.SERVING_BACKEND_MISSING, message, stalled=True, requeue_after=retry)
    if view.presence is Presence.NOT_MANAGED:
        namespace, name = context.pipeline.namespace, context.pipeline.name
        message = view.message or (
            f"{serving.kind} {namespace}/{name} exists but is not managed by this operator for this WinePipeline. Delete it "
            f"(kubectl -n {namespace} delete {serving.resource} {name}) or rename the WinePipeline."
        )
        return NotReady(Reason.NOT_MANAGED, message, stalled=True, requeue_after=retry)
    return None


def roll_out(context: ReconcileContext, candidate: Candidate, view: DeploymentView, rollout: Rollout) -> NotReady | None:
    """The serving backend has the rollout; apply it otherwise."""
    if view.presence is Presence.CURRENT:
        return None
    drift = _drift(context, candidate, view)
    corrected = drift and f"{drift}. Applied it again for revision {candidate.revision}."
    apply = ApplyDeployment(rollout, corrected, context.backend)
    started = None if _cannot_apply(context, apply) else candidate.rollout_started_at or context.now
    since = candidate.with_(rollout_started_at=started, verification_started_at=None)
    return NotReady(
        Reason.ROLLOUT_IN_PROGRESS,
        sentences(drift, f"Rolling out revision {candidate.revision}."),
        actions=(apply,),
        status=context.status.with_(candidate=since),
        requeue_after=context.timeouts.rollout_interval,
    )


def _cannot_apply(context: ReconcileContext, apply: ApplyDeployment) -> bool:
    """Tell whether the deployment could not be applied, now or the last time: the progress deadline has not begun then."""
    deployed = context.current_condition(ConditionType.DEPLOYED)
    failed = deployed is not None and deployed.status == "False" and deployed.reason in PLATFORM_FAILURES
    return failed or any(apply == action for action in context.failures)


def wait_for_rollout(context: ReconcileContext, candidate: Candidate, view: DeploymentView) -> StatusUpdate | NotReady | None:
    """The rollout is complete, or its progress deadline has not passed; reject the candidate otherwise."""
    if view.rolled_out:
        if candidate.rollout_started_at is None:
            return None
        return StatusUpdate(context.status.with_(candidate=candidate.with_(rollout_started_at=None)))
    if view.outage:
        if candidate.rollout_started_at is not None:
            return StatusUpdate(context.status.with_(candidate=candidate.with_(rollout_started_at=None)))
        return NotReady(view.reason, _fullest_message(context, view), requeue_after=context.timeouts.rollout_interval)
    since = candidate.rollout_started_at or context.now
    if candidate.rollout_started_at is None:
        return StatusUpdate(context.status.with_(candidate=candidate.with_(rollout_started_at=since)))
    problem = _fullest_message(context, view)
    if view.reason == Reason.MODEL_TAMPERED:  # the server compared the digests and does not load the files
        message = sentences(f"Revision {candidate.revision} is rejected", problem)
        return reject(context, candidate, view.reason, message)
    progress_deadline = context.timeouts.progress_deadline_of(candidate.model.runtime)
    deadline = since + progress_deadline
    if context.now >= deadline:
        minutes = progress_deadline.total_seconds() / 60
        late = f"Revision {candidate.revision} was not rolled out within {minutes:.3g} minutes"
        message = sentences(late, capitalized(view.passing) or problem)
        return reject(context, candidate, view.reason or Reason.PROGRESS_DEADLINE_EXCEEDED, message)
    requeue_after = min(context.timeouts.rollout_interval, deadline - context.now)
    return NotReady(view.reason or Reason.ROLLOUT_IN_PROGRESS, problem, requeue_after=requeue_after)


def settling(context: ReconcileContext, candidate: Candidate, since: datetime, endpoint: str) -> NotReady | None:
    """Probe again soon and report nothing yet, right after the rollout that ended at `since`; None later.

    Nodes learn of new pods shortly after Kubernetes reports them ready, and may send requests to the earlier ones until then.
    """
    if context.now >= since + min(SETTLING, context.timeouts.verify_window / 2):
        return None
    message = f"Revision {candidate.revision} is rolled out. Waiting for an answer from {endpoint}"
    return NotReady(Reason.ROLLOUT_IN_PROGRESS, message, requeue_after=PROBE_INTERVAL)


def pod_starts(context: ReconcileContext, revision: int, url: str, since: datetime, runtime: Runtime) -> NotReady | None:
    """Report that the first request starts a pod, which has until the progress deadline; None once that has passed."""
    deadline = since + context.timeouts.progress_deadline_of(runtime)
    if context.now >= deadline:
        return None
    message = (
        f"No pod of revision {revision} is running; the first request starts one. Waiting for an answer from {url} "
        f"until {deadline:%H:%M:%S} UTC."
    )
    return NotReady(Reason.ENDPOINT_STARTING, message, requeue_after=context.timeouts.rollout_interval)


def reject(context: ReconcileContext, candidate: Candidate, reason: str, message: str) -> StatusUpdate | NotReady:
    """Reject a model, which ends its revision. The model that served before serves again.

    If none served, its pods stay for inspection, and it serves after all if they become ready. A model that serves already stays.
    """
    served = context.status.served
    if served is not None and served.revision == candidate.revision:
        return NotReady(reason, message, stalled=True, requeue_after=context.timeouts.retry_interval)
    if served is None and candidate.rejection and candidate.rejection.reason == reason:
        return NotReady(reason, message, stalled=True, requeue_after=context.timeouts.retry_interval, stage=Stage.FAILED)
    keeps_serving = f"Revision {served.revision} keeps serving." if served is not None else ""
    rejection = Rejection(reason=reason, message=sentences(message, keeps_serving)[:MESSAGE_LIMIT])
    status = context.status.with_(candidate=candidate.with_(rejection=rejection))
    return StatusUpdate(ended(status, context.spec, RevisionOutcome.REJECTED, reason, context.now))


def _drift(context: ReconcileContext, candidate: Candidate, view: DeploymentView) -> str:
    """Describe what others did to an object that was rolled out for this very spec; empty if nothing."""
    deployed = context.current_condition(ConditionType.DEPLOYED)
    terminated = deployed is not None and deployed.reason == Reason.DEPLOYMENT_TERMINATING
    if not (is_serving(context.status, candidate) and (terminated or context.was_true(ConditionType.DEPLOYED))):
        return ""
    name = f"{view.object.kind} {context.pipeline.namespace}/{context.pipeline.name}"
    if view.presence is Presence.ABSENT:
        return f"{name} was deleted"
    return f"{name} drifted from the desired state" if view.drifted else ""


def _fullest_message(context: ReconcileContext, view: DeploymentView) -> str:
    """Describe what delays the rollout. A shorter message about the same problem does not replace a fuller one."""
    message = capitalized(view.message) or "The serving backend is rolling the model out"
    known = context.status.condition(ConditionType.DEPLOYED)
    if known is not None and known.reason == view.reason and known.message.startswith(message):
        return known.message
    return sentences(message, view.remedy) if view.remedy else message
