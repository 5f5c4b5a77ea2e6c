"""Last stage: the model of this spec answers; the status says so. Called by `decide`."""

from datetime import datetime

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.history import ended
from winepipelines.lifecycle.look import Look, Outcome, Passed, Record
from winepipelines.lifecycle.train import current_candidate
from winepipelines.lifecycle.verify import last_check, serves, was_answering
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
        return _passed(candidate, status.endpoint)
    if not serves(look, candidate):
        status = ended(status.with_(served=_served(candidate, look.now)), look.spec, Ending.SERVED, reasons.SERVING, look.now)
    if status.served != look.status.served or not was_answering(status.condition(ConditionType.ANSWERING)):
        prediction = Prediction(at=check.at, revision=candidate.revision, value=check.value, milliseconds=check.milliseconds)
        status = status.with_(prediction=prediction)
    endpoint = Endpoint(url=check.url, protocol=check.protocol)
    status = status.with_(endpoint=endpoint)
    return Record(status) if status != look.status else _passed(candidate, endpoint)


def _served(candidate: Candidate, now: datetime) -> ServedModel:
    return ServedModel(
        revision=candidate.revision,
        uri=candidate.uri,
        mlflow_run=candidate.mlflow_run,
        version=candidate.version,
        runtime=candidate.runtime,
        metrics=candidate.metrics,
        since=now,
    )


def _passed(candidate: Candidate, endpoint: Endpoint) -> Passed:
    return Passed(reasons.SERVING, f"revision {candidate.revision} answers at {endpoint.url}")
