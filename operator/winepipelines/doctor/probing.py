"""Send requests to systems that may be down. An error is an observation too.

If a system does not answer, an `Outage` says how far a connection gets: DNS, connection, or answer.
"""

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError, Refused, Unavailable
from winepipelines.api.sourcesecret import StoreAccess, StoreOperation
from winepipelines.doctor.backend import ObservedBackend
from winepipelines.doctor.observations import BucketView, Outage, Reach, RightsView
from winepipelines.doctor.right import Right
from winepipelines.platform.buckets import refusals
from winepipelines.platform.cluster import Cluster
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.kubernetes import SECRETS, Body, KindMissing, Kubernetes
from winepipelines.platform.manifests import Manifest, Manifests
from winepipelines.platform.mlflow import MLflow
from winepipelines.platform.network import Network, is_address
from winepipelines.platform.objectstore import ObjectStore
from winepipelines.platform.poddefaults import pod_defaults, pod_defaults_of_others
from winepipelines.platform.sources import FoundSource, Places, find_source_of
from winepipelines.settings import Settings

T = TypeVar("T")

MAX_REVIEWS = 10  # at a time
ANSWER_SHARE, REACH_SHARE = 0.6, 0.3  # of the timeout: for the answer, then for finding out why there is none
SERVICE_ACCOUNT = "system:serviceaccount:"
Account = tuple[str, bool]  # whose rights are reviewed, and whether it is the caller's


@dataclass(frozen=True)
class CheckTargets:
    """What to check beside the platform: a user's namespace, a data address, the name of a resource."""

    namespace: str = ""
    url: str = ""
    name: str = ""


NO_TARGETS = CheckTargets()


@dataclass(frozen=True)
class Systems:
    """The adapters. One that could not be created is the error that prevented it."""

    settings: Settings
    backend: ObservedBackend
    kubernetes: Kubernetes | PlatformError
    kubeflow: Kubeflow | PlatformError
    mlflow: MLflow | PlatformError
    store: ObjectStore
    network: Network
    inside: bool


class Prober:
    """Sends the requests of checks. Each answer may take `seconds`."""

    def __init__(self, systems: Systems, seconds: float, targets: CheckTargets = NO_TARGETS) -> None:
        """Use these systems."""
        self.systems = systems
        self.targets = targets
        self.settings = systems.settings
        self._seconds = seconds
        self._reviews = asyncio.Semaphore(MAX_REVIEWS)

    async def bounded(self, request: Awaitable[T]) -> T | PlatformError:
        """Wait for an answer up to the timeout; return an error as a value."""
        try:
            async with asyncio.timeout(self._seconds):
                return await request
        except PlatformError as error:
            return error
        except TimeoutError:
            return Unavailable(Reason.TIMED_OUT, f"No answer within {self._seconds:g} s")
        except KindMissing as error:
            return Refused(Reason.CRD_MISSING, f"The API server does not serve {error}")
        except Exception as error:  # an unexpected error must not end the other checks
            return PlatformError(Reason.UNEXPECTED_ERROR, f"Unexpected error: {type(error).__name__}")

    @property
    def kubernetes(self) -> Kubernetes:
        """The API server. Raises PlatformError if there is no access to it."""
        if isinstance(self.systems.kubernetes, PlatformError):
            raise self.systems.kubernetes
        return self.systems.kubernetes

    @property
    def cluster(self) -> Cluster:
        """Queries about the cluster. Raises PlatformError if there is no access to the API server."""
        return Cluster(self.kubernetes)

    @property
    def kubeflow(self) -> Kubeflow:
        """Kubeflow Pipelines. Raises PlatformError if there is no client."""
        if isinstance(self.systems.kubeflow, PlatformError):
            raise self.systems.kubeflow
        return self.systems.kubeflow

    async def check_access(self, namespace: str) -> None:
        """Check whether Kubeflow Pipelines authorizes requests for a namespace; raise PlatformError otherwise."""
        await self.kubeflow.check_access(namespace)

    async def secret(self, namespace: str, name: str) -> Body | None:
        """Read a Secret; None if it does not exist."""
        return await self.kubernetes.get(SECRETS, namespace, name)

    async def pod_defaults(self, namespace: str) -> tuple[list[Manifest], list[Body]]:
        """Return the PodDefaults that the operator would create in a namespace, and those that others made there."""
        ours = pod_defaults(Manifests(self.settings.templates), self.settings, namespace, {})
        return ours, await pod_defaults_of_others(self.kubernetes, namespace)

    async def source_of(self, namespace: str) -> FoundSource:
        """Find the Secret that the models of a namespace are copied with."""
        settings, where = self.settings, namespace
        with contextlib.suppress(PlatformError):
            where = await self.kubeflow.namespace_of_runs(namespace)
        places = Places(settings.platform_namespace, namespace, where == namespace, settings.s3_endpoint_url)
        return await find_source_of(self.secret, self.systems.backend.source, places)

    async def rights(
        self, account: "asyncio.Task[Account | PlatformError]", wanted: tuple[Right, ...], namespace: str = ""
    ) -> RightsView | PlatformError:
        """Review each right. `namespace` is where rights on all namespaces are reviewed; empty means everywhere."""
        known = await account
        if isinstance(known, PlatformError):
            return known
        name, own = known
        user = name if not own and name.startswith(SERVICE_ACCOUNT) else ""
        missing = await asyncio.gather(*(self.bounded(self._missing(right, namespace, user)) for right in wanted))
        return RightsView(name, own, dict(zip(wanted, missing, strict=True)))

    async def _missing(self, right: Right, namespace: str, user: str) -> tuple[str, ...]:
        where = right.namespace or namespace

        async def lacks(verb: str) -> bool:
            async with self._reviews:
                return not await self.cluster.may(verb, right.group, right.resource, where, right.name, user)

        lacking = await asyncio.gather(*(lacks(verb) for verb in right.verbs))
        return tuple(verb for verb, is_missing in zip(right.verbs, lacking, strict=True) if is_missing)

    async def bucket(self, address: str, access: StoreAccess, *operations: StoreOperation) -> BucketView | PlatformError | None:
        """Try operations with these credentials below an address; None if they or the address are unknown."""
        if not address.startswith("s3://") or not all((access.endpoint, access.access_key, access.secret_key)):
            return None
        tried = self.reach(access.endpoint, refusals(address, access, operations, self._seconds))
        codes = await self.bounded(tried)
        return codes if isinstance(codes, PlatformError) else BucketView(address, access.endpoint, codes)

    async def reach(self, url: str, request: Awaitable[T]) -> T:
        """Wait for a system's answer.

        Raises Outage if there is none, with how far a connection gets.
        """
        try:
            async with asyncio.timeout(self._seconds * ANSWER_SHARE):
                return await request
        except (Unavailable, TimeoutError) as error:
            if isinstance(error, Unavailable) and error.diagnosed:
                raise
            raise Outage(url, await self._how_far(url)) from None

    async def _how_far(self, url: str) -> Reach:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        try:
            async with asyncio.timeout(self._seconds * REACH_SHARE):
                if not is_address(host) and not await self.systems.network.resolve(host):
                    return Reach.NO_ADDRESS
                return Reach.NO_ANSWER if await self.systems.network.connects(host, port) else Reach.NO_CONNECTION
        except OSError:  # a name server does not answer, or a connection times out
            return Reach.NO_CONNECTION
