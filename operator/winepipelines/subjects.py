"""The kinds of resources that are reconciled: how each is read, decided on and told of. Called by `handlers`."""

from datetime import datetime

from winepipelines.lifecycle import decide as pipelines
from winepipelines.lifecycle.conditions import summarize
from winepipelines.lifecycle.events import events as events_of_pipeline
from winepipelines.lifecycle.look import Held
from winepipelines.lifecycle.reasons import SPEC_INVALID
from winepipelines.platform.kubernetes import WINEPIPELINES, WINEPREDICTIONS, Body
from winepipelines.predictions import decide as predictions
from winepipelines.predictions.look import Held as HeldPrediction
from winepipelines.resource.pipeline import KIND, WinePipeline
from winepipelines.resource.prediction import PREDICTION_KIND, PredictionStage, PredictionStatus, WinePrediction
from winepipelines.resource.status import Stage, Status
from winepipelines.subject import Subject


def _refuse_pipeline(body: Body, message: str, now: datetime) -> Status | None:
    status = Status.read_leniently(body.get("status") or {})
    held = Held(SPEC_INVALID, message, stalled=True)
    refused = summarize(status.with_(stage=Stage.FAILED), {}, held, body["metadata"].get("generation", 1), now)
    return None if refused == status else refused


def _refuse_prediction(body: Body, message: str, now: datetime) -> PredictionStatus | None:
    status = PredictionStatus.read_leniently(body.get("status") or {})
    if status.is_over:
        return None
    held = HeldPrediction(SPEC_INVALID, message, stalled=True)
    waiting = status.with_(stage=status.stage or PredictionStage.WAITING)  # not Failed: an operator that can read it goes on
    refused = predictions.told(waiting, held, body["metadata"].get("generation", 1), now)
    return None if refused == status else refused


PIPELINES = Subject(WINEPIPELINES, KIND, WinePipeline.from_body, pipelines.decide, events_of_pipeline, _refuse_pipeline)
PREDICTIONS = Subject(
    WINEPREDICTIONS, PREDICTION_KIND, WinePrediction.from_body, predictions.decide, predictions.events, _refuse_prediction
)
