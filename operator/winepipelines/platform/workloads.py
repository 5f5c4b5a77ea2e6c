"""Deployments and their pods: whether a template is rolled out and, if it is not, what keeps it. In Kubernetes' own words; pure.

Called by `seldon`. A trouble is told in the same words at every look for as long as it is the same: without pods' random names,
times and counts, and whatever a container that restarts happens to be doing at the moment.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from winecontract.text import clean
from winepipelines.platform import admission
from winepipelines.resource.errors import Unavailable
from winepipelines.resource.naming import GRAPH, TEMPLATE_ANNOTATION

Body = dict[str, Any]
MESSAGE_LIMIT = 1000
HARMLESS = ("", "PodInitializing", "ContainerCreating")  # what a container waits for on its way
PULLING = ("ErrImagePull", "ImagePullBackOff")  # two words for one trouble, in turns
CAUSE = "ErrImagePull: "  # in the back-off's message, since Kubernetes 1.32
STANDSTILL = "ProgressDeadlineExceeded"
SHOWN = (  # of a status
    *("observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "conditions"),
    *("phase", "reason", "message", "initContainerStatuses", "containerStatuses"),
)
MOST_STATUSES = 32  # conditions, or containers
ANNOTATIONS = (TEMPLATE_ANNOTATION, "workflows.argoproj.io/node-name")
TAMPERED = "ModelTampered"
LONGEST_PREFIX = 40  # characters of a Deployment's name that a pod's name certainly begins with
PASSING = (
    (re.compile(r"\b\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d\S{0,64}\s{0,64}"), ""),  # a log line's time
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "…"),  # a uid
    (re.compile(r"(?<!sha256:)\b[0-9a-f]{32,64}\b"), "…"),  # a container's or a request's id
    (re.compile(r"[\w.:\[\]]{1,64}:\d{1,5}->"), ""),  # the near end of a connection
)


@dataclass(frozen=True, order=True)
class Trouble:
    """What keeps a pod from serving. The most telling one is the least of several."""

    rank: int
    reason: str
    message: str


def trimmed(workload: Body) -> Body:
    """Keep of a Deployment or a pod what it is judged by: users and webhooks may have put anything else into it."""
    metadata, spec, status = (workload.get(part) or {} for part in ("metadata", "spec", "status"))
    template = spec.get("template") or {}
    kept: Body = {name: spec[name] for name in ("replicas", "progressDeadlineSeconds") if name in spec}
    if template:
        copying = [
            {"name": container.get("name", ""), "args": (container.get("args") or [])[:1]}
            for container in (template.get("spec") or {}).get("initContainers") or []
        ]
        kept["template"] = {"metadata": _shown(template.get("metadata") or {}), "spec": {"initContainers": copying}}
    said = {name: value[:MOST_STATUSES] if isinstance(value, list) else value for name, value in status.items() if name in SHOWN}
    return {"metadata": _shown(metadata), "spec": kept, "status": said}


def _shown(metadata: Body) -> Body:
    annotations = metadata.get("annotations") or {}
    kept: Body = {name: metadata[name] for name in ("namespace", "name", "generation", "deletionTimestamp") if name in metadata}
    return {**kept, "annotations": {name: annotations[name] for name in ANNOTATIONS if name in annotations}}


def is_complete(deployment: Body, fewest: int | None = None) -> bool:
    """Tell whether every pod is of the newest template, and as many as are wanted are available.

    With an autoscaler, which asks for more at any time, `fewest` are enough.
    """
    status, wanted = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    total, updated, available = (status.get(count, 0) for count in ("replicas", "updatedReplicas", "availableReplicas"))
    if not _is_observed(deployment) or total != updated:
        return False
    return bool(total == available == wanted if fewest is None else available >= min(fewest, wanted))


def trouble_of(deployment: Body, pods: Iterable[Body]) -> Trouble | None:
    """Find what keeps a Deployment's newest template from serving; `pods` are those of that template."""
    pods = list(pods)
    found = [trouble for pod in pods if (trouble := _pod_trouble(pod)) is not None]
    for condition in (deployment.get("status") or {}).get("conditions") or [] if _is_observed(deployment) else []:
        kind, reason, words = (condition["type"], condition["status"]), condition.get("reason", ""), condition.get("message", "")
        if kind == ("Progressing", "False") and reason == STANDSTILL:
            found.append(Trouble(6, reason, _standstill(deployment, pods)))
        elif kind in (("ReplicaFailure", "True"), ("Progressing", "False")):  # a quota, or admission's refusal
            found.append(Trouble(5, reason, _explained(words)))
    if not found:
        return None
    name = deployment["metadata"]["name"]
    return min(Trouble(trouble.rank, _word(trouble.reason), steady(trouble.message, name)) for trouble in found)


