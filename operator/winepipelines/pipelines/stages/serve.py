"""Stage serve: the status and MLflow's registry name the model that serves."""

from dataclasses import replace
from datetime import timedelta

from winecontract.reasons import Reason
from winepipelines.api.messages import sentences
from winepipelines.api.pipeline import GROUP
from winepipelines.api.status import Candidate, ConditionType, Endpoint, Prediction, RevisionOutcome, ServedModel, Stage, Status
from winepipelines.pipelines.actions import SetAlias
from winepipelines.pipelines.background.aliases import champion_is_named
from winepipelines.pipelines.context import Done, NotReady, ReconcileContext, StatusUpdate
from winepipelines.pipelines.history import ended
from winepipelines.pipelines.rollout.candidates import is_serving, required_candidate
from winepipelines.pipelines.stages.verify import is_on_probation, last_check, was_answering


def served_model_is_recorded(context: ReconcileContext) -> StatusUpdate | None:
    """The status names the model that serves, its endpoint and the prediction check."""
    status, candidate = context.status, required_candidate(context)
    check = last_check(context, candidate)
    if check is None:
        return None
    if not is_serving(status, candidate):
        status = _promoted(context, candidate)
    if status.served != context.status.served or not was_answering(status.condition(ConditionType.ENDPOINT_VERIFIED)):
        prediction = Prediction(
            time=check.at, revision=candidate.revision, value=check.value, latency_milliseconds=check.milliseconds
        )
        status = status.with_(last_prediction=prediction)
    status = status.with_(endpoint=Endpoint(url=check.url, protocol=check.protocol))
    return None if status == context.status else StatusUpdate(status)


def champion_is_recorded(context: ReconcileContext) -> StatusUpdate | None:
    """The status says that the alias `champion` names the served model, once the registry shows it."""
    named = _champion(context, is_ready=not _is_of_another_spec(context))
    return StatusUpdate(named) if isinstance(named, Status) else None


def model_is_of_this_spec(context: ReconcileContext) -> NotReady | None:
    """The served model was trained for this spec. After a rollback it may be the model of an earlier one."""
    if not _is_of_another_spec(context):
        return None
    candidate = required_candidate(context)
    message = (
        f"Revision {candidate.revision}, the model of revision {candidate.model.revision} restored by a rollback, serves at "
        f"{_endpoint(context).url}. It does not match the current spec. To train a model for this spec, set the annotation "
        f"{GROUP}/retrain or change the spec."
    )
    named = _champion(context, is_ready=False)
    # A choice, not a fault: neither Stalled nor Reconciling, so that GitOps tools do not report it as degraded.
    return NotReady(
        Reason.ROLLED_BACK,
        message,
        actions=(named,) if isinstance(named, SetAlias) else (),
        stage=Stage.SERVING,
        waiting=False,
    )


CHECKS = (
    served_model_is_recorded,  # the candidate takes over
    champion_is_recorded,  # the registry says so too
    model_is_of_this_spec,  # and it is what the spec describes
)


def serving(context: ReconcileContext) -> Done:
    """Describe what serves. Set the alias `champion` in passing: it never delays Ready."""
    candidate = required_candidate(context)
    origin = candidate.model.revision
    restored = f", the model of revision {origin} restored by a rollback," if origin != candidate.revision else ""
    soon = context.timeouts.probation_interval if is_on_probation(context.status, context.timeouts, context.now) else None
    message = f"Revision {candidate.revision}{restored} serves at {_endpoint(context).url}"
    done = Done(Reason.SERVING, sentences(message, context.status.handled.rejection_message), requeue_after=soon)
    if _alias_is_due(context) and not _was_ready(context):
        return replace(done, requeue_after=timedelta())
    named = _champion(context, is_ready=True)
    return replace(done, actions=(named,)) if isinstance(named, SetAlias) else done


def _endpoint(context: ReconcileContext) -> Endpoint:
    assert context.status.endpoint is not None, "served_model_is_recorded precedes"
    return context.status.endpoint


def _is_of_another_spec(context: ReconcileContext) -> bool:
    candidate = required_candidate(context)
    return candidate.model.revision != candidate.revision and candidate.model.inputs_hash != context.inputs_hash


def _alias_is_due(context: ReconcileContext) -> bool:
    served = context.status.served
    return served is not None and not served.alias and bool(served.model.version)


def _was_ready(context: ReconcileContext) -> bool:
    return was_answering(context.status.condition(ConditionType.READY))


def _champion(context: ReconcileContext, *, is_ready: bool) -> SetAlias | Status | None:
    """Return what is left to do for the alias `champion`. A model that becomes Ready gets it only after it was Ready.

    If several resources use one registered model, the alias names the version that was served last.
    """
    served = context.status.served
    if served is None or not _alias_is_due(context) or (is_ready and not _was_ready(context)):
        return None
    return champion_is_named(context, served)


def _promoted(context: ReconcileContext, candidate: Candidate) -> Status:
    """Record that the candidate serves. The model before it is kept for a rollback."""
    status, served = context.status, context.status.served
    model = candidate.model
    if served is not None and served.model.uri == model.uri:
        known = served.model.with_(revision=model.revision, inputs_hash=model.inputs_hash, metrics=model.metrics)
        same = served.with_(revision=candidate.revision, model=known)
        return ended(status.with_(served=same), context.spec, RevisionOutcome.UNCHANGED, Reason.UNCHANGED, context.now)
    status = status.with_(
        served=ServedModel(revision=candidate.revision, model=model, backend=context.backend, serving_since=context.now),
        previous=served,
    )
    return ended(status, context.spec, RevisionOutcome.SERVED, Reason.SERVING, context.now)
