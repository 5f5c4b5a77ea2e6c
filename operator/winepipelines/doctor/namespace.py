"""A user's namespace, as the operator and its runs will find it: what `checks.namespace` judges. Called by `survey`."""

import asyncio

from winecontract.signatures import SECRET as KEY_SECRET
from winepipelines.doctor.asking import Account, Asker
from winepipelines.doctor.observations import (
    PROFILE_ACCOUNT,
    SHARED_ACCOUNT,
    BucketView,
    KubeflowView,
    NamespaceView,
    ObjectView,
)
from winepipelines.doctor.rights import in_namespaces
from winepipelines.platform.buckets import StoreAccess
from winepipelines.platform.kubernetes import PODDEFAULTS, SECRETS, WINEPIPELINES, Body, Kind, KindMissing, secret_values
from winepipelines.platform.modelkeys import key_state
from winepipelines.platform.namespace import ARTIFACT_KEYS, secret_state
from winepipelines.platform.seldon import SELDONDEPLOYMENTS
from winepipelines.resource.errors import PlatformError, Refused
from winepipelines.resource.naming import (
    ARTIFACT_SECRET,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    MLFLOW_SECRET,
    PODDEFAULT_MINIO,
    PODDEFAULT_MLFLOW,
    SELDON_SECRET,
)
from winepipelines.resource.observed import KeyState, Presence
from winepipelines.resource.status import Status
from winepipelines.settings import Settings

LISTED = 500  # WinePipelines of a namespace


async def look_at_namespace(
    asker: Asker,
    name: str,
    resource: str,
    account: "asyncio.Task[Account | PlatformError]",
    address: "asyncio.Task[str]",
    kubeflow: "asyncio.Task[KubeflowView | PlatformError]",
) -> NamespaceView:
    """Look at a namespace, and at the names that a resource, if one is named, will want there.

    `account` tells whose rights matter, `address` where artifacts are, `kubeflow` in which mode it is: in single-user mode runs
    are in the platform's namespace, so that account and Secret are looked for there.
    """
    settings, platform = asker.settings, await kubeflow
    shared = not isinstance(platform, PlatformError) and not platform.multi_user
    runs_in = settings.platform_namespace if shared else name
    service_account = settings.kfp_service_account or (SHARED_ACCOUNT if shared else PROFILE_ACCOUNT)
    models = asyncio.gather(asker.bounded(_key(asker, runs_in)), asker.bounded(_unsigned(asker, name)))
    labels, exists, artifacts, access, view, objects = await asyncio.gather(
        asker.bounded(_labels(asker, name)),
        asker.bounded(_has_service_account(asker, runs_in, service_account)),
        asker.bounded(asker.secret(runs_in, ARTIFACT_SECRET)),
        asker.bounded(asker.knock(name)),
        asker.rights(account, in_namespaces(settings), name),
        asyncio.gather(*(_object(asker, name, *wanted) for wanted in _names(settings, resource))),
    )
    bucket: BucketView | PlatformError | None = None
    if not isinstance(artifacts, PlatformError):
        values = secret_values(artifacts)
        keys = StoreAccess(settings.s3_endpoint_url, values.get("accesskey", ""), values.get("secretkey", ""))
        bucket = await asker.bucket(await address, keys)
    state = (
        artifacts if isinstance(artifacts, PlatformError) else secret_state(runs_in, ARTIFACT_SECRET, artifacts, ARTIFACT_KEYS)
    )
    key, unsigned = await models
    return NamespaceView(name, labels, exists, state, bucket, tuple(objects), view, access, runs_in, key, unsigned)


async def _key(asker: Asker, namespace: str) -> KeyState:
    return key_state(namespace, await asker.secret(namespace, KEY_SECRET))


async def _unsigned(asker: Asker, namespace: str) -> tuple[str, ...]:
    """List the resources that serve a model without a signed record."""
    listed = await asker.kubernetes.ask("get", WINEPIPELINES.path(namespace), limit=LISTED)
    served = {
        str(body["metadata"]["name"]): Status.read_leniently(body.get("status") or {}).served
        for body in (listed or {}).get("items") or ()
    }
    return tuple(sorted(name for name, model in served.items() if model is not None and not model.digest))


async def _labels(asker: Asker, namespace: str) -> dict[str, str] | None:
    if not await asker.cluster.may("get", "", "namespaces", name=namespace):
        return None
    labels = await asker.cluster.labels(namespace)
    if labels is None:
        raise Refused("NamespaceMissing", f"there is no namespace {namespace}")
    return labels


async def _has_service_account(asker: Asker, namespace: str, name: str) -> bool | None:
    if not await asker.cluster.may("get", "", "serviceaccounts", namespace, name):
        return None
    return await asker.cluster.has_service_account(namespace, name)


async def _object(asker: Asker, namespace: str, what: str, kind: Kind, name: str) -> ObjectView:
    live = await asker.bounded(_live(asker, kind, namespace, name))
    return ObjectView(what, name, live if isinstance(live, PlatformError) else _presence(live))


async def _live(asker: Asker, kind: Kind, namespace: str, name: str) -> Body | None:
    try:
        return await asker.kubernetes.get(kind, namespace, name)
    except KindMissing:
        return None


def _names(settings: Settings, resource: str) -> list[tuple[str, Kind, str]]:
    secrets = (SELDON_SECRET, MLFLOW_SECRET) if settings.mlflow_secret else (SELDON_SECRET,)
    names = [("Secret", SECRETS, name) for name in secrets]
    names += [("PodDefault", PODDEFAULTS, name) for name in (PODDEFAULT_MLFLOW, PODDEFAULT_MINIO)]
    return names + ([("SeldonDeployment", SELDONDEPLOYMENTS, resource)] if resource else [])


def _presence(live: Body | None) -> Presence:
    if live is None:
        return Presence.ABSENT
    labels = live["metadata"].get("labels") or {}
    return Presence.CURRENT if labels.get(MANAGED_BY_LABEL) == MANAGED_BY else Presence.FOREIGN
