"""The statuses of a Deployment and of a SeldonDeployment. Pure; used by `controller`.

Sources: Kubernetes' deployment controller, and seldon-core 1.18 `seldondeployment_controller.go` with Knative's conditions.
Like the real ones, a SeldonDeployment's status never has an observedGeneration.
"""

from datetime import datetime
from typing import Any

from sandbox.seldon.containers import ENGINE_GRPC, ENGINE_HTTP
from sandbox.seldon.objects import Predictor, template_hash

Object = dict[str, Any]
DEADLINE = 600  # seconds, Kubernetes' default for progressDeadlineSeconds


def deployment_status(deployment: Object, new: list[bool], old: list[bool], refusal: str, time: str) -> Object:
    """A Deployment's status from its pods: whether each of the new and of the old template is ready.

    `refusal` is why a pod could not be created. `time` is now, RFC 3339; condition times of unchanged ones are kept.
    """
    before = deployment.get("status", {})
    wanted = deployment["spec"].get("replicas", 1)
    ready = sum(new) + sum(old)
    counts = {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": len(new) + len(old),
        "updatedReplicas": len(new),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": max(0, max(wanted, len(new) + len(old)) - ready),
    }
    complete = len(new) == sum(new) == wanted and not old
    replica_set = f'ReplicaSet "{deployment["metadata"]["name"]}-{template_hash(deployment)}"'
    enough = ready >= wanted  # at most 10 % may be missing, which is none of fewer than ten
    available = (
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        if enough
        else ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    )
    conditions = [
        _condition(before, "Available", *available, time=time),
        _progressing(deployment, counts, complete, replica_set, time),
    ]
    if refusal:
        conditions.append(_condition(before, "ReplicaFailure", "True", "FailedCreate", refusal, time=time))
    return {**{key: value for key, value in counts.items() if value}, "conditions": conditions}


def deadline(deployment: Object) -> float | None:
    """Seconds since the epoch at which a rollout that makes no progress is given up; None while none is waited for."""
    found = _find(deployment.get("status", {}), "Progressing")
    if not found or found["reason"] in ("NewReplicaSetAvailable", "ProgressDeadlineExceeded"):
        return None
    seconds = deployment["spec"].get("progressDeadlineSeconds", DEADLINE)
    return datetime.fromisoformat(found["lastUpdateTime"]).timestamp() + float(seconds)


def _progressing(deployment: Object, counts: Object, complete: bool, replica_set: str, time: str) -> Object:
    before = deployment.get("status", {})
    if complete:
        message = f"{replica_set} has successfully progressed."
        return _condition(before, "Progressing", "True", "NewReplicaSetAvailable", message, time=time)
    last = _find(before, "Progressing")
    moved = any(before.get(key, 0) != value for key, value in counts.items())
    if last and not moved:
        given_up = deadline(deployment)
        if given_up is None or datetime.fromisoformat(time).timestamp() < given_up:
            return last
        message = f"{replica_set} has timed out progressing."
        return _condition(before, "Progressing", "False", "ProgressDeadlineExceeded", message, time=time)
    message = f"{replica_set} is progressing."
    return _condition(before, "Progressing", "True", "ReplicaSetUpdated", message, time=time, updated=time)


def _find(status: Object, kind: str) -> Object | None:
    return next((dict(c) for c in status.get("conditions", []) if c["type"] == kind), None)


def _condition(status: Object, kind: str, value: str, reason: str, message: str, *, time: str, updated: str = "") -> Object:
    last = _find(status, kind) or {}
    same = last.get("status") == value
    unchanged = same and last.get("reason") == reason and last.get("message") == message
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": message,
        "lastTransitionTime": last["lastTransitionTime"] if same else time,
        "lastUpdateTime": updated or (last["lastUpdateTime"] if unchanged else time),
    }


def is_ready(deployment: Object) -> bool:
    """Whether Seldon takes a Deployment for ready: by its counts alone, whichever generation they are of."""
    status = deployment.get("status", {})
    return bool(status.get("readyReplicas")) and not status.get("unavailableReplicas")


