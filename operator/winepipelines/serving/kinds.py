"""Which serving backends are installed, and changes of the objects that serve models."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from winepipelines.api.naming import MANAGED_BY, MANAGED_BY_LABEL
from winepipelines.api.observed import BackendsView
from winepipelines.api.pipeline import KIND
from winepipelines.platform import metadata
from winepipelines.platform.cluster import Cluster
from winepipelines.platform.kubernetes import Kubernetes
from winepipelines.serving.backends import Backends

LOOK_SECONDS = 30.0
"""How long the kinds that the API server serves are remembered."""
LONGEST_BACKOFF = (1.0, 30.0)
"""Seconds until a kind is watched again that the API server does not serve."""


class InstalledBackends:
    """Answers which backend serves resources without a choice."""

    def __init__(self, backends: Backends, kubernetes: Kubernetes) -> None:
        """Ask this API server."""
        self._backends = backends
        self._cluster = Cluster(kubernetes)
        self._missing: tuple[str, ...] = ()
        self._known_until = 0.0

    async def view(self) -> BackendsView:
        """Look the kinds up, if a choice depends on them. Raises PlatformError if the API server does not answer."""
        backends = self._backends
        missing = () if backends.default or len(backends.enabled) == 1 else await self._looked_up()
        return BackendsView(backends.names, backends.first(missing), backends.unnamed, missing)

    async def _looked_up(self) -> tuple[str, ...]:
        now = asyncio.get_running_loop().time()
        if now >= self._known_until:
            served = [
                kind.plural in await self._cluster.resources(kind.group, kind.version)
                for kind in (backend.kind for backend in self._backends.enabled)
            ]
            self._missing = tuple(name for name, there in zip(self._backends.names, served, strict=True) if not there)
            self._known_until = now + LOOK_SECONDS
        return self._missing


def watched(backends: Backends, namespaces: tuple[str, ...]) -> list[metadata.Objects]:
    """List the objects that serve models: in all namespaces at once, or in each that the operator is limited to."""
    found = []
    for kind in (kind for backend in backends.enabled for kind in backend.watches):
        for namespace in namespaces or ("",):
            where = f"/namespaces/{namespace}" if namespace else ""
            path = f"/apis/{kind.group}/{kind.version}{where}/{kind.plural}"
            name = f"{kind.plural} in {namespace}" if namespace else kind.plural
            found.append(metadata.Objects(path, name, labels=f"{MANAGED_BY_LABEL}={MANAGED_BY}"))
    return found


async def owners(kubernetes: Kubernetes, objects: metadata.Objects) -> AsyncGenerator[tuple[str, str] | None]:
    """Yield namespace and name of the WinePipelines whose serving objects change; None where changes may have been missed.

    A kind that is installed later is noticed within the longest backoff.
    """
    async with contextlib.aclosing(metadata.watch(kubernetes, objects, LONGEST_BACKOFF)) as watch:
        async for seen in watch:
            if seen is None or seen.complete:
                yield None
            for item in seen.objects if seen is not None else ():
                for owner in item["ownerReferences"]:
                    if owner.get("kind") == KIND:
                        yield item["namespace"], owner["name"]
