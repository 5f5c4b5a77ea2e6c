"""kopf wiring: which events wake which resource. The only module that knows kopf.

kopf watches, authenticates and handles signals; all else is one level-triggered reconcile (`reconciler`). So there are
event handlers only: no state of kopf's own is kept in annotations, and no handler is lost when a status moves.
"""

import asyncio
import contextlib
import copy
import functools
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import kopf

from winepipelines.act import Actor
from winepipelines.doctor.asking import Systems
from winepipelines.doctor.calls import CallMonitor
from winepipelines.doctor.walk import walk
from winepipelines.doctor.watch import PlatformWatch
from winepipelines.engine.queue import FairQueue
from winepipelines.metrics import Metrics
from winepipelines.monitored import MonitoredActor, MonitoredObserver
from winepipelines.observe import Observer
from winepipelines.platform import answers, bodies, boundedpools, metadata
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.kubernetes import SERVICE_ACCOUNT_TOKEN, Kubernetes, lost
from winepipelines.platform.manifests import Manifests
from winepipelines.platform.mlflow import MLflow
from winepipelines.platform.namespace import Namespace, copies, is_others_doing, sources
from winepipelines.platform.network import Network
from winepipelines.platform.objectstore import ObjectStore
from winepipelines.platform.outputs import OutputUses
from winepipelines.platform.seldon import Seldon
from winepipelines.platform.steps import Steps
from winepipelines.platform.workflows import Workflows
from winepipelines.predicting import PredictionActor, PredictionObserver
from winepipelines.probes import Probes
from winepipelines.reconciler import Key, Reconciler
from winepipelines.resource.naming import MANAGED_BY, MANAGED_BY_LABEL
from winepipelines.resource.pipeline import GROUP, KIND, PLURAL, VERSION
from winepipelines.resource.prediction import PREDICTION_PLURAL, PredictionStage
from winepipelines.runwatch import RunWatch
from winepipelines.settings import Settings
from winepipelines.startup import port_error
from winepipelines.subjects import PIPELINES, PREDICTIONS

PREDICTION_MARK = "prediction/"  # no resource's name has a slash
SELDONDEPLOYMENTS = ("machinelearning.seldon.io", "v1", "seldondeployments")
WATCHED_AT_ONCE = 4  # objects of a page of kopf's lists: users decide how large they are
PROBE_SECONDS = 4.0  # that the API server may take; the kubelet waits for 5
WALK_SECONDS = 10.0  # that one answer to a check of the platform may take
logger = logging.getLogger(__name__)