def _progresses(deployment: Object) -> bool:
    found = [_find(deployment.get("status", {}), kind) for kind in ("Progressing", "Available")]
    return not all(condition and condition["status"] == "False" for condition in found)


def seldon_status(sdep: Object, built: list[Predictor], found: list[Object], time: str) -> Object:
    """A SeldonDeployment's status from its predictors' Deployments, which stand in the same order."""
    before = sdep.get("status", {})
    ready = all(map(is_ready, found))
    stuck = not ready and any(not _progresses(deployment) for deployment in found)
    state, description = "Creating", ""
    if ready:
        state = "Available"
    elif stuck:
        state, description = "Failed", "Deployment is no longer progressing and not available."
    counted = {d["metadata"]["name"]: d.get("status", {}) for d in found}
    namespace = sdep["metadata"]["namespace"]
    path = "/api/v1.0/predictions" if built[0].protocol == "seldon" else _v2_path(sdep)
    address = f"http://{built[0].service}.{namespace}.svc.cluster.local:{ENGINE_HTTP}{path}"
    result: Object = {
        "state": state,
        "address": {"url": address},
        "conditions": _conditions(before, found, built, ready, time),
        "deploymentStatus": {
            name: {k: status[k] for k in ("replicas", "availableReplicas") if status.get(k)} for name, status in counted.items()
        },
        "serviceStatus": {
            p.service: {
                "svcName": p.service,
                "httpEndpoint": f"{p.service}.{namespace}:{ENGINE_HTTP}",
                "grpcEndpoint": f"{p.service}.{namespace}:{ENGINE_GRPC}",
            }
            for p in built
        },
    }
    if description:
        result["description"] = description
    if replicas := found[0].get("status", {}).get("replicas"):
        result["replicas"] = replicas
    return result


def failed_status(sdep: Object, description: str) -> Object:
    """The status where Seldon could not do what the spec says; the rest of it stays."""
    return {**sdep.get("status", {}), "state": "Failed", "description": description}


def _v2_path(sdep: Object) -> str:
    return f"/v2/models/{sdep['spec']['predictors'][0]['graph']['name']}/infer"


def _conditions(before: Object, found: list[Object], built: list[Predictor], ready: bool, time: str) -> list[Object]:
    waiting = next((d for d in found if not is_ready(d)), found[0])
    available = _find(waiting.get("status", {}), "Available") or {"status": "Unknown"}
    hpas = "All HPAs resources ready" if any(p.autoscaler for p in built) else "No HPAs defined"
    services = ("True", "All services created") if ready else ("False", "Not all services created")
    routed = _find(before, "istioVirtualServicesReady") is not None or ready
    rows = [
        ("AmbassadorMappingsReady", "True", "No Ambassador Mappaings defined", ""),
        ("DeploymentsReady", available["status"], available.get("reason", ""), available.get("message", "")),
        ("HpasReady", "True", hpas, ""),
        ("KedaReady", "True", "No KEDA resources defined", ""),
        ("PdbsReady", "True", "No PDBs defined", ""),
        ("ServicesReady", *services, ""),
        ("istioVirtualServicesReady", "True" if routed else "Unknown", "All VirtualServices created" if routed else "", ""),
    ]
    if not routed:  # Seldon comes to them only when the Deployments are ready
        rows = [row for row in rows if row[0] != "AmbassadorMappingsReady"]
    unhappy = [row for row in rows if row[1] != "True"]
    happy = next((row for row in unhappy if row[1] == "False"), unhappy[0] if unhappy else ("", "True", "", ""))
    rows.append(("Ready", *happy[1:]))
    made = []
    for kind, value, reason, message in sorted(rows):
        last = _find(before, kind) or {}
        since = last["lastTransitionTime"] if last.get("status") == value else time
        told = {"reason": reason, "message": message}
        made.append({"type": kind, "status": value, **{k: v for k, v in told.items() if v}, "lastTransitionTime": since})
    return made
