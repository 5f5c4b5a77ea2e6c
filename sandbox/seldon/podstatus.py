"""What is known of one pod's containers, and the Pod status that says it. Pure but for reading and writing its own file.

`pod` keeps a State up to date; `node` turns it into the API's words. The words are those of a real kubelet.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Object = dict[str, Any]
FILE = "state.json"
KSERVE_CONTAINER = "kserve-container"


@dataclass
class Ended:
    """How a container's process ended; times in RFC 3339."""

    exit_code: int
    reason: str
    message: str
    started: str
    finished: str

    def words(self) -> Object:
        """The API's `terminated`."""
        times = {"startedAt": self.started, "finishedAt": self.finished}
        message = {"message": self.message} if self.message else {}
        return {"exitCode": self.exit_code, "reason": self.reason, **message, **times}


@dataclass
class Container:
    """One container: running since `started`, or over, or waiting for `waiting` = (reason, message)."""

    started: str = ""
    ended: Ended | None = None
    last: Ended | None = None
    waiting: tuple[str, str] = ("PodInitializing", "")
    restarts: int = 0
    ready: bool = False

    def words(self, spec: Object) -> Object:
        """The API's container status."""
        if self.ended:
            state: Object = {"terminated": self.ended.words()}
        elif self.started:
            state = {"running": {"startedAt": self.started}}
        else:
            reason, message = self.waiting
            state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
        return {
            "name": spec["name"],
            "image": spec.get("image", ""),
            "imageID": "",
            "ready": self.ready,
            "started": bool(self.started),
            "restartCount": self.restarts,
            "state": state,
            "lastState": {"terminated": self.last.words()} if self.last else {},
        }


@dataclass
class State:
    """One pod: its init container, its model server, and when each condition changed."""

    created: str
    initializer: Container = field(default_factory=Container)
    server: Container = field(default_factory=Container)
    initialized_at: str = ""
    ready_at: str = ""

    @property
    def ready(self) -> bool:
        """Whether the pod takes requests."""
        return self.server.ready

    def save(self, folder: Path) -> None:
        """Leave it in the pod's folder for `load`."""
        part = folder / f"{FILE}.part"
        part.write_text(json.dumps(asdict(self)))
        part.replace(folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> "State | None":
        """What `save` left; None where nothing is."""
        try:
            stored = json.loads((folder / FILE).read_text())
        except (FileNotFoundError, ValueError):
            return None
        for name in ("initializer", "server"):
            part = stored[name]
            for ending in ("ended", "last"):
                part[ending] = Ended(**part[ending]) if part[ending] else None
            stored[name] = Container(**{**part, "waiting": tuple(part["waiting"])})
        return cls(**stored)


def status(pod: Object, state: State) -> Object:
    """The Pod's status."""
    spec = pod["spec"]
    has_initializer = bool(spec.get("initContainers"))
    initialized = bool(state.initialized_at)
    running = initialized and (state.server.started or state.server.restarts)
    others = Container(started=state.server.started if state.ready else "", ready=state.ready)
    model = model_container(pod)["name"]
    return {
        "phase": "Running" if running else "Pending",
        "qosClass": pod.get("status", {}).get("qosClass", "Burstable"),
        "startTime": state.created,
        "conditions": [
            _condition("PodScheduled", True, state.created),
            _condition("Initialized", initialized, state.initialized_at or state.created, "ContainersNotInitialized"),
            _condition("ContainersReady", state.ready, state.ready_at or state.created, "ContainersNotReady"),
            _condition("Ready", state.ready, state.ready_at or state.created, "ContainersNotReady"),
        ],
        "initContainerStatuses": [state.initializer.words(c) for c in spec["initContainers"]] if has_initializer else [],
        "containerStatuses": [(state.server if c["name"] == model else others).words(c) for c in spec["containers"]],
    }


def model_container(pod: Object) -> Object:
    """The container that serves the model: the one whose Seldon id is its own name, or KServe's."""
    for container in pod["spec"]["containers"]:
        seldon_id = {"name": "PREDICTIVE_UNIT_ID", "value": container["name"]}
        if container["name"] == KSERVE_CONTAINER or seldon_id in container.get("env", []):
            found: Object = container
            return found
    raise LookupError(f"pod {pod['metadata']['name']} has no container that serves a model")


def _condition(kind: str, true: bool, since: str, reason: str = "") -> Object:
    why = {} if true else {"reason": reason}
    return {"type": kind, "status": str(true), "lastProbeTime": None, "lastTransitionTime": since, **why}
