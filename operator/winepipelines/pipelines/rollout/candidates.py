"""The candidate, which is the model of the current revision, and the served model."""

from winepipelines.api.status import Candidate, Status, Trigger
from winepipelines.pipelines.context import ReconcileContext
from winepipelines.pipelines.stages.gate import objections


def current_candidate(context: ReconcileContext) -> Candidate | None:
    """Return the model of the current revision, if there is one and the spec is still that revision's."""
    candidate = context.status.candidate
    is_current = context.status.inputs_hash == context.inputs_hash and candidate and candidate.revision == context.status.revision
    return candidate if is_current else None


def required_candidate(context: ReconcileContext) -> Candidate:
    """Return the model of the current revision, in a stage after training."""
    candidate = current_candidate(context)
    assert candidate is not None, "train precedes this stage"
    return candidate


def is_serving(status: Status, candidate: Candidate) -> bool:
    """Tell whether a candidate is the served model."""
    return status.served is not None and status.served.revision == candidate.revision


def has_no_eligible_candidate(context: ReconcileContext, candidate: Candidate | None) -> bool:
    """Tell whether the current revision has no model that may serve, so that the served model stays."""
    return candidate is None or candidate.rejection is not None or bool(objections(context, candidate))


def is_canary(context: ReconcileContext, candidate: Candidate) -> bool:
    """Tell whether a candidate runs as a canary beside the served model before it takes over.

    A candidate for another runtime does not: its server may speak another protocol than the served model's.
    """
    served, over = context.status.served, candidate.canary is not None and candidate.canary.promoted
    if served is None or over or context.status.trigger is Trigger.ROLLBACK:
        return False
    alike = served.model.runtime is candidate.model.runtime
    return alike and served.model.uri != candidate.model.uri and not is_serving(context.status, candidate)


def served_inputs_hash(status: Status) -> str:
    """Hash of the spec that the served model was trained for; empty if nothing serves."""
    return status.served.model.inputs_hash if status.served is not None else ""
