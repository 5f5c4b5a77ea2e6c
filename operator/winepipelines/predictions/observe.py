"""Observing: the answer to each query of a decision about a WinePrediction."""

from collections.abc import Awaitable

from winepipelines.api.prediction import WinePrediction, default_output
from winepipelines.api.scoring import PipelineView
from winepipelines.api.status import Status
from winepipelines.engine.decision import Query
from winepipelines.pipelines.queries import GetRunSettings, GetSteps, ListRuns
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.kubernetes import WINEPIPELINES, Kubernetes
from winepipelines.platform.mlflow import MLflow
from winepipelines.platform.outputs import OutputUses
from winepipelines.platform.steps import Steps as StepPods
from winepipelines.predictions.queries import GetOutputAddress, GetPipeline, GetScoringResult, ListOutputUses


class PredictionObserver:
    """Answers queries from the platform."""

    def __init__(
        self,
        kubernetes: Kubernetes,
        kubeflow: Kubeflow,
        steps: StepPods,
        mlflow: MLflow,
        outputs: OutputUses,
        *,
        output_folder: str,
        takes_unsigned: bool = False,
    ) -> None:
        """Use these adapters.

        `output_folder` is the administrator's folder of outputs without an address of their own. `takes_unsigned`: files may be
        scored with models without a signed record.
        """
        self._output_folder = output_folder
        self._takes_unsigned = takes_unsigned
        self._kubernetes = kubernetes
        self._kubeflow = kubeflow
        self._steps = steps
        self._mlflow = mlflow
        self._outputs = outputs

    async def answer(self, query: Query[object], prediction: WinePrediction, /) -> object:
        """Answer a question about a resource.

        Raises PlatformError where the system that knows does not say.
        """
        return await self._ask(query, prediction)

    def _ask(self, query: Query[object], prediction: WinePrediction) -> Awaitable[object]:
        match query:
            case GetPipeline(name):
                return self._pipeline(prediction.namespace, name)
            case GetOutputAddress():
                return self._output_address(prediction)
            case ListOutputUses():
                return self._outputs.of(prediction)
            case ListRuns(name):
                return self._kubeflow.runs_named(prediction.namespace, name)
            case GetSteps(run_id):
                return self._steps.view(prediction.namespace, run_id)
            case GetRunSettings():
                return self._run_settings()
            case GetScoringResult(run_id):
                return self._mlflow.prediction(prediction, run_id)
        raise TypeError(f"no handler for {query!r}")

    async def _output_address(self, prediction: WinePrediction) -> str:
        source = prediction.spec.input
        return default_output(self._output_folder, prediction.namespace, prediction.name, prediction.uid, source)

    async def _run_settings(self) -> str:
        return self._kubeflow.settings_hash()

    async def _pipeline(self, namespace: str, name: str) -> PipelineView:
        # A list of one: the operator has the right to list them, and needs none to get them.
        listed = await self._kubernetes.ask("get", WINEPIPELINES.path(namespace), field_selector=f"metadata.name={name}")
        body = next(iter((listed or {}).get("items", [])), None)
        if body is None:
            return PipelineView(exists=False)
        served = Status.read_leniently(body.get("status") or {}).served
        if served is not None and not served.model.mlflow_run:
            served = None
        return PipelineView(exists=True, uid=body["metadata"]["uid"], served=served, takes_unsigned=self._takes_unsigned)
