"""Aliases in MLflow's registry: `challenger` names the candidate that may take over from the served model.

Without a served model there is no challenger. If several resources use one registered model, the alias is the last one's: an
alias that names a version of another MLflow run belongs to another resource, and is not removed. The stage `serve` sets the alias
`champion`; `update_champion` sets it for a model that serves again after a rollback.
"""

from winepipelines.api.errors import PlatformError
from winepipelines.api.modelrecord import ModelRecord
from winepipelines.api.naming import CHALLENGER, CHAMPION
from winepipelines.api.observed import ModelVersion
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import ConditionType, ServedModel, Status
from winepipelines.pipelines.actions import RemoveAlias, SetAlias
from winepipelines.pipelines.background.data_check import BackgroundResult
from winepipelines.pipelines.context import ReconcileContext
from winepipelines.pipelines.queries import GetAlias
from winepipelines.pipelines.rollout.candidates import current_candidate, has_no_eligible_candidate, is_serving


def update_challenger(context: ReconcileContext) -> BackgroundResult:
    """Let the alias `challenger` follow the candidate. Nothing depends on it."""
    wanted, known = _wanted(context), context.status.challenger
    if wanted == known:
        return BackgroundResult(context.status)
    if known is not None and wanted is not None and known.registered_model != wanted.registered_model:
        wanted = None  # remove it from the other registered model first
    model = wanted or known
    assert model is not None, "they differ, so one of them is set"
    try:
        found = context.observe(GetAlias(model.registered_model, CHALLENGER))
    except PlatformError:
        return BackgroundResult(context.status)
    if (found == wanted) if wanted else (found != known):
        return BackgroundResult(context.status.with_(challenger=wanted))
    action = SetAlias(model, CHALLENGER) if wanted else RemoveAlias(model, CHALLENGER)
    return BackgroundResult(context.status) if action in context.failures else BackgroundResult(context.status, (action,))


def update_champion(context: ReconcileContext) -> BackgroundResult:
    """Let the alias `champion` name a model that serves again, once its prediction check passes."""
    served = context.status.served
    if (
        served is None
        or served.alias
        or not served.model.version
        or not has_no_eligible_candidate(context, current_candidate(context))
    ):
        return BackgroundResult(context.status)
    answering = context.pipeline.status.condition(ConditionType.ENDPOINT_VERIFIED)
    if answering is None or answering.status != "True":
        return BackgroundResult(context.status)
    named = champion_is_named(context, served)
    if isinstance(named, SetAlias):
        return BackgroundResult(context.status, (named,))
    return BackgroundResult(named or context.status)


def champion_is_named(context: ReconcileContext, served: ServedModel) -> SetAlias | Status | None:
    """Return what is left to do until the alias names the served model: set it, record it, or nothing for now."""
    try:
        model = version_of(context.pipeline, served.model)
        if context.observe(GetAlias(model.registered_model)) == model:
            return context.status.with_(served=served.with_(alias=CHAMPION))
    except PlatformError:
        return None
    action = SetAlias(model)
    return None if action in context.failures else action


def version_of(pipeline: WinePipeline, model: ModelRecord) -> ModelVersion:
    """Return the registry version of a model. The history does not record its registered model."""
    return ModelVersion(model.registered_model or pipeline.registered_model, model.version, model.mlflow_run)


def _wanted(context: ReconcileContext) -> ModelVersion | None:
    candidate = current_candidate(context)
    if candidate is None or not candidate.model.version or context.status.served is None:
        return None
    may_take_over = not has_no_eligible_candidate(context, candidate) and not is_serving(context.status, candidate)
    model = candidate.model
    return version_of(context.pipeline, model) if may_take_over and model.uri != context.status.served.model.uri else None
