"""Judge a rollout by Deployments and their pods. Pure.

The status of an InferenceService is not reliable: it stays Ready while a broken model replaces one that serves, and it keeps
failures that are over. It is read only if KServe made no Deployment of the desired model: then the reason is nowhere else.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from winecontract.reasons import Reason
from winepipelines.api.naming import TEMPLATE_ANNOTATION
from winepipelines.api.observed import DeploymentView, Presence
from winepipelines.api.spec import Autoscaling
from winepipelines.platform.kubernetes import Body
from winepipelines.platform.manifests import Manifest, covers
from winepipelines.platform.workloads import PodProblem, is_complete, problem_of, steady
from winepipelines.serving.kserve.manifest import annotations_of, essential
from winepipelines.serving.kserve.modes import with_canonical_mode
from winepipelines.serving.kserve.naming import CONTAINER, SOURCE_ANNOTATION

INVALID_SPEC = "InvalidSpec"
LEAST_TELLING = 7
REMEDIES = (  # by reason and message; the first match counts
    (
        re.compile(r"Failed to fetch model|No model found"),
        "Restore the model's files, or train again (annotation winepipelines.io/retrain).",
    ),
    (
        re.compile(r"NoSuchBucket|HeadBucket operation: Not Found"),
        "Create the bucket again, or train again with a bucket that exists.",
    ),
    (
        re.compile(
            r"^(?=.*storage-initializer).*(?:403|InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|Forbidden)", re.DOTALL
        ),
        "Correct the keys in the source Secret, and let them list and read the bucket.",
    ),
    (re.compile(r"^ErrImagePull"), "Correct the image in the chart's values, or let the nodes pull it."),
    (re.compile(r"^FailedCreate: .*exceeded quota", re.DOTALL), "Raise the ResourceQuota, or lower spec.serving.resources."),
    (
        re.compile(r"violates PodSecurity"),
        "Give KServe's ClusterStorageContainer the securityContext that the namespace's Pod Security level demands.",
    ),
    (re.compile(r"^FailedCreate: (?=.*secrets? ).*not found", re.DOTALL), "The operator applies the Secret again."),
    (re.compile(r"^Unschedulable"), "Add nodes, or lower spec.serving.resources."),
    (re.compile(r"^OOMKilled"), "Raise the memory limit in spec.serving.resources."),
    (re.compile(r"^Evicted"), "Kubernetes makes another pod; free the node's resource that the message names."),
)


@dataclass(frozen=True)
class Service:
    """An InferenceService of a rollout: the desired one, the live one, and what KServe made of that."""

    wanted: Manifest
    live: Body
    deployments: list[Body] = field(default_factory=list)
    pods: list[Body] = field(default_factory=list)


def is_applied(live: Body, wanted: Manifest) -> bool:
    """Tell whether the live object has every field of the desired one.

    Not more: KServe and others may add what the manifest leaves out.
    """
    metadata, annotations = wanted["metadata"], with_canonical_mode(annotations_of(live))
    return (
        covers(live["metadata"], {name: metadata[name] for name in ("labels", "ownerReferences")})
        and covers(annotations, with_canonical_mode(annotations_of(wanted)))
        and covers(live.get("spec"), essential(wanted))
        and _scale_is(live, wanted)
    )


def was_applied(live: Body, wanted: Manifest) -> bool:
    """Tell whether pods of the desired kind were applied last, whatever others have changed since."""
    return _template(live) == _template(wanted) and _scale_is(live, wanted)


def is_rolled_out(service: Service, autoscaling: Autoscaling | None) -> bool:
    """Tell whether the one Deployment runs the wanted model on all its pods."""
    [*deployments] = service.deployments
    return (
        len(deployments) == 1
        and is_wanted(service, deployments[0])
        and is_complete(deployments[0], None if autoscaling is None else autoscaling.min_replicas)
        and (autoscaling is not None or deployments[0]["spec"].get("replicas") == _predictor(service)["minReplicas"])
    )


def view_of_incomplete(services: Iterable[Service], *, canary_rolled_out: bool) -> DeploymentView:
    """Describe a rollout that is not complete: what prevents it, or that it is in progress."""
    problems = [problem for service in services for problem in _problems(service)]
    if problems:
        worst = min(problems)
        return DeploymentView(
            Presence.CURRENT,
            canary_rolled_out=canary_rolled_out,
            owned=True,
            reason=worst.reason,
            message=worst.message,
            remedy=remedy_of(worst),
            outage=worst.outage,
        )
    return DeploymentView(
        Presence.CURRENT, canary_rolled_out=canary_rolled_out, owned=True, message="KServe is rolling the model out"
    )


def _problems(service: Service) -> list[PodProblem]:
    new = [deployment for deployment in service.deployments if is_wanted(service, deployment)]
    pods = [pod for pod in service.pods if _template(pod) == _template(service.wanted)]
    found = [problem for deployment in new if (problem := problem_of(deployment, pods, CONTAINER)) is not None]
    return found if new else own_problems(service.live)


def being_deleted(live: Body) -> DeploymentView:
    """Describe an InferenceService that somebody deleted and that a finalizer still holds. The operator applies it again."""
    metadata = live["metadata"]
    held = ", ".join(sorted(map(str, metadata.get("finalizers") or []))) or "its Deployment"
    name = f"{metadata['namespace']}/{metadata['name']}"
    message = f"InferenceService {name} is being deleted, which waits for {held}"
    remedy = "The operator applies it again afterwards."
    return DeploymentView(
        Presence.CURRENT, owned=True, reason=Reason.DEPLOYMENT_TERMINATING, message=steady(message), remedy=remedy, outage=True
    )


def is_unanswered(service: Service) -> bool:
    """Tell whether KServe's controller has neither made the Deployment of the wanted model nor reported why not."""
    return not any(is_wanted(service, deployment) for deployment in service.deployments) and not own_problems(service.live)


