"""Objects in a user's namespace: two PodDefaults for notebooks, the Secret that models are copied with, the Secret with the
credentials that steps need for MLflow (if it requires any), and the Secret with the key that steps sign models with.

A PodDefault is not created, and deleted if it exists, where it would conflict with one of somebody else.

If Kubeflow Pipelines is in single-user mode, steps run in its own namespace, and the last two Secrets are made there.

The resources of a namespace share these objects. Each applies them under a field manager of its own, so that every resource is
an owner, and the garbage collector deletes them with the last one.
"""

import base64
import functools
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from winecontract.signatures import SECRET as KEY_SECRET
from winecontract.signatures import Keys
from winepipelines.api.errors import PlatformError
from winepipelines.api.naming import (
    ARTIFACT_SECRET,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    MLFLOW_SECRET,
    field_manager,
    owner_reference,
)
from winepipelines.api.observed import Child, ChildrenView, Presence, SecretState
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.poddefaults import find_refusal, find_rival
from winepipelines.api.sourcesecret import SourceSecret, StoreAccess
from winepipelines.platform.kubernetes import PODDEFAULTS, SECRETS, Body, Kind, KindMissing, Kubernetes, secret_values
from winepipelines.platform.manifests import Manifest, Manifests, covers
from winepipelines.platform.metadata import Objects
from winepipelines.platform.mlflow import CREDENTIAL_KEYS, PASSWORD, TOKEN, USERNAME
from winepipelines.platform.modelkeys import ModelKeys
from winepipelines.platform.poddefaults import pod_defaults, pod_defaults_of_others
from winepipelines.platform.sharedreads import Reads
from winepipelines.platform.sources import ARTIFACT_KEYS, FoundSource, Places, find_source_of
from winepipelines.settings import Settings


async def same_namespace(namespace: str) -> str:
    """Return the namespace itself: in multi-user mode, runs are in the namespace of their resource."""
    return namespace


KINDS: dict[str, Kind] = {"PodDefault": PODDEFAULTS, "Secret": SECRETS}


def sources(settings: Settings, source: SourceSecret) -> list[Objects]:
    """List the platform's Secrets that are copied."""
    named = dict.fromkeys(filter(None, (*source.names, settings.mlflow_secret, settings.steps_mlflow_secret)))
    path = SECRETS.path(settings.platform_namespace)
    return [Objects(path, f"the Secret {name}", fields=f"metadata.name={name}") for name in named]


def copies(settings: Settings, source: SourceSecret) -> list[Objects]:
    """List the objects in users' namespaces: in all of them at once, or in each that the operator is limited to.

    One of them it does not make: the profile's own keys of the object store.
    """
    named = [source.copy_name, KEY_SECRET, ARTIFACT_SECRET, *([MLFLOW_SECRET] if settings.mlflow_secret_of_steps else [])]
    found = []
    for namespace in settings.namespaces or ("",):
        where = f" in {namespace}" if namespace else ""
        found += [Objects(SECRETS.path(namespace), f"Secrets {name}{where}", fields=f"metadata.name={name}") for name in named]
        found.append(Objects(PODDEFAULTS.path(namespace), f"PodDefaults{where}"))  # those of others may conflict with ours
    return found


def is_others_doing(metadata: Body) -> bool:
    """Tell from an object's metadata whether its last change was not made by the operator for a resource."""
    fields = metadata.get("managedFields") or []
    last = max((field.get("time", "") for field in fields), default="")
    return not all(field["manager"].startswith(f"{MANAGED_BY}-") for field in fields if field.get("time", "") == last)


