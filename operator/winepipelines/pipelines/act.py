"""Carry out the actions of a decision about a WinePipeline."""

from winepipelines.api.pipeline import WinePipeline
from winepipelines.pipelines.actions import (
    Action,
    ApplyChildren,
    ApplyDeployment,
    CreateDataCheck,
    CreateRun,
    DeleteDeployment,
    ReleaseDeployment,
    RemoveAlias,
    SetAlias,
    TagOrphanedModels,
)
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.kubernetes import WINEPIPELINES, Body, Kubernetes
from winepipelines.platform.mlflow import MLflow
from winepipelines.platform.namespaces import Namespaces
from winepipelines.runs.act import SharedActor
from winepipelines.serving.backends import Backends


class Actor:
    """Carries out actions on the platform."""

    def __init__(
        self, kubernetes: Kubernetes, namespace: Namespaces, kubeflow: Kubeflow, mlflow: MLflow, backends: Backends
    ) -> None:
        """Use these adapters."""
        self._mlflow = mlflow
        self._kubernetes = kubernetes
        self._namespace = namespace
        self._kubeflow = kubeflow
        self._backends = backends
        self._shared = SharedActor(kubernetes, kubeflow, WINEPIPELINES)

    async def perform(self, action: Action, pipeline: WinePipeline) -> Body | None:
        """Carry out an action; return the resource's new body if it changed.

        Raises PlatformError if it failed, Conflict if the resource changed since the decision.
        """
        match action:
            case ApplyChildren(_, _, backends):
                await self._namespace.apply(pipeline, backends)
            case CreateRun(name, revision):
                await self._namespace.model_keys(pipeline.namespace)  # a step's pod does not start without its Secret
                await self._kubeflow.create(pipeline, name, revision)
            case ApplyDeployment(rollout, _, name):
                await self._backends.get(name).apply(self._kubernetes, pipeline, rollout)
            case DeleteDeployment(name):
                await self._backends.get(name).delete(self._kubernetes, pipeline)
            case ReleaseDeployment(name):
                backend = self._backends.get(name)
                released = await backend.release(self._kubernetes, pipeline)
                if released is not None:
                    await self._namespace.hand_over(pipeline, released, backend.name)
            case SetAlias(model, alias):
                await self._mlflow.set_alias(model, alias)
            case RemoveAlias(model, alias):
                await self._mlflow.remove_alias(model, alias)
            case TagOrphanedModels(models, retired):
                owner = f"{pipeline.namespace}/{pipeline.name} ({pipeline.uid})"
                await self._mlflow.leave(models, owner, retired=retired)
            case CreateDataCheck(name, count, sha256, etag):
                await self._kubeflow.create_check(pipeline, name, str(count), sha256, etag)
            case _:
                return await self._shared.perform(action, pipeline)
        return None
