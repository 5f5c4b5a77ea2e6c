"""Fourth stage: the serving platform has rolled the model out, after its trial where there is one. Called by `decide`."""

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.attempts import attempt_is_current
from winepipelines.lifecycle.candidates import current_candidate
from winepipelines.lifecycle.look import Held, Look, Outcome, Passed
from winepipelines.lifecycle.questions import Deployment
from winepipelines.lifecycle.rolling import deployment_can_be_made, reference, roll_out, wait_for_rollout
from winepipelines.lifecycle.trial import trial_is_passed
from winepipelines.resource.rollout import Rollout
from winepipelines.resource.status import Candidate, Stage


def deploy(look: Look) -> Outcome:
    """See to the deployment of this revision's model."""
    candidate = current_candidate(look)
    assert candidate is not None, "train comes first"
    if (said := attempt_is_current(look, candidate)) is not None:
        return said
    if candidate.rejected and look.status.served is not None:
        return Held(candidate.rejected, candidate.rejected_message, stage=Stage.FAILED, stalled=True)
    if (tried := trial_is_passed(look, candidate)) is not None:
        return tried
    rollout = Rollout(reference(candidate))
    view = look.at(Deployment(rollout))
    return (
        deployment_can_be_made(look, view)
        or roll_out(look, candidate, view, rollout)
        or wait_for_rollout(look, candidate, view)
        or Passed(reasons.ROLLED_OUT, f"revision {candidate.revision} is rolled out{_without_shares(look, candidate)}")
    )


def _without_shares(look: Look, candidate: Candidate) -> str:
    """Say of a canary that it took no shares of the traffic where the platform has none to give."""
    trial = candidate.trial
    if look.spec.serving.canary is None or trial is None or not trial.promoted or trial.step:
        return ""
    return "; this platform does not split traffic, so it was checked on its own service before it took over"