class Namespace:
    """The children in users' namespaces."""

    def __init__(
        self,
        kubernetes: Kubernetes,
        manifests: Manifests,
        settings: Settings,
        source: SourceSecret,
        namespace_of_runs: Callable[[str], Awaitable[str]] = same_namespace,
        reads: Reads | None = None,
    ) -> None:
        """Use these adapters.

        `namespace_of_runs` returns the namespace of the runs of a namespace's resources; `reads` may share what `view` reads.
        """
        self._source_secret = source
        self._namespace_of_runs = namespace_of_runs
        self._reads = reads or kubernetes
        self._keys = ModelKeys(kubernetes, self._reads)
        self._kubernetes = kubernetes
        self._manifests = manifests
        self._settings = settings

    async def view(self, pipeline: WinePipeline) -> ChildrenView:
        """Compare the objects that exist with the desired ones."""
        where = await self._where_runs_are(pipeline)
        reads = self._reads
        found, mlflow = await self._source(pipeline, where, reads), await self._steps_source(reads)
        reached = self._if_reached(where, pipeline)
        others = await pod_defaults_of_others(reads, pipeline.namespace)
        wanted = self.wanted(pipeline, found.secret, mlflow, reached)
        children = [await self._child(manifest, others, reads) for manifest in wanted]
        steps_are_here = where == pipeline.namespace != self._settings.platform_namespace  # where the webhook acts
        if where is None and self._settings.mlflow_secret_of_steps:  # it stays as it is
            children.append(Child("Secret", MLFLOW_SECRET, Presence.CURRENT))
        if where is None or reached is not None:
            presence = await self._keys.presence(pipeline, reached) if reached is not None else Presence.CURRENT
            children.append(Child("Secret", KEY_SECRET, presence))
        return ChildrenView(
            source=found.state,
            artifacts=await self._artifacts(reached),
            children=tuple(children),
            mlflow=await self._mlflow_state(mlflow),
            key=await self._keys.state(where) if where is not None else None,
            refusal=find_refusal(others) if steps_are_here else None,
        )

    async def apply(self, pipeline: WinePipeline) -> None:
        """Apply the objects that are absent or differ, and delete those that conflict with others'.

        Objects that others made stay as they are.
        """
        where = await self._where_runs_are(pipeline)
        reached = self._if_reached(where, pipeline)
        if reached is not None:
            await self._keys.ensure(pipeline, reached)
        reads = self._kubernetes  # what is written is decided on what is there now
        source = (await self._source(pipeline, where, reads)).secret
        others = await pod_defaults_of_others(reads, pipeline.namespace)
        for manifest in self.wanted(pipeline, source, await self._steps_source(reads), reached):
            presence = (await self._child(manifest, others, reads)).presence
            if presence in (Presence.ABSENT, Presence.DIFFERS, Presence.OUTDATED):
                live = await self._kubernetes.apply(KINDS[manifest["kind"]], manifest, field_manager(pipeline))
                await self._remove_foreign_keys(manifest, live)
            elif presence is Presence.SUPERFLUOUS:
                await self._delete(manifest)

    async def _delete(self, manifest: Manifest) -> None:
        kind, metadata = KINDS[manifest["kind"]], manifest["metadata"]
        live = await self._kubernetes.get(kind, metadata["namespace"], metadata["name"])
        if live is not None and _is_ours(live):
            await self._kubernetes.delete(kind, metadata["namespace"], metadata["name"], live["metadata"]["uid"])

    async def _remove_foreign_keys(self, manifest: Manifest, live: Body) -> None:
        """Remove keys that others added to a Secret: applying keeps them, and the initializer of a model would follow them."""
        foreign = {key: None for key in live.get("data") or {} if key not in (manifest.get("data") or {})}
        if foreign:
            metadata = live["metadata"]
            patch = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "data": foreign}
            await self._kubernetes.merge(SECRETS, metadata["namespace"], metadata["name"], patch)

    async def hand_over(self, pipeline: WinePipeline, owner: Body) -> None:
        """Make a serving object that outlives the resource an owner of the Secret that it copies models with."""
        secret = await self._kubernetes.get(SECRETS, pipeline.namespace, self._source_secret.copy_name)
        if secret is None or not _is_ours(secret):
            return
        metadata = owner["metadata"]
        reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": metadata["name"], "uid": metadata["uid"]}
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self._source_secret.copy_name,
                "namespace": pipeline.namespace,
                "ownerReferences": [reference],
            },
        }
        await self._kubernetes.apply(SECRETS, manifest, f"{MANAGED_BY}-{metadata['uid'][:8]}")

    async def store_access(self, pipeline: WinePipeline) -> StoreAccess:
        """Read the address and the credentials that the serving backend copies a resource's models with."""
        found = await self._source(pipeline, await self._where_runs_are(pipeline), self._kubernetes)
        where = f"the Secret {found.source.name} in namespace {found.namespace}"
        return replace(found.source.access(secret_values(found.secret)), source=where, endpoint_key=found.source.endpoint_key)

    async def mlflow_credentials(self) -> dict[str, str]:
        """Read the credentials for MLflow; none if the administrator named no Secret, or it does not exist."""
        return _mlflow_credentials(await self._mlflow_source(self._kubernetes))

    async def model_keys(self, namespace: str) -> Keys:
        """Read the keys that the train steps of a namespace's resources sign with.

        Raises PlatformError if there are none, or the namespace of the runs is unknown.
        """
        return await self._keys.keys(await self._namespace_of_runs(namespace))

    async def _source(self, pipeline: WinePipeline, where: str | None, reads: Reads) -> FoundSource:
        """Find the Secret that the resource's models are copied with; `where` is the namespace of its runs, if known."""
        settings = self._settings
        has_steps = where in (None, pipeline.namespace)
        places = Places(settings.platform_namespace, pipeline.namespace, has_steps, settings.s3_endpoint_url)
        return await find_source_of(functools.partial(reads.get, SECRETS), self._source_secret, places)

    async def _mlflow_source(self, reads: Reads) -> Body | None:
        return await self._named(self._settings.mlflow_secret, reads)

    async def _steps_source(self, reads: Reads) -> Body | None:
        return await self._named(self._settings.mlflow_secret_of_steps, reads)

    async def _named(self, name: str, reads: Reads) -> Body | None:
        return await reads.get(SECRETS, self._settings.platform_namespace, name) if name else None

    async def _where_runs_are(self, pipeline: WinePipeline) -> str | None:
        """Return the namespace in which steps run; None if the mode of Kubeflow Pipelines is unknown."""
        try:
            return await self._namespace_of_runs(pipeline.namespace)
        except PlatformError:  # the stage that lists runs reports it
            return None

    def _if_reached(self, where: str | None, pipeline: WinePipeline) -> str | None:
        """Return the namespace if the operator has rights in it, else None: it may be limited to some namespaces."""
        limited = self._settings.namespaces
        return where if where == pipeline.namespace or not limited or where in limited else None

    async def _artifacts(self, where: str | None) -> SecretState | None:
        """Check the Secret that steps read and write artifacts with."""
        if where is None:
            return None
        return secret_state(where, ARTIFACT_SECRET, await self._reads.get(SECRETS, where, ARTIFACT_SECRET), ARTIFACT_KEYS)

    async def _mlflow_state(self, of_steps: Body | None) -> SecretState | None:
        """Check the credentials for MLflow: those of the steps, and those of the operator if they differ."""
        name, own = self._settings.mlflow_secret_of_steps, self._settings.mlflow_secret
        if not name:
            return None
        state = self._credentials_state(name, of_steps)
        if not own or own == name or not state.exists or state.missing_keys:
            return state
        return self._credentials_state(own, await self._mlflow_source(self._reads))

    def _credentials_state(self, name: str, secret: Body | None) -> SecretState:
        keys = () if TOKEN in _mlflow_credentials(secret) else (USERNAME, PASSWORD)  # one of the two forms
        return secret_state(self._settings.platform_namespace, name, secret, keys)

    def wanted(
        self, pipeline: WinePipeline, source: Body | None, mlflow: Body | None = None, runs_in: str | None = ""
    ) -> list[Manifest]:
        """Build the desired objects; `source` and `mlflow` are the platform's Secrets.

        `runs_in` is the namespace in which steps run: empty for the resource's own, None if nothing can be made there.
        """
        values = {"namespace": pipeline.namespace, "owner": owner_reference(pipeline)}
        manifests = pod_defaults(self._manifests, self._settings, pipeline.namespace, owner_reference(pipeline))
        data = (source or {}).get("data") or {}
        copied, annotations = self._source_secret.copied(data), self._source_secret.annotations(data)
        copy = {"name": self._source_secret.copy_name, "data": copied, "annotations": annotations}
        manifests += self._manifests.render("secret.yaml.j2", **copy, **values)
        if self._settings.mlflow_secret_of_steps and runs_in is not None:
            data = {key: base64.b64encode(value.encode()).decode() for key, value in _mlflow_credentials(mlflow).items()}
            copy = {"name": MLFLOW_SECRET, "data": data, "annotations": {}}
            if runs_in in ("", pipeline.namespace):
                manifests += self._manifests.render("secret.yaml.j2", **copy, **values)
            else:  # owners must be in the same namespace: this copy has none and stays
                manifests += self._manifests.render("secret.yaml.j2", **copy, namespace=runs_in, owner=None)
        return manifests

    async def _child(self, manifest: Manifest, others: list[Body], reads: Reads) -> Child:
        """Compare an object with the desired one, and a PodDefault also with those of others."""
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        presence = await self._presence(manifest, reads)
        rival = find_rival(manifest, others) if kind == "PodDefault" else None
        return Child(kind, name, presence if rival is None else _withheld(presence), rival=rival)

    @staticmethod
    async def _presence(manifest: Manifest, reads: Reads) -> Presence:
        metadata = manifest["metadata"]
        try:
            live = await reads.get(KINDS[manifest["kind"]], metadata["namespace"], metadata["name"])
        except KindMissing:
            return Presence.KIND_MISSING
        if live is None:
            return Presence.ABSENT
        if not _is_ours(live):
            return Presence.NOT_MANAGED
        same_data = manifest.get("data") == live.get("data")  # a key that the source lost must go here too
        if same_data and covers(live, manifest):
            return Presence.CURRENT
        return Presence.DIFFERS if is_others_doing(live["metadata"]) else Presence.OUTDATED


def _withheld(presence: Presence) -> Presence:
    ours = (Presence.CURRENT, Presence.DIFFERS, Presence.OUTDATED)
    return Presence.SUPERFLUOUS if presence in ours else Presence.WITHHELD


def _is_ours(live: Body) -> bool:
    return (live["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) == MANAGED_BY


def _mlflow_credentials(secret: Body | None) -> dict[str, str]:
    """Take MLflow's credentials from a Secret, without trailing line ends, and nothing else that it may have."""
    values = {key: value.strip() for key, value in secret_values(secret).items()}
    return {key: values[key] for key in CREDENTIAL_KEYS if values.get(key)}


def secret_state(namespace: str, name: str, secret: Body | None, keys: Iterable[str]) -> SecretState:
    """Tell whether a Secret exists, and which of its keys have no value."""
    data = (secret or {}).get("data") or {}
    return SecretState(namespace, name, secret is not None, tuple(key for key in keys if not data.get(key)))
