"""Observing: the answer to each question of a decision. Called by `reconciler`."""

from collections.abc import Awaitable, Callable

from winepipelines.lifecycle.questions import (
    Aliased,
    Answer,
    Children,
    DataChecked,
    Deployment,
    Platform,
    Question,
    Records,
    Runs,
    RunSettings,
    Server,
    Steps,
    Stored,
    Tried,
)
from winepipelines.lifecycle.reasons import WITHOUT_EXAMPLE
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.mlflow import MLflow
from winepipelines.platform.namespace import Namespace
from winepipelines.platform.objectstore import ObjectStore
from winepipelines.platform.records import Example
from winepipelines.platform.seldon import Seldon
from winepipelines.platform.signed import Expected
from winepipelines.platform.steps import Steps as StepPods
from winepipelines.resource.errors import Refused
from winepipelines.resource.observed import (
    DeploymentView,
    PlatformVerdict,
    PredictionCheck,
    ServerView,
    TrainingRecords,
    TrialView,
)
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.rollout import ModelRef, Rollout
from winepipelines.resource.spec import Runtime
from winepipelines.resource.status import known_models

EXAMPLES_KEPT = 2048


class Observer:
    """Asks the platform."""

    def __init__(
        self,
        namespace: Namespace,
        kubeflow: Kubeflow,
        steps: StepPods,
        mlflow: MLflow,
        store: ObjectStore,
        seldon: Seldon,
        platform: Callable[[], PlatformVerdict | None],
    ) -> None:
        """Use these adapters; `platform` remembers what was said of the platform last."""
        self._namespace = namespace
        self._kubeflow = kubeflow
        self._steps = steps
        self._mlflow = mlflow
        self._store = store
        self._seldon = seldon
        self._platform = platform
        self._examples: dict[tuple[str, str], Example] = {}

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
            case Steps(run_id):
                return self._steps.view(pipeline.namespace, run_id)
            case RunSettings():
                return self._run_settings()
            case Records(revision, run_id):
                return self._records(pipeline, revision, run_id)
            case Stored(uri):
                return self._stored(uri)
            case Server(runtime):
                return self._server(runtime)
            case Deployment(rollout):
                return self._deployment(pipeline, rollout)
            case Answer(model):
                return self._prediction(pipeline, model)
            case Tried(model, served):
                return self._trial(pipeline, model, served)
            case DataChecked(count, run_id):
                return self._mlflow.check_record(pipeline.spec.training.experiment, pipeline.uid, str(count), run_id)
            case Aliased(registered_model, alias):
                return self._mlflow.aliased(registered_model, alias)
            case Platform():
                return self._verdict()
        raise TypeError(f"nobody answers {question!r}")

    async def _records(self, pipeline: WinePipeline, revision: int, run_id: str) -> TrainingRecords:
        keys = await self._namespace.model_keys(pipeline.namespace)
        whose = Expected(pipeline.namespace, pipeline.uid, revision, run_id, pipeline.registered_model, keys)
        return await self._mlflow.records(pipeline.spec.training.experiment, whose, known_models(pipeline.status))

    async def _verdict(self) -> PlatformVerdict | None:
        return self._platform()

    async def _run_settings(self) -> str:
        return self._kubeflow.settings_hash()

    async def _stored(self, uri: str) -> object:
        return await self._store.stored(uri, await self._namespace.rclone_settings())

    async def _server(self, runtime: Runtime) -> ServerView:
        return self._seldon.server(runtime)

    async def _deployment(self, pipeline: WinePipeline, rollout: Rollout | None) -> DeploymentView:
        if rollout is None:
            return await self._seldon.presence(pipeline)
        return await self._seldon.view(pipeline, rollout)

    async def _prediction(self, pipeline: WinePipeline, model: ModelRef) -> PredictionCheck:
        return await self._seldon.predict(pipeline, await self._example(model), model.runtime)

    async def _trial(self, pipeline: WinePipeline, model: ModelRef, served: ModelRef) -> TrialView:
        try:
            of_served = await self._example(served)
        except Refused as error:
            if error.reason not in WITHOUT_EXAMPLE:
                raise
            of_served = None  # nobody can ask it: that says nothing against the one on trial
        return await self._seldon.compare(pipeline, Rollout(served, model), (of_served, await self._example(model)))

    async def _example(self, model: ModelRef) -> Example:
        key = model.mlflow_run, model.example_digest
        example = self._examples.get(key)
        if example is None:
            example = await self._mlflow.example(*key)
            if len(self._examples) >= EXAMPLES_KEPT:
                self._examples.clear()
            self._examples[key] = example
        return example
