"""The registry's aliases, beside the stages: `challenger` names the version that is on its way to take over. Called by `decide`.

Where nothing serves there is nothing to challenge; where several resources use one registered model, it is the last one's: an
alias that names a version of another MLflow run is another resource's, and is not taken away. The
alias `champion` is given in `serve`; and, beside it, to a model that serves again, because a later one has been rolled back.
"""

from winepipelines.lifecycle.actions import RemoveAlias, SetAlias
from winepipelines.lifecycle.candidates import current_candidate, is_in_charge, stands_back
from winepipelines.lifecycle.datacheck import Aside
from winepipelines.lifecycle.look import Look
from winepipelines.lifecycle.questions import Aliased
from winepipelines.resource.errors import PlatformError
from winepipelines.resource.naming import CHALLENGER, CHAMPION
from winepipelines.resource.observed import ModelVersion
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.status import ConditionType, HistoryEntry, ServedModel, Status, TrainedModel


def look_at_challenger(look: Look) -> Aside:
    """Have the alias follow the candidate; nothing depends on it."""
    wanted, known = _wanted(look), _named(look)
    if wanted == known:
        return Aside(look.status)
    if known is not None and wanted is not None and known.registered_model != wanted.registered_model:
        wanted = None  # first it goes where it was
    model = wanted or known
    assert model is not None, "they differ, so that one is there"
    try:
        found = look.at(Aliased(model.registered_model, CHALLENGER))
    except PlatformError:
        return Aside(look.status)
    if (found == wanted) if wanted else (found != known):
        said = f"{wanted.version} {wanted.mlflow_run} {wanted.registered_model}" if wanted else ""
        return Aside(look.status.with_(challenger=said))
    action = SetAlias(model, CHALLENGER) if wanted else RemoveAlias(model, CHALLENGER)
    return Aside(look.status) if action in look.failures else Aside(look.status, (action,))


def look_at_champion(look: Look) -> Aside:
    """Have the alias name what serves again, once it answers."""
    served = look.status.served
    if served is None or served.alias or not served.version or not stands_back(look, current_candidate(look)):
        return Aside(look.status)
    answering = look.pipeline.status.condition(ConditionType.ANSWERING)
    if answering is None or answering.status != "True":
        return Aside(look.status)
    named = champion_is_named(look, served)
    if isinstance(named, SetAlias):
        return Aside(look.status, (named,))
    return Aside(named or look.status)


def champion_is_named(look: Look, served: ServedModel) -> SetAlias | Status | None:
    """Say what is left to do until the alias names what serves: give it, write that it was seen, or nothing for now."""
    try:
        model = version_of(look.pipeline, served)
        if look.at(Aliased(model.registered_model)) == model:
            return look.status.with_(served=served.with_(alias=CHAMPION))
    except PlatformError:
        return None
    action = SetAlias(model)
    return None if action in look.failures else action


def version_of(pipeline: WinePipeline, model: TrainedModel | HistoryEntry) -> ModelVersion:
    """Name a model's version in the registry. Neither the history nor an earlier status says in which registered model."""
    registered_model = model.registered_model if isinstance(model, TrainedModel) else ""
    return ModelVersion(registered_model or pipeline.registered_model, model.version, model.mlflow_run)


def _wanted(look: Look) -> ModelVersion | None:
    candidate = current_candidate(look)
    if candidate is None or not candidate.version or look.status.served is None:
        return None
    on_its_way = not stands_back(look, candidate) and not is_in_charge(look.status, candidate)
    return version_of(look.pipeline, candidate) if on_its_way and candidate.uri != look.status.served.uri else None


def _named(look: Look) -> ModelVersion | None:
    """Read which version had the alias last: version, MLflow run and registered model, which may have spaces."""
    version, mlflow_run, registered_model = (*look.status.challenger.split(" ", 2), "", "", "")[:3]
    return ModelVersion(registered_model or look.pipeline.registered_model, version, mlflow_run) if version else None
