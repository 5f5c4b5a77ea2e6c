"""Stage deploy: the model of the current revision is rolled out, after a canary where another model serves."""

from winecontract.reasons import Reason
from winepipelines.api.messages import sentences
from winepipelines.api.observed import DeploymentView
from winepipelines.api.rollout import Rollout
from winepipelines.api.status import Candidate, Stage
from winepipelines.pipelines import attempts
from winepipelines.pipelines.context import Done, NotReady, ReconcileContext, StatusUpdate
from winepipelines.pipelines.queries import GetDeployment
from winepipelines.pipelines.rollout.canary import run_canary
from winepipelines.pipelines.rollout.candidates import required_candidate
from winepipelines.pipelines.rollout.rollout import deployment_can_be_applied, roll_out, wait_for_rollout


def attempt_is_current(context: ReconcileContext) -> StatusUpdate | None:
    """Record the server image and the serving settings that the candidate is tried with."""
    return attempts.attempt_is_current(context, required_candidate(context))


def candidate_is_not_rejected(context: ReconcileContext) -> NotReady | None:
    """A rejected candidate is not deployed while an earlier model can serve."""
    candidate = required_candidate(context)
    if candidate.rejection is None or context.status.served is None:
        return None
    return NotReady(candidate.rejection.reason, candidate.rejection.message, stage=Stage.FAILED, stalled=True)


def canary_has_passed(context: ReconcileContext) -> StatusUpdate | NotReady | None:
    """A candidate is compared with the served model before it takes over."""
    return run_canary(context, required_candidate(context))


def deployment_is_possible(context: ReconcileContext) -> NotReady | None:
    """The API server serves the backend's kind, and no object of someone else has this name."""
    return deployment_can_be_applied(context, _deployment(context))


def deployment_is_applied(context: ReconcileContext) -> NotReady | None:
    """The deployment has the desired manifest."""
    candidate = required_candidate(context)
    return roll_out(context, candidate, _deployment(context), _rollout(candidate))


def rollout_is_complete(context: ReconcileContext) -> StatusUpdate | NotReady | None:
    """The pods of the model are ready, within the progress deadline."""
    return wait_for_rollout(context, required_candidate(context), _deployment(context))


CHECKS = (
    attempt_is_current,  # the server image and settings to deploy with are recorded
    candidate_is_not_rejected,  # a model that failed here is not deployed again
    canary_has_passed,  # the model was compared with the served one
    deployment_is_possible,  # nothing of someone else is in the way
    deployment_is_applied,  # the manifest is applied
    rollout_is_complete,  # and the pods are ready
)


def deployed(context: ReconcileContext) -> Done:
    """Describe the rollout."""
    candidate = required_candidate(context)
    rolled_out = f"Revision {candidate.revision} is rolled out."
    return Done(Reason.ROLLOUT_COMPLETE, sentences(rolled_out, _without_shares(context, candidate)))


def _rollout(candidate: Candidate) -> Rollout:
    return Rollout(candidate.revision, candidate.model)


def _deployment(context: ReconcileContext) -> DeploymentView:
    return context.observe(GetDeployment(_rollout(required_candidate(context)), context.backend))


def _without_shares(context: ReconcileContext, candidate: Candidate) -> str:
    """Add that the canary got no share of the traffic, if the platform cannot split traffic."""
    canary = candidate.canary
    if context.spec.serving.canary is None or canary is None or not canary.promoted or canary.step:
        return ""
    return "This platform does not split traffic, so the model was compared at its own endpoint before it took over."
