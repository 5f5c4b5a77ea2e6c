"""The operator's process: both controllers, what they share, and the servers of probes and metrics. Independent of kopf."""

import asyncio
import copy
import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from winepipelines.adapters import Adapters
from winepipelines.api.prediction import PredictionStage
from winepipelines.background import Watched
from winepipelines.controllers import PIPELINES, PREDICTIONS
from winepipelines.doctor.calls import CallMonitor
from winepipelines.doctor.watch import PlatformWatch
from winepipelines.engine.controller import Controller, Key
from winepipelines.engine.queue import FairQueue
from winepipelines.engine.spec import Acting, ControllerSpec, Observing
from winepipelines.metrics import Metrics
from winepipelines.monitored import MonitoredActor, MonitoredObserver
from winepipelines.pipelines.act import Actor
from winepipelines.pipelines.observe import Observer, Serving
from winepipelines.platform import bodies, boundedpools
from winepipelines.platform.kubernetes import Kubernetes, lost
from winepipelines.platform.outputs import OutputUses
from winepipelines.platform.workflows import Workflows
from winepipelines.predictions.act import PredictionActor
from winepipelines.predictions.observe import PredictionObserver
from winepipelines.probes import Probes
from winepipelines.runs.watch import RunWatch
from winepipelines.serving.backends import Backends
from winepipelines.serving.kinds import InstalledBackends
from winepipelines.serving.probing import EndpointProber
from winepipelines.settings import Settings
from winepipelines.startup import port_error

PREDICTION_MARK = "prediction/"
"""Prefix of a WinePrediction's name among all resources whose runs are followed. No resource's name has a slash."""
PROBE_SECONDS = 4.0
"""Most time that the API server has to answer when the kubelet probes the operator, which waits for 5 s."""


class Operator:
    """Everything that runs while the operator does. `start` makes it."""

    def __init__(self, adapters: Adapters) -> None:
        """Create the controllers on these clients; nothing runs yet."""
        settings = adapters.settings
        self._adapters = adapters
        self._metrics = Metrics()
        self._stop_metrics: Callable[[], None] = lambda: None
        self._models: dict[Key, object] = {}
        self._queue = FairQueue(settings.workers)
        self._probes = Probes(self._queue.longest, functools.partial(lost, next(iter(settings.namespaces), ""), PROBE_SECONDS))
        self._runs = RunWatch(
            adapters.kubeflow,
            self._enqueue_owner,
            settings.poll_seconds,
            settings.poll_fallback_seconds,
            Workflows(adapters.kubernetes, namespaces=settings.namespaces).hints,
            adapters.steps.pod_problems,
        )
        self._platform = PlatformWatch(
            adapters.check_platform,
            self._metrics.checked,
            self._report_platform,
            functools.partial(_record_platform_event, adapters.kubernetes, settings),
            max(1.0, settings.doctor_seconds),
        )
        self._monitor = CallMonitor(lambda: self._platform.verdict, self._platform.recheck)
        self.pipelines = self._controller(PIPELINES, *self._of_pipelines(), self._runs.follow)
        self.predictions = self._controller(PREDICTIONS, *self._of_predictions(), self._follow_prediction)
        adapters.kubeflow.on_mode_change(self._look_again)
        self._metrics.count_stages(self.pipelines.stages)
        self._metrics.count_predictions(self.predictions.stages)

    @classmethod
    async def start(cls, settings: Settings, backends: Backends) -> "Operator":
        """Create the operator and start everything in it. Raises StartError where a port is taken."""
        # Blocking clients wait on threads: a slow system must not take them from the others.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * settings.workers))
        boundedpools.allow_seconds(settings.request_seconds)
        operator = cls(await Adapters.connect(settings, backends))
        operator._stop_metrics = _serve_metrics(operator._metrics, settings)
        await _serve_probes(operator._probes, settings)
        watched = Watched(operator._adapters, operator._runs, operator._platform)
        for controller in (operator.pipelines, operator.predictions):
            controller.start(watched)
        return operator

    async def stop(self) -> None:
        """Stop everything, and close all connections."""
        await self.pipelines.stop()
        await self.predictions.stop()
        await self._queue.stop()
        await self._probes.stop()
        await asyncio.to_thread(self._stop_metrics)
        await self._adapters.close()

    # -- what is watched ----------------------------------------------------------------------------------------------

    def pipeline_changed(self, body: Mapping[str, Any], *, deleted: bool) -> None:
        """Take a WinePipeline from the watch. WinePredictions that wait for it are enqueued if it serves another model."""
        key = _key(body)
        if deleted:
            self.pipelines.on_delete(key)
        else:
            self.pipelines.on_update(copy.deepcopy(dict(body)))
        if serves_another_model(self._models, body, deleted=deleted):
            self.predictions.enqueue_namespace(key[0], _waits_for(key[1]))

    def prediction_changed(self, body: Mapping[str, Any], *, deleted: bool) -> None:
        """Take a WinePrediction from the watch."""
        if deleted:
            self.predictions.on_delete(_key(body))
        else:
            self.predictions.on_update(copy.deepcopy(dict(body)))

    def _enqueue_owner(self, key: Key) -> None:
        """Enqueue the resource whose run has changed, by the key that the run is followed under."""
        namespace, name = key
        if name.startswith(PREDICTION_MARK):
            self.predictions.enqueue((namespace, name.removeprefix(PREDICTION_MARK)))
        else:
            self.pipelines.enqueue(key)

    def _follow_prediction(self, key: Key, run: Any) -> None:
        self._runs.follow((key[0], PREDICTION_MARK + key[1]), run)

    def _look_again(self) -> None:
        """Have every WinePipeline compare its objects with the desired ones: runs may be in another namespace now."""
        self.pipelines.forget()
        self.pipelines.enqueue_all_within(self.pipelines.spread())

    def _report_platform(self) -> None:
        """Have every WinePipeline report the platform's new state before its next check."""
        pipelines = self.pipelines
        pipelines.enqueue_all_within(min(self._adapters.settings.timeouts.check_interval, pipelines.spread()))

    # -- how it is made -----------------------------------------------------------------------------------------------

    def _controller(
        self, spec: ControllerSpec, observer: Observing, actor: Acting, follow: Callable[[Key, Any], None]
    ) -> Controller:
        settings = self._adapters.settings
        return Controller(
            spec,
            self._adapters.kubernetes,
            MonitoredObserver(observer, self._monitor),
            MonitoredActor(actor, self._monitor),
            follow,
            settings.timeouts,
            self._queue,
            settings.reconcile_seconds,
            retry_interval=settings.timeouts.retry_interval,
            trim=bodies.own_metadata,
            measure=self._metrics.reconciled,
        )

    def _of_pipelines(self) -> tuple[Observer, Actor]:
        a = self._adapters
        installed = InstalledBackends(a.backends, a.kubernetes)
        serving = Serving(a.backends, installed, a.kubernetes, EndpointProber(a.session))
        observer = Observer(a.namespace, a.kubeflow, a.steps, a.mlflow, a.store, serving, lambda: self._platform.verdict)
        return observer, Actor(a.kubernetes, a.namespace, a.kubeflow, a.mlflow, a.backends)

    def _of_predictions(self) -> tuple[PredictionObserver, PredictionActor]:
        a = self._adapters
        folder, takes_unsigned = a.settings.prediction_output_folder, a.settings.serves_unsigned
        outputs = OutputUses(a.kubernetes, folder, a.settings.namespaces)
        observer = PredictionObserver(
            a.kubernetes, a.kubeflow, a.steps, a.mlflow, outputs, output_folder=folder, takes_unsigned=takes_unsigned
        )
        return observer, PredictionActor(a.kubernetes, a.kubeflow)


