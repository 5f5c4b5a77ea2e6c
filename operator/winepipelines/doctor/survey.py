"""Looking at the platform, and at a user's namespace, all at once: what `checks` judge. Called by `walk`.

All of it is asked for side by side, each within the same few seconds: a walk takes as long as its slowest answer, even when
systems hang. What needs an earlier answer (a bucket: the Secret and the artifact root) waits for that alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from winecontract.parsing import UnreadableError, parse_object
from winecontract.text import clean
from winepipelines.doctor.asking import SERVICE_ACCOUNT, Account, Asker, Systems
from winepipelines.doctor.namespace import look_at_namespace
from winepipelines.doctor.observations import (
    KINDS,
    SELDONDEPLOYMENTS,
    WINEPIPELINES,
    AdmissionView,
    ApiKind,
    BucketView,
    ControllerView,
    HostView,
    KindView,
    KubeflowView,
    MlflowView,
    PullTrouble,
    SourceView,
    Survey,
    TokenView,
    Webhook,
)
from winepipelines.doctor.rights import ROLE, rights
from winepipelines.doctor.schema import missing_fields
from winepipelines.endpoints import are_written_alike, server
from winepipelines.platform.buckets import StoreAccess, sample
from winepipelines.platform.cluster import Cluster
from winepipelines.platform.kubernetes import SERVICE_ACCOUNT_TOKEN, Body, secret_values
from winepipelines.platform.mlflow import PASSWORD, TOKEN, USERNAME
from winepipelines.platform.namespace import ARTIFACT_KEYS, SOURCE_KEYS, secret_state
from winepipelines.platform.network import is_address
from winepipelines.platform.token import TokenUnreadable, claims
from winepipelines.resource.errors import PlatformError, Refused, Unavailable
from winepipelines.resource.naming import ARTIFACT_SECRET, GRAPH, MANAGED_BY, MANAGED_BY_LABEL, PREDICTOR, SELDON_SECRET
from winepipelines.resource.observed import SecretState

T = TypeVar("T")

DEFAULT_EXPERIMENT = "/api/2.0/mlflow/experiments/get"
CONTROLLER_LABEL = "control-plane=seldon-controller-manager"  # of Seldon's own manifests and chart
REACH_SECONDS = 2.0  # that one list of a few objects may take
DRY_RUN_NAME = "wine-operator-doctor"
PULL_TROUBLES = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")


@dataclass(frozen=True)
class Wishes:
    """What else to look at: a user's namespace, a data address, the name that a resource will have."""

    namespace: str = ""
    url: str = ""
    name: str = ""


async def survey(systems: Systems, wishes: Wishes, seconds: float) -> Survey:
    """Look at everything. Each answer may take `seconds`."""
    return await _Surveyor(Asker(systems, seconds)).look(wishes)


