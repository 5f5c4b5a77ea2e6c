"""The pods of a run's steps and the nodes of its Workflow: what prevents a step from starting, and why one failed. Pure.

The API of Kubeflow Pipelines has neither. A step writes its reason to its container's termination message, which the kubelet
copies to the pod's status and Argo Workflows to the node's message. All other reasons are those of Kubernetes or Argo. Whoever
may write to the namespace may have written any of these texts, so they are truncated and made printable.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from winecontract import termination
from winecontract.parsing import parse_json
from winecontract.reasons import Reason
from winecontract.text import clean, cleaned
from winepipelines.api.observed import StepFailure, StepsView
from winepipelines.platform.records import FALLBACK_REASON, MESSAGE_LIMIT, REASON, WORD_LIMIT
from winepipelines.platform.workloads import condition_word, pod_problem, steady

Body = dict[str, Any]
NODE_NAME = "workflows.argoproj.io/node-name"
RETRIED = re.compile(r"\(\d+\)$")  # Argo appends the number of its own retry
MAIN = "main"
BEGINNING = datetime.fromtimestamp(0, UTC)
ARGO_MESSAGES = {"pod deleted": Reason.POD_DELETED, "OOMKilled": Reason.OOM_KILLED}  # Argo has no field for the reason
NODES_LIMIT = 1 << 20  # bytes of a Workflow's nodes
NODES_VALUES = 50_000  # values in them


def view(workflow: str, pods: Iterable[Body], nodes: Iterable[Mapping[str, Any]] = ()) -> StepsView:
    """Describe a run by its Workflow's name, its pods and, if these are not conclusive, its Workflow's nodes."""
    pods, nodes = list(pods), list(nodes)
    reported = newest(found for pod in pods if (found := _reported(_step(_name(pod)), _ended(pod))) is not None)
    reported = reported or next(
        (found for node in nodes if (found := _reported(_node_step(node), _message(node))) is not None), None
    )
    failure = reported or newest(found for pod in pods if (found := _failure(pod)) is not None) or _node_failure(nodes)
    problem = next((found for pod in pods if (found := _problem(pod, workflow)) is not None), None)
    return StepsView(True, workflow, problem or _not_created(nodes, workflow), failure, explained=reported is not None)


def is_at_work(pods: Iterable[Body]) -> bool:
    """Whether a pod has not ended."""
    return any(_phase(pod) in ("Pending", "Running") for pod in pods)


def nodes_of(workflow: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """List a Workflow's nodes, decompressed if Argo has compressed them. Nodes that Argo keeps in a database are not listed."""
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
    """Return the newest failure."""
    return max(failures, key=lambda failure: failure.at, default=None)


def _problem(pod: Body, workflow: str) -> StepFailure | None:
    """Describe what prevents a pod from starting, without names that change between attempts."""
    if _phase(pod) != "Pending" or (found := pod_problem(pod)) is None:
        return None
    reason, message = found
    return StepFailure(_step(_name(pod)), condition_word(reason), _words(message, workflow), permanent=False, at=BEGINNING)


def _not_created(nodes: Iterable[Mapping[str, Any]], workflow: str) -> StepFailure | None:
    """Describe a pod that a quota or an admission webhook rejects. Argo retries without end."""
    for node in nodes:
        if node.get("type") == "Pod" and node.get("phase") == "Pending" and "forbidden" in (message := _message(node)[0]):
            return StepFailure(_node_step(node), Reason.FAILED_CREATE, _words(message, workflow), permanent=False, at=BEGINNING)
    return None


def _failure(pod: Body) -> StepFailure | None:
    """Describe why a pod failed, as Kubernetes reports it."""
    status, step = pod.get("status") or {}, _step(_name(pod))
    if _phase(pod) != "Failed":
        return None
    if reason := str(status.get("reason") or ""):  # such as evicted, past its deadline, or on a lost node
        message = str(status.get("message") or "the pod failed")
        return StepFailure(step, condition_word(reason), clean(message, MESSAGE_LIMIT), permanent=False, at=_ended(pod)[1])
    for container in sorted(status.get("containerStatuses") or [], key=lambda one: one.get("name") != MAIN):
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            why = str(ended.get("reason") or "Error")
            suffix = f": {ended['message']}" if ended.get("message") else ""
            message = clean(
                f"container {container.get('name')} ended with exit code {ended['exitCode']} ({why}){suffix}", MESSAGE_LIMIT
            )
            reason = Reason.RUN_FAILED if why in ("Error", "Completed") else condition_word(why)
            return StepFailure(step, reason, message, permanent=False, at=_ended(pod)[1])
    return None


def _node_failure(nodes: Iterable[Mapping[str, Any]]) -> StepFailure | None:
    """Describe why a pod failed, as Argo Workflows reports it; the pod itself may be deleted."""
    for node in nodes:
        message, at = _message(node)
        if node.get("type") == "Pod" and node.get("phase") in ("Failed", "Error") and message:
            reason = next((reason for text, reason in ARGO_MESSAGES.items() if text in message), Reason.RUN_FAILED)
            return StepFailure(_node_step(node), reason, clean(message, MESSAGE_LIMIT), permanent=False, at=at)
    return None


def _reported(step: str, message: tuple[str, datetime]) -> StepFailure | None:
    """Read a step's failure from its termination message."""
    text, at = message
    failure = termination.read(text)
    if failure is None:
        return None
    reason = failure.reason if REASON.fullmatch(failure.reason) else FALLBACK_REASON
    return StepFailure(
        clean(failure.step or step, WORD_LIMIT), reason, clean(failure.message, MESSAGE_LIMIT), failure.permanent, at
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
