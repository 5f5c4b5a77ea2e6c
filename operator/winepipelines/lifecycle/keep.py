"""Beside the stages: what served goes on serving as long as a later revision has nothing that may. Called by `decide`."""

from collections.abc import Mapping

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.actions import ApplyDeployment
from winepipelines.lifecycle.candidates import current_candidate, is_in_charge, is_on_trial, served_inputs, stands_back
from winepipelines.lifecycle.look import Held, Look, Passed
from winepipelines.lifecycle.questions import Answer, Deployment, Tried
from winepipelines.lifecycle.rolling import reference
from winepipelines.lifecycle.verify import answers, was_answering
from winepipelines.resource.errors import PlatformError
from winepipelines.resource.observed import Presence, TrialView
from winepipelines.resource.rollout import Rollout
from winepipelines.resource.status import Candidate, ConditionType, ServedModel, Stage

Said = Passed | Held


def keep_serving(look: Look) -> Held | None:
    """Have the earlier model serve as long as the present revision has none that may."""
    served = look.status.served
    if served is None or not stands_back(look, current_candidate(look)):
        return None
    rollout = Rollout(reference(served))
    view = look.at(Deployment(rollout))
    if view.presence not in (Presence.ABSENT, Presence.DIFFERS):
        return None
    message = f"having revision {served.revision} serve again"
    return Held(reasons.ROLLING_OUT, message, actions=(ApplyDeployment(rollout),), stage=Stage.DEPLOYING)


def judge_served(look: Look) -> dict[ConditionType, Said]:
    """Say of the earlier model, as long as it serves on, whether it is rolled out and answers.

    Nothing is said of what cannot be seen: another model is being rolled out in its place, or MLflow does not say what it should
    answer.
    """
    served, candidate = look.status.served, current_candidate(look)
    if served is None:
        return {}
    alone, said = stands_back(look, candidate), dict[ConditionType, Said]()
    if not alone and (candidate is None or not is_on_trial(look, candidate)):
        return {}
    try:
        if alone:
            said[ConditionType.DEPLOYED] = _rollout(look, served)
        elif candidate is not None:
            return _on_trial(look, candidate, served)
        check = look.at(Answer(reference(served)))
    except PlatformError:
        return said
    said[ConditionType.ANSWERING] = answers(served.revision, check) if check.passed else Held(check.reason, check.message)
    return said


def _on_trial(look: Look, candidate: Candidate, served: ServedModel) -> dict[ConditionType, Said]:
    """Say of the model that serves beside one on trial what was found while both were asked."""
    tried = look.answers.get(Tried(reference(candidate), reference(served)))
    if not isinstance(tried, TrialView) or not tried.served_reason:
        return {}
    return {ConditionType.ANSWERING: Held(tried.served_reason, tried.served_message)}


def _rollout(look: Look, served: ServedModel) -> Said:
    view = look.at(Deployment(Rollout(reference(served))))
    if view.rolled_out:
        return Passed(reasons.ROLLED_OUT, f"revision {served.revision} is rolled out")
    message = view.message or f"the serving platform is rolling revision {served.revision} out"
    return Held(view.reason or reasons.ROLLING_OUT, message, wake_in=look.policy.rollout_interval)


def ready_meanwhile(look: Look, watched: Mapping[ConditionType, Said], held: Held) -> Passed | None:
    """A model of this very spec serves, whatever becomes of a later revision. None where that is not so, or not the question."""
    status, candidate = look.status, current_candidate(look)
    served = status.served
    if served is None or served_inputs(status) != look.inputs or (candidate is not None and is_in_charge(status, candidate)):
        return None
    if stands_back(look, candidate):
        holds = all(isinstance(watched.get(kind), Passed) for kind in (ConditionType.DEPLOYED, ConditionType.ANSWERING))
    else:  # its successor is on trial, or taking over
        answering = watched.get(ConditionType.ANSWERING, Passed("", ""))
        was_ready = look.held_true(ConditionType.READY) and was_answering(status.condition(ConditionType.ANSWERING))
        holds = was_ready and isinstance(answering, Passed)
    if not holds or status.endpoint is None:
        return None
    return Passed(reasons.SERVING, f"revision {served.revision} answers at {status.endpoint.url}; {_later(look, held)}")


def _later(look: Look, held: Held) -> str:
    """Say what becomes of the present revision, which is named once."""
    name = f"revision {look.status.revision}"
    return held.message if held.message.startswith(name) else f"{name}: {held.message}"
