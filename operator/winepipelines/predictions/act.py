"""Carry out the actions of a decision about a WinePrediction."""

from winepipelines.api.prediction import WinePrediction
from winepipelines.engine.errors import Conflict
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.kubernetes import WINEPREDICTIONS, Body, Kubernetes
from winepipelines.predictions.actions import Action, DeleteResource, SubmitPrediction
from winepipelines.runs.act import SharedActor


class PredictionActor:
    """Carries out actions on the platform."""

    def __init__(self, kubernetes: Kubernetes, kubeflow: Kubeflow) -> None:
        """Use these adapters."""
        self._kubernetes = kubernetes
        self._kubeflow = kubeflow
        self._shared = SharedActor(kubernetes, kubeflow, WINEPREDICTIONS)

    async def perform(self, action: Action, prediction: WinePrediction, /) -> Body | None:
        """Carry out an action; return the resource's new body if it changed.

        Raises PlatformError if it failed, Conflict if the resource changed since the decision.
        """
        match action:
            case SubmitPrediction(name):
                await self._kubeflow.predict(prediction, name)
                return None
            case DeleteResource():
                return await self._delete(prediction)
            case _:
                return await self._shared.perform(action, prediction)

    async def _delete(self, prediction: WinePrediction) -> Body:
        """Delete the resource; its finalizer keeps it until it is cleaned up. Raises Conflict if it no longer exists."""
        body = await self._kubernetes.delete(WINEPREDICTIONS, prediction.namespace, prediction.name, prediction.uid)
        if body is None:
            raise Conflict(prediction.name)
        return body
