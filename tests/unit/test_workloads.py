"""The problem of a rollout that does not complete: the most specific one, with a stable message."""

from typing import Any

import pytest

from winecontract.reasons import Reason
from winecontract.termination import Failure
from winepipelines.platform.workloads import MESSAGE_LIMIT, is_complete, problem_of, steady

NAME = "mlflow-wine-super-model-0-classifier"
DEPLOYMENT: dict[str, Any] = {
    "metadata": {"name": NAME, "generation": 2},
    "spec": {"replicas": 2, "progressDeadlineSeconds": 900},
    "status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2},
}


def _deployment(*conditions: tuple[str, str, str, str], **status: int) -> dict[str, Any]:
    listed = [dict(zip(("type", "status", "reason", "message"), condition, strict=True)) for condition in conditions]
    return {**DEPLOYMENT, "status": {**DEPLOYMENT["status"], "conditions": listed, **status}}


def _pod(*, init: dict[str, Any] | None = None, main: dict[str, Any] | None = None, suffix: str = "x7k2p", **status: Any) -> Any:
    statuses = {
        "initContainerStatuses": [{"name": "classifier-model-initializer", "image": "rclone:1", **init}] if init else [],
        "containerStatuses": [{"name": "classifier", "image": "s:1", "ready": False, **main}] if main else [],
    }
    return {"metadata": {"name": f"{NAME}-7d9c5d6f8b-{suffix}"}, "status": {**statuses, **status}}


def _waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def _ended(code: int = 1, message: str = "", reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def _problem(*pods: Any, deployment: dict[str, Any] = DEPLOYMENT) -> tuple[str, str]:
    problem = problem_of(deployment, pods, "classifier")
    assert problem is not None
    return problem.reason, problem.message


def test_deployment_is_complete_when_no_other_pod_is_left() -> None:
    assert is_complete(DEPLOYMENT)
    for field, value in (("observedGeneration", 1), ("replicas", 3), ("updatedReplicas", 1), ("availableReplicas", 1)):
        assert not is_complete(_deployment(**{field: value})), field
    assert not is_complete({"metadata": {"generation": 1}, "spec": {}})


def test_deployment_is_complete_while_an_autoscaler_adds_pods() -> None:
    growing = {**_deployment(replicas=5, updatedReplicas=5, availableReplicas=2), "spec": {"replicas": 5}}
    assert not is_complete(growing)
    assert is_complete(growing, fewest=2)
    assert not is_complete(growing, fewest=3)
    assert not is_complete(_deployment(replicas=3), fewest=1)  # a pod of an earlier template is left
    assert is_complete(DEPLOYMENT, fewest=4)  # the autoscaler has not raised it yet


def test_starting_pod_has_no_problem() -> None:
    for reason in ("PodInitializing", "ContainerCreating"):
        assert problem_of(DEPLOYMENT, [_pod(main=_waiting(reason))], "classifier") is None
    copied = _pod(init={"state": _ended(0, reason="Completed"), "ready": True}, main={"state": {"running": {}}})
    assert problem_of(DEPLOYMENT, [copied], "classifier") is None


def test_image_pull_failure_is_one_problem_with_both_reasons_of_the_kubelet() -> None:
    why = 'failed to resolve reference "s:1": not found'
    pulling = _problem(_pod(main=_waiting("ErrImagePull", why)))
    assert pulling == ("ErrImagePull", f"the image s:1 of container classifier is not pulled: {why}")
    assert _problem(_pod(main=_waiting("ImagePullBackOff", f'Back-off pulling image "s:1": ErrImagePull: {why}'))) == pulling
    older = _problem(_pod(main=_waiting("ImagePullBackOff", 'Back-off pulling image "s:1"')))
    assert older[0] == "ErrImagePull"
    assert pulling[1].startswith(older[1])  # the detailed message stays the same


def test_crash_loop_has_one_message_in_all_its_states() -> None:
    last = {"lastState": _ended(1, "2026-01-05 12:00:01,123 ERROR wineserver: no MLmodel")}
    back_off = f"back-off 40s restarting failed container=classifier pod={NAME}-7d9c5d6f8b-x7k2p_admin(0f0f0f0f)"
    states: list[dict[str, Any]] = [
        {**_waiting("CrashLoopBackOff", back_off), **last},
        {"state": {"running": {}}, **last},
        {"state": last["lastState"]},
    ]
    problems = {_problem(_pod(main=state)) for state in states}
    assert problems == {("CrashLoopBackOff", "container classifier ended with exit code 1: ERROR wineserver: no MLmodel")}


def test_recovered_container_has_no_problem() -> None:
    ready = {"ready": True, "state": {"running": {}}, "lastState": _ended(137, reason="OOMKilled")}
    assert problem_of(DEPLOYMENT, [_pod(main=ready)], "classifier") is None


def test_problem_has_the_reason_of_a_terminated_container() -> None:
    killed = {**_waiting("CrashLoopBackOff"), "lastState": _ended(137, reason="OOMKilled")}
    assert _problem(_pod(main=killed)) == ("OOMKilled", "container classifier ended with exit code 137")


def test_problem_is_model_tampered_when_the_server_reports_it() -> None:
    failure = Failure("", Reason.MODEL_TAMPERED, "/mnt/models: the files have the digest sha256:b, but sha256:a was signed")
    termination = failure.encode().decode()
    for state in ({**_waiting("CrashLoopBackOff"), "lastState": _ended(1, termination)}, {"state": _ended(1, termination)}):
        reason, message = _problem(_pod(main=state))
        assert reason == "ModelTampered"
        assert (
            message
            == "the server does not load the model: /mnt/models: the files have the digest sha256:b, but sha256:a was signed"
        )
    elsewhere = {**_waiting("CrashLoopBackOff"), "lastState": _ended(1, termination)}
    assert _problem(_pod(init=elsewhere, main=_waiting("PodInitializing")))[0] == "CrashLoopBackOff", (
        "another container reported it"
    )


def test_problem_has_the_message_that_the_server_reports() -> None:
    termination = Failure("", Reason.MODEL_UNUSABLE, "there is no MLmodel file").encode().decode()
    last = {"lastState": _ended(1, termination)}
    message = "container classifier ended with exit code 1: there is no MLmodel file"
    assert _problem(_pod(main={**_waiting("CrashLoopBackOff"), **last})) == ("CrashLoopBackOff", message)


def test_problem_names_the_failing_init_container() -> None:
    failing = {**_waiting("CrashLoopBackOff"), "lastState": _ended(1, "2026/01/05 12:00:01 ERROR : directory not found")}
    reason, message = _problem(_pod(init=failing, main=_waiting("PodInitializing")))
    assert reason == "CrashLoopBackOff"
    assert message == "container classifier-model-initializer ended with exit code 1: ERROR : directory not found"


@pytest.mark.parametrize("reason", ["CreateContainerConfigError", "InvalidImageName", "RunContainerError"])
def test_problem_quotes_the_kubelet_when_a_container_cannot_be_created(reason: str) -> None:
    assert _problem(_pod(main=_waiting(reason, 'secret "s" not found'))) == (reason, 'container classifier: secret "s" not found')


def test_unschedulable_pod_is_a_problem() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}
    assert _problem(_pod(conditions=[condition])) == ("Unschedulable", "0/1 nodes are available")


