"""Stage gate: the model is signed and its metrics pass `spec.gate`.

Only the history records a refusal, so a changed gate judges the same model again. Exempt are a model that serves already and the
model of a rollback.
"""

import math

from winecontract.reasons import Reason
from winepipelines.api.pipeline import RETRAIN
from winepipelines.api.spec import Gate
from winepipelines.api.status import Candidate, RevisionOutcome, Stage, Trigger
from winepipelines.pipelines.context import Done, NotReady, ReconcileContext
from winepipelines.pipelines.history import ended
from winepipelines.pipelines.queries import GetServer

GREATER_IS_BETTER = {"r2": True, "rmse": False, "mae": False}
"""The metrics that a run also measures for the served model. Their names are prefixed with `served_`."""


def model_is_signed(context: ReconcileContext) -> NotReady | None:
    """A train step signed the model, or the administrator accepts unsigned models."""
    candidate = _candidate(context)
    unsigned = lack_of_signature(context, candidate)
    return _refuse(context, Reason.MODEL_UNSIGNED, unsigned) if unsigned else None


def metrics_pass_the_gate(context: ReconcileContext) -> NotReady | None:
    """The metrics of the model pass every rule of spec.gate."""
    candidate = _candidate(context)
    against = objections(context, candidate)
    if not against:
        return None
    return _refuse(context, Reason.GATE_FAILED, f"Revision {candidate.revision} failed the gate: {'; '.join(against)}.")


CHECKS = (
    model_is_signed,  # somebody vouches for its files
    metrics_pass_the_gate,  # and its metrics are good enough
)


def accepted(context: ReconcileContext) -> Done:
    """Describe the metrics that the model was accepted with."""
    return Done(Reason.ACCEPTED, _acceptance(context, _candidate(context)))


def objections(context: ReconcileContext, candidate: Candidate) -> tuple[str, ...]:
    """List what prevents a model from serving, each with its number."""
    if unsigned := lack_of_signature(context, candidate):
        return (unsigned,)
    if _is_exempt(context, candidate):
        return ()
    return tuple(objection for rule in context.spec.gate if (objection := _objection(context, candidate, rule)))


def lack_of_signature(context: ReconcileContext, candidate: Candidate) -> str:
    """Explain that a model is not signed. Empty if a train step signed it, or if the administrator accepts unsigned models.

    A model that serves already continues: it was deployed before records were signed.
    """
    model = candidate.model
    if model.digest or _serves(context, candidate) or context.observe(GetServer(model.runtime, context.backend)).takes_unsigned:
        return ""
    return (
        f"The model of revision {candidate.revision} has no signed record: it was trained before records were signed. Train it "
        f"again: kubectl -n {context.pipeline.namespace} annotate --overwrite winepipeline {context.pipeline.name} {RETRAIN}"
    )


def _candidate(context: ReconcileContext) -> Candidate:
    assert context.status.candidate is not None, "train precedes this stage"
    return context.status.candidate


def _refuse(context: ReconcileContext, reason: str, message: str) -> NotReady:
    """End the revision."""
    status = ended(context.status, context.spec, RevisionOutcome.GATE_FAILED, reason, context.now)
    return NotReady(reason, message, status=status, stage=Stage.FAILED, stalled=True)


def _serves(context: ReconcileContext, candidate: Candidate) -> bool:
    served = context.status.served
    return served is not None and (served.revision == candidate.revision or served.model.uri == candidate.model.uri)


def _is_exempt(context: ReconcileContext, candidate: Candidate) -> bool:
    return context.status.trigger is Trigger.ROLLBACK or _serves(context, candidate)


def _objection(context: ReconcileContext, candidate: Candidate, rule: Gate) -> str:
    """Say what is against a model by one rule; "" where nothing is."""
    value = candidate.model.metrics.get(rule.metric)
    if value is None or not math.isfinite(value):
        return f"metric {rule.metric!r} is missing or not finite"
    if rule.at_least is not None and value < rule.at_least:
        return f"{rule.metric} {value:.6g} is below {rule.at_least:.6g}"
    if rule.at_most is not None and value > rule.at_most:
        return f"{rule.metric} {value:.6g} is above {rule.at_most:.6g}"
    if rule.no_worse_than_served is None or context.status.served is None:
        return ""
    return _against_served(context, candidate, rule, value)


def _against_served(context: ReconcileContext, candidate: Candidate, rule: Gate, value: float) -> str:
    assert context.status.served is not None, "there is something to compare with"
    assert rule.no_worse_than_served is not None, "the rule compares with it"
    other, served = candidate.model.metrics.get(f"served_{rule.metric}"), context.status.served.revision
    if other is None and not context.status.served.model.digest:  # no step loads it: fall back to the metric of its own training
        other = context.status.served.model.metrics.get(rule.metric)
    if other is None or not math.isfinite(other):
        why = candidate.comparison_failure_message or "the run logged no metric for it"
        return f"the served revision {served} could not be measured on the same rows: {why}"
    worse = other - value if GREATER_IS_BETTER.get(rule.metric, True) else value - other
    if worse <= rule.no_worse_than_served:
        return ""
    compared = f"{rule.metric} {value:.6g} is worse than {other:.6g} of the served revision {served} on the same rows"
    return f"{compared} by more than {rule.no_worse_than_served:.6g}"


def _acceptance(context: ReconcileContext, candidate: Candidate) -> str:
    if context.status.trigger is Trigger.ROLLBACK:
        return f"Revision {candidate.revision} is the model of revision {candidate.model.revision}, restored by a rollback."
    metrics = candidate.model.metrics
    names = sorted({rule.metric for rule in context.spec.gate} & metrics.keys())
    numbers = ", ".join(f"{name} {metrics[name]:.6g}" for name in names)
    if not context.spec.gate:
        return f"Revision {candidate.revision} passed the gate: spec.gate has no rules."
    return (
        f"Revision {candidate.revision} passed the gate: {numbers}."
        if numbers
        else f"Revision {candidate.revision} passed the gate."
    )
