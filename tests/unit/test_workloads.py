"""Of a rollout that does not come to its end: the most telling trouble, in words that the next look does not change."""

from typing import Any

import pytest

from winepipelines.platform.workloads import MESSAGE_LIMIT, is_complete, steady, trouble_of

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


def _told(*pods: Any, deployment: dict[str, Any] = DEPLOYMENT) -> tuple[str, str]:
    trouble = trouble_of(deployment, pods)
    assert trouble is not None
    return trouble.reason, trouble.message


def test_a_deployment_is_complete_when_no_other_pod_is_left() -> None:
    assert is_complete(DEPLOYMENT)
    for field, value in (("observedGeneration", 1), ("replicas", 3), ("updatedReplicas", 1), ("availableReplicas", 1)):
        assert not is_complete(_deployment(**{field: value})), field
    assert not is_complete({"metadata": {"generation": 1}, "spec": {}})


def test_with_an_autoscaler_pods_that_are_being_added_do_not_matter() -> None:
    growing = {**_deployment(replicas=5, updatedReplicas=5, availableReplicas=2), "spec": {"replicas": 5}}
    assert not is_complete(growing)
    assert is_complete(growing, fewest=2)
    assert not is_complete(growing, fewest=3)
    assert not is_complete(_deployment(replicas=3), fewest=1)  # a pod of an earlier template is left
    assert is_complete(DEPLOYMENT, fewest=4)  # the autoscaler has not raised it yet


def test_a_pod_on_its_way_is_no_trouble() -> None:
    for reason in ("PodInitializing", "ContainerCreating"):
        assert trouble_of(DEPLOYMENT, [_pod(main=_waiting(reason))]) is None
    copied = _pod(init={"state": _ended(0, reason="Completed"), "ready": True}, main={"state": {"running": {}}})
    assert trouble_of(DEPLOYMENT, [copied]) is None


def test_an_image_that_is_not_pulled_is_one_trouble_in_the_kubelets_two_words() -> None:
    why = 'failed to resolve reference "s:1": not found'
    pulling = _told(_pod(main=_waiting("ErrImagePull", why)))
    assert pulling == ("ErrImagePull", f"the image s:1 of container classifier is not pulled: {why}")
    assert _told(_pod(main=_waiting("ImagePullBackOff", f'Back-off pulling image "s:1": ErrImagePull: {why}'))) == pulling
    older = _told(_pod(main=_waiting("ImagePullBackOff", 'Back-off pulling image "s:1"')))
    assert older[0] == "ErrImagePull"
    assert pulling[1].startswith(older[1])  # the fuller word stays


def test_a_crash_loop_is_told_alike_in_each_of_its_states() -> None:
    last = {"lastState": _ended(1, "2026-01-05 12:00:01,123 ERROR wineserver: no MLmodel")}
    back_off = f"back-off 40s restarting failed container=classifier pod={NAME}-7d9c5d6f8b-x7k2p_admin(0f0f0f0f)"
    states: list[dict[str, Any]] = [
        {**_waiting("CrashLoopBackOff", back_off), **last},
        {"state": {"running": {}}, **last},
        {"state": last["lastState"]},
    ]
    told = {_told(_pod(main=state)) for state in states}
    assert told == {("CrashLoopBackOff", "container classifier ended with exit code 1: ERROR wineserver: no MLmodel")}


def test_a_container_that_has_recovered_is_no_trouble() -> None:
    ready = {"ready": True, "state": {"running": {}}, "lastState": _ended(137, reason="OOMKilled")}
    assert trouble_of(DEPLOYMENT, [_pod(main=ready)]) is None


def test_why_a_container_was_ended_is_its_reason() -> None:
    killed = {**_waiting("CrashLoopBackOff"), "lastState": _ended(137, reason="OOMKilled")}
    assert _told(_pod(main=killed)) == ("OOMKilled", "container classifier ended with exit code 137")


def test_files_that_the_server_refuses_are_told_in_its_own_word() -> None:
    said = "ModelTampered: /mnt/models: the files have the digest sha256:b, but sha256:a was signed"
    for state in ({**_waiting("CrashLoopBackOff"), "lastState": _ended(1, said)}, {"state": _ended(1, said)}):
        reason, message = _told(_pod(main=state))
        assert reason == "ModelTampered"
        assert (
            message
            == "the server does not load the model: /mnt/models: the files have the digest sha256:b, but sha256:a was signed"
        )
    elsewhere = {**_waiting("CrashLoopBackOff"), "lastState": _ended(1, said)}
    assert _told(_pod(init=elsewhere, main=_waiting("PodInitializing")))[0] == "CrashLoopBackOff", "it is not the server's word"


