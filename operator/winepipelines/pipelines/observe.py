"""Observe: answer the queries of a decision."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from winecontract.reasons import WITHOUT_EXAMPLE
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
from winepipelines.platform.namespace import Namespace
from winepipelines.platform.objectstore import ObjectStore
from winepipelines.platform.records import Example
from winepipelines.platform.signed import Expected
from winepipelines.platform.steps import Steps as StepPods
from winepipelines.serving.port import Endpoint, Promotion, ServingBackend
from winepipelines.serving.probing import EndpointProber, ProbeTarget

EXAMPLES_KEPT = 2048


@dataclass(frozen=True)
class Serving:
    """The serving backend, the cluster that it works on, and the prober of its endpoints."""

    backend: ServingBackend
    kubernetes: Kubernetes
    prober: EndpointProber


class Observer:
    """Answers queries with what the platform reports."""

    def __init__(
        self,
        namespace: Namespace,
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
            case GetChildren():
                return self._namespace.view(pipeline)
            case ListRuns(name):
                return self._kubeflow.runs_named(pipeline.namespace, name)
            case GetSteps(run_id):
                return self._steps.view(pipeline.namespace, run_id)
            case GetRunSettings():
                return self._run_settings()
            case GetRecords(revision, run_id):
                return self._records(pipeline, revision, run_id)
            case CheckArtifact(uri):
                return self._stored(uri)
            case GetServer(runtime):
                return self._server(pipeline, runtime)
            case GetDeployment(rollout):
                return self._deployment(pipeline, rollout)
            case ProbeEndpoint(model):
                return self._prediction(pipeline, model)
            case CompareCanary(model, served):
                return self._comparison(pipeline, model, served)
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

    async def _stored(self, uri: str) -> object:
        return await self._store.stored(uri, await self._namespace.store_access())

    async def _server(self, pipeline: WinePipeline, runtime: Runtime) -> ServerView:
        backend = self._serving.backend
        capabilities = backend.capabilities
        view = replace(
            backend.server(runtime),
            splits_traffic=capabilities.splits_traffic,
            promotes_in_place=capabilities.promotion is Promotion.SHIFT,
        )
        if lacking := backend.problem(pipeline):
            return replace(view, problem=f"The serving backend is {backend.name}. {lacking}")
        return view

    async def _deployment(self, pipeline: WinePipeline, rollout: Rollout | None) -> DeploymentView:
        return await self._serving.backend.observe(self._serving.kubernetes, pipeline, rollout)

    async def _prediction(self, pipeline: WinePipeline, model: ModelRecord) -> PredictionCheck:
        endpoint = self._serving.backend.endpoints(pipeline, model.runtime).stable
        return await self._serving.prober.probe(_target(endpoint, await self._example(model)))

    async def _comparison(self, pipeline: WinePipeline, candidate: ModelRecord, served: ModelRecord) -> CanaryComparison:
        try:
            example = await self._example(served)
        except Refused as error:
            if error.reason not in WITHOUT_EXAMPLE:
                raise
            example = None  # the served model cannot be probed: that is no objection to the candidate
        backend = self._serving.backend
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
