"""kopf wiring: which events wake which resource. The only module that knows kopf.

kopf watches, authenticates, probes and handles signals; all else is one level-triggered reconcile (`reconciler`). So there are
event handlers only: no state of kopf's own is kept in annotations, and no handler is lost when a status moves.
"""

import asyncio
import contextlib
import copy
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import aiohttp
import kopf

from winepipelines.act import Actor
from winepipelines.observe import Observer
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.kubernetes import Kubernetes
from winepipelines.platform.manifests import Manifests
from winepipelines.platform.mlflow import MLflow
from winepipelines.platform.namespace import Namespace
from winepipelines.platform.objectstore import ObjectStore
from winepipelines.platform.seldon import Seldon
from winepipelines.reconciler import Reconciler
from winepipelines.resource.naming import MANAGED_BY, MANAGED_BY_LABEL
from winepipelines.resource.pipeline import GROUP, KIND, PLURAL, VERSION
from winepipelines.runwatch import RunWatch
from winepipelines.settings import Settings

logger = logging.getLogger(__name__)


@dataclass
class Operator:
    """What runs while kopf does."""

    kubernetes: Kubernetes
    session: aiohttp.ClientSession
    reconciler: Reconciler
    runs: RunWatch
    tasks: list[asyncio.Task[None]]

    @classmethod
    async def start(cls, settings: Settings) -> "Operator":
        """Build the adapters and start what runs in the background."""
        # Blocking clients wait on threads: a slow system must not take them from the others.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * settings.workers))
        kubernetes = await Kubernetes.connect()
        session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=settings.request_seconds))
        manifests = Manifests(settings.templates)
        kubeflow = Kubeflow(settings)
        namespace = Namespace(kubernetes, manifests, settings)
        seldon = Seldon(kubernetes, manifests, settings, session)
        runs = RunWatch(kubeflow.active_runs, lambda key: reconciler.wake(key), settings.poll_seconds)
        reconciler = Reconciler(
            kubernetes,
            Observer(namespace, kubeflow, MLflow(settings), ObjectStore(settings), seldon),
            Actor(kubernetes, namespace, kubeflow, seldon),
            runs.follow,
            settings.policy,
            settings.workers,
        )
        operator = cls(kubernetes, session, reconciler, runs, [])
        operator.tasks = [
            asyncio.create_task(runs.watch(), name="run watch"),
            asyncio.create_task(operator._watch_source_secret(settings), name="source secret watch"),
        ]
        return operator

    async def stop(self) -> None:
        """Stop it all."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.reconciler.stop()
        await self.session.close()
        await self.kubernetes.close()

    async def _watch_source_secret(self, settings: Settings) -> None:
        async with contextlib.aclosing(
            self.kubernetes.watch_secret(settings.platform_namespace, settings.source_secret)
        ) as changes:
            async for _ in changes:
                self.reconciler.wake_all()


def register(settings: Settings) -> kopf.OperatorRegistry:
    """Build the registry of handlers for these settings."""
    registry = kopf.OperatorRegistry()
    running: list[Operator] = []

    @kopf.on.startup(registry=registry)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False  # our Events are transitions, not log lines
        settings.watching.server_timeout = 300
        settings.watching.inactivity_timeout = 360
        settings.networking.request_timeout = 30
        settings.scanning.disabled = bool(wine_settings.namespaces)  # then there is no right to look at CRDs and namespaces
        running.append(await Operator.start(wine_settings))

    wine_settings = settings

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        while running:
            await running.pop().stop()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def resource_moved(event: Mapping[str, Any], body: kopf.Body, **_: Any) -> None:
        for operator in running:
            if event["type"] == "DELETED":
                operator.reconciler.gone((body["metadata"]["namespace"], body["metadata"]["name"]))
            else:
                operator.reconciler.saw(copy.deepcopy(dict(body)))

    @kopf.on.event(
        "machinelearning.seldon.io", "v1", "seldondeployments", labels={MANAGED_BY_LABEL: MANAGED_BY}, registry=registry
    )
    async def deployment_moved(body: kopf.Body, **_: Any) -> None:
        for owner in body["metadata"].get("ownerReferences", []):
            if owner["kind"] == KIND:
                for operator in running:
                    operator.reconciler.wake((body["metadata"]["namespace"], owner["name"]))

    @kopf.on.login(registry=registry)
    async def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.probe(id="longestReconcileSeconds", registry=registry)
    async def longest_reconcile(**_: Any) -> float:
        longest = max((operator.reconciler.longest_reconcile() for operator in running), default=0.0)
        if longest > wine_settings.hang_seconds:  # kopf answers 500, and the kubelet starts the operator anew
            raise kopf.PermanentError(f"a reconcile has been under way for {longest:.0f} s")
        return longest

    return registry
