"""The children in users' namespaces, with the Secrets of each serving backend only where a resource uses that backend."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from winecontract.signatures import Keys
from winepipelines.api.observed import ChildrenView
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.sourcesecret import SourceSecret, StoreAccess
from winepipelines.platform.kubernetes import Body, Kubernetes
from winepipelines.platform.manifests import Manifests
from winepipelines.platform.namespace import Namespace, same_namespace
from winepipelines.platform.sharedreads import EVERYWHERE, SharedReads
from winepipelines.settings import Settings


class Namespaces:
    """The children, by the names of the backends that a resource uses."""

    def __init__(
        self,
        kubernetes: Kubernetes,
        manifests: Manifests,
        settings: Settings,
        sources: Mapping[str, SourceSecret],
        namespace_of_runs: Callable[[str], Awaitable[str]] = same_namespace,
    ) -> None:
        """Use these adapters; `sources` are the Secrets that models are copied with, by the backend's name."""
        self._reads = SharedReads(kubernetes)
        self._of = {
            name: Namespace(kubernetes, manifests, settings, source, namespace_of_runs, self._reads)
            for name, source in sources.items()
        }
        self._common = next(iter(self._of.values()))
        self._settings = settings

    def forget(self, namespace: str = EVERYWHERE) -> None:
        """Read the objects of a namespace, or of all, anew: they may have changed."""
        self._reads.forget(namespace)

    async def view(self, pipeline: WinePipeline, backends: Sequence[str]) -> ChildrenView:
        """Compare the objects that exist with those that the resource needs; the first backend is the one that it uses now."""
        first, *others = [await self._of[name].view(pipeline) for name in backends]
        for name, other in zip(backends[1:], others, strict=True):
            known = {(child.kind, child.name) for child in first.children}
            added = (replace(child, backend=name) for child in other.children if (child.kind, child.name) not in known)
            is_complete = first.source.exists and not first.source.missing_keys
            first = replace(first, children=(*first.children, *added), source=other.source if is_complete else first.source)
        return first

    async def apply(self, pipeline: WinePipeline, backends: Sequence[str]) -> None:
        """Apply the objects that are absent or differ. Objects that others made stay as they are."""
        try:
            for name in backends:
                await self._of[name].apply(pipeline)
        finally:
            self._reads.forget(pipeline.namespace)
            self._reads.forget(self._settings.platform_namespace)  # in single-user mode, some objects are there

    async def hand_over(self, pipeline: WinePipeline, owner: Body, backend: str) -> None:
        """Make a serving object that outlives the resource an owner of the Secret that it copies models with."""
        await self._of[backend].hand_over(pipeline, owner)

    async def store_access(self, pipeline: WinePipeline, backend: str) -> StoreAccess:
        """Read the address and the credentials that a serving backend copies a resource's models with."""
        return await self._of[backend].store_access(pipeline)

    async def mlflow_credentials(self) -> dict[str, str]:
        """Read the credentials for MLflow; none if the administrator named no Secret, or it does not exist."""
        return await self._common.mlflow_credentials()

    async def model_keys(self, namespace: str) -> Keys:
        """Read the keys that the train steps of a namespace's resources sign with. Raises PlatformError if there are none."""
        return await self._common.model_keys(namespace)
