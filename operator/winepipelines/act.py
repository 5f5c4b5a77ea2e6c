"""Acting: each action of a decision, carried out. Thin, and idempotent. Called by `reconciler`."""

from winepipelines.lifecycle.actions import (
    Action,
    AddFinalizer,
    ApplyChildren,
    ApplyDeployment,
    CreateDataCheck,
    CreateRun,
    DeleteDeployment,
    DeleteRun,
    LeaveModels,
    ReleaseDeployment,
    RemoveAlias,
    RemoveFinalizer,
    SetAlias,
    TerminateRun,
)
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.kubernetes import WINEPIPELINES, Body, Kubernetes
from winepipelines.platform.mlflow import MLflow
from winepipelines.platform.namespace import Namespace
from winepipelines.platform.seldon import Seldon
from winepipelines.resource.pipeline import FINALIZER, WinePipeline


class Actor:
    """Has the platform do things."""

    def __init__(self, kubernetes: Kubernetes, namespace: Namespace, kubeflow: Kubeflow, mlflow: MLflow, seldon: Seldon) -> None:
        """Use these adapters."""
        self._mlflow = mlflow
        self._kubernetes = kubernetes
        self._namespace = namespace
        self._kubeflow = kubeflow
        self._seldon = seldon

    async def perform(self, action: Action, pipeline: WinePipeline) -> Body | None:
        """Carry an action out; return the resource's new body where it changed.

        Raises PlatformError where that failed, kubernetes.Conflict where the resource is no longer the one decided on.
        """
        match action:
            case AddFinalizer():
                return await self._set_finalizers(pipeline, (*pipeline.finalizers, FINALIZER))
            case RemoveFinalizer():
                return await self._set_finalizers(pipeline, tuple(item for item in pipeline.finalizers if item != FINALIZER))
            case ApplyChildren():
                await self._namespace.apply(pipeline)
            case CreateRun(name, revision):
                await self._namespace.model_keys(pipeline.namespace)  # without its Secret a step's pod would never start
                await self._kubeflow.create(pipeline, name, revision)
            case TerminateRun(run_id):
                await self._kubeflow.terminate(run_id)
            case DeleteRun(run_id):
                await self._kubeflow.delete(run_id)
            case ApplyDeployment(rollout):
                await self._seldon.apply(pipeline, rollout)
            case DeleteDeployment():
                await self._seldon.delete(pipeline)
            case ReleaseDeployment():
                released = await self._seldon.release(pipeline)
                if released is not None:
                    await self._namespace.hand_over(pipeline, released)
            case SetAlias(model, alias):
                await self._mlflow.set_alias(model, alias)
            case RemoveAlias(model, alias):
                await self._mlflow.remove_alias(model, alias)
            case LeaveModels(models, retired):
                whose = f"{pipeline.namespace}/{pipeline.name} ({pipeline.uid})"
                await self._mlflow.leave(models, whose, retired=retired)
            case CreateDataCheck(name, count, sha256, etag):
                await self._kubeflow.create_check(pipeline, name, str(count), sha256, etag)
        return None

    async def _set_finalizers(self, pipeline: WinePipeline, finalizers: tuple[str, ...]) -> Body:
        patch = {"metadata": {"finalizers": list(finalizers), "resourceVersion": pipeline.resource_version}}
        return await self._kubernetes.merge(WINEPIPELINES, pipeline.namespace, pipeline.name, patch)
