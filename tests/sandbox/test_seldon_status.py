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
    """Return a Deployment of one replica, with a status as its controller writes it, without counts of 0."""
    made = copy.deepcopy(objects.predictors(sdep(predictor(replicas=1)))[0].deployment)
    found = [dict(zip(("type", "status", "reason"), each, strict=True), message="") for each in conditions]
    made["status"] = {**counts, "conditions": found}
    return made


def coming() -> Json:
    return deployment(UNAVAILABLE, replicas=1, updatedReplicas=1, unavailableReplicas=1)


def serving() -> Json:
    return deployment(AVAILABLE, replicas=1, updatedReplicas=1, readyReplicas=1, availableReplicas=1)


def condition(found: Json, kind: str) -> Json:
    return next(each for each in found["conditions"] if each["type"] == kind)


def seldon(resource: Json, *lives: Json, time: str = T0) -> Json:
    found = status.seldon_status(resource, objects.predictors(resource), list(lives), time)
    resource["status"] = found
    return found


def test_status_is_creating_and_then_available() -> None:
    resource = sdep()
    found = seldon(resource, coming())
    assert (found["state"], "description" in found, "observedGeneration" in found) == ("Creating", False, False)
    assert condition(found, "Ready")["status"] == "False"
    found = seldon(resource, serving(), time=T1)
    assert (found["state"], found["replicas"], condition(found, "Ready")["status"]) == ("Available", 1, "True")
    assert found["address"] == {"url": "http://mlflow-wine-super-model.admin.svc.cluster.local:8000/api/v1.0/predictions"}
    assert found["deploymentStatus"] == {"mlflow-wine-super-model-0-classifier": {"replicas": 1, "availableReplicas": 1}}
    assert (condition(found, "Ready")["lastTransitionTime"], condition(found, "HpasReady")["lastTransitionTime"]) == (T1, T0)
    assert "observedGeneration" not in found
    assert seldon(resource, serving(), time=LATE) == found


def test_status_is_creating_when_the_deployment_controller_has_not_observed_it() -> None:
    live = deployment()
    del live["status"]
    found = seldon(sdep(), live)
    assert (found["state"], condition(found, "DeploymentsReady")["status"]) == ("Creating", "Unknown")


def test_status_is_available_for_a_previous_generation() -> None:
    """The status depends on counts only. Just after a change, they are those of the previous generation."""
    live = serving()
    live["metadata"]["generation"], live["status"]["observedGeneration"] = 4, 3
    assert seldon(sdep(), live)["state"] == "Available"


def test_status_is_failed_when_no_pod_serves_and_the_rollout_is_stuck() -> None:
    found = seldon(sdep(), deployment(UNAVAILABLE, GIVEN_UP, replicas=1, updatedReplicas=1, unavailableReplicas=1))
    assert (found["state"], found["description"]) == ("Failed", "Deployment is no longer progressing and not available.")


def test_status_stays_creating_while_the_previous_model_serves() -> None:
    rolling = {"replicas": 2, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1, "unavailableReplicas": 1}
    assert seldon(sdep(), deployment(AVAILABLE, GIVEN_UP, **rolling))["state"] == "Creating"


def test_address_of_protocol_v2_is_its_infer_path() -> None:
    assert seldon(sdep(protocol="v2"), serving())["address"]["url"].endswith(":8000/v2/models/classifier/infer")


def test_failure_keeps_the_other_fields() -> None:
    resource = sdep()
    resource["status"] = {"state": "Available", "replicas": 1}
    assert status.failed_status(resource, "why") == {"state": "Failed", "replicas": 1, "description": "why"}


def pod() -> Json:
    return {"metadata": {"name": "p"}, "spec": deployment()["spec"]["template"]["spec"]}


def statuses(state: State) -> tuple[Json, Json, dict[str, Json]]:
    found = podstatus.status(pod(), state)
    return found, found["initContainerStatuses"][0], {each["name"]: each for each in found["containerStatuses"]}


def test_pod_is_initializing_while_its_model_is_copied() -> None:
    found, initializer, containers = statuses(State(T0, initializer=Container(started=T0)))
    assert (found["phase"], initializer["state"]) == ("Pending", {"running": {"startedAt": T0}})
    assert containers["classifier"]["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert condition(found, "Initialized")["status"] == "False"


def test_pod_is_crash_looping_when_the_copy_fails() -> None:
    failed = Container(waiting=("CrashLoopBackOff", "back-off"), last=Ended(1, "Error", "NoSuchBucket", T0, T0), restarts=2)
    found, initializer, _ = statuses(State(T0, initializer=failed))
    assert (found["phase"], initializer["restartCount"]) == ("Pending", 2)
    assert initializer["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    assert initializer["lastState"]["terminated"]["message"] == "NoSuchBucket"


def test_pod_is_ready_or_crash_looping_by_its_server() -> None:
    done = Container(ended=Ended(0, "Completed", "", T0, T0), ready=True)
    serving = State(T0, done, Container(started=T1, ready=True), initialized_at=T0, ready_at=T1)
    found, initializer, containers = statuses(serving)
    assert (found["phase"], initializer["state"]["terminated"]["reason"]) == ("Running", "Completed")
    assert all(each["ready"] and "running" in each["state"] for each in containers.values())
    assert condition(found, "Ready") == {"type": "Ready", "status": "True", "lastProbeTime": None, "lastTransitionTime": T1}
    last = Ended(1, "Error", "wineserver: there is no MLmodel file", T0, T1)
    crashed = State(T0, done, Container(waiting=("CrashLoopBackOff", "x"), last=last, restarts=1), initialized_at=T0)
    found, _, containers = statuses(crashed)
    assert (found["phase"], condition(found, "Ready")["reason"]) == ("Running", "ContainersNotReady")
    assert containers["classifier"]["lastState"]["terminated"]["message"].startswith("wineserver:")


def test_pod_state_is_restored_from_disk(tmp_path: Path) -> None:
    state = State(T0, Container(ended=Ended(0, "Completed", "", T0, T1)), Container(started=T1, ready=True))
    state.save(tmp_path)
    assert State.load(tmp_path) == state
    assert State.load(tmp_path / "nowhere") is None
