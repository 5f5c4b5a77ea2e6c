"""Problems and failures of steps, derived from their pods and from the nodes of the Workflow."""

import base64
import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from winepipelines.api.observed import StepFailure
from winepipelines.platform import steppods

WORKFLOW = "wine-training-abc12"
OWN = {"failure": {"step": "train", "reason": "BucketMissing", "permanent": True, "message": "The bucket wine does not exist."}}


def pod(step: str = "train", phase: str = "Pending", main: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    """Build the pod of a step as Argo creates it. `main` is the state of its main container."""
    image = "registry.example/steps:typo"
    statuses = [{"name": "wait", "image": "argoexec"}, {"name": "main", "image": image, "ready": False, "state": main or {}}]
    annotations = {"workflows.argoproj.io/node-name": f"{WORKFLOW}.root.{step}.executor"}
    metadata = {"name": f"{WORKFLOW}-system-container-impl-123", "annotations": annotations}
    return {"metadata": metadata, "status": {"phase": phase, "containerStatuses": statuses if main else [], **status}}


def node(message: str, phase: str = "Failed", step: str = "train", kind: str = "Pod") -> dict[str, Any]:
    name = f"{WORKFLOW}.root.{step}.executor"
    return {"name": name, "displayName": "executor", "type": kind, "phase": phase, "message": message}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def ended(message: str = "", reason: str = "Error", code: int = 1, at: str = "2026-01-05T12:00:00Z") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": at}}


def unschedulable(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"conditions": [condition]}


@pytest.mark.parametrize(
    ("body", "reason", "text"),
    [
        (pod(main=waiting("ErrImagePull", "manifest unknown")), "ErrImagePull", "registry.example/steps:typo"),
        (pod(main=waiting("ImagePullBackOff", "Back-off pulling image")), "ErrImagePull", "not pulled"),
        (pod(main=waiting("InvalidImageName", "couldn't parse image name")), "InvalidImageName", "couldn't parse"),
        (
            pod(main=waiting("CreateContainerConfigError", 'secret "mlpipeline-minio-artifact" not found')),
            "CreateContainerConfigError",
            'secret "mlpipeline-minio-artifact" not found',
        ),
        (pod(**unschedulable("0/1 nodes are available: 1 Insufficient cpu.")), "Unschedulable", "Insufficient cpu"),
        (
            pod(initContainerStatuses=[{"name": "init", "image": "argoexec", "state": waiting("CrashLoopBackOff", "back-off")}]),
            "CrashLoopBackOff",
            "back-off",
        ),
    ],
)
def test_view_reports_a_pod_that_cannot_start(body: dict[str, Any], reason: str, text: str) -> None:
    problem = steppods.view(WORKFLOW, [body]).problem
    assert problem is not None
    assert (problem.step, problem.reason) == ("train", reason)
    assert text in problem.message


@pytest.mark.parametrize(
    "body",
    [
        pod(main=waiting("ContainerCreating")),
        pod(main=waiting("PodInitializing")),
        pod(),
        pod(phase="Running", main={"running": {}}),
        pod(phase="Running", main=ended(code=0, reason="Completed")),  # its wait container still runs
        pod(phase="Succeeded", main=ended(code=0, reason="Completed")),
    ],
)
def test_view_has_no_problem_when_the_pod_starts_or_runs(body: dict[str, Any]) -> None:
    steps = steppods.view(WORKFLOW, [body], [node("", "Running"), node("waiting for a lock", "Pending")])
    assert (steps.problem, steps.failure) == (None, None)


def test_problem_names_a_driver() -> None:
    driver = pod(main=waiting("ErrImagePull", "no"))
    driver["metadata"]["annotations"]["workflows.argoproj.io/node-name"] = f"{WORKFLOW}.root.download-driver"
    problem = steppods.view(WORKFLOW, [driver]).problem
    assert problem is not None
    assert problem.step == "download-driver"


@pytest.mark.parametrize("name", ["root.train.executor", "root.train.executor(1)", "train", "root.train(0)"])
def test_problem_has_the_name_of_the_step_in_the_pipeline(name: str) -> None:
    retried = pod(main=waiting("ErrImagePull", "no"))
    retried["metadata"]["annotations"]["workflows.argoproj.io/node-name"] = f"{WORKFLOW}.{name}"
    problem = steppods.view(WORKFLOW, [retried]).problem
    assert problem is not None
    assert problem.step == "train"


def test_problem_is_read_from_the_node_when_a_quota_rejects_the_pod() -> None:
    quota = "exceeded quota: team, requested: cpu=1, used: cpu=4, limited: cpu=4"
    message = f'pods "{WORKFLOW}-system-container-impl-9" is forbidden: {quota}'
    problem = steppods.view(WORKFLOW, [], [node(message, "Pending")]).problem
    assert problem is not None
    assert (problem.step, problem.reason) == ("train", "FailedCreate")
    assert "exceeded quota: team" in problem.message
    assert "impl-9" not in problem.message, "the name of the pod differs in each attempt"


@pytest.mark.parametrize(
    ("pods", "nodes"),
    [
        ([pod(phase="Failed", main=ended(json.dumps(OWN)))], []),
        ([], [node(f"main: Error (exit code 1): {json.dumps(OWN)}")]),
        ([pod(phase="Failed", main=ended())], [node(f"Error (exit code 1): {json.dumps(OWN)} and more")]),
        ([pod(phase="Failed", reason="Evicted", message="low on memory", main=ended(json.dumps(OWN)))], []),
    ],
)
def test_failure_is_that_which_the_step_recorded(pods: list[Any], nodes: list[Any]) -> None:
    steps = steppods.view(WORKFLOW, pods, nodes)
    assert steps.explained
    assert steps.failure is not None
    assert (steps.failure.step, steps.failure.reason, steps.failure.permanent) == ("train", "BucketMissing", True)
    assert steps.failure.message == "The bucket wine does not exist."


def test_failure_is_the_newest() -> None:
    older = ended(json.dumps({"failure": {**OWN["failure"], "reason": "DataInvalid"}}), at="2026-01-05T11:00:00Z")
    steps = steppods.view(WORKFLOW, [pod(phase="Failed", main=older), pod(phase="Failed", main=ended(json.dumps(OWN)))])
    assert steps.failure is not None
    assert steps.failure.reason == "BucketMissing"


@pytest.mark.parametrize(
    ("pods", "nodes", "reason", "text"),
    [
        ([pod(phase="Failed", main=ended(reason="OOMKilled", code=137))], [], "OOMKilled", "exit code 137"),
        ([pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")], [], "Evicted", "low on"),
        ([pod(phase="Failed", reason="DeadlineExceeded", message="Pod was active too long")], [], "DeadlineExceeded", "too long"),
        ([], [node("main: OOMKilled (exit code 137)")], "OOMKilled", "137"),
        ([], [node("pod deleted", "Error")], "PodDeleted", "pod deleted"),
        ([pod(phase="Failed", main=ended("no route to host"))], [], "RunFailed", "no route to host"),
        ([], [node("main: Error (exit code 1)")], "RunFailed", "exit code 1"),
    ],
)
def test_failure_is_that_of_kubernetes_when_the_step_recorded_none(
    pods: list[Any], nodes: list[Any], reason: str, text: str
) -> None:
    steps = steppods.view(WORKFLOW, pods, nodes)
    assert not steps.explained
    assert steps.failure is not None
    assert (steps.failure.step, steps.failure.reason, steps.failure.permanent) == ("train", reason, False)
    assert text in steps.failure.message


@pytest.mark.parametrize("phase", ["Succeeded", "Omitted", "Skipped"])
def test_failure_is_none_when_no_pod_node_failed(phase: str) -> None:
    assert steppods.view(WORKFLOW, [], [node("skipped", phase), node("child failed", "Failed", kind="DAG")]).failure is None


@given(text=st.text(max_size=300))
def test_failure_fields_are_bounded_and_printable(text: str) -> None:
    message = json.dumps({"failure": {"step": text, "reason": text, "permanent": True, "message": text * 20}})
    steps = steppods.view(WORKFLOW, [pod(phase="Failed", main=ended(message))], [node(text)])
    assert isinstance(steps.failure, StepFailure)
    assert steps.failure.message.isprintable()
    assert len(steps.failure.message) <= 1000
    assert len(steps.failure.step) <= 64
    assert steps.failure.reason.isalnum()


@pytest.mark.parametrize(
    "message", ['{"failure":', '{"failure": 1}', '{"failure": {"reason": "x"}}', '{"failure":' * 5000, "", "\x00"]
)
def test_termination_message_is_ignored_when_it_is_not_a_failure(message: str) -> None:
    steps = steppods.view(WORKFLOW, [pod(phase="Failed", main=ended(message))])
    assert not steps.explained
    assert steps.failure is not None
    assert steps.failure.reason == "RunFailed"


def test_nodes_are_read_from_plain_and_compressed_status() -> None:
    nodes = {"a": node("main: OOMKilled (exit code 137)")}
    packed = base64.b64encode(gzip.compress(json.dumps(nodes).encode())).decode()
    assert steppods.nodes_of({"status": {"nodes": nodes}}) == [nodes["a"]]
    assert steppods.nodes_of({"status": {"compressedNodes": packed}}) == [nodes["a"]]
    bomb = base64.b64encode(gzip.compress(b" " * (64 << 20))).decode()
    for broken in ({}, {"compressedNodes": "?"}, {"compressedNodes": packed[:40]}, {"compressedNodes": bomb}, {"nodes": [1]}):
        assert steppods.nodes_of({"status": broken}) == []
