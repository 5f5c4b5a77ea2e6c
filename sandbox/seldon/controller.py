"""Seldon's operator: watches SeldonDeployments and their objects, and reconciles one at a time.

Events of SeldonDeployments and their Deployments wake the reconciliation of the one they belong to. Each reads everything
anew, so that nothing needs to be remembered but what was written last. The real Deployment controller reconciles Deployments,
and their pods are the `node`'s, or those of a cluster with kubelets (`sandbox.pods.seldon`).
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from sandbox.seldon import names, objects, status, validation
from sandbox.seldon.api import AUTOSCALER, DEPLOYMENT, KINDS, SDEP, SERVICE, Api, ApiError, selector
from sandbox.seldon.cache import Cache, Key, key_of, owner_of
from sandbox.seldon.gateway import Gateway, Route
from sandbox.seldon.pod import now
from sandbox.seldon.statuses import Statuses

Object = dict[str, Any]
log = logging.getLogger("seldon.controller")

OURS = selector(objects.MANAGED_BY)
RETRY, AT_ONCE = 1.0, 0.05  # seconds after an error, and after another client's write


class Controller:
    """Controller of all SeldonDeployments of an API server. `placed` may change each Deployment before it is written."""

    def __init__(self, api: Api, gateway: Gateway, placed: Callable[[Object], object]) -> None:
        self._api, self._gateway, self._placed = api, gateway, placed
        self._sdeps, self._deployments = Cache(), Cache()
        self._statuses = Statuses(api)
        self._made: dict[tuple[str, Key], Object] = {}  # Services and autoscalers, as last written
        self._cleaned: dict[Key, set[str]] = {}  # by SeldonDeployment: the names of all its desired objects
        self._wanted: dict[Key, asyncio.Event] = {}
        self._workers: dict[Key, asyncio.Task[None]] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self.synced = asyncio.Event()

    async def run(self) -> None:
        """Watch until cancelled. `synced` is set when models that were served before are routed again."""
        follows = [(self._api.follow(SDEP), self._sdeps), (self._api.follow(DEPLOYMENT, OURS), self._deployments)]
        for stream, cache in follows:
            _, listing = await anext(stream)
            cache.relist(listing["items"])
        for key, sdep in self._sdeps.items():
            if not validation.problems(sdep["spec"]):
                self._route(key, objects.predictors(sdep))
        self._wake_all()
        self.synced.set()
        async with asyncio.TaskGroup() as group:
            for stream, cache in follows:
                group.create_task(self._watch(stream, cache))

    def close(self) -> None:
        """Stop the controller."""
        for task in self._workers.values():
            task.cancel()
        for timer in self._timers.values():
            timer.cancel()

    def wake(self, key: Key) -> None:
        """Enqueue a SeldonDeployment. A running reconcile of it ends first."""
        self._wanted.setdefault(key, asyncio.Event()).set()
        if key not in self._workers:
            self._workers[key] = asyncio.create_task(self._work(key))

    def _wake_all(self) -> None:
        for key in {*self._sdeps, *map(owner_of, self._deployments.values()), *self._workers}:
            self.wake(key)

    def _wake_in(self, seconds: float, key: Key) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self.wake, key)

    async def _watch(self, stream: AsyncIterator[tuple[str, Object]], cache: Cache) -> None:
        async for kind, item in stream:
            if kind == "SYNCED":
                cache.relist(item["items"])
                self._wake_all()
            elif cache.drop(item) if kind == "DELETED" else cache.put(item):
                self.wake(key_of(item) if cache is self._sdeps else owner_of(item))

    async def _work(self, key: Key) -> None:
        """Reconcile one SeldonDeployment at each request, until it is deleted."""
        wanted = self._wanted[key]
        while wanted.is_set() or key in self._sdeps:
            await wanted.wait()
            wanted.clear()
            try:
                await self._reconcile(key)
            except ApiError as error:
                if error.code != 409:  # with 409, another client wrote first
                    log.warning("%s/%s: %s", *key, error)
                    await self._fail(key, str(error))
                self._wake_in(AT_ONCE if error.code == 409 else RETRY, key)
            except Exception:
                log.exception("%s/%s", *key)
                self._wake_in(RETRY, key)
        del self._workers[key], self._wanted[key]

    async def _reconcile(self, key: Key) -> None:
        sdep = self._sdeps.get(key)
        if sdep is None:
            await self._remove(key)
            return
        if "deletionTimestamp" in sdep["metadata"]:  # foreground deletion: the garbage collector deletes the children first
            return
        problems = validation.problems(sdep["spec"])
        built = [] if problems else objects.predictors(sdep)
        await asyncio.gather(*(self._apply(item) for predictor in built for item in _objects(predictor)))
        if problems:  # served predictors stay unchanged
            await self._fail(key, "; ".join(problems))
            return
        found = [self._deployments[key_of(predictor.deployment)] for predictor in built]
        ready = all(map(status.is_ready, found))
        if ready or not self._gateway.routed(key):
            self._route(key, built)  # the VirtualService changes only when everything is ready
        if ready:
            await self._clean(key, {item["metadata"]["name"] for p in built for item in _objects(p)})
        if current := self._sdeps.get(key):
            made = status.seldon_status(current, built, found, now())
            if made["state"] != current.get("status", {}).get("state"):
                log.info("%s/%s: %s", *key, made["state"])
            await self._statuses.write(SDEP, self._sdeps, key, made)

    def _route(self, key: Key, built: list[objects.Predictor]) -> None:
        routes = [Route(p.name, p.protocol, p.traffic, key_of(p.deployment), p.executor) for p in built]
        self._gateway.set_routes(key, routes)

    async def _fail(self, key: Key, description: str) -> None:
        if sdep := self._sdeps.get(key):
            with contextlib.suppress(ApiError):
                await self._statuses.write(SDEP, self._sdeps, key, status.failed_status(sdep, description))

    async def _apply(self, item: Object) -> None:
        """Create an object, or replace it if its spec changed. Raises ApiError."""
        resource, key = KINDS[item["kind"]], key_of(item)
        if resource == DEPLOYMENT:  # the only difference to Seldon: where and how its pods run
            self._placed(item)
        if resource == DEPLOYMENT and _same(self._deployments.get(key), item):
            return
        if resource != DEPLOYMENT and self._made.get((resource, key)) == item:
            return
        if resource == DEPLOYMENT and "replicas" in item["spec"]:  # the spec has no autoscaler
            await self._unscale(key)
        try:
            live = await self._api.create(resource, item)
        except ApiError as error:
            if error.code != 409:
                raise
            live = await self._api.get(resource, *key)
            if not (resource == DEPLOYMENT and _same(live, item)):
                live = await self._api.replace(resource, _over(live, item))
        if resource == DEPLOYMENT:
            self._deployments.put(live)
        else:
            self._made[resource, key] = item

    async def _unscale(self, deployment: Key) -> None:
        """Delete a Deployment's autoscaler, if it has one. Raises ApiError."""
        self._made.pop((AUTOSCALER, deployment), None)
        try:
            found = await self._api.get(AUTOSCALER, *deployment)
        except ApiError as error:
            if error.code != 404:
                raise
            return
        await self._api.delete(AUTOSCALER, found)

    async def _clean(self, key: Key, kept: set[str]) -> None:
        """Delete the objects of removed predictors. Raises ApiError."""
        if self._cleaned.get(key) == kept:
            return
        labels = f"{OURS},seldon-deployment-id={names.seldon_id(key[1])}"
        for resource in (DEPLOYMENT, SERVICE, AUTOSCALER):
            for item in await self._api.list(resource, key[0], labels):
                if key_of(item)[1] not in kept and owner_of(item) == key:
                    await self._api.delete(resource, item)
                    self._deployments.drop(item) if resource == DEPLOYMENT else self._made.pop((resource, key_of(item)), None)
        self._cleaned[key] = kept

    async def _remove(self, key: Key) -> None:
        """Stop serving. The objects are deleted with their owner, and here too, so that it happens at once."""
        self._gateway.set_routes(key, [])
        if key[1]:
            await self._clean(key, set())
            self._cleaned.pop(key, None)


def _objects(predictor: objects.Predictor) -> list[Object]:
    scaler = [predictor.autoscaler] if predictor.autoscaler else []
    return [predictor.deployment, *predictor.services, *scaler]


def _same(live: Object | None, item: Object) -> bool:
    """Report whether a Deployment was built from the same spec and SeldonDeployment: the hash contains its owner."""
    marks = [(o or {}).get("metadata", {}).get("annotations", {}).get(objects.APPLIED) for o in (live, item)]
    return live is not None and marks[0] == marks[1]


def _over(live: Object, item: Object) -> Object:
    """Return `item` as the next version of `live`. Replicas that it does not set belong to an autoscaler."""
    spec = {**item["spec"]}
    if live["kind"] == "Deployment":
        spec.setdefault("replicas", live["spec"].get("replicas", 1))
    return {**item, "spec": spec, "metadata": {**item["metadata"], "resourceVersion": live["metadata"]["resourceVersion"]}}
