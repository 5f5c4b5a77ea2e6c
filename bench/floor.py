"""The floor of `scale.py`: a bare asyncio client that makes the calls which serving a resource needs, and no other.

It leaves the same objects and Events behind as the operator, and decides nothing: the statuses and manifests are copies of those
that the operator made for one resource. For each resource:

- API server: the finalizer; four objects of the namespace; three statuses (run submitted, model recorded, Ready), the deployment,
  its pods' Deployment, and the Events. Workflows, deployments and resources are watched.
- Kubeflow Pipelines: look for the run, submit it, read its state.
- MLflow: find the record, set the alias.
- The object store: read the model. The endpoint: one prediction.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from support.fleet import PIPELINES

from bench.scripted import EXAMPLE, WORKFLOW
from sandbox.seldon.api import DEPLOYMENT, SDEP, SECRET, Api, ApiError
from winepipelines.api.pipeline import FINALIZER

Object = dict[str, Any]
Key = tuple[str, str]
POD_DEFAULT = "kubeflow.org/v1alpha1/poddefaults"
EVENT = "events.k8s.io/v1/events"
AT_ONCE = 10  # resources, as many as the operator reconciles at once
UNSET = (
    "creationTimestamp",
    "resourceVersion",
    "uid",
    "managedFields",
    "ownerReferences",
    "generation",
    "namespace",
    "finalizers",
)


@dataclass
class Made:
    """What the operator made for one resource: its status, its deployment, the objects of its namespace, its Events."""

    status: Object
    deployment: Object
    children: list[tuple[str, Object]]
    events: list[Object]

    @classmethod
    async def read(cls, api: Api, namespace: str, name: str) -> "Made":
        """Read it from the API server."""
        managed = "app.kubernetes.io/managed-by=wine-operator"
        children = [(kind, item) for kind in (POD_DEFAULT, SECRET) for item in await api.list(kind, namespace, managed)]
        return cls(
            status=(await api.get(PIPELINES, namespace, name))["status"],
            deployment=_bare(await api.get(SDEP, namespace, name)),
            children=[(kind, _bare(item)) for kind, item in children],
            events=[_bare(item) for item in await api.list(EVENT, namespace, "")],
        )


@dataclass
class Floor:
    """The client. `serve` begins with the watches, `ready` has the resources that are served."""

    api: Api
    platform: str
    made: Made
    prefix: str
    ready: set[Key] = field(default_factory=set)
    _ended: dict[str, asyncio.Event] = field(default_factory=dict)
    _rolled_out: dict[Key, asyncio.Event] = field(default_factory=dict)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _prepared: dict[str, "asyncio.Task[str]"] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Serve every resource in the namespaces with the prefix within the context."""
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            watches = [
                group.create_task(self._watch_resources(session, group)),
                group.create_task(self._watch_runs()),
                group.create_task(self._watch_deployments()),
            ]
            try:
                yield
            finally:
                for watch in watches:
                    watch.cancel()

    async def _watch_resources(self, session: aiohttp.ClientSession, group: asyncio.TaskGroup) -> None:
        begun = set[Key]()
        async for body in self._seen(PIPELINES):
            key = body["metadata"]["namespace"], body["metadata"]["name"]
            if key[0].startswith(self.prefix) and key not in begun:
                begun.add(key)
                group.create_task(self._one(session, body))

    async def _watch_runs(self) -> None:
        async for body in self._seen(WORKFLOW):
            labels = body["metadata"]["labels"]
            if labels.get("workflows.argoproj.io/phase") == "Succeeded":
                self._ended.setdefault(labels["pipeline/runid"], asyncio.Event()).set()

    async def _watch_deployments(self) -> None:
        async for body in self._seen(SDEP):
            if "status" in body:
                key = body["metadata"]["namespace"], body["metadata"]["name"]
                self._rolled_out.setdefault(key, asyncio.Event()).set()

    async def _seen(self, resource: str) -> AsyncIterator[Object]:
        """Yield the objects of a kind, and each again whenever it changes."""
        async for kind, item in self.api.follow(resource):
            for body in item["items"] if kind == "SYNCED" else [item]:
                yield body

    async def _one(self, session: aiohttp.ClientSession, body: Object) -> None:
        """Serve one resource. While it waits for others, it takes no slot."""
        metadata = body["metadata"]
        key = namespace, name = metadata["namespace"], metadata["name"]
        async with self._slots:
            patch = {"metadata": {"finalizers": [FINALIZER]}}
            await self.api.merge(PIPELINES, namespace, name, patch)
            if namespace not in self._prepared:
                self._prepared[namespace] = asyncio.create_task(self._prepare(session, namespace))
            experiment = await self._prepared[namespace]
            for kind, child in self.made.children:
                mark = {"metadata": {"annotations": {f"bench/{name}": metadata["uid"]}}}
                await self.api.merge(kind, namespace, child["metadata"]["name"], mark)
            run = await self._submit(session, body, experiment)
            await self._status(body, "Training")
        await self._ended.setdefault(run, asyncio.Event()).wait()
        async with self._slots:
            await self._get(session, f"/apis/v2beta1/runs?{_named(name, namespace)}")
            await self._search(session, metadata["uid"])
            await self._get(session, "/mlflow/1/model/MLmodel")
            await self._status(body, "Deploying")
            own = {"name": name, "namespace": namespace}
            await self.api.create(SDEP, self.made.deployment | {"metadata": {**self.made.deployment["metadata"], **own}})
        await self._rolled_out.setdefault(key, asyncio.Event()).wait()
        async with self._slots:
            await self.api.list(DEPLOYMENT, namespace, f"seldon-deployment-id={name}")
            prediction = {"data": EXAMPLE}
            await self._post(session, f"/endpoints/{namespace}/{name}/api/v1.0/predictions", prediction)
            await self._status(body, "Serving")
            self.ready.add(key)
            alias = {"name": f"{namespace}.{name}", "alias": "champion", "version": "1"}
            await self._post(session, "/api/2.0/mlflow/registered-models/alias", alias)
            for number, event in enumerate(self.made.events):
                regarding = {**event["regarding"], "namespace": namespace, "name": name, "uid": metadata["uid"]}
                named = {"name": f"{name}.{number}", "namespace": namespace}
                await self.api.create(EVENT, event | {"metadata": named, "regarding": regarding})

    async def _prepare(self, session: aiohttp.ClientSession, namespace: str) -> str:
        """Make the objects of a namespace, and its experiment; return the experiment's id."""
        for kind, child in self.made.children:
            with contextlib.suppress(ApiError):
                await self.api.create(kind, child | {"metadata": {**child["metadata"], "namespace": namespace}})
        made = await self._post(session, "/apis/v2beta1/experiments", {"namespace": namespace, "display_name": "wine"})
        return str(made["experiment_id"])

    async def _submit(self, session: aiohttp.ClientSession, body: Object, experiment: str) -> str:
        metadata = body["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        await self._get(session, f"/apis/v2beta1/runs?{_named(name, namespace)}")
        owner = {"namespace": namespace, "name": name, "uid": metadata["uid"], "revision": 1}
        parameters = {"owner": owner, "registered_model": f"{namespace}.{name}"}
        request = {"display_name": name, "experiment_id": experiment, "runtime_config": {"parameters": parameters}}
        return str((await self._post(session, "/apis/v2beta1/runs", request))["run_id"])

    async def _search(self, session: aiohttp.ClientSession, uid: str) -> None:
        request = {"experiment_ids": ["1"], "filter": f"tags.`winepipelines.io/uid` = '{uid}'", "max_results": 20}
        found = await self._post(session, "/api/2.0/mlflow/runs/search", request)
        assert found["runs"], "the run has recorded its model"

    async def _status(self, body: Object, stage: str) -> None:
        await self.api.set_status(PIPELINES, body, {**self.made.status, "stage": stage})

    async def _get(self, session: aiohttp.ClientSession, path: str) -> None:
        async with session.get(self.platform + path) as response:
            response.raise_for_status()
            await response.read()

    async def _post(self, session: aiohttp.ClientSession, path: str, body: Object) -> Object:
        async with session.post(self.platform + path, json=body) as response:
            response.raise_for_status()
            answer: Object = await response.json(content_type=None)
            return answer


def _bare(item: Object) -> Object:
    """Return an object as its creator wrote it."""
    metadata = {name: value for name, value in item["metadata"].items() if name not in UNSET}
    return {name: value for name, value in item.items() if name != "status"} | {"metadata": metadata}


def _named(name: str, namespace: str) -> str:
    predicates = [{"operation": "EQUALS", "key": "display_name", "string_value": name}]
    return f"namespace={namespace}&filter={json.dumps({'predicates': predicates})}"