def serves_another_model(known: dict[Key, object], body: Mapping[str, Any], *, deleted: bool) -> bool:
    """Whether a WinePipeline is new, is gone, or serves another model than `known` has, which is kept from event to event.

    Nothing else that its users write, however often, enqueues a WinePrediction.
    """
    if deleted:
        known.pop(_key(body), None)
        return True
    served = (body.get("status") or {}).get("served") or {}
    model = served.get("model") or {}
    now = body["metadata"]["uid"], served.get("revision"), model.get("mlflowRun"), model.get("uri")
    before, known[_key(body)] = known.get(_key(body)), now
    return before != now


def _key(body: Mapping[str, Any]) -> Key:
    return body["metadata"]["namespace"], body["metadata"]["name"]


def _waits_for(pipeline: str) -> Callable[[Mapping[str, Any]], bool]:
    """Return whether a WinePrediction, given its body, waits for this WinePipeline to serve."""

    def waits(body: Mapping[str, Any]) -> bool:
        stage = (body.get("status") or {}).get("stage")
        return stage in (None, PredictionStage.WAITING) and body["spec"].get("pipeline") == pipeline

    return waits


async def _record_platform_event(kubernetes: Kubernetes, settings: Settings, reason: str, message: str, warning: bool) -> None:
    """Create an Event about the platform's namespace, unless the operator is limited to other namespaces."""
    namespace = settings.platform_namespace
    if settings.namespaces and namespace not in settings.namespaces:
        return
    regarding = {"apiVersion": "v1", "kind": "Namespace", "name": namespace, "namespace": namespace}
    await kubernetes.create_event(regarding, reason, message, warning=warning)


async def _serve_probes(probes: Probes, settings: Settings) -> None:
    if settings.probe_port:
        try:
            await probes.start(settings.probe_host, settings.probe_port)
        except OSError as error:  # another process has taken the port since it was checked
            raise port_error("WINE_PROBE_PORT", settings.probe_host, settings.probe_port, error) from None


def _serve_metrics(metrics: Metrics, settings: Settings) -> Callable[[], None]:
    if not settings.metrics_port:
        return lambda: None
    try:
        return metrics.serve(settings.metrics_host, settings.metrics_port)
    except OSError as error:  # another process has taken the port since it was checked
        raise port_error("WINE_METRICS_PORT", settings.metrics_host, settings.metrics_port, error) from None
