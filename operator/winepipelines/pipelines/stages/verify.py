"""Stage verify: the endpoint predicts what the model itself predicts."""

from dataclasses import replace
from datetime import datetime, timedelta

from winecontract.reasons import WITHOUT_EXAMPLE, Reason
from winepipelines.api.errors import PlatformError
from winepipelines.api.messages import sentences
from winepipelines.api.observed import DeploymentView, PredictionCheck
from winepipelines.api.rollout import Rollout
from winepipelines.api.status import (
    Candidate,
    Condition,
    ConditionType,
    Rejection,
    RevisionOutcome,
    ServedModel,
    Stage,
    Status,
)
from winepipelines.api.timeouts import Timeouts
from winepipelines.pipelines.context import Done, NotReady, ReconcileContext, StatusUpdate
from winepipelines.pipelines.history import ended
from winepipelines.pipelines.queries import GetDeployment, ProbeEndpoint
from winepipelines.pipelines.rollout.candidates import is_serving, required_candidate
from winepipelines.pipelines.rollout.rollout import UNANSWERED, pod_starts, reject, settling

RESTS = "No pod is running: the next request starts one, and the operator probes the model while pods run."


def success_is_recorded(context: ReconcileContext) -> StatusUpdate | None:
    """A candidate that passes its prediction check has no open failure and no rejection."""
    candidate = required_candidate(context)
    check = last_check(context, candidate)
    if check is None or not check.passed or (candidate.verification_started_at is None and candidate.rejection is None):
        return None
    accepted = candidate.with_(verification_started_at=None, rejection=None)
    return StatusUpdate(context.status.with_(candidate=accepted))


def first_failure_is_recorded(context: ReconcileContext) -> StatusUpdate | None:
    """The time that a candidate has to answer correctly starts with its first failure."""
    candidate = required_candidate(context)
    if not _fails(context, candidate) or candidate.verification_started_at is not None or _keeps_serving(context, candidate):
        return None
    if _is_denied_by_mesh(context, candidate):
        return None
    return StatusUpdate(context.status.with_(candidate=candidate.with_(verification_started_at=context.now)))


def verify_window_starts_with_pods(context: ReconcileContext) -> StatusUpdate | None:
    """The time that a candidate has to answer does not include the start of its pods from zero."""
    candidate = required_candidate(context)
    earlier = context.status.condition(ConditionType.ENDPOINT_VERIFIED)
    if candidate.verification_started_at in (None, context.now) or not _fails(context, candidate):
        return None
    if earlier is None or earlier.reason != Reason.ENDPOINT_STARTING or _view(context, candidate).scaled_to_zero:
        return None
    return StatusUpdate(context.status.with_(candidate=candidate.with_(verification_started_at=context.now)))


def endpoint_has_started(context: ReconcileContext) -> NotReady | None:
    """A model that was scaled to zero answers once its pod has started, which the first request causes.

    Until then, and up to the progress deadline, no model is judged.
    """
    candidate = required_candidate(context)
    check = last_check(context, candidate)
    if check is None or check.passed or check.reason not in UNANSWERED or not _view(context, candidate).scaled_to_zero:
        return None
    since = candidate.verification_started_at or failing_since(context)
    starting = pod_starts(context, candidate.revision, check.url, since, candidate.model.runtime)
    return starting and replace(starting, stage=Stage.VERIFYING)


def endpoint_has_settled(context: ReconcileContext) -> NotReady | None:
    """Right after a rollout, a failed prediction check is repeated and not reported."""
    candidate = required_candidate(context)
    check = last_check(context, candidate)
    if check is None or check.passed:
        return None
    not_ready = settling(context, candidate, _rolled_out_at(context), check.url)
    return not_ready and replace(not_ready, stage=Stage.VERIFYING, condition=ConditionType.READY)


def mesh_admits_the_operator(context: ReconcileContext) -> NotReady | None:
    """The service mesh lets the operator reach the endpoint. Its refusal says nothing about the model, which is not rejected."""
    candidate = required_candidate(context)
    check = last_check(context, candidate)
    if check is None or not _is_denied_by_mesh(context, candidate):
        return None
    return NotReady(check.reason, check.message, requeue_after=context.timeouts.retry_interval, stage=Stage.VERIFYING)


def prediction_matches(context: ReconcileContext) -> StatusUpdate | NotReady | None:
    """The endpoint returns the model's own prediction for the model's own example, within the verify window.

    A model that failed for the whole window is rejected. On probation it is rolled back instead. A model that has served for
    longer stays: the operator keeps checking it.
    """
    candidate = required_candidate(context)
    check = last_check(context, candidate)
    if check is None or check.passed:
        return None
    again = context.timeouts.retry_interval
    if candidate.verification_started_at is None or _keeps_serving(context, candidate):
        return NotReady(check.reason, check.message, requeue_after=again, stage=Stage.VERIFYING)
    if context.now < candidate.verification_started_at + context.timeouts.verify_window:
        return NotReady(check.reason, check.message, requeue_after=min(again, context.timeouts.verify_window / 4))
    if is_on_probation(context.status, context.timeouts, context.now):
        return _roll_back(context, candidate, check)
    return reject(context, candidate, check.reason, check.message)


CHECKS = (
    success_is_recorded,  # a candidate that answers correctly is accepted
    first_failure_is_recorded,  # the verify window starts
    verify_window_starts_with_pods,  # and starts again once pods run
    endpoint_has_started,  # the first request may have to start a pod
    endpoint_has_settled,  # the nodes may not know the new pods yet
    mesh_admits_the_operator,  # the platform lets the operator ask
    prediction_matches,  # the answer is right
)


