"""Beside the stages: the served model keeps serving while the current revision has no model that may serve."""

from collections.abc import Mapping

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError
from winepipelines.api.messages import capitalized, sentences
from winepipelines.api.observed import CanaryComparison, DeploymentView, Presence
from winepipelines.api.rollout import Rollout
from winepipelines.api.status import Candidate, ConditionType, ServedModel, Stage
from winepipelines.pipelines.actions import ApplyDeployment
from winepipelines.pipelines.context import Done, NotReady, ReconcileContext
from winepipelines.pipelines.queries import CompareCanary, GetDeployment, ProbeEndpoint
from winepipelines.pipelines.rollout.canary import canary_rollout
from winepipelines.pipelines.rollout.candidates import (
    current_candidate,
    has_no_eligible_candidate,
    is_canary,
    is_serving,
    served_inputs_hash,
)
from winepipelines.pipelines.rollout.rollout import UNANSWERED, pod_starts
from winepipelines.pipelines.stages.verify import answers, failing_since, rested, rests, was_answering

Judgement = Done | NotReady


def served_model_is_deployed(context: ReconcileContext) -> NotReady | None:
    """The served model stays deployed while the current revision has no model that may serve."""
    served = context.status.served
    if served is None or not has_no_eligible_candidate(context, current_candidate(context)):
        return None
    rollout = Rollout(served.revision, served.model)
    view = context.observe(GetDeployment(rollout, context.backend))
    if view.presence not in (Presence.ABSENT, Presence.DIFFERS):
        return None
    message = f"Rolling revision {served.revision} out again."
    return NotReady(
        Reason.ROLLOUT_IN_PROGRESS,
        message,
        actions=(ApplyDeployment(rollout, backend=context.backend),),
        stage=Stage.DEPLOYING,
        condition=ConditionType.DEPLOYED,
    )


def judge_served(context: ReconcileContext) -> dict[ConditionType, Judgement]:
    """Report whether the served model is rolled out and answers, while it keeps serving beside the current revision.

    Reports nothing about what cannot be observed: another model is being rolled out in its place, or MLflow does not return its
    example.
    """
    served, candidate = context.status.served, current_candidate(context)
    if served is None:
        return {}
    found = dict[ConditionType, Judgement]()
    try:
        if has_no_eligible_candidate(context, candidate):
            view = context.observe(GetDeployment(Rollout(served.revision, served.model), context.backend))
            found[ConditionType.DEPLOYED] = _rollout(context, served, view)
            found[ConditionType.ENDPOINT_VERIFIED] = _endpoint(context, served, view)
        elif candidate is not None and is_canary(context, candidate):
            return _canary_conditions(context, candidate, served)
    except PlatformError:
        pass
    return found


def _endpoint(context: ReconcileContext, served: ServedModel, view: DeploymentView) -> Judgement:
    """Judge the answer of the served model. One that is scaled to zero and answered before is not probed."""
    if rests(context, served, view):
        return rested(context, served.revision)
    check = context.observe(ProbeEndpoint(served.model, context.backend))
    if check.passed:
        return answers(served.revision, check)
    starting = None
    if check.reason in UNANSWERED and view.scaled_to_zero:
        starting = pod_starts(context, served.revision, check.url, failing_since(context), served.model.runtime)
    return starting or NotReady(check.reason, capitalized(check.message))


def _canary_conditions(context: ReconcileContext, candidate: Candidate, served: ServedModel) -> dict[ConditionType, Judgement]:
    """Report what the comparison with a canary found about the served model."""
    comparison = context.answers.get(CompareCanary(candidate.model, served.model, context.backend))
    if not isinstance(comparison, CanaryComparison) or not comparison.served_reason:
        return {}
    if comparison.served_reason in UNANSWERED and _pod_starts(context, candidate, served):
        return {}
    return {ConditionType.ENDPOINT_VERIFIED: NotReady(comparison.served_reason, capitalized(comparison.served_message))}


def _pod_starts(context: ReconcileContext, candidate: Candidate, served: ServedModel) -> bool:
    """Tell whether the served model was scaled to zero beside a canary, and its pod still has time to start."""
    view = context.answers.get(GetDeployment(canary_rollout(context, candidate, served), context.backend))
    if not isinstance(view, DeploymentView) or not view.scaled_to_zero:
        return False
    since = candidate.verification_started_at or context.now
    return pod_starts(context, served.revision, "its own endpoint", since, served.model.runtime) is not None


def _rollout(context: ReconcileContext, served: ServedModel, view: DeploymentView) -> Judgement:
    if view.rolled_out:
        return Done(Reason.ROLLOUT_COMPLETE, f"Revision {served.revision} is rolled out.")
    message = capitalized(view.message) or f"The serving backend is rolling revision {served.revision} out."
    return NotReady(view.reason or Reason.ROLLOUT_IN_PROGRESS, message, requeue_after=context.timeouts.rollout_interval)


def ready_meanwhile(context: ReconcileContext, watched: Mapping[ConditionType, Judgement], held: NotReady) -> Done | None:
    """Report Ready if a model of this very spec serves, whatever the state of a later revision; None otherwise."""
    status, candidate = context.status, current_candidate(context)
    served = status.served
    if (
        served is None
        or served_inputs_hash(status) != context.inputs_hash
        or (candidate is not None and is_serving(status, candidate))
    ):
        return None
    if has_no_eligible_candidate(context, candidate):
        holds = all(isinstance(watched.get(kind), Done) for kind in (ConditionType.DEPLOYED, ConditionType.ENDPOINT_VERIFIED))
    else:  # its successor is a canary, or takes over
        answering = watched.get(ConditionType.ENDPOINT_VERIFIED, Done("", ""))
        was_ready = context.was_true(ConditionType.READY) and was_answering(status.condition(ConditionType.ENDPOINT_VERIFIED))
        holds = was_ready and isinstance(answering, Done)
    if not holds or status.endpoint is None:
        return None
    message = sentences(f"Revision {served.revision} serves at {status.endpoint.url}", _later(context, held))
    stage = Stage.SERVING if held.stage in (Stage.FAILED, Stage.SUSPENDED) else None
    return Done(Reason.SERVING, message, stage=stage)


def _later(context: ReconcileContext, held: NotReady) -> str:
    """Describe the state of the current revision, naming it once."""
    name = f"Revision {context.status.revision}"
    return held.message if held.message.startswith(name) else f"{name}: {held.message}"
