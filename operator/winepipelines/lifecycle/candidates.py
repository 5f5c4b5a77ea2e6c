"""The model of the present revision and the one that serves: which of them counts. Pure; called by the stages."""

from winepipelines.lifecycle.gate import objections
from winepipelines.lifecycle.look import Look
from winepipelines.resource.status import Candidate, Status, Trigger


def current_candidate(look: Look) -> Candidate | None:
    """Look up the model of the present revision, if there is one and the spec is still that revision's."""
    candidate = look.status.candidate
    is_current = look.status.inputs == look.inputs and candidate and candidate.revision == look.status.revision
    return candidate if is_current else None


def is_in_charge(status: Status, candidate: Candidate) -> bool:
    """Tell whether a model is the one that serves."""
    return status.served is not None and status.served.revision == candidate.revision


def stands_back(look: Look, candidate: Candidate | None) -> bool:
    """Tell whether there is no model of the present revision that may serve: what served goes on."""
    return candidate is None or bool(candidate.rejected) or bool(objections(look, candidate))


def is_on_trial(look: Look, candidate: Candidate) -> bool:
    """Tell whether a model that may serve is tried beside the one that does, before it takes over.

    Not one for another runtime, which may speak another protocol than the deployment as a whole.
    """
    served, over = look.status.served, candidate.trial is not None and candidate.trial.promoted
    if served is None or over or look.status.trigger is Trigger.ROLLBACK:
        return False
    alike = served.runtime is candidate.runtime
    return alike and served.uri != candidate.uri and not is_in_charge(look.status, candidate)


def served_inputs(status: Status) -> str:
    """Hash of the spec that the serving model was made of; "" where nothing serves.

    A status that was written before this was recorded tells it only of the present revision.
    """
    served = status.served
    if served is None:
        return ""
    return served.inputs or (status.inputs if served.revision == status.revision else "")
