"""Carry out the actions that both kinds share."""

from typing import Any

from winepipelines.api.body import Resource
from winepipelines.api.pipeline import FINALIZER
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.kubernetes import Body, Kind, Kubernetes
from winepipelines.runs.actions import AddFinalizer, DeleteRun, RemoveFinalizer, SharedAction, TerminateRun


class SharedActor:
    """Carries out the actions on the finalizer of a resource and on its runs."""

    def __init__(self, kubernetes: Kubernetes, kubeflow: Kubeflow, kind: Kind) -> None:
        """Act for resources of this kind."""
        self._kubernetes = kubernetes
        self._kubeflow = kubeflow
        self._kind = kind

    async def perform(self, action: SharedAction, resource: Resource[Any, Any]) -> Body | None:
        """Carry out an action; return the resource's new body if it changed.

        Raises PlatformError if it failed, Conflict if the resource changed since the decision.
        """
        match action:
            case AddFinalizer():
                return await self._set_finalizers(resource, (*resource.finalizers, FINALIZER))
            case RemoveFinalizer():
                return await self._set_finalizers(resource, tuple(item for item in resource.finalizers if item != FINALIZER))
            case TerminateRun(run_id):
                await self._kubeflow.terminate(run_id)
            case DeleteRun(run_id):
                await self._kubeflow.delete(run_id)
        return None

    async def _set_finalizers(self, resource: Resource[Any, Any], finalizers: tuple[str, ...]) -> Body:
        patch = {"metadata": {"finalizers": list(finalizers), "resourceVersion": resource.resource_version}}
        return await self._kubernetes.merge(self._kind, resource.namespace, resource.name, patch)
