"""Statuses as Kubernetes' Deployment controller, the kubelet and Seldon write them."""

import copy
from collections.abc import Iterable
from pathlib import Path

import pytest
from test_seldon_objects import Json, predictor, sdep

from sandbox.seldon import objects, pods, status

T0, T1, LATE = "2026-01-01T00:00:00Z", "2026-01-01T00:00:30Z", "2026-01-01T00:20:00Z"


def deployment(replicas: int = 1, **spec: int) -> Json:
    made = copy.deepcopy(objects.predictors(sdep(predictor(replicas=replicas)))[0].deployment)
    made["metadata"]["generation"] = 3
    made["spec"] |= spec
    return made


def after(live: Json, new: Iterable[bool], old: Iterable[bool] = (), refusal: str = "", time: str = T0) -> Json:
    live["status"] = status.deployment_status(live, list(new), list(old), refusal, time)
    told: Json = live["status"]
    return told


def condition(told: Json, kind: str) -> Json:
    return next(each for each in told["conditions"] if each["type"] == kind)


def test_a_deployment_comes_up() -> None:
    live = deployment()
    told = after(live, [False])
    assert (told["observedGeneration"], told["replicas"], told["unavailableReplicas"]) == (3, 1, 1)
    assert condition(told, "Available")["reason"] == "MinimumReplicasUnavailable"
    assert condition(told, "Progressing")["reason"] == "ReplicaSetUpdated"
    assert not status.is_ready(live)
    told = after(live, [True], time=T1)
    assert (told["readyReplicas"], told["updatedReplicas"], told["availableReplicas"]) == (1, 1, 1)
    assert "unavailableReplicas" not in told
    assert condition(told, "Progressing")["reason"] == "NewReplicaSetAvailable"
    assert (condition(told, "Progressing")["lastTransitionTime"], condition(told, "Available")["lastTransitionTime"]) == (T0, T1)
    assert status.is_ready(live)


def test_a_rollout_surges_and_stays_available() -> None:
    live = deployment()
    after(live, [True])
    told = after(live, [False], [True], time=T1)
    assert (told["replicas"], told["updatedReplicas"], told["readyReplicas"], told["unavailableReplicas"]) == (2, 1, 1, 1)
    assert condition(told, "Available")["status"] == "True"
    assert not status.is_ready(live)


def test_a_settled_status_does_not_change_with_time() -> None:
    live = deployment()
    settled = copy.deepcopy(after(live, [True]))
    assert after(live, [True], time=LATE) == settled
    assert status.deadline(live) is None
    failing = deployment()
    waiting = copy.deepcopy(after(failing, [False]))
    assert after(failing, [False], time=T1) == waiting


@pytest.mark.parametrize(("old", "available"), [([], "False"), ([True], "True")])
def test_a_rollout_that_makes_no_progress_is_given_up(old: list[bool], available: str) -> None:
    live = deployment()
    after(live, [False], old)
    assert status.deadline(live) == pytest.approx(1767225600 + 600)
    told = after(live, [False], old, time=LATE)
    assert (condition(told, "Progressing")["status"], condition(told, "Progressing")["reason"]) == (
        "False",
        "ProgressDeadlineExceeded",
    )
    assert condition(told, "Available")["status"] == available
    assert status.deadline(live) is None
    given_up = copy.deepcopy(told)
    assert after(live, [False], old, time="2026-01-01T05:00:00Z") == given_up
    assert condition(after(live, [True], time="2026-01-01T06:00:00Z"), "Progressing")["status"] == "True"


def test_a_deadline_of_its_own() -> None:
    live = deployment(progressDeadlineSeconds=10)
    after(live, [False])
    assert condition(after(live, [False], time=T1), "Progressing")["reason"] == "ProgressDeadlineExceeded"


def test_a_pod_that_is_refused_is_said() -> None:
    told = after(deployment(), [], refusal="exceeded quota")
    assert condition(told, "ReplicaFailure") == {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": "exceeded quota",
        "lastTransitionTime": T0,
        "lastUpdateTime": T0,
    }


def seldon(resource: Json, *lives: Json, time: str = T0) -> Json:
    told = status.seldon_status(resource, objects.predictors(resource), list(lives), time)
    resource["status"] = told
    return told


