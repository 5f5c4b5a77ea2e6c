"""Observing: the answer to each question of a decision. Called by `reconciler`."""

from collections.abc import Awaitable, Callable

from winepipelines.lifecycle.questions import (
    Aliased,
    Answer,
    Children,
    Deployment,
    ModelRef,
    Platform,
    Question,
    Records,
    Runs,
    Server,
    Stored,
)
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.mlflow import MLflow
from winepipelines.platform.namespace import Namespace
from winepipelines.platform.objectstore import ObjectStore
from winepipelines.platform.records import Example
from winepipelines.platform.seldon import Seldon
from winepipelines.resource.naming import ALIAS
from winepipelines.resource.observed import DeploymentView, PlatformVerdict, PredictionCheck, ServerView
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.spec import Runtime

EXAMPLES_KEPT = 2048


class Observer:
    """Asks the platform."""

    def __init__(
        self,
        namespace: Namespace,
        kubeflow: Kubeflow,
        mlflow: MLflow,
        store: ObjectStore,
        seldon: Seldon,
        platform: Callable[[], PlatformVerdict | None],
    ) -> None:
        """Use these adapters; `platform` remembers what was said of the platform last."""
        self._namespace = namespace
        self._kubeflow = kubeflow
        self._mlflow = mlflow
        self._store = store
        self._seldon = seldon
        self._platform = platform
        self._examples: dict[str, Example] = {}

    async def answer(self, question: Question[object], pipeline: WinePipeline) -> object:
        """Answer a question about a resource.

        Raises PlatformError where the system that knows does not say.
        """
        return await self._ask(question, pipeline)

    def _ask(self, question: Question[object], pipeline: WinePipeline) -> Awaitable[object]:
        match question:
            case Children():
                return self._namespace.view(pipeline)
            case Runs(name):
                return self._kubeflow.runs_named(pipeline.namespace, name)
            case Records(revision):
                return self._mlflow.records(pipeline.spec.training.experiment, pipeline.uid, revision)
            case Stored(uri):
                return self._stored(uri)
            case Server(runtime):
                return self._server(runtime)
            case Deployment(model):
                return self._deployment(pipeline, model)
            case Answer(model):
                return self._prediction(pipeline, model)
            case Aliased():
                return self._mlflow.aliased(pipeline.spec.training.registered_model, ALIAS)
            case Platform():
                return self._verdict()
        raise TypeError(f"nobody answers {question!r}")

    async def _verdict(self) -> PlatformVerdict | None:
        return self._platform()

    async def _stored(self, uri: str) -> object:
        return await self._store.stored(uri, await self._namespace.rclone_settings())

    async def _server(self, runtime: Runtime) -> ServerView:
        return self._seldon.server(runtime)

    async def _deployment(self, pipeline: WinePipeline, model: ModelRef | None) -> DeploymentView:
        if model is None:
            return await self._seldon.presence(pipeline)
        return await self._seldon.view(pipeline, model.revision, model.uri, model.runtime, model.image)

    async def _prediction(self, pipeline: WinePipeline, model: ModelRef) -> PredictionCheck:
        example = self._examples.get(model.mlflow_run)
        if example is None:
            example = await self._mlflow.example(model.mlflow_run)
            if len(self._examples) >= EXAMPLES_KEPT:
                self._examples.clear()
            self._examples[model.mlflow_run] = example
        return await self._seldon.predict(pipeline, example, model.runtime)