class _Surveyor:
    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._settings = asker.settings

    async def look(self, wishes: Wishes) -> Survey:
        settings = self._settings
        async with asyncio.TaskGroup() as group:

            def ask(what: Awaitable[T]) -> asyncio.Task[T | PlatformError]:
                return group.create_task(self._asker.bounded(what))

            kubernetes = ask(self._with_cluster(Cluster.version))
            identity = ask(self._identity())
            kinds = {kind: ask(self._kind(kind)) for kind in KINDS}
            fields = ask(self._missing_fields())
            account = group.create_task(self._account(identity))
            rights_view = group.create_task(self._asker.rights(account, rights(settings)))
            webhooks = ask(self._webhooks())
            controllers, admission = ask(self._controllers()), ask(self._admission())
            source_body = ask(self._asker.secret(settings.platform_namespace, settings.source_secret))
            mlflow_secret = ask(self._mlflow_secret())
            kubeflow = ask(self._kubeflow())
            shared_artifacts = ask(self._shared_artifacts(kubeflow))
            access = ask(self._asker.knock(next(iter(settings.namespaces), settings.platform_namespace)))
            mlflow = ask(self._mlflow())
            address = group.create_task(self._address(mlflow))
            bucket = group.create_task(self._source_bucket(source_body, address))
            same_store = ask(self._same_store(source_body, bucket))
            namespaces = ask(self._namespaces(source_body, wishes.namespace))
            pulls = ask(self._pulls((wishes.namespace,) if wishes.namespace else settings.namespaces or ("",)))
            namespace = None
            if wishes.namespace:
                seen = look_at_namespace(self._asker, wishes.namespace, wishes.name, account, address, kubeflow)
                namespace = group.create_task(seen)
            host = ask(self._host(wishes.url)) if wishes.url else None
        return Survey(
            settings=settings,
            inside=self._asker.systems.inside,
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
            controllers=controllers.result(),
            admission=admission.result(),
            artifact_address=address.result(),
            mlflow_secret=mlflow_secret.result(),
            shared_artifacts=shared_artifacts.result(),
            same_store=_known(same_store.result()),
            namespaces=_known(namespaces.result()) or frozenset(),
            namespace=namespace.result() if namespace else None,
            data_host=host.result() if host else None,
        )

    # -- the cluster --

    async def _with_cluster(self, ask: Callable[[Cluster], Awaitable[T]]) -> T:
        return await ask(self._asker.cluster)

    async def _identity(self) -> str:
        """Say who we are: in the API server's word, else in that of the pod's own token."""
        known = await self._asker.cluster.whoami()
        if not known and self._asker.systems.inside:
            return str(claims(SERVICE_ACCOUNT_TOKEN).get("sub", ""))
        return known

    async def _kind(self, kind: ApiKind) -> KindView:
        if kind.plural in await self._asker.cluster.resources(kind.group, kind.version):
            return KindView(served=True)
        return KindView(False, await self._asker.cluster.versions(kind.group))

    async def _missing_fields(self) -> tuple[str, ...]:
        return missing_fields(await self._asker.cluster.schemas(WINEPIPELINES.group, WINEPIPELINES.version))

    async def _account(self, identity: "asyncio.Task[str | PlatformError]") -> Account | PlatformError:
        """Say whose rights matter, and whether that is the caller: the operator's account, which a person may ask about."""
        caller = await identity
        if isinstance(caller, PlatformError):
            return caller
        if caller.startswith(SERVICE_ACCOUNT):
            return caller, True
        review = ("create", "authorization.k8s.io", "subjectaccessreviews")
        allowed = await self._asker.bounded(self._asker.cluster.may(*review))
        if allowed is True:
            return f"{SERVICE_ACCOUNT}{self._settings.platform_namespace}:{ROLE}", False
        return caller or "whoever runs this", False

    async def _webhooks(self) -> tuple[Webhook, ...] | None:
        if not await self._asker.cluster.may("list", "admissionregistration.k8s.io", "mutatingwebhookconfigurations"):
            return None
        found = []
        for configuration in await self._asker.cluster.mutating_webhooks():
            for webhook in configuration.get("webhooks") or []:
                service = (webhook.get("clientConfig") or {}).get("service") or {}
                address = f"{service.get('name', '')}.{service.get('namespace', '')}"
                found.append(Webhook(configuration["metadata"]["name"], service.get("path", ""), address))
        return tuple(found)

    async def _controllers(self) -> tuple[ControllerView, ...] | None:
        if not await self._asker.cluster.may("list", "apps", "deployments"):
            return None
        return tuple(
            ControllerView(
                deployment["metadata"]["namespace"],
                deployment["metadata"]["name"],
                int(deployment["spec"].get("replicas", 1)),
                int((deployment.get("status") or {}).get("readyReplicas", 0)),
            )
            for deployment in await self._asker.cluster.deployments(CONTROLLER_LABEL)
        )

    async def _admission(self) -> AdmissionView | None:
        """Create a SeldonDeployment as a dry run, which passes the webhooks of the serving platform and leaves nothing behind."""
        namespace = next(iter(self._settings.namespaces), self._settings.platform_namespace)
        kind, cluster = SELDONDEPLOYMENTS, self._asker.cluster
        if not await cluster.may("create", kind.group, kind.plural, namespace):
            return None
        path = f"/apis/{kind.group}/{kind.version}/namespaces/{namespace}/{kind.plural}"
        try:
            await cluster.dry_run(path, _example_deployment(namespace, self._settings.server_image))
        except PlatformError as error:
            return AdmissionView(namespace, error)
        return AdmissionView(namespace)

    async def _pulls(self, namespaces: tuple[str, ...]) -> tuple[PullTrouble, ...]:
        ours = (self._settings.steps_image, self._settings.server_image)
        pods = [pod for namespace in namespaces for pod in await self._asker.cluster.pending_pods(namespace)]
        return tuple(trouble for pod in pods for trouble in _pull_troubles(pod) if trouble.image in ours)

    def _source(self, secret: Body | PlatformError | None) -> SourceView | PlatformError:
        if isinstance(secret, PlatformError):
            return secret
        state = secret_state(self._settings.platform_namespace, self._settings.source_secret, secret, SOURCE_KEYS)
        values = secret_values(secret)
        return SourceView(state, values.get("RCLONE_CONFIG_S3_TYPE", ""), _endpoint(values))

    async def _mlflow_secret(self) -> SecretState | None:
        """Look at the Secret with the operator's credentials for MLflow, and, where that is complete, at the steps' own."""
        namespace, state = self._settings.platform_namespace, None
        for name in filter(None, (self._settings.mlflow_secret, self._settings.steps_mlflow_secret)):
            secret = await self._asker.secret(namespace, name)
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
        return KubeflowView(*await self._asker.reach(self._settings.kfp_url, self._asker.kubeflow.health()))

    async def _shared_artifacts(self, kubeflow: "asyncio.Task[KubeflowView | PlatformError]") -> SecretState | None:
        """See whether all runs have the Secret that they reach the store with, where all of them are in one namespace."""
        view, namespace = await kubeflow, self._settings.platform_namespace
        if isinstance(view, PlatformError) or view.multi_user:
            return None
        if not await self._asker.cluster.may("get", "", "secrets", namespace, ARTIFACT_SECRET):
            raise Refused("KubernetesRefused", "whoever runs this may not read it")
        return secret_state(namespace, ARTIFACT_SECRET, await self._asker.secret(namespace, ARTIFACT_SECRET), ARTIFACT_KEYS)

    # -- MLflow and the object store --

    async def _mlflow(self) -> MlflowView:
        url, mlflow = self._settings.mlflow_url, self._asker.systems.mlflow
        if isinstance(mlflow, PlatformError):
            raise mlflow
        status, version = await self._asker.reach(url, mlflow.look("/version"))
        api, text = await self._asker.reach(url, mlflow.look(DEFAULT_EXPERIMENT, experiment_id="0"))
        return MlflowView(version.strip() if status == 200 and len(version) < 64 else "", api, text)

    async def _address(self, mlflow: "asyncio.Task[MlflowView | PlatformError]") -> str:
        """Say where the default experiment's artifacts are, as rclone would have to know it; nothing where nobody says."""
        view = await mlflow
        if isinstance(view, PlatformError) or view.status != 200:
            return ""
        try:
            location = clean(parse_object(view.text)["experiment"]["artifact_location"])
        except (UnreadableError, KeyError, TypeError):
            return ""
        return self._asker.systems.store.address(location)

    async def _source_bucket(
        self, source: "asyncio.Task[Body | PlatformError | None]", address: "asyncio.Task[str]"
    ) -> BucketView | PlatformError | None:
        secret = await source
        if isinstance(secret, PlatformError):
            return secret
        values = secret_values(secret)
        return await self._asker.bucket(await address, StoreAccess(_endpoint(values), *_store_keys(values)))

    async def _same_store(
        self,
        source: "asyncio.Task[Body | PlatformError | None]",
        bucket: "asyncio.Task[BucketView | PlatformError | None]",
    ) -> bool | None:
        """Tell whether Seldon reads in the store that steps write to: by the addresses' words, by DNS, by what is in it."""
        view, secret = await bucket, await source
        if not isinstance(view, BucketView) or view.code or isinstance(secret, PlatformError):
            return None
        ours, theirs = self._settings.s3_endpoint_url, view.endpoint
        if are_written_alike(ours, theirs):
            return True
        one, other = await asyncio.gather(self._addresses(ours), self._addresses(theirs))
        if one & other:
            return True
        keys = _store_keys(secret_values(secret))
        samples = await asyncio.gather(
            *(self._asker.bounded(sample(view.uri, StoreAccess(url, *keys), REACH_SECONDS)) for url in (ours, theirs))
        )
        if any(isinstance(found, PlatformError) for found in samples) or not any(samples):
            return None
        return samples[0] == samples[1]

    async def _addresses(self, url: str) -> set[tuple[str, int]]:
        """List the addresses of a server, each with its port."""
        try:
            _, host, port = server(url)
            return {(address, port) for address in await self._asker.systems.network.resolve(host)}
        except (OSError, ValueError):
            return set()

    async def _namespaces(self, source: "asyncio.Task[Body | PlatformError | None]", wished: str) -> frozenset[str]:
        """List namespaces that names of the cluster may end with: those that settings name, and that are there."""
        settings, secret = self._settings, await source
        endpoint = "" if isinstance(secret, PlatformError) else _endpoint(secret_values(secret))
        hosts = [
            (urlsplit(url).hostname or "").split(".")
            for url in (settings.kfp_url, settings.mlflow_url, settings.s3_endpoint_url, endpoint)
        ]
        known = {settings.platform_namespace, *settings.namespaces, *([wished] if wished else [])}
        known |= {labels[1] for labels in hosts if len(labels) > 2 and labels[2] == "svc"}
        for name in {labels[1] for labels in hosts if len(labels) == 2} - known:
            found = await self._asker.bounded(self._is_there(name))
            known |= {name} if found is True else set()
        return frozenset(known)

    async def _is_there(self, namespace: str) -> bool:
        cluster = self._asker.cluster
        return await cluster.may("get", "", "namespaces", name=namespace) and await cluster.labels(namespace) is not None

    async def _host(self, url: str) -> HostView:
        parts = urlsplit(url)
        host = (parts.hostname or "") if parts.scheme in ("http", "https") else ""
        if not host or is_address(host):
            return HostView(url, host, is_address=bool(host))
        network, name = self._asker.systems.network, host.rstrip(".")
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


