"""The Deployment controller, which the sandbox's control plane does not run: as many pods as are wanted, and statuses.

Called by `controller` in a SeldonDeployment's reconciliation. New pods come beside the old ones, which serve until as
many new ones do; one goes when nothing is on its way to it any more. So no request fails, as in a cluster.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox.seldon import objects
from sandbox.seldon.api import DEPLOYMENT, POD, Api, ApiError
from sandbox.seldon.cache import Cache, Key, key_of, owner_of
from sandbox.seldon.gateway import Gateway
from sandbox.seldon.node import Pod, now, remove_leftover
from sandbox.seldon.pods import status as pod_status
from sandbox.seldon.status import deployment_status

Object = dict[str, Any]
DRAIN = 10.0  # seconds for requests on their way to a server that is to end


class Statuses:
    """Writes statuses that differ from those that are known, or were written last."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._written: dict[tuple[str, str], Object] = {}

    async def write(self, resource: str, cache: Cache, key: Key, status: Object) -> None:
        """Write one object's status; it may be gone. Raises ApiError."""
        item = cache.get(key)
        if item is None or item.get("status") == status:
            return
        mark = (resource, item["metadata"]["uid"])
        if self._written.get(mark) == status:
            return  # the API server has left something out of it
        try:
            cache.put(await self._api.set_status(resource, item, status))
        except ApiError as error:
            if error.code not in (404, 422):  # gone, or another object of that name (the patch tests it)
                raise
            return
        self._written[mark] = status

    def forget(self, resource: str, uid: str) -> None:
        """Forget an object that is gone."""
        self._written.pop((resource, uid), None)


class Workloads:
    """All pods on this machine. `deployments` and `items` are the watched Deployments and Pods."""

    def __init__(
        self,
        api: Api,
        gateway: Gateway,
        state: Path,
        deployments: Cache,
        items: Cache,
        statuses: Statuses,
        wake: Callable[[Key], object],
    ) -> None:
        self._api, self._gateway, self._state = api, gateway, state
        self._deployments, self._items, self._statuses, self._wake = deployments, items, statuses, wake
        self._pods: dict[Key, Pod] = {}
        self._owners: dict[Key, Key] = {}  # pod: SeldonDeployment
        self._ending: set[asyncio.Task[None]] = set()
        for folder in ("pods", "logs"):
            (state / folder).mkdir(parents=True, exist_ok=True)

    async def adopt(self) -> None:
        """Take over the pods that an earlier stand-in has left; end the processes of pods that are gone."""
        leftovers = {(path.parent.name, path.name): path for path in (self._state / "pods").glob("*/*")}
        for key, item in self._items.items():
            if owner_of(item) in self._deployments:
                leftovers.pop(key, None)
                self._start(item, owner_of(self._deployments[owner_of(item)]))
        await asyncio.gather(*map(remove_leftover, leftovers.values()))
        for deployment in self._deployments:
            self._publish(deployment)

    async def reconcile(self, deployment: Object) -> str:
        """Start and end pods of a Deployment, write statuses; return why a pod could not be created. Raises ApiError."""
        key, template, wanted = key_of(deployment), objects.template_hash(deployment), deployment["spec"].get("replicas", 1)
        await self._delete_strays(key)
        pods = sorted(self._pods_of(key), key=lambda pod: not pod.state.ready)
        new = [pod for pod in pods if pod.template == template]
        old = [pod for pod in pods if pod.template != template]
        self._retire(new[wanted:])
        del new[wanted:]
        refusal = ""
        try:
            while len(new) < wanted:
                new.append(await self._create(deployment))
        except ApiError as error:
            if not error.code:  # nothing was refused: the API server is away
                raise
            refusal = str(error)
        still = [pod for pod in old if pod.state.ready][: max(0, wanted - sum(pod.state.ready for pod in new))]
        self._publish(key, [*new, *still])
        self._retire([pod for pod in old if pod not in still])
        made = deployment_status(deployment, [p.state.ready for p in new], [p.state.ready for p in still], refusal, now())
        await asyncio.gather(
            self._statuses.write(DEPLOYMENT, self._deployments, key, made),
            *(self._statuses.write(POD, self._items, key_of(p.item), pod_status(p.item, p.state)) for p in (*new, *still)),
        )
        return refusal

    def retire_orphans(self, sdep: Key) -> bool:
        """End a SeldonDeployment's pods whose Deployment is gone; say whether any of its pods are left at all."""
        left = [pod for key, pod in self._pods.items() if self._owners[key] == sdep]
        orphans = [pod for pod in left if owner_of(pod.item) not in self._deployments and not pod.retiring]
        for deployment in {owner_of(pod.item) for pod in orphans}:
            self._gateway.set_addresses(deployment, [])
        self._retire(orphans)
        return bool(left)

    async def close(self, stop: bool) -> None:
        """Leave the servers running, or with `stop` end them; what they served from stays for the next start."""
        if stop:
            await asyncio.gather(*(pod.stop(forget=False) for pod in self._pods.values()))
        for pod in self._pods.values():
            pod.detach()
        for task in self._ending:
            task.cancel()

    def _pods_of(self, deployment: Key) -> list[Pod]:
        """The pods that count, after ending those whose Pod object somebody has deleted."""
        pods = [pod for pod in self._pods.values() if owner_of(pod.item) == deployment and not pod.retiring]
        uids = {item["metadata"]["uid"] for item in self._items.values()}
        self._retire([pod for pod in pods if pod.item["metadata"]["uid"] not in uids])
        return [pod for pod in pods if not pod.retiring]

    async def _delete_strays(self, deployment: Key) -> None:
        """Delete Pod objects that have no pod here: an end that could not be written, or somebody else's doing."""
        strays = [i for k, i in self._items.items() if owner_of(i) == deployment and k not in self._pods]
        for item in strays:
            await self._api.delete(POD, item)
            self._items.drop(item)

    async def _create(self, deployment: Object) -> Pod:
        name = f"{deployment['metadata']['name']}-{objects.template_hash(deployment)}-{secrets.token_hex(3)[:5]}"
        item = await self._api.create(POD, objects.pod(deployment, name))
        self._items.put(item)
        return self._start(item, owner_of(deployment))

    def _start(self, item: Object, sdep: Key) -> Pod:
        namespace, name = key = key_of(item)
        log_file = self._state / "logs" / f"{namespace}.{name}.log"
        pod = Pod(item, self._state / "pods" / namespace / name, log_file, self._api, lambda: self._wake(sdep))
        self._pods[key], self._owners[key] = pod, sdep
        pod.start()
        return pod

    def _publish(self, deployment: Key, pods: list[Pod] | None = None) -> None:
        """Tell the gateway which servers of a Deployment are ready."""
        known = self._pods_of(deployment) if pods is None else pods
        self._gateway.set_addresses(deployment, [pod.address for pod in known if pod.address])

    def _retire(self, pods: list[Pod]) -> None:
        """End pods, each when nothing is on its way to it."""
        for pod in pods:
            address, pod.retiring = pod.address, True
            task = asyncio.create_task(self._end(pod, address))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        for deployment in {owner_of(pod.item) for pod in pods}:
            self._publish(deployment)

    async def _end(self, pod: Pod, address: str | None) -> None:
        key = key_of(pod.item)
        if address:
            await self._gateway.drained(address, DRAIN)
        with contextlib.suppress(ApiError):  # tried again as a stray
            await self._api.delete(POD, pod.item)
            self._items.drop(pod.item)
        await pod.stop()
        self._statuses.forget(POD, pod.item["metadata"]["uid"])
        del self._pods[key]
        self._wake(self._owners.pop(key))