def test_an_init_container_that_fails_is_named() -> None:
    failing = {**_waiting("CrashLoopBackOff"), "lastState": _ended(1, "2026/01/05 12:00:01 ERROR : directory not found")}
    reason, message = _told(_pod(init=failing, main=_waiting("PodInitializing")))
    assert reason == "CrashLoopBackOff"
    assert message == "container classifier-model-initializer ended with exit code 1: ERROR : directory not found"


@pytest.mark.parametrize("reason", ["CreateContainerConfigError", "InvalidImageName", "RunContainerError"])
def test_a_container_that_cannot_be_made_has_the_kubelets_words(reason: str) -> None:
    assert _told(_pod(main=_waiting(reason, 'secret "s" not found'))) == (reason, 'container classifier: secret "s" not found')


def test_a_pod_that_no_node_takes() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}
    assert _told(_pod(conditions=[condition])) == ("Unschedulable", "0/1 nodes are available")


def test_a_pod_that_its_node_gave_up() -> None:
    evicted = _pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    assert _told(evicted) == ("Evicted", "The node was low on resource: memory.")


def test_a_quota_that_refuses_pods_is_told_without_their_random_names() -> None:
    def refused(suffix: str) -> dict[str, Any]:
        words = f'pods "{NAME}-7d9c5d6f8b-{suffix}" is forbidden: exceeded quota: compute, requested: cpu=500m'
        return _deployment(("ReplicaFailure", "True", "FailedCreate", words))

    expected = ("FailedCreate", f'pods "{NAME}" is forbidden: exceeded quota: compute, requested: cpu=500m')
    assert _told(deployment=refused("aaaaa")) == _told(deployment=refused("bbbbb")) == expected


def test_a_rollout_that_stands_still_says_at_what() -> None:
    still = _deployment(("Progressing", "False", "ProgressDeadlineExceeded", 'ReplicaSet "x" has timed out progressing.'))
    running = _pod(main={"state": {"running": {}}})
    words = "container classifier runs and is not ready, and nothing has moved for 900 s"
    assert _told(running, deployment=still) == ("ProgressDeadlineExceeded", words)
    crashing = _pod(main={**_waiting("CrashLoopBackOff"), "lastState": _ended(1)})
    assert _told(crashing, deployment=still)[0] == "CrashLoopBackOff"  # the pod says more


def test_what_a_deployment_said_before_it_saw_its_spec_does_not_count() -> None:
    condition = ("Progressing", "False", "ProgressDeadlineExceeded", "")
    assert trouble_of(_deployment(condition, observedGeneration=1), []) is None


def test_the_most_telling_of_several_troubles_is_told_whatever_their_order() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    pods = [_pod(conditions=[condition]), _pod(main=_waiting("ErrImagePull", "not found"), suffix="bbbbb")]
    assert _told(*pods) == _told(*reversed(pods))
    assert _told(*pods)[0] == "ErrImagePull"


def test_a_pod_that_is_on_its_way_out_does_not_count() -> None:
    leaving = _pod(main=_waiting("ErrImagePull"))
    leaving["metadata"]["deletionTimestamp"] = "2026-01-05T12:00:00Z"
    assert trouble_of(DEPLOYMENT, [leaving]) is None


def test_a_reason_is_one_word() -> None:
    assert _told(_pod(phase="Failed", reason="Unexpected admission-error!", message="m"))[0] == "Unexpectedadmissionerror"


def test_words_are_bounded_and_without_what_passes() -> None:
    text = "read tcp 10.0.0.7:43210->10.0.0.9:443: reset, container " + "ab" * 32 + ", uid 01234567-89ab-cdef-0123-456789abcdef"
    assert steady(text, NAME) == "read tcp 10.0.0.9:443: reset, container …, uid …"
    assert steady("s@sha256:" + "ab" * 32, NAME) == "s@sha256:" + "ab" * 32
    assert len(steady("x" * 5000, NAME)) == MESSAGE_LIMIT


def test_a_webhook_that_keeps_pods_from_being_made_is_named_by_its_owner() -> None:
    words = (
        'Internal error occurred: failed calling webhook "admission-webhook-deployment.kubeflow.org": failed to call webhook: '
        'Post "https://admission-webhook-service.kubeflow.svc:443/apply-poddefault?timeout=10s": dial tcp: connection refused'
    )
    reason, message = _told(deployment=_deployment(("ReplicaFailure", "True", "FailedCreate", words)))
    assert reason == "FailedCreate"
    assert message.startswith("Kubeflow's PodDefault webhook is down")
