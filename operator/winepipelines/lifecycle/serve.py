"""Last stage: the model of this spec answers; the status says so, and MLflow's registry. Called by `decide`."""

from dataclasses import replace
from datetime import datetime, timedelta

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.actions import SetAlias
from winepipelines.lifecycle.history import ended
from winepipelines.lifecycle.look import Look, Outcome, Passed, Record
from winepipelines.lifecycle.questions import Aliased
from winepipelines.lifecycle.train import current_candidate
from winepipelines.lifecycle.verify import last_check, serves, was_answering
from winepipelines.resource.errors import PlatformError
from winepipelines.resource.naming import ALIAS
from winepipelines.resource.status import Candidate, ConditionType, Endpoint, Prediction, ServedModel
from winepipelines.resource.status import Outcome as Ending


def serve(look: Look) -> Outcome:
    """Record what serves."""
    status = look.status
    candidate = current_candidate(look)
    assert candidate is not None, "verify comes first"
    check = last_check(look, candidate)
    if check is None:
        assert status.endpoint is not None, "it has been served before"
        return _aliased(look, _passed(candidate, status.endpoint))
    if not serves(look, candidate):
        status = ended(status.with_(served=_served(candidate, look.now)), look.spec, Ending.SERVED, reasons.SERVING, look.now)
    if status.served != look.status.served or not was_answering(status.condition(ConditionType.ANSWERING)):
        prediction = Prediction(at=check.at, revision=candidate.revision, value=check.value, milliseconds=check.milliseconds)
        status = status.with_(prediction=prediction)
    endpoint = Endpoint(url=check.url, protocol=check.protocol)
    status = status.with_(endpoint=endpoint)
    return Record(status) if status != look.status else _aliased(look, _passed(candidate, endpoint))


def _aliased(look: Look, passed: Passed) -> Passed | Record:
    """Have the registry's alias follow what serves: once for each model, after it is Ready, and without its being so at stake.

    Where several resources use one registered model, the alias names the version that was served last.
    """
    served = look.status.served
    assert served is not None, "serve has recorded it"
    if served.alias or not served.version:
        return passed
    if not was_answering(look.status.condition(ConditionType.READY)):
        return replace(passed, wake_in=timedelta())
    try:
        if look.at(Aliased()) == served.version:
            return Record(look.status.with_(served=served.with_(alias=ALIAS)))
    except PlatformError:
        return passed
    action = SetAlias(served.version, served.mlflow_run)
    return passed if action in look.failures else replace(passed, actions=(action,))


def _served(candidate: Candidate, now: datetime) -> ServedModel:
    return ServedModel(
        revision=candidate.revision,
        uri=candidate.uri,
        mlflow_run=candidate.mlflow_run,
        version=candidate.version,
        runtime=candidate.runtime,
        image=candidate.image,
        metrics=candidate.metrics,
        since=now,
    )


def _passed(candidate: Candidate, endpoint: Endpoint) -> Passed:
    return Passed(reasons.SERVING, f"revision {candidate.revision} answers at {endpoint.url}")
