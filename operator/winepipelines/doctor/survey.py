"""Observe the platform, and a user's namespace, for the checks.

All requests run concurrently with the same timeout: a survey takes as long as its slowest answer, even when systems hang. An
observation that needs another (a bucket: the Secret and the artifact root) waits for that one only.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from winecontract.parsing import UnreadableError, parse_object
from winecontract.reasons import Reason
from winecontract.text import clean
from winepipelines.api.errors import PlatformError, Refused, Unavailable
from winepipelines.api.naming import ARTIFACT_SECRET
from winepipelines.api.observed import SecretState
from winepipelines.api.sourcesecret import SourceSecret, StoreAccess, StoreOperation
from winepipelines.doctor.namespace import artifact_folder, observe_namespace
from winepipelines.doctor.observations import (
    KINDS,
    ApiKind,
    BucketView,
    HostView,
    KindView,
    KubeflowView,
    MlflowView,
    SourceView,
    Survey,
    TokenView,
)
from winepipelines.doctor.probing import SERVICE_ACCOUNT, Account, CheckTargets, Prober, Systems
from winepipelines.doctor.rights import ROLE, rights
from winepipelines.endpoints import are_written_alike, server
from winepipelines.platform.buckets import sample
from winepipelines.platform.cluster import Cluster
from winepipelines.platform.kubernetes import SERVICE_ACCOUNT_TOKEN, Body, secret_values
from winepipelines.platform.mlflow import PASSWORD, TOKEN, USERNAME
from winepipelines.platform.namespace import secret_state
from winepipelines.platform.network import is_address
from winepipelines.platform.sources import ARTIFACT_KEYS, find_source, source_state
from winepipelines.platform.token import TokenUnreadable, claims

T = TypeVar("T")
Observe = Callable[[Prober], Awaitable[Any]]
Found = tuple[SourceSecret, Body | None]  # the Secret that models are copied with, by its name

DEFAULT_EXPERIMENT = "/api/2.0/mlflow/experiments/get"
REACH_SECONDS = 2.0  # timeout for listing a few objects


async def survey(systems: Systems, targets: CheckTargets, seconds: float, observing: Iterable[Observe] = ()) -> Survey:
    """Observe everything, and what `observing` adds. Each answer may take `seconds`."""
    return await _Surveyor(Prober(systems, seconds, targets)).observe(targets, observing)


class _Surveyor:
    def __init__(self, prober: Prober) -> None:
        self._prober = prober
        self._settings = prober.settings

    async def observe(self, targets: CheckTargets, observing: Iterable[Observe]) -> Survey:
        settings, backend = self._settings, self._prober.systems.backend
        async with asyncio.TaskGroup() as group:

            def ask(request: Awaitable[T]) -> asyncio.Task[T | PlatformError]:
                return group.create_task(self._prober.bounded(request))

            kubernetes = ask(self._with_cluster(Cluster.version))
            identity = ask(self._identity())
            kinds = {kind: ask(self._kind(kind)) for kind in (*KINDS, backend.kind)}
            account = group.create_task(self._account(identity))
            rights_view = group.create_task(self._prober.rights(account, rights(settings, backend)))
            observed = {observe: ask(observe(self._prober)) for observe in observing}
            source_body = ask(self._source_secret())
            mlflow_secret = ask(self._mlflow_secret())
            kubeflow = ask(self._kubeflow())
            shared_artifacts = ask(self._shared_artifacts(kubeflow))
            access = ask(self._prober.check_access(next(iter(settings.namespaces), settings.platform_namespace)))
            mlflow = ask(self._mlflow())
            address = group.create_task(self._address(mlflow))
            bucket = group.create_task(self._source_bucket(source_body, address))
            same_store = ask(self._same_store(source_body, bucket))
            namespaces = ask(self._namespaces(source_body, targets.namespace))
            namespace = None
            if targets.namespace:
                seen = observe_namespace(self._prober, targets.namespace, targets.name, account, address, kubeflow)
                namespace = group.create_task(seen)
            host = ask(self._host(targets.url)) if targets.url else None
        return Survey(
            settings=settings,
            backend_settings=backend.settings,
            inside=self._prober.systems.inside,
            now=datetime.now(UTC),
            kubernetes=kubernetes.result(),
            identity=identity.result(),
            kinds={kind: view.result() for kind, view in kinds.items()},
            rights=rights_view.result(),
            source=self._source(source_body.result()),
            kubeflow=kubeflow.result(),
            token=self._token(),
            access=access.result(),
            mlflow=mlflow.result(),
            bucket=bucket.result(),
            artifact_address=address.result(),
            mlflow_secret=mlflow_secret.result(),
            shared_artifacts=shared_artifacts.result(),
            same_store=_known(same_store.result()),
            namespaces=_known(namespaces.result()) or frozenset(),
            namespace=namespace.result() if namespace else None,
            data_host=host.result() if host else None,
            observations={observe: view.result() for observe, view in observed.items()},
        )

    # -- the cluster --

    async def _with_cluster(self, ask: Callable[[Cluster], Awaitable[T]]) -> T:
        return await ask(self._prober.cluster)

    async def _identity(self) -> str:
        """Return the caller's identity: from the API server, else from the pod's own token."""
        known = await self._prober.cluster.whoami()
        if not known and self._prober.systems.inside:
            return str(claims(SERVICE_ACCOUNT_TOKEN).get("sub", ""))
        return known

    async def _kind(self, kind: ApiKind) -> KindView:
        if kind.plural in await self._prober.cluster.resources(kind.group, kind.version):
            return KindView(served=True)
        return KindView(False, await self._prober.cluster.versions(kind.group))

    async def _account(self, identity: "asyncio.Task[str | PlatformError]") -> Account | PlatformError:
        """Return whose rights are reviewed, and whether it is the caller: the operator's account, if the caller may review it."""
        caller = await identity
        if isinstance(caller, PlatformError):
            return caller
        if caller.startswith(SERVICE_ACCOUNT):
            return caller, True
        review = ("create", "authorization.k8s.io", "subjectaccessreviews")
        allowed = await self._prober.bounded(self._prober.cluster.may(*review))
        if allowed is True:
            return f"{SERVICE_ACCOUNT}{self._settings.platform_namespace}:{ROLE}", False
        return caller or "this account", False

    async def _source_secret(self) -> Found:
        """Read the Secret that models are copied with; it may have one of several names."""
        namespace = self._settings.platform_namespace
        return await find_source(lambda name: self._prober.secret(namespace, name), self._prober.systems.backend.source)

    def _source(self, found: Found | PlatformError) -> SourceView | PlatformError:
        if isinstance(found, PlatformError):
            return found
        source, secret = found
        values = secret_values(secret)
        state = source_state(self._settings.platform_namespace, source, secret)
        public = {key: values[key] for key in source.public_keys if key in values}
        return SourceView(state, public, source.access(values).endpoint, self._prober.systems.backend.source.names)

    async def _mlflow_secret(self) -> SecretState | None:
        """Observe the Secret with the operator's credentials for MLflow, and, if it is complete, the steps' own."""
        namespace, state = self._settings.platform_namespace, None
        for name in filter(None, (self._settings.mlflow_secret, self._settings.steps_mlflow_secret)):
            secret = await self._prober.secret(namespace, name)
            keys = () if secret_values(secret).get(TOKEN) else (USERNAME, PASSWORD)  # the one or the other
            state = secret_state(namespace, name, secret, keys)
            if not state.exists or state.missing_keys:
                break
        return state

    # -- Kubeflow Pipelines --

    def _token(self) -> TokenView | None:
        if not self._settings.kfp_token_file:
            return None
        try:
            token = claims(self._settings.kfp_token_file)
        except TokenUnreadable as error:
            return TokenView(problem=str(error))
        audiences, expiry = token.get("aud", ()), token.get("exp")
        return TokenView(
            subject=str(token.get("sub", "")),
            audiences=(audiences,) if isinstance(audiences, str) else tuple(map(str, audiences)),
            expires_at=datetime.fromtimestamp(expiry, UTC) if isinstance(expiry, int | float) else None,
        )

    async def _kubeflow(self) -> KubeflowView:
        return KubeflowView(*await self._prober.reach(self._settings.kfp_url, self._prober.kubeflow.health()))

    async def _shared_artifacts(self, kubeflow: "asyncio.Task[KubeflowView | PlatformError]") -> SecretState | None:
        """Observe the Secret for the object store in the namespace of all runs; None if each has its own."""
        view, namespace = await kubeflow, self._settings.platform_namespace
        if isinstance(view, PlatformError) or view.multi_user:
            return None
        if not await self._prober.cluster.may("get", "", "secrets", namespace, ARTIFACT_SECRET):
            raise Refused(Reason.KUBERNETES_REQUEST_REJECTED, "This account may not read it")
        return secret_state(namespace, ARTIFACT_SECRET, await self._prober.secret(namespace, ARTIFACT_SECRET), ARTIFACT_KEYS)

    # -- MLflow and the object store --

    async def _mlflow(self) -> MlflowView:
        url, mlflow = self._settings.mlflow_url, self._prober.systems.mlflow
        if isinstance(mlflow, PlatformError):
            raise mlflow
        status, version = await self._prober.reach(url, mlflow.look("/version"))
        api, text = await self._prober.reach(url, mlflow.look(DEFAULT_EXPERIMENT, experiment_id="0"))
        return MlflowView(version.strip() if status == 200 and len(version) < 64 else "", api, text)

    async def _address(self, mlflow: "asyncio.Task[MlflowView | PlatformError]") -> str:
        """Return the address of the default experiment's artifacts in the object store; empty if it is unknown."""
        view = await mlflow
        if isinstance(view, PlatformError) or view.status != 200:
            return ""
        try:
            location = clean(parse_object(view.text)["experiment"]["artifact_location"])
        except (UnreadableError, KeyError, TypeError):
            return ""
        return self._prober.systems.store.address(location)

    async def _source_bucket(
        self, source: "asyncio.Task[Found | PlatformError]", address: "asyncio.Task[str]"
    ) -> BucketView | PlatformError | None:
        found = await source
        if isinstance(found, PlatformError):
            return found
        folder = artifact_folder(await address)
        return await self._prober.bucket(folder, _access(found), StoreOperation.LIST, StoreOperation.READ)

    async def _same_store(
        self,
        source: "asyncio.Task[Found | PlatformError]",
        bucket: "asyncio.Task[BucketView | PlatformError | None]",
    ) -> bool | None:
        """Compare the stores that models are copied from and steps write to: by address, by DNS, by content. None if unknown."""
        view, secret = await bucket, await source
        if not isinstance(view, BucketView) or view.codes or isinstance(secret, PlatformError):
            return None
        ours, theirs = self._settings.s3_endpoint_url, view.endpoint
        if are_written_alike(ours, theirs):
            return True
        one, other = await asyncio.gather(self._addresses(ours), self._addresses(theirs))
        if one & other:
            return True
        access = _access(secret)
        samples = await asyncio.gather(
            *(self._prober.bounded(sample(view.uri, replace(access, endpoint=url), REACH_SECONDS)) for url in (ours, theirs))
        )
        if any(isinstance(found, PlatformError) for found in samples) or not any(samples):
            return None
        return samples[0] == samples[1]

    async def _addresses(self, url: str) -> set[tuple[str, int]]:
        """Resolve a server to its addresses, each with its port."""
        try:
            _, host, port = server(url)
            return {(address, port) for address in await self._prober.systems.network.resolve(host)}
        except (OSError, ValueError):
            return set()

    async def _namespaces(self, source: "asyncio.Task[Found | PlatformError]", target: str) -> frozenset[str]:
        """List the existing namespaces that settings name: host names of the cluster may end with them."""
        settings, secret = self._settings, await source
        endpoint = "" if isinstance(secret, PlatformError) else _access(secret).endpoint
        hosts = [
            (urlsplit(url).hostname or "").split(".")
            for url in (settings.kfp_url, settings.mlflow_url, settings.s3_endpoint_url, endpoint)
        ]
        known = {settings.platform_namespace, *settings.namespaces, *([target] if target else [])}
        known |= {labels[1] for labels in hosts if len(labels) > 2 and labels[2] == "svc"}
        for name in {labels[1] for labels in hosts if len(labels) == 2} - known:
            found = await self._prober.bounded(self._exists(name))
            known |= {name} if found is True else set()
        return frozenset(known)

    async def _exists(self, namespace: str) -> bool:
        cluster = self._prober.cluster
        return await cluster.may("get", "", "namespaces", name=namespace) and await cluster.labels(namespace) is not None

    async def _host(self, url: str) -> HostView:
        parts = urlsplit(url)
        host = (parts.hostname or "") if parts.scheme in ("http", "https") else ""
        if not host or is_address(host):
            return HostView(url, host, is_address=bool(host))
        network, name = self._prober.systems.network, host.rstrip(".")
        search = network.search_domains()
        try:
            bare, absolute, *under = await asyncio.gather(
                network.resolve(name),
                network.resolve(f"{name}."),
                *(network.resolve(f"{name}.{domain}.") for domain in search.domains),
            )
        except OSError:
            raise Unavailable(Reason.DATA_HOST_UNRESOLVED, "No name server answers") from None
        first = name.count(".") < search.ndots  # otherwise the resolver tries the name itself first
        captured = {domain: found for domain, found in zip(search.domains, under, strict=True) if found} if first else {}
        return HostView(url, host, bare, absolute, captured)


def _access(found: Found) -> StoreAccess:
    """Read from the source Secret how models are copied."""
    source, secret = found
    return source.access(secret_values(secret))


def _known(found: T | PlatformError) -> T | None:
    return None if isinstance(found, PlatformError) else found
