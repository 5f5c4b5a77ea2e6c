"""Looking at everything at once: what `checks` judge. Called by `walk`.

All of it is asked for side by side, each within the same few seconds: a walk takes as long as its slowest answer, even when
systems hang. What needs an earlier answer (a bucket: the Secret and the artifact root) waits for that alone.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from winepipelines.doctor.observations import (
    KINDS,
    WINEPIPELINES,
    ApiKind,
    BucketView,
    HostView,
    KindView,
    KubeflowView,
    MlflowView,
    NamespaceView,
    ObjectView,
    Outage,
    PullTrouble,
    Reach,
    RightsView,
    SourceView,
    Survey,
    TokenView,
    Webhook,
)
from winepipelines.doctor.rights import ROLE, Right, in_namespaces, rights
from winepipelines.doctor.schema import missing_fields
from winepipelines.platform.buckets import StoreAccess, refusal
from winepipelines.platform.cluster import Cluster
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.kubernetes import PODDEFAULTS, SECRETS, SERVICE_ACCOUNT_TOKEN, Body, Kind, KindMissing, Kubernetes
from winepipelines.platform.mlflow import PASSWORD, TOKEN, USERNAME, MLflow
from winepipelines.platform.namespace import ARTIFACT_KEYS, SOURCE_KEYS, secret_state, secret_values
from winepipelines.platform.network import Network, is_address
from winepipelines.platform.objectstore import ObjectStore
from winepipelines.platform.seldon import SELDONDEPLOYMENTS
from winepipelines.platform.token import TokenUnreadable, claims
from winepipelines.resource.errors import PlatformError, Refused, Unavailable
from winepipelines.resource.naming import (
    ARTIFACT_SECRET,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    MLFLOW_SECRET,
    PODDEFAULT_MINIO,
    PODDEFAULT_MLFLOW,
    SELDON_SECRET,
)
from winepipelines.resource.observed import Presence, SecretState
from winepipelines.settings import Settings

T = TypeVar("T")

REVIEWS_AT_A_TIME = 10
ANSWER_SHARE, REACH_SHARE = 0.6, 0.3  # of the time for one answer: for the answer, then for why there is none
DEFAULT_EXPERIMENT = "/api/2.0/mlflow/experiments/get"
SERVICE_ACCOUNT = "system:serviceaccount:"
PULL_TROUBLES = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")


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


@dataclass(frozen=True)
class Wishes:
    """What else to look at: a user's namespace, a data address, the name that a resource will have."""

    namespace: str = ""
    url: str = ""
    name: str = ""


async def survey(systems: Systems, wishes: Wishes, seconds: float) -> Survey:
    """Look at everything. Each answer may take `seconds`."""
    return await _Surveyor(systems, seconds).look(wishes)


