"""The kinds that the operator reconciles: how each is parsed, decided on, rejected and reported."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from pydantic import ValidationError

from winecontract.reasons import Reason
from winepipelines import background
from winepipelines.api.observed import PredictionCheck
from winepipelines.api.pipeline import KIND, WinePipeline
from winepipelines.api.prediction import PREDICTION_KIND, PredictionStage, PredictionStatus, WinePrediction
from winepipelines.api.status import ConditionType, Stage, Status
from winepipelines.api.timeouts import Timeouts
from winepipelines.engine.errors import InvalidResource
from winepipelines.engine.spec import Body, CacheRule, ControllerSpec
from winepipelines.pipelines import decide as pipelines
from winepipelines.pipelines import events as pipeline_events
from winepipelines.pipelines.actions import ApplyChildren, ApplyDeployment, DeleteDeployment, ReleaseDeployment
from winepipelines.pipelines.conditions import summarize
from winepipelines.pipelines.context import NotReady
from winepipelines.pipelines.queries import GetChildren, GetDeployment, ProbeEndpoint
from winepipelines.pipelines.stages.verify import check_interval
from winepipelines.platform.kubernetes import WINEPIPELINES, WINEPREDICTIONS
from winepipelines.predictions import decide as predictions
from winepipelines.predictions.context import NotReady as PredictionNotReady

R = TypeVar("R")
WATCHED_FOR = timedelta(hours=6)
"""How late a change of a settled resource's objects is noticed that no watch reports, such as that of a Deployment which its
controller does not report.
"""


def _reader(from_body: Callable[[Body], R]) -> Callable[[Body], R]:
    def read(body: Body) -> R:
        try:
            return from_body(body)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            message = f"spec: {field}: {first['msg']}; this resource was stored under an older schema: apply a corrected one"
            raise InvalidResource(message) from None

    return read


def _refuse_pipeline(body: Body, message: str, now: datetime) -> Status | None:
    status = Status.read_leniently(body.get("status") or {})
    not_ready = NotReady(Reason.SPEC_INVALID, message, stalled=True)
    refused = summarize(status.with_(stage=Stage.FAILED), {}, not_ready, body["metadata"].get("generation", 1), now)
    return None if refused == status else refused


def _refuse_prediction(body: Body, message: str, now: datetime) -> PredictionStatus | None:
    status = PredictionStatus.read_leniently(body.get("status") or {})
    if status.is_over:
        return None
    not_ready = PredictionNotReady(Reason.SPEC_INVALID, message, stalled=True)
    waiting = status.with_(stage=status.stage or PredictionStage.WAITING)  # not Failed: a later release may be able to read it
    refused = predictions.with_conditions(waiting, not_ready, body["metadata"].get("generation", 1), now)
    return None if refused == status else refused


def _is_fresh(check: PredictionCheck, status: Status, timeouts: Timeouts, now: datetime) -> bool:
    return now - check.at < check_interval(status, timeouts, now)


def _is_settled(_: object, status: Status, _timeouts: Timeouts, _now: datetime) -> bool:
    """Whether a model serves, so that only a change leads to work."""
    ready = status.condition(ConditionType.READY)
    return status.stage is Stage.SERVING and ready is not None and ready.status == "True"


PIPELINES = ControllerSpec(
    kind=WINEPIPELINES,
    name=KIND,
    read=_reader(WinePipeline.from_body),
    decide=pipelines.decide,
    events=pipeline_events.events,
    refuse=_refuse_pipeline,
    action_events=pipeline_events.action_events,
    background=background.of_pipelines,
    cache=(
        # A settled endpoint is probed once in each check interval, not in each reconcile.
        CacheRule(ProbeEndpoint, lambda check: bool(check.passed), _is_fresh, invalidated_by=(ApplyDeployment,)),
        # The objects of a resource are watched, and read only if they change; those of a rollout in each reconcile.
        CacheRule(
            GetChildren,
            lambda view: bool(view.is_settled),
            invalidated_by=(ApplyChildren,),
            watched_for=WATCHED_FOR,
        ),
        CacheRule(
            GetDeployment,
            lambda view: bool(view.is_settled and view.watched),
            _is_settled,
            invalidated_by=(ApplyDeployment, DeleteDeployment, ReleaseDeployment),
            watched_for=WATCHED_FOR,
        ),
    ),
)
PREDICTIONS = ControllerSpec(
    kind=WINEPREDICTIONS,
    name=PREDICTION_KIND,
    read=_reader(WinePrediction.from_body),
    decide=predictions.decide,
    events=predictions.events,
    refuse=_refuse_prediction,
    action_events=pipeline_events.action_events,
)
