"""What keeps a step of a run from starting, and why one failed, as its pods and the nodes of its Workflow tell it."""

import base64
import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from winepipelines.platform import steppods
from winepipelines.resource.observed import StepFailure

WORKFLOW = "wine-training-abc12"
OWN = {"failure": {"step": "train", "reason": "BucketMissing", "permanent": True, "message": "The bucket gone is gone."}}


def pod(step: str = "train", phase: str = "Pending", main: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    """A step's pod as Argo makes it; `main` is the state of its main container."""
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
    ("given", "reason", "said"),
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
def test_a_pod_that_cannot_start(given: dict[str, Any], reason: str, said: str) -> None:
    problem = steppods.view(WORKFLOW, [given]).problem
    assert problem is not None
    assert (problem.step, problem.reason) == ("train", reason)
    assert said in problem.message


@pytest.mark.parametrize(
    "given",
    [
        pod(main=waiting("ContainerCreating")),
        pod(main=waiting("PodInitializing")),
        pod(),
        pod(phase="Running", main={"running": {}}),
        pod(phase="Running", main=ended(code=0, reason="Completed")),  # its wait container still runs
        pod(phase="Succeeded", main=ended(code=0, reason="Completed")),
    ],
)
def test_a_pod_on_its_way_is_no_problem(given: dict[str, Any]) -> None:
    seen = steppods.view(WORKFLOW, [given], [node("", "Running"), node("waiting for a lock", "Pending")])
    assert (seen.problem, seen.failure) == (None, None)


def test_a_driver_is_named_too() -> None:
    driver = pod(main=waiting("ErrImagePull", "no"))
    driver["metadata"]["annotations"]["workflows.argoproj.io/node-name"] = f"{WORKFLOW}.root.download-driver"
    problem = steppods.view(WORKFLOW, [driver]).problem
    assert problem is not None
    assert problem.step == "download-driver"


@pytest.mark.parametrize("name", ["root.train.executor", "root.train.executor(1)", "train", "root.train(0)"])
def test_a_step_is_named_as_its_pipeline_does(name: str) -> None:
    retried = pod(main=waiting("ErrImagePull", "no"))
    retried["metadata"]["annotations"]["workflows.argoproj.io/node-name"] = f"{WORKFLOW}.{name}"
    problem = steppods.view(WORKFLOW, [retried]).problem
    assert problem is not None
    assert problem.step == "train"


def test_a_pod_that_a_quota_does_not_admit_is_told_by_its_node() -> None:
    quota = "exceeded quota: team, requested: cpu=1, used: cpu=4, limited: cpu=4"
    said = f'pods "{WORKFLOW}-system-container-impl-9" is forbidden: {quota}'
    problem = steppods.view(WORKFLOW, [], [node(said, "Pending")]).problem
    assert problem is not None
    assert (problem.step, problem.reason) == ("train", "FailedCreate")
    assert "exceeded quota: team" in problem.message
    assert "impl-9" not in problem.message, "the name differs from try to try"


@pytest.mark.parametrize(
    ("pods", "nodes"),
    [
        ([pod(phase="Failed", main=ended(json.dumps(OWN)))], []),
        ([], [node(f"main: Error (exit code 1): {json.dumps(OWN)}")]),
        ([pod(phase="Failed", main=ended())], [node(f"Error (exit code 1): {json.dumps(OWN)} and more")]),
        ([pod(phase="Failed", reason="Evicted", message="low on memory", main=ended(json.dumps(OWN)))], []),
    ],
)
def test_a_step_that_failed_has_the_first_word(pods: list[Any], nodes: list[Any]) -> None:
    seen = steppods.view(WORKFLOW, pods, nodes)
    assert seen.explained
    assert seen.failure is not None
    assert (seen.failure.step, seen.failure.reason, seen.failure.permanent) == ("train", "BucketMissing", True)
    assert seen.failure.message == "The bucket gone is gone."


def test_the_newest_failure_counts() -> None:
    older = ended(json.dumps({"failure": {**OWN["failure"], "reason": "DataInvalid"}}), at="2026-01-05T11:00:00Z")
    seen = steppods.view(WORKFLOW, [pod(phase="Failed", main=older), pod(phase="Failed", main=ended(json.dumps(OWN)))])
    assert seen.failure is not None
    assert seen.failure.reason == "BucketMissing"


@pytest.mark.parametrize(
    ("pods", "nodes", "reason", "said"),
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
def test_a_step_that_left_no_word_is_told_of_in_kubernetes_words(
    pods: list[Any], nodes: list[Any], reason: str, said: str
) -> None:
    seen = steppods.view(WORKFLOW, pods, nodes)
    assert not seen.explained
    assert seen.failure is not None
    assert (seen.failure.step, seen.failure.reason, seen.failure.permanent) == ("train", reason, False)
    assert said in seen.failure.message


@pytest.mark.parametrize("phase", ["Succeeded", "Omitted", "Skipped"])
def test_a_node_that_did_not_fail_says_nothing(phase: str) -> None:
    assert steppods.view(WORKFLOW, [], [node("skipped", phase), node("child failed", "Failed", kind="DAG")]).failure is None


@given(text=st.text(max_size=300))
def test_what_anyone_may_have_written_is_bounded_and_printable(text: str) -> None:
    said = json.dumps({"failure": {"step": text, "reason": text, "permanent": True, "message": text * 20}})
    seen = steppods.view(WORKFLOW, [pod(phase="Failed", main=ended(said))], [node(text)])
    assert isinstance(seen.failure, StepFailure)
    assert seen.failure.message.isprintable()
    assert len(seen.failure.message) <= 1000
    assert len(seen.failure.step) <= 64
    assert seen.failure.reason.isalnum()


@pytest.mark.parametrize(
    "said", ['{"failure":', '{"failure": 1}', '{"failure": {"reason": "x"}}', '{"failure":' * 5000, "", "\x00"]
)
def test_what_is_no_failure_of_a_step_is_none(said: str) -> None:
    seen = steppods.view(WORKFLOW, [pod(phase="Failed", main=ended(said))])
    assert not seen.explained
    assert seen.failure is not None
    assert seen.failure.reason == "RunFailed"


def test_nodes_are_read_as_argo_packs_them() -> None:
    nodes = {"a": node("main: OOMKilled (exit code 137)")}
    packed = base64.b64encode(gzip.compress(json.dumps(nodes).encode())).decode()
    assert steppods.nodes_of({"status": {"nodes": nodes}}) == [nodes["a"]]
    assert steppods.nodes_of({"status": {"compressedNodes": packed}}) == [nodes["a"]]
    bomb = base64.b64encode(gzip.compress(b" " * (64 << 20))).decode()
    for broken in ({}, {"compressedNodes": "?"}, {"compressedNodes": packed[:40]}, {"compressedNodes": bomb}, {"nodes": [1]}):
        assert steppods.nodes_of({"status": broken}) == []
