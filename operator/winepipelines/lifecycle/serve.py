"""Last stage: the model of this spec answers; the status says so. Called by `decide`."""

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.deploy import reference
from winepipelines.lifecycle.history import ended
from winepipelines.lifecycle.look import Look, Outcome, Passed, Record
from winepipelines.lifecycle.questions import Answer
from winepipelines.lifecycle.train import current_candidate
from winepipelines.lifecycle.verify import was_answering
from winepipelines.resource.status import ConditionType, Endpoint, Prediction, ServedModel
from winepipelines.resource.status import Outcome as Ending

PROTOCOL = "seldon"


def serve(look: Look) -> Outcome:
    """Record what serves."""
    status = look.status
    candidate = current_candidate(look)
    assert candidate is not None, "verify comes first"
    check = look.at(Answer(reference(candidate)))
    endpoint = Endpoint(url=check.url, protocol=PROTOCOL)
    promoted = status.served is None or status.served.revision != candidate.revision
    if promoted:
        served = ServedModel(
            revision=candidate.revision,
            uri=candidate.uri,
            mlflow_run=candidate.mlflow_run,
            version=candidate.version,
            metrics=candidate.metrics,
            since=look.now,
        )
        status = ended(status.with_(served=served), look.spec, Ending.SERVED, reasons.SERVING, look.now)
    if promoted or status.prediction is None or not was_answering(status.condition(ConditionType.ANSWERING)):
        prediction = Prediction(at=check.at, revision=candidate.revision, value=check.value, milliseconds=check.milliseconds)
        status = status.with_(prediction=prediction)
    status = status.with_(endpoint=endpoint)
    if status != look.status:
        return Record(status)
    return Passed(reasons.SERVING, f"revision {candidate.revision} answers at {endpoint.url}")
