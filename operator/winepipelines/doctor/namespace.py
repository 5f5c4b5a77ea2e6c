"""Observe a user's namespace, for `checks.namespace`."""

import asyncio
from collections.abc import Iterator

from winecontract.reasons import Reason
from winecontract.signatures import SECRET as KEY_SECRET
from winepipelines.api.errors import PlatformError, Refused
from winepipelines.api.naming import (
    ARTIFACT_SECRET,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    MLFLOW_SECRET,
    PODDEFAULT_MINIO,
    PODDEFAULT_MLFLOW,
)
from winepipelines.api.observed import KeyState, Presence
from winepipelines.api.prediction import OUTPUTS
from winepipelines.api.sourcesecret import StoreAccess, StoreOperation
from winepipelines.api.status import Status
from winepipelines.doctor.backend import ObservedBackend
from winepipelines.doctor.observations import PROFILE_ACCOUNT, SHARED_ACCOUNT, BucketView, KubeflowView, NamespaceView, ObjectView
from winepipelines.doctor.probing import Account, Prober
from winepipelines.doctor.rights import in_namespaces
from winepipelines.platform.kubernetes import PODDEFAULTS, SECRETS, WINEPIPELINES, Body, Kind, KindMissing, secret_values
from winepipelines.platform.modelkeys import key_state
from winepipelines.platform.namespace import secret_state
from winepipelines.platform.sources import ARTIFACT_KEYS
from winepipelines.settings import Settings

LISTED = 500  # most WinePipelines of a namespace that are read
DEFAULT_EXPERIMENT = "/0"


async def observe_namespace(
    prober: Prober,
    name: str,
    resource: str,
    account: "asyncio.Task[Account | PlatformError]",
    address: "asyncio.Task[str]",
    kubeflow: "asyncio.Task[KubeflowView | PlatformError]",
) -> NamespaceView:
    """Observe a namespace, and the names that a resource, if one is given, needs in it.

    `account` is whose rights are reviewed, `address` where artifacts are. `kubeflow` has the mode: in single-user mode runs are
    in the platform's namespace, so that the service account and the Secret must be there.
    """
    settings, platform = prober.settings, await kubeflow
    shared = not isinstance(platform, PlatformError) and not platform.multi_user
    runs_in = settings.platform_namespace if shared else name
    service_account = settings.kfp_service_account or (SHARED_ACCOUNT if shared else PROFILE_ACCOUNT)
    models = asyncio.gather(prober.bounded(_key(prober, runs_in)), prober.bounded(_unsigned(prober, name)))
    labels, exists, artifacts, access, view, objects = await asyncio.gather(
        prober.bounded(_labels(prober, name)),
        prober.bounded(_has_service_account(prober, runs_in, service_account)),
        prober.bounded(prober.secret(runs_in, ARTIFACT_SECRET)),
        prober.bounded(prober.check_access(name)),
        prober.rights(account, in_namespaces(settings, prober.systems.backend), name),
        asyncio.gather(*(_object(prober, name, *wanted) for wanted in _names(settings, prober.systems.backend, resource))),
    )
    bucket, outputs = await _buckets(prober, name, artifacts, await address)
    state = (
        artifacts if isinstance(artifacts, PlatformError) else secret_state(runs_in, ARTIFACT_SECRET, artifacts, ARTIFACT_KEYS)
    )
    key, unsigned = await models
    return NamespaceView(name, labels, exists, state, bucket, tuple(objects), view, access, runs_in, key, outputs, unsigned)


async def _buckets(
    prober: Prober, name: str, secret: Body | PlatformError | None, address: str
) -> tuple[BucketView | PlatformError | None, BucketView | PlatformError | None]:
    """Try what steps do with the keys of their Secret: below MLflow's artifacts, and below the folder of default outputs."""
    if isinstance(secret, PlatformError):
        return None, None
    values, settings = secret_values(secret), prober.settings
    keys = StoreAccess(settings.s3_endpoint_url, values.get("accesskey", ""), values.get("secretkey", ""))
    reads, writes = StoreOperation.READ, StoreOperation.WRITE
    return await asyncio.gather(
        prober.bucket(artifact_folder(address), keys, StoreOperation.LIST, reads, writes),
        prober.bucket(f"{settings.prediction_output_folder}/{name}/{OUTPUTS}", keys, reads, writes),
    )


def artifact_folder(address: str) -> str:
    """Return the folder of all experiments' artifacts. MLflow makes that of the default experiment, `address`, below it."""
    return address.removesuffix(DEFAULT_EXPERIMENT)


async def _key(prober: Prober, namespace: str) -> KeyState:
    return key_state(namespace, await prober.secret(namespace, KEY_SECRET))


async def _unsigned(prober: Prober, namespace: str) -> tuple[str, ...]:
    """List the resources that serve a model without a signed record."""
    listed = await prober.kubernetes.ask("get", WINEPIPELINES.path(namespace), limit=LISTED)
    served = {
        str(body["metadata"]["name"]): Status.read_leniently(body.get("status") or {}).served
        for body in (listed or {}).get("items") or ()
    }
    return tuple(sorted(name for name, one in served.items() if one is not None and not one.model.digest))


async def _labels(prober: Prober, namespace: str) -> dict[str, str] | None:
    if not await prober.cluster.may("get", "", "namespaces", name=namespace):
        return None
    labels = await prober.cluster.labels(namespace)
    if labels is None:
        raise Refused(Reason.NAMESPACE_MISSING, f"The namespace {namespace} does not exist")
    return labels


async def _has_service_account(prober: Prober, namespace: str, name: str) -> bool | None:
    if not await prober.cluster.may("get", "", "serviceaccounts", namespace, name):
        return None
    return await prober.cluster.has_service_account(namespace, name)


async def _object(prober: Prober, namespace: str, title: str, kind: Kind, name: str, resource: str) -> ObjectView:
    live = await prober.bounded(_live(prober, kind, namespace, name))
    return ObjectView(title, name, live if isinstance(live, PlatformError) else _presence(live), resource)


async def _live(prober: Prober, kind: Kind, namespace: str, name: str) -> Body | None:
    try:
        return await prober.kubernetes.get(kind, namespace, name)
    except KindMissing:
        return None


def _names(settings: Settings, backend: ObservedBackend, resource: str) -> Iterator[tuple[str, Kind, str, str]]:
    """List what the operator creates: kind, its API, name and, where it is another, the kind for kubectl."""
    yield "Secret", SECRETS, backend.source.copy_name, ""
    if settings.mlflow_secret:
        yield "Secret", SECRETS, MLFLOW_SECRET, ""
    for name in (PODDEFAULT_MLFLOW, PODDEFAULT_MINIO):
        yield "PodDefault", PODDEFAULTS, name, ""
    if resource:
        kind = backend.kind
        yield kind.kind, Kind(f"{kind.group}/{kind.version}", kind.plural), resource, kind.short_name


def _presence(live: Body | None) -> Presence:
    if live is None:
        return Presence.ABSENT
    labels = live["metadata"].get("labels") or {}
    return Presence.CURRENT if labels.get(MANAGED_BY_LABEL) == MANAGED_BY else Presence.NOT_MANAGED
