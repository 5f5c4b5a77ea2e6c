"""The pods of a run's steps and the nodes of its Workflow: what keeps a step from starting, and why one failed. Pure.

Called by `steps`. Kubeflow's API tells neither. A step writes its own reason to its container's termination message, which the
kubelet puts into the pod's status and Argo into the node's message; all else is told in Kubernetes' or Argo's words. Whoever may
write to the namespace may have written any of it: it is bounded, and made printable.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from winecontract.parsing import UnreadableError, parse_first_object, parse_json
from winecontract.text import clean, cleaned
from winepipelines.platform.records import FALLBACK_REASON, MESSAGE_LIMIT, REASON, WORD_LIMIT
from winepipelines.platform.workloads import condition_word, pod_problem, steady
from winepipelines.resource.observed import StepFailure, StepsView

Body = dict[str, Any]
NODE_NAME = "workflows.argoproj.io/node-name"
RETRIED = re.compile(r"\(\d+\)$")  # of a pod that Argo makes again itself
MAIN = "main"
RUN_FAILED, FAILED_CREATE, POD_DELETED = "RunFailed", "FailedCreate", "PodDeleted"
BEGINNING = datetime.fromtimestamp(0, UTC)
NODES_LIMIT = 1 << 20  # bytes of a Workflow's nodes
NODES_VALUES = 50_000  # values in them


def view(workflow: str, pods: Iterable[Body], nodes: Iterable[Mapping[str, Any]] = ()) -> StepsView:
    """Judge a run by its Workflow's name, its pods and, where these do not tell, its Workflow's nodes."""
    pods, nodes = list(pods), list(nodes)
    own = newest(found for pod in pods if (found := _own_words(_step(_name(pod)), _ended(pod))) is not None)
    own = own or next((found for node in nodes if (found := _own_words(_node_step(node), _message(node))) is not None), None)
    failure = own or newest(found for pod in pods if (found := _failure(pod)) is not None) or _node_failure(nodes)
    problem = next((found for pod in pods if (found := _problem(pod, workflow)) is not None), None)
    return StepsView(True, workflow, problem or _not_created(nodes, workflow), failure, explained=own is not None)


def is_at_work(pods: Iterable[Body]) -> bool:
    """Tell whether there is a pod that has not ended."""
    return any(_phase(pod) in ("Pending", "Running") for pod in pods)


def nodes_of(workflow: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """List a Workflow's nodes, which Argo compresses where they are large. Those that it keeps in a database are not seen."""
    status = workflow.get("status") or {}
    nodes = status.get("nodes") or {}
    if not nodes and isinstance(packed := status.get("compressedNodes"), str):
        try:
            unpacked = zlib.decompressobj(wbits=47)  # gzip or zlib
            nodes = cleaned(parse_json(unpacked.decompress(base64.b64decode(packed), NODES_LIMIT), most=NODES_VALUES))
        except (binascii.Error, zlib.error, ValueError):
            nodes = {}
    return [node for node in nodes.values() if isinstance(node, dict)] if isinstance(nodes, dict) else []


def newest(failures: Iterable[StepFailure]) -> StepFailure | None:
    """Choose the failure that came last."""
    return max(failures, key=lambda failure: failure.at, default=None)


def _problem(pod: Body, workflow: str) -> StepFailure | None:
    """Tell what keeps a pod from starting. Its names change from attempt to attempt and are left out."""
    if _phase(pod) != "Pending" or (found := pod_problem(pod)) is None:
        return None
    reason, message = found
    return StepFailure(_step(_name(pod)), condition_word(reason), _words(message, workflow), permanent=False, at=BEGINNING)


def _not_created(nodes: Iterable[Mapping[str, Any]], workflow: str) -> StepFailure | None:
    """Tell of a pod that the API server does not let Argo make: a quota, or an admission webhook. Argo tries again and again."""
    for node in nodes:
        if node.get("type") == "Pod" and node.get("phase") == "Pending" and "forbidden" in (said := _message(node)[0]):
            return StepFailure(_node_step(node), FAILED_CREATE, _words(said, workflow), permanent=False, at=BEGINNING)
    return None