def steady(message: str, name: str = "") -> str:
    """Take from a message what differs from one try to the next; `name` is that of the Deployment whose pods it may name."""
    message = clean(message)
    if name:
        message = re.sub(rf"\b{re.escape(name[:LONGEST_PREFIX])}[-a-z0-9]{{0,253}}", name, message)
    for pattern, instead in PASSING:
        message = pattern.sub(instead, message)
    return clean(message.strip(), MESSAGE_LIMIT)


def _is_observed(deployment: Body) -> bool:
    """Tell whether the status is about the present spec."""
    observed: int = (deployment.get("status") or {}).get("observedGeneration", 0)
    return observed >= int(deployment["metadata"]["generation"])


def pod_problem(pod: Body) -> tuple[str, str] | None:
    """Tell what keeps a pod from starting, as reason and message."""
    found = _pod_trouble(pod)
    return (found.reason, found.message) if found is not None else None


def condition_word(reason: str) -> str:
    """Make of a pod's reason a condition's reason: one word."""
    return _word(reason)


def _pod_trouble(pod: Body) -> Trouble | None:
    status = pod.get("status") or {}
    if "deletionTimestamp" in pod["metadata"]:
        return None
    for kind in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(kind) or []:
            if (found := _container_trouble(container, initial=kind.startswith("init"))) is not None:
                return found
    if status.get("phase") == "Failed":  # evicted, or refused by the node
        return Trouble(3, status.get("reason") or "PodFailed", status.get("message") or "the pod failed")
    for condition in status.get("conditions") or []:
        if (condition["type"], condition["status"]) == ("PodScheduled", "False"):
            return Trouble(4, condition.get("reason") or "Unschedulable", condition.get("message") or "no node takes the pod")
    return None


def _container_trouble(container: Body, *, initial: bool) -> Trouble | None:
    """Judge a container. One that has ended is in trouble until it is ready, also while it runs once more."""
    name, state = container["name"], container.get("state") or {}
    waiting = state.get("waiting") or {}
    reason, words = waiting.get("reason", ""), waiting.get("message", "")
    if reason in PULLING:
        why = words if reason == PULLING[0] else words.partition(CAUSE)[2]
        return Trouble(1, PULLING[0], _sentence(f"the image {container.get('image', '')} of container {name} is not pulled", why))
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    if ended and not container.get("ready") and not (initial and ended.get("exitCode") == 0):
        said = str(ended.get("message") or "")
        if name == GRAPH and said.startswith(f"{TAMPERED}:"):  # the server's own word, in its termination message
            return Trouble(0, TAMPERED, _sentence("the server does not load the model", said.removeprefix(f"{TAMPERED}:")))
        cause = ended.get("reason") or ""
        word = cause if cause not in ("", "Error", "Completed") else "CrashLoopBackOff"
        return Trouble(2, word, _sentence(f"container {name} ended with exit code {ended.get('exitCode')}", ended.get("message")))
    if reason not in HARMLESS:
        return Trouble(2 if reason == "CrashLoopBackOff" else 1, reason, _sentence(f"container {name}", words))
    return None


def _explained(words: str) -> str:
    """Name whose admission webhook keeps a pod from being made, where the API server's words tell of one."""
    known = admission.failure(500, words)
    return known.message if isinstance(known, Unavailable) else words


def _standstill(deployment: Body, pods: Iterable[Body]) -> str:
    """Say what a rollout without any other trouble stands at."""
    started = {
        container["name"]
        for pod in pods
        for container in (pod.get("status") or {}).get("containerStatuses") or []
        if "running" in (container.get("state") or {}) and not container.get("ready")
    }
    seconds = deployment["spec"].get("progressDeadlineSeconds", 600)
    what = f"container {', '.join(sorted(started))} runs and is not ready" if started else "no pod became ready"
    return f"{what}, and nothing has moved for {seconds} s"


def _sentence(what: str, words: str | None) -> str:
    return f"{what}: {words.strip()}" if words and words.strip() else what


def _word(reason: str) -> str:
    """Make of a reason a condition's reason: one word."""
    word = re.sub(r"[^A-Za-z0-9]", "", clean(reason))[:64]
    return word if word[:1].isalpha() else "PodFailed"