@dataclass
class Operator:
    """What runs while kopf does."""

    kubernetes: Kubernetes
    session: aiohttp.ClientSession
    reconciler: Reconciler
    predictions: Reconciler
    queue: FairQueue
    runs: RunWatch
    tasks: list[asyncio.Task[None]]
    stop_metrics: Callable[[], None]
    probes: Probes
    platform_namespace: str

    @classmethod
    async def start(cls, settings: Settings) -> "Operator":
        """Build the adapters and start what runs in the background."""
        # Blocking clients wait on threads: a slow system must not take them from the others.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * settings.workers))
        boundedpools.allow_seconds(settings.request_seconds)
        kubernetes = await Kubernetes.connect()
        session = answers.session(settings.request_seconds)
        manifests = Manifests(settings.templates)
        kubeflow = Kubeflow(settings)
        namespace = Namespace(kubernetes, manifests, settings, kubeflow.namespace_of_runs)
        mlflow, store = MLflow(settings, namespace.mlflow_credentials), ObjectStore(settings)
        seldon = Seldon(kubernetes, manifests, settings, session)
        steps = Steps(kubernetes, kubeflow, settings)
        runs = RunWatch(
            kubeflow,
            lambda key: predictions.wake(_prediction_of(key)) if PREDICTION_MARK in key[1] else reconciler.wake(key),
            settings.poll_seconds,
            settings.poll_fallback_seconds,
            Workflows(kubernetes, namespaces=settings.namespaces).hints,
            steps.moods,
        )
        queue = FairQueue(settings.workers)
        metrics = Metrics()
        inside = Path(SERVICE_ACCOUNT_TOKEN).exists()  # noqa: ASYNC240 - once, at the start
        systems = Systems(settings, kubernetes, kubeflow, mlflow, store, Network(), inside)
        platform = PlatformWatch(
            functools.partial(walk, systems, seconds=min(settings.request_seconds, WALK_SECONDS)),
            metrics.checked,
            lambda: reconciler.look_within(min(settings.policy.check_interval, reconciler.spread())),
            functools.partial(_tell_of_platform, kubernetes, settings),
            max(1.0, settings.doctor_seconds),
        )
        monitor = CallMonitor(lambda: platform.verdict, platform.recheck)
        reconciler = Reconciler(
            PIPELINES,
            kubernetes,
            MonitoredObserver(Observer(namespace, kubeflow, steps, mlflow, store, seldon, lambda: platform.verdict), monitor),
            MonitoredActor(Actor(kubernetes, namespace, kubeflow, mlflow, seldon), monitor),
            runs.follow,
            settings.policy,
            queue,
            settings.reconcile_seconds,
            metrics.reconciled,
        )
        predictions = Reconciler(
            PREDICTIONS,
            kubernetes,
            MonitoredObserver(
                PredictionObserver(
                    kubernetes,
                    kubeflow,
                    steps,
                    mlflow,
                    OutputUses(kubernetes, settings.namespaces),
                    takes_unsigned=settings.serves_unsigned,
                ),
                monitor,
            ),
            MonitoredActor(PredictionActor(kubernetes, kubeflow), monitor),
            lambda key, run: runs.follow(_followed_for(key), run),
            settings.policy,
            queue,
            settings.reconcile_seconds,
            metrics.reconciled,
        )
        kubeflow.on_mode_change = lambda: reconciler.look_within(reconciler.spread())
        metrics.count_stages(reconciler.stages)
        metrics.count_predictions(predictions.stages)
        stop_metrics = _serve_metrics(metrics, settings)
        probes = await _serve_probes(settings, queue)
        operator = cls(
            kubernetes, session, reconciler, predictions, queue, runs, [], stop_metrics, probes, settings.platform_namespace
        )
        operator.tasks = [
            asyncio.create_task(runs.watch(), name="run watch"),
            asyncio.create_task(platform.run(), name="platform watch"),
            *(
                asyncio.create_task(operator._watch_source(source, mlflow.forget_credentials), name=f"watch of {source.name}")
                for source in sources(settings)
            ),
            *(asyncio.create_task(operator._watch_copies(copied), name=f"watch of {copied.name}") for copied in copies(settings)),
        ]
        for task in operator.tasks:
            task.add_done_callback(_say_how_it_ended)
        return operator

    async def stop(self) -> None:
        """Stop it all."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.reconciler.stop()
        await self.predictions.stop()
        await self.queue.stop()
        await self.probes.stop()
        await asyncio.to_thread(self.stop_metrics)
        await self.session.close()
        await self.kubernetes.close()

    async def _watch_source(self, source: metadata.Objects, changed: Callable[[], None]) -> None:
        """Look at every resource whenever one of the platform's Secrets changes, or may have."""
        async with contextlib.aclosing(metadata.watch(self.kubernetes, source)) as watch:
            async for seen in watch:
                if seen is not None:
                    changed()
                    self.reconciler.wake_all()

    def _wake_users_of(self, namespace: str) -> None:
        """Look at the resources that a namespace's copies are for: all of them, where steps run in the platform's own."""
        if namespace == self.platform_namespace:
            self.reconciler.wake_all()
        else:
            self.reconciler.wake_namespace(namespace)

    async def _watch_copies(self, copied: metadata.Objects) -> None:
        """Look at a namespace's resources whenever someone else changes what was made for them. Lists are no change."""
        async with contextlib.aclosing(metadata.watch(self.kubernetes, copied)) as watch:
            async for seen in watch:
                if seen is not None and not seen.complete:
                    for item in seen.objects:
                        if seen.gone or is_others_doing(item):
                            self._wake_users_of(item["namespace"])


async def _serve_probes(settings: Settings, queue: FairQueue) -> Probes:
    probes = Probes(
        queue.longest,
        functools.partial(lost, next(iter(settings.namespaces), ""), PROBE_SECONDS),
    )
    if settings.probe_port:
        try:
            await probes.start(settings.probe_host, settings.probe_port)
        except OSError as error:  # taken since it was checked
            raise port_error("WINE_PROBE_PORT", settings.probe_host, settings.probe_port, error) from None
    return probes


def _followed_for(key: Key) -> Key:
    """Name a prediction among all whose runs are followed: a WinePipeline may have its name."""
    return key[0], PREDICTION_MARK + key[1]


def _prediction_of(key: Key) -> Key:
    return key[0], key[1].removeprefix(PREDICTION_MARK)


def _awaits(pipeline: str) -> Callable[[Mapping[str, Any]], bool]:
    """Tell of a prediction's body whether it waits for a WinePipeline to serve."""

    def awaits(body: Mapping[str, Any]) -> bool:
        stage = (body.get("status") or {}).get("stage")
        return stage in (None, PredictionStage.WAITING) and body["spec"].get("pipeline") == pipeline

    return awaits


async def _tell_of_platform(kubernetes: Kubernetes, settings: Settings, reason: str, message: str, warning: bool) -> None:
    """Write an Event about the platform's namespace; none where the operator has no right to, being limited to others."""
    namespace = settings.platform_namespace
    if settings.namespaces and namespace not in settings.namespaces:
        return
    regarding = {"apiVersion": "v1", "kind": "Namespace", "name": namespace, "namespace": namespace}
    await kubernetes.tell_of(regarding, reason, message, warning=warning)


