"""Observe: answer the queries of a decision."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from winecontract.reasons import WITHOUT_EXAMPLE, Reason
from winepipelines.api.errors import Refused
from winepipelines.api.modelrecord import ModelRecord
from winepipelines.api.observed import (
    CanaryComparison,
    DeploymentView,
    PlatformVerdict,
    PredictionCheck,
    ServerView,
    TrainingRecords,
)
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.rollout import Rollout
from winepipelines.api.spec import Runtime
from winepipelines.api.status import known_models
from winepipelines.engine.decision import Query
from winepipelines.pipelines.queries import (
    CheckArtifact,
    CompareCanary,
    GetAlias,
    GetBackends,
    GetChildren,
    GetDataCheck,
    GetDeployment,
    GetPlatformHealth,
    GetRecords,
    GetRunSettings,
    GetServer,
    GetSteps,
    ListRuns,
    ProbeEndpoint,
)
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.kubernetes import Kubernetes
from winepipelines.platform.mlflow import MLflow
from winepipelines.platform.namespaces import Namespaces
from winepipelines.platform.objectstore import ObjectStore
from winepipelines.platform.records import Example
from winepipelines.platform.signed import Expected
from winepipelines.platform.steps import Steps as StepPods
from winepipelines.serving.backends import Backends
from winepipelines.serving.kinds import InstalledBackends
from winepipelines.serving.port import Endpoint, Promotion
from winepipelines.serving.probing import EndpointProber, ProbeTarget

EXAMPLES_KEPT = 2048


@dataclass(frozen=True)
class Serving:
    """The serving backends, which of them are installed, the cluster that they work on, and the prober of endpoints."""

    backends: Backends
    installed: InstalledBackends
    kubernetes: Kubernetes
    prober: EndpointProber


class Observer:
    """Answers queries with what the platform reports."""

    def __init__(
        self,
        namespace: Namespaces,
        kubeflow: Kubeflow,
        steps: StepPods,
        mlflow: MLflow,
        store: ObjectStore,
        serving: Serving,
        platform: Callable[[], PlatformVerdict | None],
    ) -> None:
        """Use these adapters; `platform` returns the last verdict on the platform."""
        self._namespace = namespace
        self._kubeflow = kubeflow
        self._steps = steps
        self._mlflow = mlflow
        self._store = store
        self._serving = serving
        self._platform = platform
        self._examples: dict[tuple[str, str], Example] = {}

    async def answer(self, query: Query[object], pipeline: WinePipeline) -> object:
        """Answer a query about a resource.

        Raises PlatformError if the system that knows the answer does not give it.
        """
        return await self._ask(query, pipeline)

    def _ask(self, query: Query[object], pipeline: WinePipeline) -> Awaitable[object]:
        match query:
            case GetBackends():
                return self._serving.installed.view()
            case GetChildren(backends):
                return self._namespace.view(pipeline, backends)
            case ListRuns(name):
                return self._kubeflow.runs_named(pipeline.namespace, name)
            case GetSteps(run_id):
                return self._steps.view(pipeline.namespace, run_id)
            case GetRunSettings():
                return self._run_settings()
            case GetRecords(revision, run_id):
                return self._records(pipeline, revision, run_id)
            case CheckArtifact(uri, backend):
                return self._stored(pipeline, uri, backend)
            case GetServer(runtime, backend):
                return self._server(pipeline, runtime, backend)
            case GetDeployment(rollout, backend):
                return self._deployment(pipeline, rollout, backend)
            case ProbeEndpoint(model, backend):
                return self._prediction(pipeline, model, backend)
            case CompareCanary(model, served, backend):
                return self._comparison(pipeline, model, served, backend)
            case GetDataCheck(count, run_id):
                return self._mlflow.check_record(pipeline.spec.training.experiment, pipeline.uid, str(count), run_id)
            case GetAlias(registered_model, alias):
                return self._mlflow.aliased(registered_model, alias)
            case GetPlatformHealth():
                return self._verdict()
        raise TypeError(f"no handler for {query!r}")

    async def _records(self, pipeline: WinePipeline, revision: int, run_id: str) -> TrainingRecords:
        keys = await self._namespace.model_keys(pipeline.namespace)
        whose = Expected(pipeline.namespace, pipeline.uid, revision, run_id, pipeline.registered_model, keys)
        return await self._mlflow.records(pipeline.spec.training.experiment, whose, known_models(pipeline.status))

    async def _verdict(self) -> PlatformVerdict | None:
        return self._platform()

    async def _run_settings(self) -> str:
        return self._kubeflow.settings_hash()

    async def _stored(self, pipeline: WinePipeline, uri: str, name: str) -> object:
        backend = self._serving.backends.get(name).name
        return await self._store.stored(uri, await self._namespace.store_access(pipeline, backend))

    async def _server(self, pipeline: WinePipeline, runtime: Runtime, name: str) -> ServerView:
        backend = self._serving.backends.get(name)
        capabilities = backend.capabilities
        view = replace(
            backend.server(runtime),
            splits_traffic=capabilities.splits_traffic,
            promotes_in_place=capabilities.promotion is Promotion.SHIFT,
        )
        if too_long := backend.name_problem(pipeline):
            return replace(view, problem=too_long, problem_reason=Reason.NAME_UNSUPPORTED)
        if too_few := backend.scaling_problem(pipeline):
            problem = f"spec.serving.autoscaling.minReplicas is 0, and the serving backend is {backend.name}. {too_few}"
            return replace(view, problem=problem, problem_reason=Reason.SCALE_TO_ZERO_UNSUPPORTED)
        lacking = backend.problem(pipeline)
        if not lacking and runtime not in capabilities.protocols:
            lacking = f"It does not serve runtime {runtime}."
        if lacking:
            return replace(view, problem=f"The serving backend is {backend.name}. {lacking}")
        return view

    async def _deployment(self, pipeline: WinePipeline, rollout: Rollout | None, name: str) -> DeploymentView:
        return await self._serving.backends.get(name).observe(self._serving.kubernetes, pipeline, rollout)

    async def _prediction(self, pipeline: WinePipeline, model: ModelRecord, name: str) -> PredictionCheck:
        endpoint = self._serving.backends.get(name).endpoints(pipeline, model.runtime).stable
        return await self._serving.prober.probe(_target(endpoint, await self._example(model)))

    async def _comparison(
        self, pipeline: WinePipeline, candidate: ModelRecord, served: ModelRecord, name: str
    ) -> CanaryComparison:
        try:
            example = await self._example(served)
        except Refused as error:
            if error.reason not in WITHOUT_EXAMPLE:
                raise
            example = None  # the served model cannot be probed: that is no objection to the candidate
        backend = self._serving.backends.get(name)
        return await self._serving.prober.compare(
            _target(backend.endpoints(pipeline, served.runtime).served, example) if example is not None else None,
            _target(backend.endpoints(pipeline, candidate.runtime).candidate, await self._example(candidate)),
        )

    async def _example(self, model: ModelRecord) -> Example:
        key = model.mlflow_run, model.example_digest
        example = self._examples.get(key)
        if example is None:
            example = await self._mlflow.example(*key)
            if len(self._examples) >= EXAMPLES_KEPT:
                self._examples.clear()
            self._examples[key] = example
        return example


def _target(endpoint: Endpoint, example: Example) -> ProbeTarget:
    return ProbeTarget(endpoint.url, endpoint.protocol, example)
