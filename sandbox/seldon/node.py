"""The node: runs the pods that are scheduled to it on this machine, and writes statuses as a kubelet does.

ReplicaSets make the pods, the real Deployment controller decides how many of which. What makes a pod this node's is its
`schedulerName`: a cluster's own scheduler, and so its kubelets, leave such a pod alone. It is bound to no Node object:

- a Node of ours would have to renew its lease for ever or be tainted and emptied, would be given a pod of every DaemonSet,
  and where it is missing the pod garbage collector deletes what is bound to it; none of this happens to a pod without a node;
- the API server deletes a pod without a node at once, grace or not, so that nothing is stuck when this stand-in is down. The
  server behind it goes on until no request is in flight to it: no request fails in a rollout. While no other server of its
  Deployment is ready, and its ReplicaSet makes another pod, it also gets new requests: a kube-proxy sends them to pods that
  terminate if there are no others, and a real server answers meanwhile.

Nor has a pod an IP: the only true one is the loopback address, which a cluster's EndpointSlice controller refuses over and over.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox.seldon.api import POD, REPLICA_SET, Api, ApiError, selector
from sandbox.seldon.cache import Cache, Key, key_of, owner_of
from sandbox.seldon.gateway import Gateway
from sandbox.seldon.objects import MANAGED_BY
from sandbox.seldon.pod import Pod, remove_leftover
from sandbox.seldon.podstatus import status
from sandbox.seldon.statuses import Statuses

Object = dict[str, Any]
log = logging.getLogger("seldon.node")

SCHEDULER = "wine-sandbox"
ANSWERS = 12.0  # seconds that a server answers once its pod is deleted: the wait before its stop, and until its probe fails
POLL = 0.5  # seconds
DRAIN = 10.0  # seconds for requests in flight to a server that is terminating
RETRY = 1.0  # seconds after a status could not be written
MakePod = Callable[[Object, Path, Path, Api, Callable[[], object]], Pod]


class Node:
    """All pods on this machine that have the labels and fields of two selectors, each run as `make_pod` makes it.

    `state` is the folder of what outlives the process.
    """

    def __init__(
        self,
        api: Api,
        gateway: Gateway,
        state: Path,
        make_pod: MakePod = Pod,
        *,
        labels: str = selector(MANAGED_BY),
        fields: str = f"spec.schedulerName={SCHEDULER}",
    ) -> None:
        self._api, self._gateway, self._state = api, gateway, state
        self._make_pod, self._labels, self._fields = make_pod, labels, fields
        self._items, self._statuses = Cache(), Statuses(api)
        self._pods: dict[Key, Pod] = {}
        self._telling: dict[Key, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self.synced = asyncio.Event()
        for folder in ("pods", "logs"):
            (state / folder).mkdir(parents=True, exist_ok=True)

    async def run(self) -> None:
        """Watch until cancelled. `synced` is set when the gateway has the servers that an earlier stand-in has left."""
        stream = self._api.follow(POD, self._labels, self._fields)
        _, listing = await anext(stream)
        self._items.relist(listing["items"])
        leftovers = {(path.parent.name, path.name): path for path in (self._state / "pods").glob("*/*")}
        await asyncio.gather(*(remove_leftover(path) for key, path in leftovers.items() if key not in self._items))
        for key in list(self._items):
            self._look(key)
        self.synced.set()
        async for kind, item in stream:
            if kind == "SYNCED":
                self._items.relist(item["items"])
                for key in {*self._items, *self._pods}:
                    self._look(key)
            elif self._items.drop(item) if kind == "DELETED" else self._items.put(item):
                self._look(key_of(item))

    async def close(self, stop: bool) -> None:
        """Leave the servers running, or with `stop` end them; what they served from stays for the next start."""
        for task in (*self._telling.values(), *self._ending):
            task.cancel()
        if stop:
            await asyncio.gather(*(pod.stop(forget=False) for pod in self._pods.values()))
        for pod in self._pods.values():
            pod.detach()

    def _look(self, key: Key) -> None:
        """Begin a pod that is new, or end one whose object is deleted."""
        item, pod = self._items.get(key), self._pods.get(key)
        wanted = item is not None and "deletionTimestamp" not in item["metadata"]
        if pod is None and item is not None and wanted:
            self._start(item)
        elif pod is not None and not pod.retiring and not (wanted and item and _uid(item) == _uid(pod.item)):
            self._retire(pod)

    def _start(self, item: Object) -> None:
        namespace, name = key = key_of(item)
        changed = asyncio.Event()
        log_file = self._state / "logs" / f"{namespace}.{name}.log"
        pod = self._make_pod(item, self._state / "pods" / namespace / name, log_file, self._api, changed.set)
        self._pods[key] = pod
        pod.start()
        self._publish(deployment_of(item))
        changed.set()
        self._telling[key] = asyncio.create_task(self._tell(pod, changed))

    async def _tell(self, pod: Pod, changed: asyncio.Event) -> None:
        """Tell the gateway and the API server of every change of a pod, until cancelled."""
        while True:
            await changed.wait()
            changed.clear()
            self._publish(deployment_of(pod.item))
            try:
                await self._statuses.write(POD, self._items, key_of(pod.item), status(pod.item, pod.state))
            except ApiError as error:
                log.warning("pod %s: %s", pod.name, error)
                await asyncio.sleep(RETRY)
                changed.set()

    def _publish(self, deployment: Key) -> None:
        """Tell the gateway which servers of a Deployment are ready."""
        pods = [pod for pod in self._pods.values() if deployment_of(pod.item) == deployment]
        ready = [pod.address for pod in pods if pod.address]
        terminating = [pod.last_address for pod in pods if pod.last_address]
        self._gateway.set_addresses(deployment, ready or terminating)

    def _retire(self, pod: Pod) -> None:
        """Have no new request go to a pod, if there is another one; end it when no request is in flight to it."""
        address = pod.last_address = pod.address
        pod.retiring = True
        self._publish(deployment_of(pod.item))
        self._telling.pop(key_of(pod.item)).cancel()
        task = asyncio.create_task(self._end(pod, address))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, pod: Pod, address: str | None) -> None:
        if address:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._until_replaced(pod), ANSWERS)
            pod.last_address = None
            self._publish(deployment_of(pod.item))
            await self._gateway.drained(address, DRAIN)
        await pod.stop()
        self._statuses.forget(POD, _uid(pod.item))
        del self._pods[key_of(pod.item)]
        self._look(key_of(pod.item))  # another one of that name may have come

    async def _until_replaced(self, pod: Pod) -> None:
        """Wait until another server of a pod's Deployment is ready, or none is to come."""
        deployment, (namespace, replica_set) = deployment_of(pod.item), owner_of(pod.item)
        while replica_set and not any(other.address for other in self._pods.values() if deployment_of(other.item) == deployment):
            try:
                owner = await self._api.get(REPLICA_SET, namespace, replica_set)
            except ApiError:
                return
            if not owner["spec"]["replicas"]:
                return
            await asyncio.sleep(POLL)


def place(deployment: Object) -> None:
    """Have a Deployment's pods run on this node."""
    deployment["spec"]["template"]["spec"]["schedulerName"] = SCHEDULER


def deployment_of(pod: Object) -> Key:
    """Namespace and name of the Deployment whose ReplicaSet made a pod; a ReplicaSet's name ends in its template's hash."""
    namespace, replica_set = owner_of(pod)
    return namespace, replica_set.removesuffix(f"-{pod['metadata']['labels'].get('pod-template-hash', '')}")


def _uid(item: Object) -> str:
    return str(item["metadata"]["uid"])
