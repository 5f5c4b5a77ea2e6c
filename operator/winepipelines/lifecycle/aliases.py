"""The registry's aliases, beside the stages: `challenger` names the version that is on its way to take over. Called by `decide`.

Where nothing serves there is nothing to challenge; where several resources use one registered model, it is the last one's. The
alias `champion` is given in `serve`; and, beside it, to a model that serves again, because a later one has been rolled back.
"""

from winepipelines.lifecycle.actions import RemoveAlias, SetAlias
from winepipelines.lifecycle.candidates import current_candidate, is_in_charge, stands_back
from winepipelines.lifecycle.datacheck import Aside
from winepipelines.lifecycle.look import Look
from winepipelines.lifecycle.questions import Aliased
from winepipelines.resource.errors import PlatformError
from winepipelines.resource.naming import CHALLENGER, CHAMPION
from winepipelines.resource.status import ConditionType, ServedModel, Status


def look_at_challenger(look: Look) -> Aside:
    """Have the alias follow the candidate; nothing depends on it."""
    wanted, known = _wanted(look), look.status.challenger
    if wanted == known:
        return Aside(look.status)
    version, mlflow_run = wanted.split(" ") if wanted else ("", "")
    try:
        found = look.at(Aliased(CHALLENGER))
    except PlatformError:
        return Aside(look.status)
    if (found == version) if wanted else (found != known.split(" ")[0]):
        return Aside(look.status.with_(challenger=wanted))
    action = SetAlias(version, mlflow_run, CHALLENGER) if wanted else RemoveAlias(found, CHALLENGER)
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
        if look.at(Aliased()) == served.version:
            return look.status.with_(served=served.with_(alias=CHAMPION))
    except PlatformError:
        return None
    action = SetAlias(served.version, served.mlflow_run)
    return None if action in look.failures else action


def _wanted(look: Look) -> str:
    """Name the version, and the MLflow run that it is of."""
    candidate = current_candidate(look)
    if candidate is None or not candidate.version or look.status.served is None:
        return ""
    on_its_way = not stands_back(look, candidate) and not is_in_charge(look.status, candidate)
    return f"{candidate.version} {candidate.mlflow_run}" if on_its_way and candidate.uri != look.status.served.uri else ""
