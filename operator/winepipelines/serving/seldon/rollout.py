"""Judge a rollout by the SeldonDeployment, its Deployments and their pods. Pure.

Seldon never sets `observedGeneration`, so its state `Available` may be about the previous model. It counts only once the
initializer of the Deployment copies the rollout's model, and no pod of another template is left.
"""

import re
from dataclasses import dataclass

from winecontract.reasons import Reason
from winepipelines.api.naming import HASH_ANNOTATION, TEMPLATE_ANNOTATION
from winepipelines.api.observed import DeploymentView, Presence
from winepipelines.api.spec import Autoscaling
from winepipelines.platform.kubernetes import Body
from winepipelines.platform.manifests import Manifest, covers
from winepipelines.platform.workloads import PodProblem, is_complete, problem_of, steady
from winepipelines.serving.seldon.manifest import RESTRICTIONS
from winepipelines.serving.seldon.naming import CANDIDATE_PREDICTOR, GRAPH

TRANSIENT = re.compile(  # errors about Seldon's own objects: its cache lags behind what it has just created or deleted
    r"^(?:service|deployment|horizontalpodautoscaler|poddisruptionbudget|virtualservice|destinationrule|scaledobject|"
    r'seldondeployment)s?(?:\.[\w.]+)? "[^"]*" (?:not found|already exists)|the object has been modified',
    re.IGNORECASE,
)
DEADLINE_PASSED = "Deployment is no longer progressing"  # Seldon's summary of a Deployment, whose own conditions say more


@dataclass(frozen=True)
class Workloads:
    """What Seldon made of a SeldonDeployment: its Deployments, and their pods."""

    deployments: list[Body]
    pods: list[Body]


def is_complete_rollout(live: Body, wanted: Manifest, deployments: list[Body], autoscaling: Autoscaling | None) -> bool:
    """Tell whether every predictor serves its model and nothing of an earlier template is left."""
    predictors = wanted["spec"]["predictors"]
    new = _of_predictors(deployments, predictors)
    # Whenever an autoscaler adds a pod, Seldon's state is Creating until that pod is ready.
    settled = ("Available",) if autoscaling is None else ("Available", "Creating")
    fewest = None if autoscaling is None else autoscaling.min_replicas
    return (
        all(_serves(new, predictor, autoscaled=autoscaling is not None) for predictor in predictors)
        and all(is_complete(deployment, fewest) for deployment in deployments)
        and len(new) == len(deployments)
        and (live.get("status") or {}).get("state") in settled
    )


def view_of_incomplete(live: Body, wanted: Manifest, found: Workloads, autoscaling: Autoscaling | None) -> DeploymentView:
    """Describe a rollout that is not complete: what prevents it, or that it is in progress."""
    predictors, status = wanted["spec"]["predictors"], live.get("status") or {}
    fewest = None if autoscaling is None else autoscaling.min_replicas
    new = _of_predictors(found.deployments, predictors)
    pods = [pod for pod in found.pods if any(_is_of(pod, predictor) for predictor in predictors)]
    problems = [problem for deployment in new if (problem := problem_of(deployment, pods, GRAPH)) is not None]
    problems += own_problems(status)
    canary_rolled_out = _candidate_is_rolled_out(new, predictors, fewest)
    if problems:
        worst = min(problems)
        return DeploymentView(
            Presence.CURRENT, canary_rolled_out=canary_rolled_out, owned=True, reason=worst.reason, message=worst.message
        )
    return DeploymentView(
        Presence.CURRENT,
        canary_rolled_out=canary_rolled_out,
        owned=True,
        message="Seldon is rolling the model out",
        passing=transient_problem(status),
    )


def is_applied(live: Body, wanted: Manifest) -> bool:
    """Tell whether a manifest was applied last, and its essential fields still have their values.

    Not more: others may add what the manifest leaves out, and an autoscaler owns the replicas.
    """
    if not was_applied(live, wanted):
        return False
    owners = {"ownerReferences": wanted["metadata"]["ownerReferences"]}
    mine = wanted["spec"]["predictors"]
    return (
        live["spec"].get("protocol") == wanted["spec"]["protocol"]
        and len(live["spec"]["predictors"]) == len(mine)
        and covers(live["spec"]["predictors"], [_essential(predictor) for predictor in mine])
        and covers(live["metadata"], owners)
    )


