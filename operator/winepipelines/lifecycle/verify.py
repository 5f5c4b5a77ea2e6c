"""Fourth stage: the endpoint answers as the model itself does. Called by `decide`."""

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.deploy import reference, reject
from winepipelines.lifecycle.look import Held, Look, Outcome, Passed, Record
from winepipelines.lifecycle.questions import Answer
from winepipelines.lifecycle.train import current_candidate
from winepipelines.resource.errors import Unavailable
from winepipelines.resource.observed import PredictionCheck
from winepipelines.resource.status import Condition, ConditionType, Stage


def verify(look: Look) -> Outcome:
    """Ask for a prediction with the model's own example."""
    candidate = current_candidate(look)
    assert candidate is not None, "deploy comes first"
    check = look.at(Answer(reference(candidate)))
    if check.passed:
        return answers(candidate.revision, check)
    served = look.status.served
    if served is not None and served.revision == candidate.revision:
        # It has answered before: it stays, and is asked again.
        return Held(check.reason, check.message, wake_in=look.policy.retry_interval, stage=Stage.VERIFYING)
    if candidate.verifying_since is None:
        return Record(look.status.with_(candidate=candidate.with_(verifying_since=look.now)))
    if look.now >= candidate.verifying_since + look.policy.verify_window:
        return reject(look, candidate, check.reason, check.message)
    return Held(check.reason, check.message, wake_in=min(look.policy.retry_interval, look.policy.verify_window / 4))


def served_answers(look: Look) -> Passed | Held | None:
    """Judge the earlier model, which serves as long as the present revision has none that may.

    None where nothing can be said: nothing serves, or another model is being rolled out in its place.
    """
    served = look.status.served
    candidate = current_candidate(look)
    if served is None or (candidate is not None and not candidate.rejected):
        return None
    try:
        check = look.at(Answer(reference(served)))
    except Unavailable as error:
        return Held(error.reason, error.message)
    return answers(served.revision, check) if check.passed else Held(check.reason, check.message)


def answers(revision: int, check: PredictionCheck) -> Passed:
    """Say that a check passed, in words that the next check does not change."""
    return Passed(reasons.ANSWERS, f"revision {revision} answers {check.url} as the model itself does")


def was_answering(condition: Condition | None) -> bool:
    """Whether the last word on the endpoint was that it answers."""
    return condition is not None and condition.type == ConditionType.ANSWERING and condition.status == "True"