def test_seldon_says_creating_then_available() -> None:
    resource, live = sdep(), deployment()
    after(live, [False])
    told = seldon(resource, live)
    assert (told["state"], "description" in told, "observedGeneration" in told) == ("Creating", False, False)
    assert condition(told, "Ready")["status"] == "False"
    after(live, [True])
    told = seldon(resource, live, time=T1)
    assert (told["state"], told["replicas"], condition(told, "Ready")["status"]) == ("Available", 1, "True")
    assert told["address"] == {"url": "http://mlflow-wine-super-model.admin.svc.cluster.local:8000/api/v1.0/predictions"}
    assert told["deploymentStatus"] == {"mlflow-wine-super-model-0-classifier": {"replicas": 1, "availableReplicas": 1}}
    assert (condition(told, "Ready")["lastTransitionTime"], condition(told, "HpasReady")["lastTransitionTime"]) == (T1, T0)
    assert "observedGeneration" not in told
    assert seldon(resource, live, time=LATE) == told


def test_seldon_says_available_of_a_previous_model() -> None:
    """It looks at counts alone: right after a change they are still the previous generation's."""
    resource, live = sdep(), deployment()
    after(live, [True])
    live["metadata"]["generation"] += 1
    assert seldon(resource, live)["state"] == "Available"


def test_seldon_fails_where_nothing_serves_and_nothing_moves() -> None:
    resource, live = sdep(), deployment()
    after(live, [False])
    after(live, [False], time=LATE)
    told = seldon(resource, live)
    assert (told["state"], told["description"]) == ("Failed", "Deployment is no longer progressing and not available.")


def test_seldon_goes_on_creating_where_the_previous_model_serves() -> None:
    resource, live = sdep(), deployment()
    after(live, [False], [True])
    after(live, [False], [True], time=LATE)
    assert seldon(resource, live)["state"] == "Creating"


def test_the_address_of_protocol_v2() -> None:
    resource, live = sdep(protocol="v2"), deployment()
    after(live, [True])
    assert seldon(resource, live)["address"]["url"].endswith(":8000/v2/models/classifier/infer")


def test_a_failure_keeps_the_rest() -> None:
    resource = sdep()
    resource["status"] = {"state": "Available", "replicas": 1}
    assert status.failed_status(resource, "why") == {"state": "Failed", "replicas": 1, "description": "why"}


def pod() -> Json:
    made = deployment()
    made["metadata"]["uid"] = "7"
    return objects.pod(made, "p")


def statuses(state: pods.State) -> tuple[Json, Json, dict[str, Json]]:
    told = pods.status(pod(), state)
    return told, told["initContainerStatuses"][0], {each["name"]: each for each in told["containerStatuses"]}


def test_a_pod_whose_model_is_being_copied() -> None:
    told, initializer, containers = statuses(pods.State(T0, initializer=pods.Container(started=T0)))
    assert (told["phase"], initializer["state"]) == ("Pending", {"running": {"startedAt": T0}})
    assert containers["classifier"]["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert condition(told, "Initialized")["status"] == "False"


def test_a_pod_whose_copy_fails() -> None:
    failed = pods.Container(
        waiting=("CrashLoopBackOff", "back-off"), last=pods.Ended(1, "Error", "NoSuchBucket", T0, T0), restarts=2
    )
    told, initializer, _ = statuses(pods.State(T0, initializer=failed))
    assert (told["phase"], initializer["restartCount"]) == ("Pending", 2)
    assert initializer["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    assert initializer["lastState"]["terminated"]["message"] == "NoSuchBucket"


def test_a_pod_that_serves_and_one_that_crashes() -> None:
    done = pods.Container(ended=pods.Ended(0, "Completed", "", T0, T0), ready=True)
    serving = pods.State(T0, done, pods.Container(started=T1, ready=True), initialized_at=T0, ready_at=T1)
    told, initializer, containers = statuses(serving)
    assert (told["phase"], initializer["state"]["terminated"]["reason"]) == ("Running", "Completed")
    assert all(each["ready"] and "running" in each["state"] for each in containers.values())
    assert condition(told, "Ready") == {"type": "Ready", "status": "True", "lastProbeTime": None, "lastTransitionTime": T1}
    last = pods.Ended(1, "Error", "wineserver: there is no MLmodel file", T0, T1)
    crashed = pods.State(T0, done, pods.Container(waiting=("CrashLoopBackOff", "x"), last=last, restarts=1), initialized_at=T0)
    told, _, containers = statuses(crashed)
    assert (told["phase"], condition(told, "Ready")["reason"]) == ("Running", "ContainersNotReady")
    assert containers["classifier"]["lastState"]["terminated"]["message"].startswith("wineserver:")


def test_a_state_survives_on_disk(tmp_path: Path) -> None:
    state = pods.State(T0, pods.Container(ended=pods.Ended(0, "Completed", "", T0, T1)), pods.Container(started=T1, ready=True))
    state.save(tmp_path)
    assert pods.State.load(tmp_path) == state
    assert pods.State.load(tmp_path / "nowhere") is None