def verified(context: ReconcileContext) -> Done:
    """Describe the last prediction check."""
    candidate = required_candidate(context)
    check = last_check(context, candidate)
    if check is not None:
        return answers(candidate.revision, check)
    if rests(context, candidate, _view(context, candidate)):
        return rested(context, candidate.revision)
    earlier = context.status.condition(ConditionType.ENDPOINT_VERIFIED)
    assert earlier is not None, "without a check, last_check relies on this condition"
    return Done(earlier.reason, earlier.message)


def _view(context: ReconcileContext, candidate: Candidate) -> DeploymentView:
    """Return what stage deploy observed of the candidate's rollout."""
    return context.observe(GetDeployment(Rollout(candidate.revision, candidate.model), context.backend))


def failing_since(context: ReconcileContext) -> datetime:
    """Return when a served model stopped answering: now, if the status does not say so yet."""
    earlier = context.status.condition(ConditionType.ENDPOINT_VERIFIED)
    return context.now if earlier is None or was_answering(earlier) else earlier.last_transition_time


def _fails(context: ReconcileContext, candidate: Candidate) -> bool:
    check = last_check(context, candidate)
    return check is not None and not check.passed


def _is_denied_by_mesh(context: ReconcileContext, candidate: Candidate) -> bool:
    check = last_check(context, candidate)
    return check is not None and not check.passed and check.reason == Reason.MESH_ACCESS_DENIED


def _keeps_serving(context: ReconcileContext, candidate: Candidate) -> bool:
    """Tell whether the model has served past its probation. A failed check does not end such a revision."""
    return is_serving(context.status, candidate) and not is_on_probation(context.status, context.timeouts, context.now)


def _rolled_out_at(context: ReconcileContext) -> datetime:
    """Return when the last rollout was complete: now, if the status does not say so yet."""
    deployed = context.status.condition(ConditionType.DEPLOYED)
    return deployed.last_transition_time if deployed is not None and deployed.status == "True" else context.now


def is_on_probation(status: Status, timeouts: Timeouts, now: datetime) -> bool:
    """Tell whether the served model was promoted recently, and the previous one could serve again."""
    served, previous = status.served, status.previous
    if served is None or served.serving_since is None or previous is None:
        return False
    return status.revision == served.revision and now < served.serving_since + timeouts.probation


def check_interval(status: Status, timeouts: Timeouts, now: datetime) -> timedelta:
    """Return how old the last prediction check may be."""
    return timeouts.probation_interval if is_on_probation(status, timeouts, now) else timeouts.check_interval


def _roll_back(context: ReconcileContext, candidate: Candidate, check: PredictionCheck) -> StatusUpdate:
    """Let the previous model serve again."""
    previous = context.status.previous
    assert previous is not None, "it is on probation"
    rolled_back = f"Rolled back revision {candidate.revision}; revision {previous.revision} serves again."
    message = sentences(check.message, rolled_back)
    status = ended(context.status, context.spec, RevisionOutcome.ROLLED_BACK, check.reason, context.now)
    rejected = candidate.with_(rejection=Rejection(reason=check.reason, message=message))
    return StatusUpdate(
        status.with_(candidate=rejected, served=previous.with_(alias="", backend=_backend(context)), previous=None)
    )


def _backend(context: ReconcileContext) -> str:
    """Name the serving backend of the served model as its record does."""
    return context.status.served.backend if context.status.served is not None else ""


def last_check(context: ReconcileContext, candidate: Candidate) -> PredictionCheck | None:
    """Return the prediction check of the endpoint. None if MLflow lacks the expected prediction, and an earlier check passed.

    None also while the model is scaled to zero and answered before: a check would start a pod for nothing.
    Raises PlatformError if there was no earlier check.
    """
    if rests(context, candidate, _view(context, candidate)):
        return None
    try:
        return context.observe(ProbeEndpoint(candidate.model, context.backend))
    except PlatformError as error:
        in_charge = is_serving(context.status, candidate)
        if in_charge and was_answering(context.status.condition(ConditionType.ENDPOINT_VERIFIED)):
            return None
        if not in_charge and error.reason in WITHOUT_EXAMPLE:  # a defect of the model: it cannot pass
            return PredictionCheck(context.now, False, reason=error.reason, message=error.message)
        raise


def rests(context: ReconcileContext, candidate: Candidate | ServedModel, view: DeploymentView) -> bool:
    """Tell whether the served model is scaled to zero and answered correctly when it was last probed."""
    served = context.status.served
    if not view.scaled_to_zero or served is None or served.revision != candidate.revision:
        return False
    probed = ProbeEndpoint(candidate.model, context.backend) in context.answers  # just now, before it became the served model
    return not probed and was_answering(context.status.condition(ConditionType.ENDPOINT_VERIFIED))


def rested(context: ReconcileContext, revision: int) -> Done:
    """Describe the last check of a model that is scaled to zero since."""
    endpoint = context.status.endpoint
    where = f" at {endpoint.url}" if endpoint is not None else ""
    message = f"Revision {revision} returned the model's own prediction{where} when it was last probed."
    return Done(Reason.PREDICTION_MATCHED, f"{message} {RESTS}")


def answers(revision: int, check: PredictionCheck) -> Done:
    """Describe a passed check, in a text that the next check does not change."""
    return Done(Reason.PREDICTION_MATCHED, f"Revision {revision} returns the model's own prediction at {check.url}")


def was_answering(condition: Condition | None) -> bool:
    """Tell whether a condition was True at the last status write."""
    return condition is not None and condition.status == "True"
