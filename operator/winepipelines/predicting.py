"""What `observe` and `act` are for a WinePipeline, for a `WinePrediction`. Called by `reconciler`."""

from collections.abc import Awaitable

from winepipelines.lifecycle.actions import AddFinalizer, DeleteRun, RemoveFinalizer, TerminateRun
from winepipelines.lifecycle.questions import Question, Runs, RunSettings, Steps
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.kubernetes import WINEPIPELINES, WINEPREDICTIONS, Body, Conflict, Kubernetes
from winepipelines.platform.mlflow import MLflow
from winepipelines.platform.outputs import OutputUses
from winepipelines.platform.steps import Steps as StepPods
from winepipelines.predictions.actions import Action, DeleteResource, SubmitPrediction
from winepipelines.predictions.questions import Outcome, Pipeline, UsesOfOutput
from winepipelines.resource.outcome import PipelineView
from winepipelines.resource.pipeline import FINALIZER
from winepipelines.resource.prediction import ChosenModel, WinePrediction
from winepipelines.resource.status import Status


class PredictionObserver:
    """Asks the platform."""

    def __init__(
        self,
        kubernetes: Kubernetes,
        kubeflow: Kubeflow,
        steps: StepPods,
        mlflow: MLflow,
        outputs: OutputUses,
        *,
        takes_unsigned: bool = False,
    ) -> None:
        """Use these adapters; `takes_unsigned`: files may be scored with models without a signed record."""
        self._takes_unsigned = takes_unsigned
        self._kubernetes = kubernetes
        self._kubeflow = kubeflow
        self._steps = steps
        self._mlflow = mlflow
        self._outputs = outputs

    async def answer(self, question: Question[object], prediction: WinePrediction, /) -> object:
        """Answer a question about a resource.

        Raises PlatformError where the system that knows does not say.
        """
        return await self._ask(question, prediction)

    def _ask(self, question: Question[object], prediction: WinePrediction) -> Awaitable[object]:
        match question:
            case Pipeline(name):
                return self._pipeline(prediction.namespace, name)
            case UsesOfOutput():
                return self._outputs.of(prediction)
            case Runs(name):
                return self._kubeflow.runs_named(prediction.namespace, name)
            case Steps(run_id):
                return self._steps.view(prediction.namespace, run_id)
            case RunSettings():
                return self._run_settings()
            case Outcome(run_id):
                return self._mlflow.prediction(prediction, run_id)
        raise TypeError(f"nobody answers {question!r}")

    async def _run_settings(self) -> str:
        return self._kubeflow.settings_hash()

    async def _pipeline(self, namespace: str, name: str) -> PipelineView:
        # A list of one: the operator has the right to list them, and needs none to get them.
        listed = await self._kubernetes.ask("get", WINEPIPELINES.path(namespace), field_selector=f"metadata.name={name}")
        body = next(iter((listed or {}).get("items", [])), None)
        if body is None:
            return PipelineView(exists=False)
        served = Status.read_leniently(body.get("status") or {}).served
        if served is None or not served.mlflow_run:
            return PipelineView(exists=True)
        uid = body["metadata"]["uid"]
        chosen = ChosenModel(
            revision=served.revision,
            mlflow_run=served.mlflow_run,
            version=served.version,
            uri=served.uri,
            digest=served.digest,
            pipeline_uid=uid,
        )
        return PipelineView(exists=True, served=chosen, takes_unsigned=self._takes_unsigned)


class PredictionActor:
    """Has the platform do things."""

    def __init__(self, kubernetes: Kubernetes, kubeflow: Kubeflow) -> None:
        """Use these adapters."""
        self._kubernetes = kubernetes
        self._kubeflow = kubeflow

    async def perform(self, action: Action, prediction: WinePrediction, /) -> Body | None:
        """Carry an action out; return the resource's new body where it changed.

        Raises PlatformError where that failed, kubernetes.Conflict where the resource is no longer the one decided on.
        """
        match action:
            case AddFinalizer():
                return await self._set_finalizers(prediction, (*prediction.finalizers, FINALIZER))
            case RemoveFinalizer():
                kept = tuple(item for item in prediction.finalizers if item != FINALIZER)
                return await self._set_finalizers(prediction, kept)
            case SubmitPrediction(name):
                await self._kubeflow.predict(prediction, name)
            case TerminateRun(run_id):
                await self._kubeflow.terminate(run_id)
            case DeleteRun(run_id):
                await self._kubeflow.delete(run_id)
            case DeleteResource():
                return await self._deleted(prediction)
        return None

    async def _deleted(self, prediction: WinePrediction) -> Body:
        """Delete the resource, whose finalizer keeps it until it is cleaned up. Raises Conflict where it has gone at once."""
        body = await self._kubernetes.delete(WINEPREDICTIONS, prediction.namespace, prediction.name, prediction.uid)
        if body is None:
            raise Conflict(prediction.name)
        return body

    async def _set_finalizers(self, prediction: WinePrediction, finalizers: tuple[str, ...]) -> Body:
        patch = {"metadata": {"finalizers": list(finalizers), "resourceVersion": prediction.resource_version}}
        return await self._kubernetes.merge(WINEPREDICTIONS, prediction.namespace, prediction.name, patch)
