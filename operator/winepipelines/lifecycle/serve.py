"""Last stage: the model of this spec answers; the status says so, and MLflow's registry. Called by `decide`."""

from dataclasses import replace
from datetime import datetime, timedelta

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.actions import SetAlias
from winepipelines.lifecycle.aliases import champion_is_named
from winepipelines.lifecycle.candidates import current_candidate, is_in_charge
from winepipelines.lifecycle.history import ended
from winepipelines.lifecycle.look import Held, Look, Outcome, Passed, Record
from winepipelines.lifecycle.verify import is_on_probation, last_check, was_answering
from winepipelines.resource.pipeline import GROUP
from winepipelines.resource.status import Candidate, ConditionType, Endpoint, Prediction, ServedModel, Stage, Status
from winepipelines.resource.status import Outcome as Ending


def serve(look: Look) -> Outcome:
    """Record what serves."""
    status = look.status
    candidate = current_candidate(look)
    assert candidate is not None, "verify comes first"
    check = last_check(look, candidate)
    if check is None:
        assert status.endpoint is not None, "it has been served before"
        return _aliased(look, _said(look, candidate, status.endpoint))
    if not is_in_charge(status, candidate):
        status = _promoted(look, candidate)
    if status.served != look.status.served or not was_answering(status.condition(ConditionType.ANSWERING)):
        prediction = Prediction(at=check.at, revision=candidate.revision, value=check.value, milliseconds=check.milliseconds)
        status = status.with_(prediction=prediction)
    endpoint = Endpoint(url=check.url, protocol=check.protocol)
    status = status.with_(endpoint=endpoint)
    return Record(status) if status != look.status else _aliased(look, _said(look, candidate, endpoint))


def _promoted(look: Look, candidate: Candidate) -> Status:
    """Record that the candidate serves. The model that it takes over from could serve again."""
    status, served = look.status, look.status.served
    if served is not None and served.uri == candidate.uri:
        same = served.with_(revision=candidate.revision, inputs=candidate.inputs, metrics=candidate.metrics)
        return ended(status.with_(served=same), look.spec, Ending.UNCHANGED, reasons.UNCHANGED, look.now)
    status = status.with_(served=_served(candidate, look.now), previous=served)
    return ended(status, look.spec, Ending.SERVED, reasons.SERVING, look.now)


def _said(look: Look, candidate: Candidate, endpoint: Endpoint) -> Passed | Held:
    """Say what serves, and whether it is what the spec asks for: a person may have gone back to the model of another one."""
    if candidate.origin is not None and candidate.inputs != look.inputs:
        message = (
            f"revision {candidate.revision}, the model of revision {candidate.origin}, answers at {endpoint.url} by request; it "
            f"is not of this spec: a change of the spec, or the annotation {GROUP}/retrain, has a model of the spec trained"
        )
        # A choice, not a fault: neither Stalled nor Reconciling, and no tool of GitOps calls it degraded.
        return Held(reasons.ROLLED_BACK, message, stage=Stage.SERVING, waiting=False)
    what = f", the model of revision {candidate.origin} by request," if candidate.origin is not None else ""
    asked = f"; {look.status.asked.problem}" if look.status.asked.problem else ""
    soon = look.policy.probation_interval if is_on_probation(look.status, look.policy, look.now) else None
    return Passed(reasons.SERVING, f"revision {candidate.revision}{what} answers at {endpoint.url}{asked}", wake_in=soon)


def _aliased(look: Look, said: Passed | Held) -> Passed | Held | Record:
    """Have the registry's alias follow what serves: once for each model, after it is Ready, and without its being so at stake.

    Where several resources use one registered model, the alias names the version that was served last.
    """
    served = look.status.served
    assert served is not None, "serve has recorded it"
    if served.alias or not served.version:
        return said
    if isinstance(said, Passed) and not was_answering(look.status.condition(ConditionType.READY)):
        return replace(said, wake_in=timedelta())
    named = champion_is_named(look, served)
    if isinstance(named, SetAlias):
        return replace(said, actions=(named,))
    return said if named is None else Record(named)


def _served(candidate: Candidate, now: datetime) -> ServedModel:
    return ServedModel(
        revision=candidate.revision,
        uri=candidate.uri,
        mlflow_run=candidate.mlflow_run,
        version=candidate.version,
        runtime=candidate.runtime,
        image=candidate.image,
        executor=candidate.executor,
        registered_model=candidate.registered_model,
        digest=candidate.digest,
        example_digest=candidate.example_digest,
        metrics=candidate.metrics,
        inputs=candidate.inputs,
        origin=candidate.origin,
        data_sha256=candidate.data_sha256,
        data_etag=candidate.data_etag,
        data_version=candidate.data_version,
        data=candidate.data,
        warnings=candidate.warnings,
        since=now,
    )