def _failure(pod: Body) -> StepFailure | None:
    """Tell in Kubernetes' words why a pod failed."""
    status, step = pod.get("status") or {}, _step(_name(pod))
    if _phase(pod) != "Failed":
        return None
    if reason := str(status.get("reason") or ""):  # evicted, over its time, given up by its node
        message = str(status.get("message") or "the pod failed")
        return StepFailure(step, condition_word(reason), clean(message, MESSAGE_LIMIT), permanent=False, at=_ended(pod)[1])
    for container in sorted(status.get("containerStatuses") or [], key=lambda one: one.get("name") != MAIN):
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            why = str(ended.get("reason") or "Error")
            said = f": {ended['message']}" if ended.get("message") else ""
            message = clean(
                f"container {container.get('name')} ended with exit code {ended['exitCode']} ({why}){said}", MESSAGE_LIMIT
            )
            reason = RUN_FAILED if why in ("Error", "Completed") else condition_word(why)
            return StepFailure(step, reason, message, permanent=False, at=_ended(pod)[1])
    return None


def _node_failure(nodes: Iterable[Mapping[str, Any]]) -> StepFailure | None:
    """Tell in Argo's words why a pod failed that may be gone."""
    for node in nodes:
        message, at = _message(node)
        if node.get("type") == "Pod" and node.get("phase") in ("Failed", "Error") and message:
            reason = POD_DELETED if "pod deleted" in message else "OOMKilled" if "OOMKilled" in message else RUN_FAILED
            return StepFailure(_node_step(node), reason, clean(message, MESSAGE_LIMIT), permanent=False, at=at)
    return None


def _own_words(step: str, said: tuple[str, datetime]) -> StepFailure | None:
    """Read what a step wrote as its termination message; Argo puts the container's name and exit code before it."""
    text, at = said
    begin = text.find('{"failure":')
    if begin < 0:
        return None
    try:
        content = parse_first_object(text, begin)["failure"]
        reason, message = str(content["reason"]), str(content["message"])
        permanent = content["permanent"] is True
    except (UnreadableError, KeyError, TypeError):
        return None
    reason = reason if REASON.fullmatch(reason) else FALLBACK_REASON
    named = content.get("step")
    return StepFailure(
        clean(named if isinstance(named, str) and named else step, WORD_LIMIT),
        reason,
        clean(message, MESSAGE_LIMIT),
        permanent,
        at,
    )


def _ended(pod: Body) -> tuple[str, datetime]:
    """Read the termination message of a pod's main container, and when it ended."""
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        ended = (container.get("state") or {}).get("terminated")
        if container.get("name") == MAIN and ended:
            return str(ended.get("message") or ""), _moment(ended.get("finishedAt"))
    return "", BEGINNING


def _message(node: Mapping[str, Any]) -> tuple[str, datetime]:
    return str(node.get("message") or ""), _moment(node.get("finishedAt"))


def _moment(text: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return BEGINNING
    return moment if moment.tzinfo is not None else BEGINNING


def _phase(pod: Body) -> str:
    return str((pod.get("status") or {}).get("phase") or "")


def _name(pod: Body) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(NODE_NAME, pod["metadata"].get("name", "")))


def _node_step(node: Mapping[str, Any]) -> str:
    return _step(str(node.get("name") or node.get("displayName") or ""))


def _step(node_name: str) -> str:
    """Name the step of a node: Argo calls the pod of `train` `….root.train.executor`, and the one before it `….train-driver`."""
    parts = [part for part in RETRIED.sub("", node_name).split(".") if part != "executor"]
    return clean(parts[-1] if parts else "unknown", WORD_LIMIT)


def _words(message: str, workflow: str) -> str:
    return clean(steady(message, workflow), MESSAGE_LIMIT)
