"""Fifth stage: the endpoint answers as the model itself does. Called by `decide`."""

from dataclasses import replace
from datetime import datetime, timedelta

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.candidates import current_candidate, is_in_charge
from winepipelines.lifecycle.history import ended
from winepipelines.lifecycle.look import Held, Look, Outcome, Passed, Record
from winepipelines.lifecycle.questions import Answer
from winepipelines.lifecycle.rolling import reference, reject, settling
from winepipelines.resource.errors import PlatformError
from winepipelines.resource.observed import PredictionCheck
from winepipelines.resource.policy import Policy
from winepipelines.resource.status import Candidate, Condition, ConditionType, Stage, Status
from winepipelines.resource.status import Outcome as Ending


def verify(look: Look) -> Outcome:
    """Ask for a prediction with the model's own example."""
    candidate = current_candidate(look)
    assert candidate is not None, "deploy comes first"
    check = last_check(look, candidate)
    if check is None:
        answering = look.status.condition(ConditionType.ANSWERING)
        assert answering is not None, "last_check has looked"
        return Passed(answering.reason, answering.message)
    if check.passed:
        if candidate.verifying_since is not None or candidate.rejected:
            accepted = candidate.with_(verifying_since=None, rejected="", rejected_message="")
            return Record(look.status.with_(candidate=accepted))
        return answers(candidate.revision, check)
    on_probation = is_on_probation(look.status, look.policy, look.now)
    stays = is_in_charge(look.status, candidate) and not on_probation  # it has answered before: it is asked again
    if candidate.verifying_since is None and not stays:
        return Record(look.status.with_(candidate=candidate.with_(verifying_since=look.now)))
    if (held := settling(look, candidate, _rolled_out_at(look), check.url)) is not None:
        return replace(held, stage=Stage.VERIFYING, condition=ConditionType.READY)  # nothing is said of the endpoint
    if stays or candidate.verifying_since is None:
        return Held(check.reason, check.message, wake_in=look.policy.retry_interval, stage=Stage.VERIFYING)
    if look.now >= candidate.verifying_since + look.policy.verify_window:
        if on_probation:
            return _roll_back(look, candidate, check)
        return reject(look, candidate, check.reason, check.message)
    return Held(check.reason, check.message, wake_in=min(look.policy.retry_interval, look.policy.verify_window / 4))


def _rolled_out_at(look: Look) -> datetime:
    """Tell when the last rollout was complete: now, where the status does not say so yet."""
    deployed = look.status.condition(ConditionType.DEPLOYED)
    return deployed.last_transition_time if deployed is not None and deployed.status == "True" else look.now


def is_on_probation(status: Status, policy: Policy, now: datetime) -> bool:
    """Tell whether what serves was promoted not long ago, in the place of a model that could serve again."""
    served, previous = status.served, status.previous
    if served is None or served.since is None or previous is None:
        return False
    return status.revision == served.revision and now < served.since + policy.probation


def check_interval(status: Status, policy: Policy, now: datetime) -> timedelta:
    """Tell how old the last prediction check may be."""
    return policy.probation_interval if is_on_probation(status, policy, now) else policy.check_interval


def _roll_back(look: Look, candidate: Candidate, check: PredictionCheck) -> Record:
    """Have the model serve again that served before."""
    previous = look.status.previous
    assert previous is not None, "it is on probation"
    message = f"{check.message}; revision {candidate.revision} is rolled back, and revision {previous.revision} serves again"
    status = ended(look.status, look.spec, Ending.ROLLED_BACK, check.reason, look.now)
    rejected = candidate.with_(rejected=check.reason, rejected_message=message)
    return Record(status.with_(candidate=rejected, served=previous.with_(alias=""), previous=None))


def last_check(look: Look, candidate: Candidate) -> PredictionCheck | None:
    """Check the endpoint; None where the last check has to do, because MLflow does not say what the model should answer.

    Raises PlatformError where there was no check before.
    """
    try:
        return look.at(Answer(reference(candidate)))
    except PlatformError as error:
        in_charge = is_in_charge(look.status, candidate)
        if in_charge and was_answering(look.status.condition(ConditionType.ANSWERING)):
            return None
        if not in_charge and error.reason in reasons.WITHOUT_EXAMPLE:  # of the model, not of the platform: it cannot pass
            return PredictionCheck(look.now, False, reason=error.reason, message=error.message)
        raise


def answers(revision: int, check: PredictionCheck) -> Passed:
    """Say that a check passed, in words that the next check does not change."""
    return Passed(reasons.ANSWERS, f"revision {revision} answers {check.url} as the model itself does")


def was_answering(condition: Condition | None) -> bool:
    """Whether the last word on the endpoint was that it answers."""
    return condition is not None and condition.status == "True"
