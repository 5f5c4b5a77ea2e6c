"""Asking systems that may be away: what `survey` and `namespace` have in common. An error is an answer too.

Where a system does not answer, it is said how far a connection to it comes.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from winepipelines.doctor.observations import BucketView, Outage, Reach, RightsView
from winepipelines.doctor.rights import Right
from winepipelines.platform.buckets import StoreAccess, refusal
from winepipelines.platform.cluster import Cluster
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.kubernetes import SECRETS, Body, KindMissing, Kubernetes
from winepipelines.platform.mlflow import MLflow
from winepipelines.platform.network import Network, is_address
from winepipelines.platform.objectstore import ObjectStore
from winepipelines.resource.errors import PlatformError, Refused, Unavailable
from winepipelines.settings import Settings

T = TypeVar("T")

REVIEWS_AT_A_TIME = 10
ANSWER_SHARE, REACH_SHARE = 0.6, 0.3  # of the time for one answer: for the answer, then for why there is none
IT_ANSWERS = (" answered ", "certificate", "TLS", "does not speak HTTP")
SERVICE_ACCOUNT = "system:serviceaccount:"
Account = tuple[str, bool]  # whose rights matter, and whether that is the caller


@dataclass(frozen=True)
class Systems:
    """The adapters. Where one could not be made, the error that says why stands in its place."""

    settings: Settings
    kubernetes: Kubernetes | PlatformError
    kubeflow: Kubeflow | PlatformError
    mlflow: MLflow | PlatformError
    store: ObjectStore
    network: Network
    inside: bool


class Asker:
    """Asks the systems. Each answer may take `seconds`."""

    def __init__(self, systems: Systems, seconds: float) -> None:
        """Ask these systems."""
        self.systems = systems
        self.settings = systems.settings
        self._seconds = seconds
        self._reviews = asyncio.Semaphore(REVIEWS_AT_A_TIME)

    async def bounded(self, what: Awaitable[T]) -> T | PlatformError:
        """Wait for an answer, but not for ever; an error is an answer too."""
        try:
            async with asyncio.timeout(self._seconds):
                return await what
        except PlatformError as error:
            return error
        except TimeoutError:
            return Unavailable("TimedOut", f"no answer within {self._seconds:g} s")
        except KindMissing as error:
            return Refused("KindMissing", f"the API server does not know {error}")
        except Exception as error:  # the one place where nothing may be let through: the walk goes on
            return PlatformError("Unexpected", f"looking failed: {type(error).__name__}")

    @property
    def kubernetes(self) -> Kubernetes:
        """The API server. Raises PlatformError where there is no way to it."""
        if isinstance(self.systems.kubernetes, PlatformError):
            raise self.systems.kubernetes
        return self.systems.kubernetes

    @property
    def cluster(self) -> Cluster:
        """What the API server says of the cluster. Raises PlatformError where there is no way to it."""
        return Cluster(self.kubernetes)

    @property
    def kubeflow(self) -> Kubeflow:
        """Kubeflow Pipelines. Raises PlatformError where there is no way to it."""
        if isinstance(self.systems.kubeflow, PlatformError):
            raise self.systems.kubeflow
        return self.systems.kubeflow

    async def knock(self, namespace: str) -> None:
        """See whether Kubeflow Pipelines lets the operator work for a namespace."""
        await self.kubeflow.knock(namespace)

    async def secret(self, namespace: str, name: str) -> Body | None:
        """Read a Secret; None where it is not there."""
        return await self.kubernetes.get(SECRETS, namespace, name)

    async def rights(
        self, account: "asyncio.Task[Account | PlatformError]", wanted: tuple[Right, ...], namespace: str = ""
    ) -> RightsView | PlatformError:
        """Ask for each right by itself. `namespace` asks for those of all namespaces in that one."""
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

    async def bucket(self, address: str, access: StoreAccess) -> BucketView | PlatformError | None:
        """See whether these credentials can read what is at an address; None where they or the address are not known."""
        if not address.startswith("s3://") or not all((access.endpoint, access.access_key, access.secret_key)):
            return None
        tried = self.reach(access.endpoint, refusal(address, access, self._seconds))
        code = await self.bounded(tried)
        return code if isinstance(code, PlatformError) else BucketView(address, access.endpoint, code)

    async def reach(self, url: str, asked: Awaitable[T]) -> T:
        """Wait for a system's answer; where there is none, see how far a connection comes.

        Raises Outage, which says so.
        """
        try:
            async with asyncio.timeout(self._seconds * ANSWER_SHARE):
                return await asked
        except (Unavailable, TimeoutError) as error:
            if isinstance(error, Unavailable) and any(word in error.message for word in IT_ANSWERS):
                raise  # something does answer, if not well
            raise Outage(url, await self._how_far(url)) from None

    async def _how_far(self, url: str) -> Reach:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        try:
            async with asyncio.timeout(self._seconds * REACH_SHARE):
                if not is_address(host) and not await self.systems.network.resolve(host):
                    return Reach.NO_ADDRESS
                return Reach.NO_ANSWER if await self.systems.network.connects(host, port) else Reach.NO_CONNECTION
        except OSError:  # a name server that does not answer, or a connection that is not taken in time
            return Reach.NO_CONNECTION