def _endpoint(values: Mapping[str, str]) -> str:
    """Read the source Secret's endpoint as rclone does: without a scheme it is https."""
    endpoint = values.get("RCLONE_CONFIG_S3_ENDPOINT", "")
    return endpoint if "://" in endpoint or not endpoint else f"https://{endpoint}"


def _store_keys(values: Mapping[str, str]) -> tuple[str, str, str]:
    """Read user, password and region from the source Secret's values."""
    keys = (values.get("RCLONE_CONFIG_S3_ACCESS_KEY_ID", ""), values.get("RCLONE_CONFIG_S3_SECRET_ACCESS_KEY", ""))
    return (*keys, values.get("RCLONE_CONFIG_S3_REGION") or "us-east-1")


def _known(found: T | PlatformError) -> T | None:
    return None if isinstance(found, PlatformError) else found


def _example_deployment(namespace: str, image: str) -> Body:
    """Build a SeldonDeployment such as the operator applies, for a dry run."""
    graph = {"name": GRAPH, "type": "MODEL", "modelUri": "s3://wine-operator/doctor", "envSecretRefName": SELDON_SECRET}
    part = {"spec": {"containers": [{"name": GRAPH, "image": image}]}}
    return {
        "apiVersion": f"{SELDONDEPLOYMENTS.group}/{SELDONDEPLOYMENTS.version}",
        "kind": "SeldonDeployment",
        "metadata": {"name": DRY_RUN_NAME, "namespace": namespace, "labels": {MANAGED_BY_LABEL: MANAGED_BY}},
        "spec": {
            "protocol": "seldon",
            "predictors": [{"name": PREDICTOR, "replicas": 1, "graph": graph, "componentSpecs": [part]}],
        },
    }


def _pull_troubles(pod: Body) -> list[PullTrouble]:
    status: dict[str, Any] = pod.get("status") or {}
    found = []
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        reason = ((container.get("state") or {}).get("waiting") or {}).get("reason", "")
        if reason in PULL_TROUBLES:
            metadata = pod["metadata"]
            found.append(PullTrouble(metadata["namespace"], metadata["name"], container.get("image", ""), reason))
    return found
