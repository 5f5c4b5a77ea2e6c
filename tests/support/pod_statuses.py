"""Statuses of pods that the sandbox's node cannot produce, as a kubelet, the scheduler and the node controller write them."""

from contract.kserve.target import Body
from support.kserve import SETTINGS

SERVER, INITIALIZER = "kserve-container", "storage-initializer"


def _server(state: Body, *, ready: bool = False, restarts: int = 0, last: Body | None = None) -> Body:
    more = {"lastState": {"terminated": last}} if last else {"lastState": {}}
    container = {"name": SERVER, "image": SETTINGS.server_image, "imageID": "", "ready": ready, "restartCount": restarts}
    return {**container, "state": state, **more}


INITIALIZED = [
    {
        "name": INITIALIZER,
        "image": "kserve/storage-initializer:v0.20.0",
        "imageID": "",
        "ready": True,
        "restartCount": 0,
        "state": {"terminated": {"exitCode": 0, "reason": "Completed"}},
        "lastState": {},
    }
]
RUNNING = {"running": {"startedAt": "2026-01-05T12:00:00Z"}}
KILLED = {"exitCode": 137, "reason": "OOMKilled"}


def _conditions(*, ready: bool, why: str = "ContainersNotReady", words: str = "") -> list[Body]:
    message = words or f"containers with unready status: [{SERVER}]"
    last = {"status": "True"} if ready else {"status": "False", "reason": why, "message": message}
    true = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Initialized")]
    return [*true, *({"type": kind, **last} for kind in ("ContainersReady", "Ready"))]


READY: Body = {
    "phase": "Running",
    "conditions": _conditions(ready=True),
    "initContainerStatuses": INITIALIZED,
    "containerStatuses": [_server(ready=True, state=RUNNING)],
}
UNREADY: Body = {
    "phase": "Running",
    "conditions": _conditions(ready=False),
    "initContainerStatuses": INITIALIZED,
    "containerStatuses": [_server(state=RUNNING)],
}
UNSCHEDULABLE: Body = {
    "phase": "Pending",
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient memory. preemption: 0/1 nodes are available: "
            "1 No preemption victims found for incoming pod.",
        }
    ],
}
KILLED_OFTEN: Body = {
    "phase": "Running",
    "conditions": _conditions(ready=False),
    "initContainerStatuses": INITIALIZED,
    "containerStatuses": [
        _server(
            restarts=2,
            last=KILLED,
            state={
                "waiting": {
                    "reason": "CrashLoopBackOff",
                    "message": "back-off 20s restarting failed container=kserve-container pod=mlflow-predictor-7d9c5d6f8b-x7k2p",
                }
            },
        )
    ],
}
EVICTED: Body = {  # pkg/kubelet/eviction: containers are killed, and their statuses stay
    "phase": "Failed",
    "reason": "Evicted",
    "message": "The node was low on resource: memory. Threshold quantity: 100Mi, available: 84Mi. Container kserve-container was "
    "using 412Mi, request is 256Mi, has larger consumption of memory. ",
    "conditions": [
        *_conditions(ready=False),
        {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "TerminationByKubelet",
            "message": "The node was low on memory.",
        },
    ],
    "initContainerStatuses": INITIALIZED,
    "containerStatuses": [_server({"terminated": {"exitCode": 137, "reason": "Error"}})],
}
LOST: Body = {  # pkg/controller/nodelifecycle: Ready becomes False, the statuses of containers stay
    "phase": "Running",
    "reason": "NodeLost",
    "message": "Node node-1 which was running pod mlflow-predictor-7d9c5d6f8b-x7k2p is unresponsive",
    "conditions": _conditions(ready=False, why="NodeNotReady", words="Node is not ready"),
    "initContainerStatuses": INITIALIZED,
    "containerStatuses": [_server(ready=True, state=RUNNING)],
}
