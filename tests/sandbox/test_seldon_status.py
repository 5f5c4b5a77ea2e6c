"""Statuses as Seldon and the kubelet write them, from those that Kubernetes' Deployment controller writes."""

import copy
from pathlib import Path

from test_seldon_objects import Json, predictor, sdep

from sandbox.seldon import objects, podstatus, status
from sandbox.seldon.podstatus import Container, Ended, State

T0, T1, LATE = "2026-01-01T00:00:00Z", "2026-01-01T00:00:30Z", "2026-01-01T00:20:00Z"
AVAILABLE = ("Available", "True", "MinimumReplicasAvailable")
UNAVAILABLE = ("Available", "False", "MinimumReplicasUnavailable")
GIVEN_UP = ("Progressing", "False", "ProgressDeadlineExceeded")


def deployment(*conditions: tuple[str, str, str], **counts: int) -> Json:
    """A Deployment of one replica, with a status as its controller writes it: counts that are 0 are left out."""
    made = copy.deepcopy(objects.predictors(sdep(predictor(replicas=1)))[0].deployment)
    told = [dict(zip(("type", "status", "reason"), each, strict=True), message="") for each in conditions]
    made["status"] = {**counts, "conditions": told}
    return made


def coming() -> Json:
    return deployment(UNAVAILABLE, replicas=1, updatedReplicas=1, unavailableReplicas=1)


def serving() -> Json:
    return deployment(AVAILABLE, replicas=1, updatedReplicas=1, readyReplicas=1, availableReplicas=1)


def condition(told: Json, kind: str) -> Json:
    return next(each for each in told["conditions"] if each["type"] == kind)


def seldon(resource: Json, *lives: Json, time: str = T0) -> Json:
    told = status.seldon_status(resource, objects.predictors(resource), list(lives), time)
    resource["status"] = told
    return told


def test_seldon_says_creating_then_available() -> None:
    resource = sdep()
    told = seldon(resource, coming())
    assert (told["state"], "description" in told, "observedGeneration" in told) == ("Creating", False, False)
    assert condition(told, "Ready")["status"] == "False"
    told = seldon(resource, serving(), time=T1)
    assert (told["state"], told["replicas"], condition(told, "Ready")["status"]) == ("Available", 1, "True")
    assert told["address"] == {"url": "http://mlflow-wine-super-model.admin.svc.cluster.local:8000/api/v1.0/predictions"}
    assert told["deploymentStatus"] == {"mlflow-wine-super-model-0-classifier": {"replicas": 1, "availableReplicas": 1}}
    assert (condition(told, "Ready")["lastTransitionTime"], condition(told, "HpasReady")["lastTransitionTime"]) == (T1, T0)
    assert "observedGeneration" not in told
    assert seldon(resource, serving(), time=LATE) == told


def test_seldon_says_creating_of_a_deployment_that_its_controller_has_not_seen() -> None:
    live = deployment()
    del live["status"]
    told = seldon(sdep(), live)
    assert (told["state"], condition(told, "DeploymentsReady")["status"]) == ("Creating", "Unknown")


def test_seldon_says_available_of_a_previous_model() -> None:
    """It looks at counts alone: right after a change they are still the previous generation's."""
    live = serving()
    live["metadata"]["generation"], live["status"]["observedGeneration"] = 4, 3
    assert seldon(sdep(), live)["state"] == "Available"


def test_seldon_fails_where_nothing_serves_and_nothing_moves() -> None:
    told = seldon(sdep(), deployment(UNAVAILABLE, GIVEN_UP, replicas=1, updatedReplicas=1, unavailableReplicas=1))
    assert (told["state"], told["description"]) == ("Failed", "Deployment is no longer progressing and not available.")


def test_seldon_goes_on_creating_where_the_previous_model_serves() -> None:
    rolling = {"replicas": 2, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1, "unavailableReplicas": 1}
    assert seldon(sdep(), deployment(AVAILABLE, GIVEN_UP, **rolling))["state"] == "Creating"


def test_the_address_of_protocol_v2() -> None:
    assert seldon(sdep(protocol="v2"), serving())["address"]["url"].endswith(":8000/v2/models/classifier/infer")


def test_a_failure_keeps_the_rest() -> None:
    resource = sdep()
    resource["status"] = {"state": "Available", "replicas": 1}
    assert status.failed_status(resource, "why") == {"state": "Failed", "replicas": 1, "description": "why"}


def pod() -> Json:
    return {"metadata": {"name": "p"}, "spec": deployment()["spec"]["template"]["spec"]}


def statuses(state: State) -> tuple[Json, Json, dict[str, Json]]:
    told = podstatus.status(pod(), state)
    return told, told["initContainerStatuses"][0], {each["name"]: each for each in told["containerStatuses"]}


def test_a_pod_whose_model_is_being_copied() -> None:
    told, initializer, containers = statuses(State(T0, initializer=Container(started=T0)))
    assert (told["phase"], initializer["state"]) == ("Pending", {"running": {"startedAt": T0}})
    assert containers["classifier"]["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert condition(told, "Initialized")["status"] == "False"


def test_a_pod_whose_copy_fails() -> None:
    failed = Container(waiting=("CrashLoopBackOff", "back-off"), last=Ended(1, "Error", "NoSuchBucket", T0, T0), restarts=2)
    told, initializer, _ = statuses(State(T0, initializer=failed))
    assert (told["phase"], initializer["restartCount"]) == ("Pending", 2)
    assert initializer["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    assert initializer["lastState"]["terminated"]["message"] == "NoSuchBucket"


def test_a_pod_that_serves_and_one_that_crashes() -> None:
    done = Container(ended=Ended(0, "Completed", "", T0, T0), ready=True)
    serving = State(T0, done, Container(started=T1, ready=True), initialized_at=T0, ready_at=T1)
    told, initializer, containers = statuses(serving)
    assert (told["phase"], initializer["state"]["terminated"]["reason"]) == ("Running", "Completed")
    assert all(each["ready"] and "running" in each["state"] for each in containers.values())
    assert condition(told, "Ready") == {"type": "Ready", "status": "True", "lastProbeTime": None, "lastTransitionTime": T1}
    last = Ended(1, "Error", "wineserver: there is no MLmodel file", T0, T1)
    crashed = State(T0, done, Container(waiting=("CrashLoopBackOff", "x"), last=last, restarts=1), initialized_at=T0)
    told, _, containers = statuses(crashed)
    assert (told["phase"], condition(told, "Ready")["reason"]) == ("Running", "ContainersNotReady")
    assert containers["classifier"]["lastState"]["terminated"]["message"].startswith("wineserver:")


def test_a_state_survives_on_disk(tmp_path: Path) -> None:
    state = State(T0, Container(ended=Ended(0, "Completed", "", T0, T1)), Container(started=T1, ready=True))
    state.save(tmp_path)
    assert State.load(tmp_path) == state
    assert State.load(tmp_path / "nowhere") is None