def was_applied(live: Body, wanted: Manifest) -> bool:
    """Tell whether a manifest was applied last, whatever others have changed since."""
    return _annotations(live).get(HASH_ANNOTATION) == _annotations(wanted)[HASH_ANNOTATION]


def own_problems(status: Body) -> list[PodProblem]:
    """Read what Seldon itself failed to do. It is the least telling problem: a Deployment's or a pod's comes first."""
    description = _failure(status)
    if not description or description.startswith(DEADLINE_PASSED) or transient_problem(status):
        return []
    return [PodProblem(7, Reason.DEPLOYMENT_FAILED, f"Seldon reports: {steady(description)}")]


def transient_problem(status: Body) -> str:
    """Read a failure of Seldon that comes from its lagging cache: Seldon retries at once."""
    description = _failure(status)
    return f"Seldon reports: {steady(description)}" if TRANSIENT.search(description) else ""


def _failure(status: Body) -> str:
    return str(status.get("description") or "").strip() if status.get("state") == "Failed" else ""


def _of_predictors(deployments: list[Body], predictors: list[Manifest]) -> list[Body]:
    """Choose the Deployments whose pods are of one of these predictors."""
    return [item for item in deployments if any(_is_of(item["spec"]["template"], predictor) for predictor in predictors)]


def _serves(deployments: list[Body], predictor: Manifest, *, autoscaled: bool) -> bool:
    """Tell whether a predictor has a Deployment that copies its model, with the predictor's number of replicas."""
    serving = [
        item
        for item in deployments
        if _is_of(item["spec"]["template"], predictor) and _copied_model(item) == predictor["graph"]["modelUri"]
    ]
    return bool(serving) and (autoscaled or [item["spec"].get("replicas") for item in serving] == [predictor["replicas"]])


def _candidate_is_rolled_out(deployments: list[Body], predictors: list[Manifest], fewest: int | None) -> bool:
    """Tell whether the candidate's pods are available, whatever the state of the served model's pods."""
    candidates = [predictor for predictor in predictors if predictor["name"] == CANDIDATE_PREDICTOR]
    return bool(candidates) and all(
        _serves(deployments, candidate, autoscaled=fewest is not None)
        and all(is_complete(item, fewest) for item in deployments if _is_of(item["spec"]["template"], candidate))
        for candidate in candidates
    )


def _annotations(item: Body) -> dict[str, str]:
    annotations: dict[str, str] = item["metadata"].get("annotations") or {}
    return annotations


def _is_of(item: Body, predictor: Manifest) -> bool:
    """Tell whether a pod, or a pod template, was made from this very predictor and not from an earlier version of it."""
    wanted = _annotations(predictor["componentSpecs"][0])
    return _annotations(item).get(TEMPLATE_ANNOTATION) == wanted[TEMPLATE_ANNOTATION]


def _essential(predictor: Manifest) -> Manifest:
    """Leave out of a predictor what others may add to or decide on."""
    [part] = predictor["componentSpecs"]
    [container] = part["spec"]["containers"]
    essential: Manifest = {
        key: predictor[key] for key in ("name", "annotations", "replicas", "graph", "traffic") if key in predictor
    }
    spec = {key: part["spec"][key] for key in RESTRICTIONS if key in part["spec"]}
    spec["containers"] = [{key: container[key] for key in ("name", "image", "env", "securityContext") if key in container}]
    return {**essential, "componentSpecs": [{"spec": spec, **{key: part[key] for key in ("metadata", "hpaSpec") if key in part}}]}


def _copied_model(deployment: Body) -> str:
    """Return the address that a Deployment's initializer copies the model from."""
    for container in deployment["spec"]["template"]["spec"].get("initContainers") or []:
        if container["name"] == f"{GRAPH}-model-initializer":
            return str((container.get("args") or [""])[0])
    return ""