class _Surveyor:
    def __init__(self, systems: Systems, seconds: float) -> None:
        self._systems = systems
        self._settings = systems.settings
        self._seconds = seconds
        self._reviews = asyncio.Semaphore(REVIEWS_AT_A_TIME)

    async def look(self, wishes: Wishes) -> Survey:
        settings = self._settings
        async with asyncio.TaskGroup() as group:

            def ask(what: Awaitable[T]) -> asyncio.Task[T | PlatformError]:
                return group.create_task(self._bounded(what))

            kubernetes = ask(self._with_cluster(Cluster.version))
            identity = ask(self._identity())
            kinds = {kind: ask(self._kind(kind)) for kind in KINDS}
            fields = ask(self._missing_fields())
            account = group.create_task(self._account(identity))
            rights_view = group.create_task(self._rights(account, rights(settings)))
            webhooks = ask(self._webhooks())
            source_body = ask(self._secret(settings.platform_namespace, settings.source_secret))
            mlflow_secret = ask(self._mlflow_secret())
            kubeflow = ask(self._kubeflow())
            access = ask(self._knock(next(iter(settings.namespaces), settings.platform_namespace)))
            mlflow = ask(self._mlflow())
            address = group.create_task(self._address(mlflow))
            bucket = group.create_task(self._source_bucket(source_body, address))
            pulls = ask(self._pulls((wishes.namespace,) if wishes.namespace else settings.namespaces or ("",)))
            namespace = group.create_task(self._namespace(wishes, account, address)) if wishes.namespace else None
            host = ask(self._host(wishes.url)) if wishes.url else None
        return Survey(
            settings=settings,
            inside=self._systems.inside,
            now=datetime.now(UTC),
            kubernetes=kubernetes.result(),
            identity=identity.result(),
            kinds={kind: view.result() for kind, view in kinds.items()},
            missing_fields=fields.result(),
            rights=rights_view.result(),
            webhooks=webhooks.result(),
            source=self._source(source_body.result()),
            kubeflow=kubeflow.result(),
            token=self._token(),
            access=access.result(),
            mlflow=mlflow.result(),
            bucket=bucket.result(),
            pulls=pulls.result(),
            artifact_address=address.result(),
            mlflow_secret=mlflow_secret.result(),
            namespace=namespace.result() if namespace else None,
            data_host=host.result() if host else None,
        )

    async def _bounded(self, what: Awaitable[T]) -> T | PlatformError:
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

    # -- the cluster --

    @property
    def _kubernetes(self) -> Kubernetes:
        if isinstance(self._systems.kubernetes, PlatformError):
            raise self._systems.kubernetes
        return self._systems.kubernetes

    @property
    def _cluster(self) -> Cluster:
        return Cluster(self._kubernetes)

    async def _with_cluster(self, ask: Callable[[Cluster], Awaitable[T]]) -> T:
        return await ask(self._cluster)

    async def _identity(self) -> str:
        """Say who we are: in the API server's word, else in that of the pod's own token."""
        known = await self._cluster.whoami()
        if not known and self._systems.inside:
            return str(claims(SERVICE_ACCOUNT_TOKEN).get("sub", ""))
        return known

    async def _kind(self, kind: ApiKind) -> KindView:
        if kind.plural in await self._cluster.resources(kind.group, kind.version):
            return KindView(served=True)
        return KindView(False, await self._cluster.versions(kind.group))

    async def _missing_fields(self) -> tuple[str, ...]:
        return missing_fields(await self._cluster.schemas(WINEPIPELINES.group, WINEPIPELINES.version))

    async def _account(self, identity: "asyncio.Task[str | PlatformError]") -> tuple[str, bool] | PlatformError:
        """Say whose rights matter, and whether that is the caller: the operator's account, which a person may ask about."""
        caller = await identity
        if isinstance(caller, PlatformError):
            return caller
        if caller.startswith(SERVICE_ACCOUNT):
            return caller, True
        review = ("create", "authorization.k8s.io", "subjectaccessreviews")
        allowed = await self._bounded(self._cluster.may(*review))
        if allowed is True:
            return f"{SERVICE_ACCOUNT}{self._settings.platform_namespace}:{ROLE}", False
        return caller or "whoever runs this", False

    async def _rights(
        self, account: "asyncio.Task[tuple[str, bool] | PlatformError]", wanted: tuple[Right, ...], namespace: str = ""
    ) -> RightsView | PlatformError:
        """Ask for each right by itself. `namespace` asks for those of all namespaces in that one."""
        known = await account
        if isinstance(known, PlatformError):
            return known
        name, own = known
        user = name if not own and name.startswith(SERVICE_ACCOUNT) else ""
        missing = await asyncio.gather(*(self._bounded(self._missing(right, namespace, user)) for right in wanted))
        return RightsView(name, own, dict(zip(wanted, missing, strict=True)))

    async def _missing(self, right: Right, namespace: str, user: str) -> tuple[str, ...]:
        where = right.namespace or namespace

        async def lacks(verb: str) -> bool:
            async with self._reviews:
                return not await self._cluster.may(verb, right.group, right.resource, where, right.name, user)

        lacking = await asyncio.gather(*(lacks(verb) for verb in right.verbs))
        return tuple(verb for verb, is_missing in zip(right.verbs, lacking, strict=True) if is_missing)

    async def _webhooks(self) -> tuple[Webhook, ...] | None:
        if not await self._cluster.may("list", "admissionregistration.k8s.io", "mutatingwebhookconfigurations"):
            return None
        found = []
        for configuration in await self._cluster.mutating_webhooks():
            for webhook in configuration.get("webhooks") or []:
                service = (webhook.get("clientConfig") or {}).get("service") or {}
                address = f"{service.get('name', '')}.{service.get('namespace', '')}"
                found.append(Webhook(configuration["metadata"]["name"], service.get("path", ""), address))
        return tuple(found)

    async def _pulls(self, namespaces: tuple[str, ...]) -> tuple[PullTrouble, ...]:
        ours = (self._settings.steps_image, self._settings.server_image)
        pods = [pod for namespace in namespaces for pod in await self._cluster.pending_pods(namespace)]
        return tuple(trouble for pod in pods for trouble in _pull_troubles(pod) if trouble.image in ours)

    async def _secret(self, namespace: str, name: str) -> Body | None:
        return await self._kubernetes.get(SECRETS, namespace, name)

    def _source(self, secret: Body | PlatformError | None) -> SourceView | PlatformError:
        if isinstance(secret, PlatformError):
            return secret
        state = secret_state(self._settings.platform_namespace, self._settings.source_secret, secret, SOURCE_KEYS)
        values = secret_values(secret)
        return SourceView(state, values.get("RCLONE_CONFIG_S3_TYPE", ""), _endpoint(values))

    async def _mlflow_secret(self) -> SecretState | None:
        namespace, name = self._settings.platform_namespace, self._settings.mlflow_secret
        if not name:
            return None
        secret = await self._secret(namespace, name)
        keys = () if secret_values(secret).get(TOKEN) else (USERNAME, PASSWORD)  # the one or the other
        return secret_state(namespace, name, secret, keys)

    # -- Kubeflow Pipelines --

    def _token(self) -> TokenView | None:
        if not self._settings.kfp_token_file:
            return None
        try:
            said = claims(self._settings.kfp_token_file)
        except TokenUnreadable as error:
            return TokenView(problem=str(error))
        audiences, expiry = said.get("aud", ()), said.get("exp")
        return TokenView(
            subject=str(said.get("sub", "")),
            audiences=(audiences,) if isinstance(audiences, str) else tuple(map(str, audiences)),
            expires_at=datetime.fromtimestamp(expiry, UTC) if isinstance(expiry, int | float) else None,
        )

    async def _kubeflow(self) -> KubeflowView:
        return KubeflowView(*await self._reach(self._settings.kfp_url, self._client.health()))

    async def _knock(self, namespace: str) -> None:
        await self._client.knock(namespace)

    @property
    def _client(self) -> Kubeflow:
        if isinstance(self._systems.kubeflow, PlatformError):
            raise self._systems.kubeflow
        return self._systems.kubeflow

    # -- MLflow and the object store --

    async def _mlflow(self) -> MlflowView:
        url, mlflow = self._settings.mlflow_url, self._systems.mlflow
        if isinstance(mlflow, PlatformError):
            raise mlflow
        status, version = await self._reach(url, mlflow.look("/version"))
        api, text = await self._reach(url, mlflow.look(DEFAULT_EXPERIMENT, experiment_id="0"))
        return MlflowView(version.strip() if status == 200 and len(version) < 64 else "", api, text)

    async def _address(self, mlflow: "asyncio.Task[MlflowView | PlatformError]") -> str:
        """Say where the default experiment's artifacts are, as rclone would have to know it; nothing where nobody says."""
        view = await mlflow
        if isinstance(view, PlatformError) or view.status != 200:
            return ""
        try:
            location = str(json.loads(view.text)["experiment"]["artifact_location"])
        except (ValueError, KeyError, TypeError):
            return ""
        return self._systems.store.address(location)

    async def _source_bucket(
        self, source: "asyncio.Task[Body | PlatformError | None]", address: "asyncio.Task[str]"
    ) -> BucketView | PlatformError | None:
        secret = await source
        if isinstance(secret, PlatformError):
            return secret
        values = secret_values(secret)
        keys = (values.get("RCLONE_CONFIG_S3_ACCESS_KEY_ID", ""), values.get("RCLONE_CONFIG_S3_SECRET_ACCESS_KEY", ""))
        region = values.get("RCLONE_CONFIG_S3_REGION") or "us-east-1"
        return await self._bucket(await address, StoreAccess(_endpoint(values), *keys, region))

    async def _bucket(self, address: str, access: StoreAccess) -> BucketView | PlatformError | None:
        if not address.startswith("s3://") or not all((access.endpoint, access.access_key, access.secret_key)):
            return None
        tried = self._reach(access.endpoint, refusal(address, access, self._seconds))
        code = await self._bounded(tried)
        return code if isinstance(code, PlatformError) else BucketView(address, access.endpoint, code)

    # -- a user's namespace --

    async def _namespace(
        self, wishes: Wishes, account: "asyncio.Task[tuple[str, bool] | PlatformError]", address: "asyncio.Task[str]"
    ) -> NamespaceView:
        name = wishes.namespace
        service_account = self._settings.kfp_service_account or "default-editor"
        labels, exists, artifacts, access, view, objects = await asyncio.gather(
            self._bounded(self._labels(name)),
            self._bounded(self._has_service_account(name, service_account)),
            self._bounded(self._secret(name, ARTIFACT_SECRET)),
            self._bounded(self._knock(name)),
            self._rights(account, in_namespaces(self._settings), name),
            asyncio.gather(*(self._object(name, *wanted) for wanted in self._names(wishes.name))),
        )
        bucket: BucketView | PlatformError | None = None
        if not isinstance(artifacts, PlatformError):
            values = secret_values(artifacts)
            keys = StoreAccess(self._settings.s3_endpoint_url, values.get("accesskey", ""), values.get("secretkey", ""))
            bucket = await self._bucket(await address, keys)
        state = (
            artifacts if isinstance(artifacts, PlatformError) else secret_state(name, ARTIFACT_SECRET, artifacts, ARTIFACT_KEYS)
        )
        return NamespaceView(name, labels, exists, state, bucket, tuple(objects), view, access)

    async def _labels(self, namespace: str) -> dict[str, str] | None:
        if not await self._cluster.may("get", "", "namespaces", name=namespace):
            return None
        labels = await self._cluster.labels(namespace)
        if labels is None:
            raise Refused("NamespaceMissing", f"there is no namespace {namespace}")
        return labels

    async def _has_service_account(self, namespace: str, name: str) -> bool | None:
        if not await self._cluster.may("get", "", "serviceaccounts", namespace, name):
            return None
        return await self._cluster.has_service_account(namespace, name)

    async def _object(self, namespace: str, what: str, kind: Kind, name: str) -> ObjectView:
        live = await self._bounded(self._live(kind, namespace, name))
        return ObjectView(what, name, live if isinstance(live, PlatformError) else _presence(live))

    async def _live(self, kind: Kind, namespace: str, name: str) -> Body | None:
        try:
            return await self._kubernetes.get(kind, namespace, name)
        except KindMissing:
            return None

    def _names(self, resource: str) -> list[tuple[str, Kind, str]]:
        secrets = (SELDON_SECRET, MLFLOW_SECRET) if self._settings.mlflow_secret else (SELDON_SECRET,)
        names = [("Secret", SECRETS, name) for name in secrets]
        names += [("PodDefault", PODDEFAULTS, name) for name in (PODDEFAULT_MLFLOW, PODDEFAULT_MINIO)]
        return names + ([("SeldonDeployment", SELDONDEPLOYMENTS, resource)] if resource else [])

    # -- the network --

    async def _reach(self, url: str, asked: Awaitable[T]) -> T:
        """Wait for a system's answer; where there is none, see how far a connection comes.

        Raises Outage, which says so.
        """
        try:
            async with asyncio.timeout(self._seconds * ANSWER_SHARE):
                return await asked
        except (Unavailable, TimeoutError) as error:
            if isinstance(error, Unavailable) and any(word in error.message for word in (" answered ", "certificate")):
                raise  # it does answer, if not well
            raise Outage(url, await self._how_far(url)) from None

    async def _how_far(self, url: str) -> Reach:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        try:
            async with asyncio.timeout(self._seconds * REACH_SHARE):
                if not is_address(host) and not await self._systems.network.resolve(host):
                    return Reach.NO_ADDRESS
                return Reach.NO_ANSWER if await self._systems.network.connects(host, port) else Reach.NO_CONNECTION
        except OSError:  # a name server that does not answer, or a connection that is not taken in time
            return Reach.NO_CONNECTION

    async def _host(self, url: str) -> HostView:
        parts = urlsplit(url)
        host = (parts.hostname or "") if parts.scheme in ("http", "https") else ""
        if not host or is_address(host):
            return HostView(url, host, is_address=bool(host))
        network, name = self._systems.network, host.rstrip(".")
        search = network.search_domains()
        try:
            bare, absolute, *under = await asyncio.gather(
                network.resolve(name),
                network.resolve(f"{name}."),
                *(network.resolve(f"{name}.{domain}.") for domain in search.domains),
            )
        except OSError:
            raise Unavailable("DataHostUnresolved", "no name server answers") from None
        first = name.count(".") < search.ndots  # else the name itself is tried first
        captured = {domain: found for domain, found in zip(search.domains, under, strict=True) if found} if first else {}
        return HostView(url, host, bare, absolute, captured)


def _presence(live: Body | None) -> Presence:
    if live is None:
        return Presence.ABSENT
    labels = live["metadata"].get("labels") or {}
    return Presence.CURRENT if labels.get(MANAGED_BY_LABEL) == MANAGED_BY else Presence.FOREIGN


def _endpoint(values: Mapping[str, str]) -> str:
    """Read the source Secret's endpoint as rclone does: without a scheme it is https."""
    endpoint = values.get("RCLONE_CONFIG_S3_ENDPOINT", "")
    return endpoint if "://" in endpoint or not endpoint else f"https://{endpoint}"


def _pull_troubles(pod: Body) -> list[PullTrouble]:
    status: dict[str, Any] = pod.get("status") or {}
    found = []
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        reason = ((container.get("state") or {}).get("waiting") or {}).get("reason", "")
        if reason in PULL_TROUBLES:
            metadata = pod["metadata"]
            found.append(PullTrouble(metadata["namespace"], metadata["name"], container.get("image", ""), reason))
    return found
