"""Deployments and their pods: whether a template is rolled out and, if not, what prevents it. Quotes Kubernetes. Pure.

The message of a problem stays the same as long as the problem does: it has no random names of pods, no times and no counts, and
does not depend on the current state of a container that restarts.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from winecontract import termination
from winecontract.reasons import Reason
from winecontract.text import clean
from winepipelines.api.errors import Unavailable
from winepipelines.api.naming import TEMPLATE_ANNOTATION
from winepipelines.platform import admission

Body = dict[str, Any]
MESSAGE_LIMIT = 1000
HARMLESS = ("", "PodInitializing", "ContainerCreating")  # normal reasons of a container that waits
PULLING = (Reason.ERR_IMAGE_PULL, "ImagePullBackOff")  # the kubelet alternates between them
CAUSE = "ErrImagePull: "  # in the back-off's message, since Kubernetes 1.32
STANDSTILL = Reason.PROGRESS_DEADLINE_EXCEEDED
SHOWN = (  # of a status
    *("observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "conditions"),
    *("phase", "reason", "message", "initContainerStatuses", "containerStatuses"),
)
MOST_STATUSES = 32  # conditions, or containers
ANNOTATIONS = (TEMPLATE_ANNOTATION, "workflows.argoproj.io/node-name")
LONGEST_PREFIX = 40  # characters of a Deployment's name that a pod's name certainly begins with
PASSING = (
    (re.compile(r"\b\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d\S{0,64}\s{0,64}"), ""),  # a log line's time
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "…"),  # a uid
    (re.compile(r"(?<!sha256:)\b[0-9a-f]{32,64}\b"), "…"),  # a container's or a request's id
    (re.compile(r"[\w.:\[\]]{1,64}:\d{1,5}->"), ""),  # the near end of a connection
)


@dataclass(frozen=True, order=True)
class PodProblem:
    """What prevents a pod from serving. Of several problems, the one with the lowest rank is reported."""

    rank: int
    reason: str
    message: str
    outage: bool = False  # a webhook is down, so that no pod is created


def trimmed(workload: Body, annotations: Collection[str] = ()) -> Body:
    """Keep the fields of a Deployment or a pod that this module reads: users and webhooks may add others of any size.

    `annotations` are kept in addition to those that are always kept.
    """
    metadata, spec, status = (workload.get(part) or {} for part in ("metadata", "spec", "status"))
    template = spec.get("template") or {}
    kept: Body = {name: spec[name] for name in ("replicas", "progressDeadlineSeconds") if name in spec}
    if template:
        copying = [
            {"name": container.get("name", ""), "args": (container.get("args") or [])[:1]}
            for container in (template.get("spec") or {}).get("initContainers") or []
        ]
        kept["template"] = {"metadata": _shown(template.get("metadata") or {}, annotations), "spec": {"initContainers": copying}}
    shown = {name: status[name] for name in SHOWN if name in status}
    cut = {name: value[:MOST_STATUSES] if isinstance(value, list) else value for name, value in shown.items()}
    return {"metadata": _shown(metadata, annotations), "spec": kept, "status": cut}


def _shown(metadata: Body, more: Collection[str] = ()) -> Body:
    annotations = metadata.get("annotations") or {}
    kept: Body = {name: metadata[name] for name in ("namespace", "name", "generation", "deletionTimestamp") if name in metadata}
    return {**kept, "annotations": {name: annotations[name] for name in (*ANNOTATIONS, *more) if name in annotations}}


def is_complete(deployment: Body, fewest: int | None = None) -> bool:
    """Whether all pods have the newest template, and the desired number is available.

    With an autoscaler, which may change the desired number at any time, `fewest` available pods are enough.
    """
    status, wanted = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    total, updated, available = (status.get(count, 0) for count in ("replicas", "updatedReplicas", "availableReplicas"))
    if not _is_observed(deployment) or total != updated:
        return False
    return bool(total == available == wanted if fewest is None else available >= min(fewest, wanted))


def problem_of(deployment: Body, pods: Iterable[Body], server: str) -> PodProblem | None:
    """Find what prevents a Deployment's newest template from serving.

    `pods` are the pods with that template, `server` is the name of the model server's container.
    """
    pods = list(pods)
    found = [problem for pod in pods if (problem := _problem_of_pod(pod, server)) is not None]
    for condition in (deployment.get("status") or {}).get("conditions") or [] if _is_observed(deployment) else []:
        kind, reason, words = (condition["type"], condition["status"]), condition.get("reason", ""), condition.get("message", "")
        if kind == ("Progressing", "False") and reason == STANDSTILL:
            found.append(PodProblem(6, reason, _standstill(deployment, pods)))
        elif kind in (("ReplicaFailure", "True"), ("Progressing", "False")):  # a quota or an admission webhook rejects pods
            found.append(_refusal(reason, words))
    if not found:
        return None
    name = deployment["metadata"]["name"]
    return min(replace(problem, reason=_word(problem.reason), message=steady(problem.message, name)) for problem in found)


def steady(message: str, name: str = "") -> str:
    """Remove what changes between attempts from a message; `name` is the Deployment whose pods it may name."""
    message = clean(message)
    if name:
        message = re.sub(rf"\b{re.escape(name[:LONGEST_PREFIX])}[-a-z0-9]{{0,253}}", name, message)
    for pattern, instead in PASSING:
        message = pattern.sub(instead, message)
    return clean(message.strip(), MESSAGE_LIMIT)


def _is_observed(deployment: Body) -> bool:
    """Whether the status describes the current spec."""
    observed: int = (deployment.get("status") or {}).get("observedGeneration", 0)
    return observed >= int(deployment["metadata"]["generation"])


def pod_problem(pod: Body) -> tuple[str, str] | None:
    """Return reason and message of what prevents a pod from starting; None if nothing does."""
    found = _problem_of_pod(pod)
    return (found.reason, found.message) if found is not None else None


def condition_word(reason: str) -> str:
    """Convert a pod's reason to a condition's reason, which is one CamelCase word."""
    return _word(reason)


def _problem_of_pod(pod: Body, server: str = "") -> PodProblem | None:
    status = pod.get("status") or {}
    if "deletionTimestamp" in pod["metadata"]:
        return None
    if status.get("phase") == "Failed" and status.get("reason"):  # evicted, or refused by the node: its containers were killed
        return PodProblem(3, status["reason"], status.get("message") or "the pod failed")
    for kind in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(kind) or []:
            if (found := _problem_of_container(container, server, initial=kind.startswith("init"))) is not None:
                return found
    if status.get("phase") == "Failed":
        return PodProblem(3, Reason.POD_FAILED, status.get("message") or "the pod failed")
    for condition in status.get("conditions") or []:
        if (condition["type"], condition["status"]) == ("PodScheduled", "False"):
            return PodProblem(
                4, condition.get("reason") or Reason.UNSCHEDULABLE, condition.get("message") or "no node accepts the pod"
            )
    return None


def _problem_of_container(container: Body, server: str, *, initial: bool) -> PodProblem | None:
    """Find the problem of a container. One that has ended has a problem until it is ready again, also while it restarts."""
    name, state = container["name"], container.get("state") or {}
    waiting = state.get("waiting") or {}
    reason, words = waiting.get("reason", ""), waiting.get("message", "")
    if reason in PULLING:
        why = words if reason == PULLING[0] else words.partition(CAUSE)[2]
        return PodProblem(
            1, PULLING[0], _sentence(f"the image {container.get('image', '')} of container {name} is not pulled", why)
        )
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    if ended and not container.get("ready") and not (initial and ended.get("exitCode") == 0):
        message = str(ended.get("message") or "")
        if name == server and (failure := termination.read(message)) is not None:  # reported by the model server
            if failure.reason == Reason.MODEL_TAMPERED:
                return PodProblem(0, failure.reason, _sentence("the server does not load the model", failure.message))
            message = failure.message
        cause = ended.get("reason") or ""
        word = cause if cause not in ("", "Error", "Completed") else Reason.CRASH_LOOP_BACK_OFF
        return PodProblem(2, word, _sentence(f"container {name} ended with exit code {ended.get('exitCode')}", message))
    if reason not in HARMLESS:
        return PodProblem(2 if reason == Reason.CRASH_LOOP_BACK_OFF else 1, reason, _sentence(f"container {name}", words))
    return None


def _refusal(reason: str, words: str) -> PodProblem:
    """Describe why no pod is created. Names the owner of a webhook that is down, if the API server's message names it."""
    known = admission.failure(500, words)
    down = isinstance(known, Unavailable)
    return PodProblem(5, reason, known.message if down and known else words, outage=down)


def _standstill(deployment: Body, pods: Iterable[Body]) -> str:
    """Describe the state of a rollout that has no other problem than its deadline."""
    started = {
        container["name"]
        for pod in pods
        for container in (pod.get("status") or {}).get("containerStatuses") or []
        if "running" in (container.get("state") or {}) and not container.get("ready")
    }
    seconds = deployment["spec"].get("progressDeadlineSeconds", 600)
    state = f"container {', '.join(sorted(started))} runs and is not ready" if started else "no pod became ready"
    return f"{state}, and the rollout has made no progress for {seconds} s"


def _sentence(problem: str, words: str | None) -> str:
    return f"{problem}: {words.strip()}" if words and words.strip() else problem


def _word(reason: str) -> str:
    """Remove all characters that a condition's reason may not have."""
    word = re.sub(r"[^A-Za-z0-9]", "", clean(reason))[:64]
    return word if word[:1].isalpha() else Reason.POD_FAILED
