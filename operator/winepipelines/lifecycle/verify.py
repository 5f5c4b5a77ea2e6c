"""Fourth stage: the endpoint answers as the model itself does. Called by `decide`."""

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.deploy import reference, reject
from winepipelines.lifecycle.look import Held, Look, Outcome, Passed, Record
from winepipelines.lifecycle.questions import Answer
from winepipelines.lifecycle.train import current_candidate
from winepipelines.resource.errors import PlatformError
from winepipelines.resource.observed import PredictionCheck
from winepipelines.resource.status import Candidate, Condition, ConditionType, Stage


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
        return answers(candidate.revision, check)
    if serves(look, candidate):
        # It has answered before: it stays, and is asked again.
        return Held(check.reason, check.message, wake_in=look.policy.retry_interval, stage=Stage.VERIFYING)
    if candidate.verifying_since is None:
        return Record(look.status.with_(candidate=candidate.with_(verifying_since=look.now)))
    if look.now >= candidate.verifying_since + look.policy.verify_window:
        return reject(look, candidate, check.reason, check.message)
    return Held(check.reason, check.message, wake_in=min(look.policy.retry_interval, look.policy.verify_window / 4))


def served_answers(look: Look) -> Passed | Held | None:
    """Judge the earlier model, which serves as long as the present revision has none that may.

    None where nothing can be said: nothing serves, another model is being rolled out in its place, or MLflow does not say what
    it should answer.
    """
    served = look.status.served
    candidate = current_candidate(look)
    if served is None or (candidate is not None and not candidate.rejected):
        return None
    try:
        check = look.at(Answer(reference(served)))
    except PlatformError:
        return None
    return answers(served.revision, check) if check.passed else Held(check.reason, check.message)


def last_check(look: Look, candidate: Candidate) -> PredictionCheck | None:
    """Check the endpoint; None where the last check has to do, because MLflow does not say what the model should answer.

    Raises PlatformError where there was no check before.
    """
    try:
        return look.at(Answer(reference(candidate)))
    except PlatformError:
        if serves(look, candidate) and was_answering(look.status.condition(ConditionType.ANSWERING)):
            return None
        raise


def serves(look: Look, candidate: Candidate) -> bool:
    """Tell whether a model is the one that serves."""
    return look.status.served is not None and look.status.served.revision == candidate.revision


def answers(revision: int, check: PredictionCheck) -> Passed:
    """Say that a check passed, in words that the next check does not change."""
    return Passed(reasons.ANSWERS, f"revision {revision} answers {check.url} as the model itself does")


def was_answering(condition: Condition | None) -> bool:
    """Whether the last word on the endpoint was that it answers."""
    return condition is not None and condition.status == "True"