def _serve_metrics(metrics: Metrics, settings: Settings) -> Callable[[], None]:
    if not settings.metrics_port:
        return lambda: None
    try:
        return metrics.serve(settings.metrics_host, settings.metrics_port)
    except OSError as error:  # taken since it was checked
        raise port_error("WINE_METRICS_PORT", settings.metrics_host, settings.metrics_port, error) from None


def _say_how_it_ended(task: asyncio.Task[None]) -> None:
    """Say that a task that goes on for ever does not: a defect, which must not go unnoticed."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.critical("Background task ended by a defect", extra={"fields": {"task": task.get_name()}}, exc_info=error)


def _pass_on(reconciler: Reconciler, event: Mapping[str, Any], body: kopf.Body) -> None:
    if event["type"] == "DELETED":
        reconciler.gone((body["metadata"]["namespace"], body["metadata"]["name"]))
    else:
        reconciler.saw(copy.deepcopy(dict(body)))


def is_news_to_predictions(known: dict[Key, object], event: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    """Tell whether a WinePipeline's event may matter to predictions: it is new or gone, or serves another model.

    Whatever else its users write, however often, wakes none of them. `known` is kept from event to event.
    """
    key = body["metadata"]["namespace"], body["metadata"]["name"]
    if event["type"] == "DELETED":
        known.pop(key, None)
        return True
    served = (body.get("status") or {}).get("served") or {}
    now = body["metadata"]["uid"], served.get("revision"), served.get("mlflowRun"), served.get("uri")
    before, known[key] = known.get(key), now
    return before != now


def register(settings: Settings) -> kopf.OperatorRegistry:
    """Build the registry of handlers for these settings."""
    registry = kopf.OperatorRegistry()
    running: list[Operator] = []
    served: dict[Key, object] = {}

    @kopf.on.startup(registry=registry)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False  # our Events are transitions, not log lines
        settings.watching.server_timeout = 300
        settings.watching.chunk_size = WATCHED_AT_ONCE
        settings.watching.label_selectors[SELDONDEPLOYMENTS] = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
        settings.watching.inactivity_timeout = 360
        settings.networking.request_timeout = 30
        settings.scanning.disabled = bool(wine_settings.namespaces)  # then there is no right to look at CRDs and namespaces
        try:
            running.append(await Operator.start(wine_settings))
        except Exception as error:
            # kopf would try again for ever, and the pod would look well: what cannot start ends.
            raise kopf.PermanentError(str(error)) from error

    wine_settings = settings

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        while running:
            await running.pop().stop()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def resource_moved(event: Mapping[str, Any], body: kopf.Body, **_: Any) -> None:
        is_news = is_news_to_predictions(served, event, body)
        for operator in running:
            _pass_on(operator.reconciler, event, body)
            if is_news:
                operator.predictions.wake_namespace(body["metadata"]["namespace"], _awaits(body["metadata"]["name"]))

    @kopf.on.event(GROUP, VERSION, PREDICTION_PLURAL, registry=registry)
    async def prediction_moved(event: Mapping[str, Any], body: kopf.Body, **_: Any) -> None:
        for operator in running:
            _pass_on(operator.predictions, event, body)

    @kopf.on.event(*SELDONDEPLOYMENTS, labels={MANAGED_BY_LABEL: MANAGED_BY}, registry=registry)
    async def deployment_moved(body: kopf.Body, **_: Any) -> None:
        for owner in body["metadata"].get("ownerReferences", []):
            if owner["kind"] == KIND:
                for operator in running:
                    operator.reconciler.wake((body["metadata"]["namespace"], owner["name"]))

    sessions: dict[str, tuple[kopf.ConnectionInfo, kopf.AiohttpSession]] = {}

    @kopf.on.login(registry=registry)
    async def log_in(**kwargs: Any) -> kopf.AiohttpSession | None:
        info = kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
        if info is None:
            return None
        known = sessions.get(info.server)
        if known is None or known[0] != info:  # the same again is what the API server has just refused: kopf must see that
            sessions[info.server] = known = (info, _session(info))
        return known[1]

    return registry


def _session(info: kopf.ConnectionInfo) -> kopf.AiohttpSession:
    """Make the session that kopf lists and watches with: bounded, and without what others put into our objects."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
        headers={**info.as_http_headers(), "Accept-Encoding": "identity"},
        proxy=info.proxy_url,
        trust_env=info.trust_env,
        response_class=bodies.response_class(),
        middlewares=(bodies.metadata_alone(SELDONDEPLOYMENTS[-1]),),
    )
    return kopf.AiohttpSession(aiohttp_session=session, server=info.server, default_namespace=info.default_namespace)