def test_evicted_pod_is_a_problem() -> None:
    evicted = _pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    assert _problem(evicted) == ("Evicted", "The node was low on resource: memory.")


def test_exceeded_quota_is_reported_without_random_names_of_pods() -> None:
    def rejected(suffix: str) -> dict[str, Any]:
        message = f'pods "{NAME}-7d9c5d6f8b-{suffix}" is forbidden: exceeded quota: compute, requested: cpu=500m'
        return _deployment(("ReplicaFailure", "True", "FailedCreate", message))

    expected = ("FailedCreate", f'pods "{NAME}" is forbidden: exceeded quota: compute, requested: cpu=500m')
    assert _problem(deployment=rejected("aaaaa")) == _problem(deployment=rejected("bbbbb")) == expected


def test_passed_progress_deadline_names_the_container_that_is_not_ready() -> None:
    still = _deployment(("Progressing", "False", "ProgressDeadlineExceeded", 'ReplicaSet "x" has timed out progressing.'))
    running = _pod(main={"state": {"running": {}}})
    message = "container classifier runs and is not ready, and the rollout has made no progress for 900 s"
    assert _problem(running, deployment=still) == ("ProgressDeadlineExceeded", message)
    crashing = _pod(main={**_waiting("CrashLoopBackOff"), "lastState": _ended(1)})
    assert _problem(crashing, deployment=still)[0] == "CrashLoopBackOff"  # the problem of the pod is more specific


def test_condition_of_an_earlier_generation_is_ignored() -> None:
    condition = ("Progressing", "False", "ProgressDeadlineExceeded", "")
    assert problem_of(_deployment(condition, observedGeneration=1), [], "classifier") is None


def test_most_specific_problem_is_reported_in_any_order() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    pods = [_pod(conditions=[condition]), _pod(main=_waiting("ErrImagePull", "not found"), suffix="bbbbb")]
    assert _problem(*pods) == _problem(*reversed(pods))
    assert _problem(*pods)[0] == "ErrImagePull"


def test_terminating_pod_is_ignored() -> None:
    leaving = _pod(main=_waiting("ErrImagePull"))
    leaving["metadata"]["deletionTimestamp"] = "2026-01-05T12:00:00Z"
    assert problem_of(DEPLOYMENT, [leaving], "classifier") is None


def test_reason_is_one_word() -> None:
    assert _problem(_pod(phase="Failed", reason="Unexpected admission-error!", message="m"))[0] == "Unexpectedadmissionerror"


def test_message_is_bounded_and_stable() -> None:
    text = "read tcp 10.0.0.7:43210->10.0.0.9:443: reset, container " + "ab" * 32 + ", uid 01234567-89ab-cdef-0123-456789abcdef"
    assert steady(text, NAME) == "read tcp 10.0.0.9:443: reset, container …, uid …"
    assert steady("s@sha256:" + "ab" * 32, NAME) == "s@sha256:" + "ab" * 32
    assert len(steady("x" * 5000, NAME)) == MESSAGE_LIMIT


def test_problem_names_the_owner_of_a_failing_webhook() -> None:
    webhook_error = (
        'Internal error occurred: failed calling webhook "admission-webhook-deployment.kubeflow.org": failed to call webhook: '
        'Post "https://admission-webhook-service.kubeflow.svc:443/apply-poddefault?timeout=10s": dial tcp: connection refused'
    )
    reason, message = _problem(deployment=_deployment(("ReplicaFailure", "True", "FailedCreate", webhook_error)))
    assert reason == "FailedCreate"
    assert message.startswith("Kubeflow's PodDefault webhook is down")
