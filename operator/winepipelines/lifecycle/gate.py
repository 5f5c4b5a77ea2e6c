"""Third stage: the model has shown what `spec.gate` asks for. Called by `decide`.

Nothing of a refusal is kept but its record in the history: another gate judges the same model anew. A model that serves has
passed, whatever the gate says now; so has one that a person went back to, and one that serves already.
"""

import math

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.history import ended
from winepipelines.lifecycle.look import Held, Look, Outcome, Passed
from winepipelines.lifecycle.questions import Server
from winepipelines.resource.pipeline import GROUP
from winepipelines.resource.spec import Gate
from winepipelines.resource.status import Candidate, Stage, Trigger
from winepipelines.resource.status import Outcome as Ending

GREATER_IS_BETTER = {"r2": True, "rmse": False, "mae": False}
"""The metrics that the served model is measured by as well, under the name with `served_` before it."""


RETRAIN = f"{GROUP}/retrain=<new value>"


def gate(look: Look) -> Outcome:
    """Judge the model of this revision by its numbers."""
    candidate = look.status.candidate
    assert candidate is not None, "train comes first"
    if unsigned := lack_of_signature(look, candidate):
        status = ended(look.status, look.spec, Ending.REFUSED, reasons.MODEL_UNSIGNED, look.now)
        return Held(reasons.MODEL_UNSIGNED, unsigned, status=status, stage=Stage.FAILED, stalled=True)
    said = objections(look, candidate)
    if not said:
        return Passed(reasons.ACCEPTED, _acceptance(look, candidate))
    status = ended(look.status, look.spec, Ending.REFUSED, reasons.GATE_REFUSED, look.now)
    message = f"revision {candidate.revision} is refused: {'; '.join(said)}"
    return Held(reasons.GATE_REFUSED, message, status=status, stage=Stage.FAILED, stalled=True)


def objections(look: Look, candidate: Candidate) -> tuple[str, ...]:
    """List what a model fails to show, each with its number."""
    if unsigned := lack_of_signature(look, candidate):
        return (unsigned,)
    if _is_exempt(look, candidate):
        return ()
    return tuple(said for rule in look.spec.gate if (said := _objection(look, candidate, rule)))


def lack_of_signature(look: Look, candidate: Candidate) -> str:
    """Say that nobody vouches for a model's files; "" where a train step does, or the administrator lets such models serve.

    One that serves already goes on: it was deployed before records were signed.
    """
    if candidate.digest or _serves(look, candidate) or look.at(Server(candidate.runtime)).takes_unsigned:
        return ""
    return (
        f"the model of revision {candidate.revision} has no signed record: it was made before records were signed. Train it "
        f"again: kubectl -n {look.pipeline.namespace} annotate --overwrite winepipeline {look.pipeline.name} {RETRAIN}"
    )


def _serves(look: Look, candidate: Candidate) -> bool:
    served = look.status.served
    return served is not None and (served.revision == candidate.revision or served.uri == candidate.uri)


def _is_exempt(look: Look, candidate: Candidate) -> bool:
    return look.status.trigger is Trigger.ROLLBACK or _serves(look, candidate)


def _objection(look: Look, candidate: Candidate, rule: Gate) -> str:
    """Say what is against a model by one rule; "" where nothing is."""
    value = candidate.metrics.get(rule.metric)
    if value is None or not math.isfinite(value):
        return f"it logged no finite metric {rule.metric!r}"
    if rule.at_least is not None and value < rule.at_least:
        return f"{rule.metric} {value:.6g} is below {rule.at_least:.6g}"
    if rule.at_most is not None and value > rule.at_most:
        return f"{rule.metric} {value:.6g} is above {rule.at_most:.6g}"
    if rule.no_worse_than_served is None or look.status.served is None:
        return ""
    return _against_served(look, candidate, rule, value)


def _against_served(look: Look, candidate: Candidate, rule: Gate, value: float) -> str:
    assert look.status.served is not None, "there is something to compare with"
    assert rule.no_worse_than_served is not None, "asked for"
    other, served = candidate.metrics.get(f"served_{rule.metric}"), look.status.served.revision
    if other is None and not look.status.served.digest:  # no step loads it: what its own training said of it has to do
        other = look.status.served.metrics.get(rule.metric)
    if other is None or not math.isfinite(other):
        why = candidate.served_problem or "the run logged no number for it"
        return f"revision {served}, which serves, could not be measured on the same rows: {why}"
    worse = other - value if GREATER_IS_BETTER.get(rule.metric, True) else value - other
    if worse <= rule.no_worse_than_served:
        return ""
    compared = f"{rule.metric} {value:.6g} is worse than the {other:.6g} of revision {served}, which serves, on the same rows"
    return f"{compared} by more than {rule.no_worse_than_served:.6g}"


def _acceptance(look: Look, candidate: Candidate) -> str:
    if look.status.trigger is Trigger.ROLLBACK:
        return f"revision {candidate.revision} is the model of revision {candidate.origin}, by request"
    names = sorted({rule.metric for rule in look.spec.gate} & candidate.metrics.keys())
    numbers = ", ".join(f"{name} {candidate.metrics[name]:.6g}" for name in names)
    if not look.spec.gate:
        return f"revision {candidate.revision} may serve: spec.gate asks for nothing"
    return f"revision {candidate.revision} may serve: {numbers}" if numbers else f"revision {candidate.revision} may serve"
