"""The adapters: a client for each system that the operator works with, made once from the settings."""

from dataclasses import dataclass
from pathlib import Path

import aiohttp

from winepipelines.doctor.finding import Report
from winepipelines.doctor.probing import Systems
from winepipelines.doctor.runner import check_backends
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.kubernetes import SERVICE_ACCOUNT_TOKEN, Kubernetes
from winepipelines.platform.manifests import Manifests
from winepipelines.platform.mlflow import MLflow
from winepipelines.platform.namespaces import Namespaces
from winepipelines.platform.network import Network
from winepipelines.platform.objectstore import ObjectStore
from winepipelines.platform.steps import Steps
from winepipelines.serving import probing
from winepipelines.serving.backends import Backends
from winepipelines.settings import Settings

CHECK_SECONDS = 10.0
"""Most time that a system has to answer one check of the platform."""


@dataclass(frozen=True)
class Adapters:
    """The clients. They share connections and threads, and no state of a resource."""

    settings: Settings
    backends: Backends
    kubernetes: Kubernetes
    session: aiohttp.ClientSession
    namespace: Namespaces
    kubeflow: Kubeflow
    mlflow: MLflow
    store: ObjectStore
    steps: Steps

    @classmethod
    async def connect(cls, settings: Settings, backends: Backends) -> "Adapters":
        """Make the clients. Only the API server's is configured from outside the settings.

        Raises ConfigException where there is neither a service account nor a kubeconfig.
        """
        kubernetes = await Kubernetes.connect()
        kubeflow = Kubeflow(settings, backends.server_version)
        sources = {backend.name: backend.source for backend in backends.enabled}
        namespace = Namespaces(kubernetes, Manifests(settings.templates), settings, sources, kubeflow.namespace_of_runs)
        return cls(
            settings=settings,
            backends=backends,
            kubernetes=kubernetes,
            session=probing.session(settings.request_seconds),
            namespace=namespace,
            kubeflow=kubeflow,
            mlflow=MLflow(settings, namespace.mlflow_credentials),
            store=ObjectStore(settings),
            steps=Steps(kubernetes, kubeflow, settings),
        )

    async def check_platform(self) -> Report:
        """Run the doctor's checks of the platform."""
        inside = Path(SERVICE_ACCOUNT_TOKEN).exists()  # noqa: ASYNC240 - a mounted file
        first, seconds = self.backends.enabled[0], min(self.settings.request_seconds, CHECK_SECONDS)
        systems = Systems(self.settings, first, self.kubernetes, self.kubeflow, self.mlflow, self.store, Network(), inside)
        return await check_backends(systems, self.backends.enabled, seconds=seconds, optional=self.backends.optional)

    async def close(self) -> None:
        """Close all connections."""
        await self.session.close()
        await self.kubernetes.close()