def remedy_of(problem: PodProblem) -> str:
    """Say what to do about a problem."""
    return next((remedy for pattern, remedy in REMEDIES if pattern.search(f"{problem.reason}: {problem.message}")), "")


def own_problems(live: Body) -> list[PodProblem]:
    """Read why KServe made no Deployment of an InferenceService."""
    status = (live.get("status") or {}).get("modelStatus") or {}
    if status.get("transitionStatus") != INVALID_SPEC:
        return []
    failure = status.get("lastFailureInfo") or {}
    reported = ": ".join(filter(None, (str(failure.get("reason") or ""), str(failure.get("message") or ""))))
    return [PodProblem(LEAST_TELLING, Reason.DEPLOYMENT_FAILED, f"KServe reports: {steady(reported or INVALID_SPEC)}")]


def is_wanted(service: Service, deployment: Body) -> bool:
    """Tell whether a Deployment's pods are of the wanted InferenceService and copy its model."""
    template = deployment["spec"].get("template") or {"metadata": {}}
    uri = _predictor(service)["model"]["storageUri"]
    return _template(template) == _template(service.wanted) and annotations_of(template).get(SOURCE_ANNOTATION) == uri


def _template(item: Body) -> str:
    return str(annotations_of(item).get(TEMPLATE_ANNOTATION) or "")


def _predictor(service: Service) -> Manifest:
    predictor: Manifest = service.wanted["spec"]["predictor"]
    return predictor


def _scale_is(live: Body, wanted: Manifest) -> bool:
    """Tell whether the live object has the pods and the split of the desired one; an earlier maximum or split must be gone."""
    names = ("minReplicas", "maxReplicas", "canaryTrafficPercent")
    mine, theirs = wanted["spec"]["predictor"], (live.get("spec") or {}).get("predictor") or {}
    return all(theirs.get(name) == mine.get(name) for name in names)
