"""The status of a SeldonDeployment, from those of its Deployments. Pure; used by `controller`.

Source: seldon-core 1.18, `seldondeployment_controller.go` with Knative's conditions. Like the real one it never has an
observedGeneration.
"""

from typing import Any

from sandbox.seldon.objects import Predictor

Object = dict[str, Any]


def _find(status: Object, kind: str) -> Object | None:
    return next((dict(c) for c in status.get("conditions", []) if c["type"] == kind), None)


def is_ready(deployment: Object) -> bool:
    """Report whether Seldon considers a Deployment ready: by its counts only, of any generation."""
    status = deployment.get("status", {})
    return bool(status.get("readyReplicas")) and not status.get("unavailableReplicas")


def _progresses(deployment: Object) -> bool:
    found = [_find(deployment.get("status", {}), kind) for kind in ("Progressing", "Available")]
    return not all(condition and condition["status"] == "False" for condition in found)


def seldon_status(sdep: Object, built: list[Predictor], found: list[Object], time: str) -> Object:
    """Return a SeldonDeployment's status from its predictors' Deployments, in the same order."""
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
    address = f"http://{built[0].service}.{namespace}.svc.cluster.local:{built[0].port('http')}{path}"
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
                "httpEndpoint": f"{p.service}.{namespace}:{p.port('http')}",
                "grpcEndpoint": f"{p.service}.{namespace}:{p.port('grpc')}",
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
    """Return the status after a failure. Its other fields stay."""
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
        ("AmbassadorMappingsReady", "True", "No Ambassador Mappaings defined", ""),  # sic
        ("DeploymentsReady", available["status"], available.get("reason", ""), available.get("message", "")),
        ("HpasReady", "True", hpas, ""),
        ("KedaReady", "True", "No KEDA resources defined", ""),
        ("PdbsReady", "True", "No PDBs defined", ""),
        ("ServicesReady", *services, ""),
        ("istioVirtualServicesReady", "True" if routed else "Unknown", "All VirtualServices created" if routed else "", ""),
    ]
    if not routed:  # Seldon writes them only when the Deployments are ready
        rows = [row for row in rows if row[0] != "AmbassadorMappingsReady"]
    unhappy = [row for row in rows if row[1] != "True"]
    happy = next((row for row in unhappy if row[1] == "False"), unhappy[0] if unhappy else ("", "True", "", ""))
    rows.append(("Ready", *happy[1:]))
    made = []
    for kind, value, reason, message in sorted(rows):
        last = _find(before, kind) or {}
        since = last["lastTransitionTime"] if last.get("status") == value else time
        details = {"reason": reason, "message": message}
        made.append({"type": kind, "status": value, **{k: v for k, v in details.items() if v}, "lastTransitionTime": since})
    return made
