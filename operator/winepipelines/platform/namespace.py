"""What a user's namespace needs: two PodDefaults for notebooks, the Secret that Seldon copies models with and, where MLflow asks
for credentials, the Secret that the steps have theirs from; and the Secret with the key that the steps sign models with.

Where Kubeflow Pipelines is in single-user mode, steps run in its own namespace: the last two are made there.

Several resources of a namespace share them. Each applies them under a field manager of its own, so that every one is an owner,
and the garbage collector takes them with the last. Called by `observe` and `act`.
"""

import base64
import re
from collections.abc import Awaitable, Callable, Iterable

from winecontract.signatures import SECRET as KEY_SECRET
from winecontract.signatures import Keys
from winepipelines.platform.kubernetes import PODDEFAULTS, SECRETS, Body, Kind, KindMissing, Kubernetes, secret_values
from winepipelines.platform.manifests import Manifest, Manifests, covers
from winepipelines.platform.metadata import Objects
from winepipelines.platform.mlflow import CREDENTIAL_KEYS, PASSWORD, TOKEN, USERNAME
from winepipelines.platform.modelkeys import ModelKeys
from winepipelines.resource.errors import PlatformError
from winepipelines.resource.naming import (
    ARTIFACT_SECRET,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    MLFLOW_SECRET,
    SELDON_SECRET,
    field_manager,
    owner_reference,
)
from winepipelines.resource.observed import Child, ChildrenView, Presence, SecretState
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.settings import Settings

# All that is copied: the initializer of a model has the whole Secret as its environment.
COPIED_KEY = re.compile(r"RCLONE_CONFIG_S3_[A-Z0-9_]+")
SOURCE_KEYS = (
    "RCLONE_CONFIG_S3_TYPE",
    "RCLONE_CONFIG_S3_ACCESS_KEY_ID",
    "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY",
    "RCLONE_CONFIG_S3_ENDPOINT",
)
ARTIFACT_KEYS = ("accesskey", "secretkey")


async def _the_same(namespace: str) -> str:
    """Say that runs are where their resources are, as in multi-user mode."""
    return namespace


KINDS: dict[str, Kind] = {"PodDefault": PODDEFAULTS, "Secret": SECRETS}


def sources(settings: Settings) -> list[Objects]:
    """Name the platform's Secrets that copies are made from."""
    named = dict.fromkeys(filter(None, (settings.source_secret, settings.mlflow_secret, settings.steps_mlflow_secret)))
    path = SECRETS.path(settings.platform_namespace)
    return [Objects(path, f"the Secret {name}", fields=f"metadata.name={name}") for name in named]


def copies(settings: Settings) -> list[Objects]:
    """Name what is made in users' namespaces: in all of them at once, or in each that the operator is limited to."""
    named = [SELDON_SECRET, KEY_SECRET, *([MLFLOW_SECRET] if settings.mlflow_secret_of_steps else [])]
    ours = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
    found = []
    for namespace in settings.namespaces or ("",):
        where = f" in {namespace}" if namespace else ""
        found += [Objects(SECRETS.path(namespace), f"Secrets {name}{where}", fields=f"metadata.name={name}") for name in named]
        found.append(Objects(PODDEFAULTS.path(namespace), f"PodDefaults{where}", labels=ours))
    return found


def is_others_doing(metadata: Body) -> bool:
    """Tell from an object's metadata whether the last to change it was someone else than a resource's own applying."""
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
        namespace_of_runs: Callable[[str], Awaitable[str]] = _the_same,
    ) -> None:
        """Use these adapters; `namespace_of_runs` says where the runs of a namespace's resources are."""
        self._namespace_of_runs = namespace_of_runs
        self._keys = ModelKeys(kubernetes)
        self._kubernetes = kubernetes
        self._manifests = manifests
        self._settings = settings

    async def view(self, pipeline: WinePipeline) -> ChildrenView:
        """See what is there, compared with what shall be."""
        source, mlflow, where = await self._source(), await self._steps_source(), await self._where_runs_are(pipeline)
        reached = self._if_reached(where, pipeline)
        children = []
        for manifest in self.wanted(pipeline, source, mlflow, reached):
            presence = await self._presence(manifest)
            children.append(Child(manifest["kind"], manifest["metadata"]["name"], presence))
        if where is None and self._settings.mlflow_secret_of_steps:  # it is where it was: Kubeflow's outage changes nothing
            children.append(Child("Secret", MLFLOW_SECRET, Presence.CURRENT))
        if where is None or reached is not None:
            presence = await self._keys.presence(pipeline, reached) if reached is not None else Presence.CURRENT
            children.append(Child("Secret", KEY_SECRET, presence))
        return ChildrenView(
            source=secret_state(self._settings.platform_namespace, self._settings.source_secret, source, SOURCE_KEYS),
            artifacts=await self._artifacts(reached),
            children=tuple(children),
            mlflow=await self._mlflow_state(mlflow),
            key=await self._keys.state(where) if where is not None else None,
        )

    async def apply(self, pipeline: WinePipeline) -> None:
        """Apply what is absent or differs; leave alone what others made."""
        reached = self._if_reached(await self._where_runs_are(pipeline), pipeline)
        if reached is not None:
            await self._keys.ensure(pipeline, reached)
        for manifest in self.wanted(pipeline, await self._source(), await self._steps_source(), reached):
            if await self._presence(manifest) in (Presence.ABSENT, Presence.DIFFERS, Presence.OUTDATED):
                live = await self._kubernetes.apply(KINDS[manifest["kind"]], manifest, field_manager(pipeline))
                await self._remove_strange_keys(manifest, live)

    async def _remove_strange_keys(self, manifest: Manifest, live: Body) -> None:
        """Take from a Secret what others have added: applying leaves that, and rclone would follow it."""
        strange = {key: None for key in live.get("data") or {} if key not in (manifest.get("data") or {})}
        if strange:
            metadata = live["metadata"]
            patch = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "data": strange}
            await self._kubernetes.merge(SECRETS, metadata["namespace"], metadata["name"], patch)

    async def hand_over(self, pipeline: WinePipeline, owner: Body) -> None:
        """Have the Secret live as long as a deployment that outlives the resource."""
        secret = await self._kubernetes.get(SECRETS, pipeline.namespace, SELDON_SECRET)
        if secret is None or not _is_ours(secret):
            return
        metadata = owner["metadata"]
        reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": metadata["name"], "uid": metadata["uid"]}
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SELDON_SECRET, "namespace": pipeline.namespace, "ownerReferences": [reference]},
        }
        await self._kubernetes.apply(SECRETS, manifest, f"{MANAGED_BY}-{metadata['uid'][:8]}")

    async def rclone_settings(self) -> dict[str, str]:
        """Read the serving platform's own way to the object store, to look with it where models lie."""
        return secret_values(await self._source())

    async def mlflow_credentials(self) -> dict[str, str]:
        """Read the credentials for MLflow; none where the administrator has named no Secret, or where it is not there."""
        return _mlflow_credentials(await self._mlflow_source())

    async def model_keys(self, namespace: str) -> Keys:
        """Read the keys that the train steps of a namespace's resources sign with.

        Raises PlatformError where there are none, or it is not known where runs are.
        """
        return await self._keys.keys(await self._namespace_of_runs(namespace))

    async def _source(self) -> Body | None:
        return await self._kubernetes.get(SECRETS, self._settings.platform_namespace, self._settings.source_secret)

    async def _mlflow_source(self) -> Body | None:
        return await self._named(self._settings.mlflow_secret)

    async def _steps_source(self) -> Body | None:
        return await self._named(self._settings.mlflow_secret_of_steps)

    async def _named(self, name: str) -> Body | None:
        return await self._kubernetes.get(SECRETS, self._settings.platform_namespace, name) if name else None

    async def _where_runs_are(self, pipeline: WinePipeline) -> str | None:
        """Name the namespace in which steps run; None where Kubeflow Pipelines does not say in which mode it is."""
        try:
            return await self._namespace_of_runs(pipeline.namespace)
        except PlatformError:  # the stage that asks for runs says what is wrong
            return None

    def _if_reached(self, where: str | None, pipeline: WinePipeline) -> str | None:
        """Leave out a namespace in which an operator that is limited to some has no rights."""
        limited = self._settings.namespaces
        return where if where == pipeline.namespace or not limited or where in limited else None

    async def _artifacts(self, where: str | None) -> SecretState | None:
        """See whether the Secret is there that steps read and write artifacts with."""
        if where is None:
            return None
        return secret_state(where, ARTIFACT_SECRET, await self._kubernetes.get(SECRETS, where, ARTIFACT_SECRET), ARTIFACT_KEYS)

    async def _mlflow_state(self, of_steps: Body | None) -> SecretState | None:
        """See whether there are credentials for MLflow: the steps', and the operator's where these are others."""
        name, own = self._settings.mlflow_secret_of_steps, self._settings.mlflow_secret
        if not name:
            return None
        state = self._credentials_state(name, of_steps)
        if not own or own == name or not state.exists or state.missing_keys:
            return state
        return self._credentials_state(own, await self._mlflow_source())

    def _credentials_state(self, name: str, secret: Body | None) -> SecretState:
        keys = () if TOKEN in _mlflow_credentials(secret) else (USERNAME, PASSWORD)  # the one or the other
        return secret_state(self._settings.platform_namespace, name, secret, keys)

    def wanted(
        self, pipeline: WinePipeline, source: Body | None, mlflow: Body | None = None, runs_in: str | None = ""
    ) -> list[Manifest]:
        """Build what shall be there; `source` and `mlflow` are the platform's Secrets.

        `runs_in` is the namespace in which steps run: empty for the resource's own, None where nothing can be made there.
        """
        values = {"namespace": pipeline.namespace, "owner": owner_reference(pipeline)}
        manifests = self._manifests.render(
            "poddefaults.yaml.j2",
            mlflow_url=self._settings.mlflow_url_in_steps,
            s3_endpoint_url=self._settings.s3_endpoint_url,
            **values,
        )
        settings = {key: value for key, value in ((source or {}).get("data") or {}).items() if COPIED_KEY.fullmatch(key)}
        manifests += self._manifests.render("secret.yaml.j2", name=SELDON_SECRET, data=settings, **values)
        if self._settings.mlflow_secret_of_steps and runs_in is not None:
            data = {key: base64.b64encode(value.encode()).decode() for key, value in _mlflow_credentials(mlflow).items()}
            copy = {"name": MLFLOW_SECRET, "data": data}
            if runs_in in ("", pipeline.namespace):
                manifests += self._manifests.render("secret.yaml.j2", **copy, **values)
            else:  # an owner must be in the same namespace: this one stays, for all whose runs are there
                manifests += self._manifests.render("secret.yaml.j2", **copy, namespace=runs_in, owner=None)
        return manifests

    async def _presence(self, manifest: Manifest) -> Presence:
        metadata = manifest["metadata"]
        try:
            live = await self._kubernetes.get(KINDS[manifest["kind"]], metadata["namespace"], metadata["name"])
        except KindMissing:
            return Presence.KIND_MISSING
        if live is None:
            return Presence.ABSENT
        if not _is_ours(live):
            return Presence.FOREIGN
        same_data = manifest.get("data") == live.get("data")  # a key that went away must go here too
        if same_data and covers(live, manifest):
            return Presence.CURRENT
        return Presence.DIFFERS if is_others_doing(live["metadata"]) else Presence.OUTDATED


def _is_ours(live: Body) -> bool:
    return (live["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) == MANAGED_BY


def _mlflow_credentials(secret: Body | None) -> dict[str, str]:
    """Take MLflow's credentials from a Secret, and nothing else that may be in it; a line's end is no part of any."""
    values = {key: value.strip() for key, value in secret_values(secret).items()}
    return {key: values[key] for key in CREDENTIAL_KEYS if values.get(key)}


def secret_state(namespace: str, name: str, secret: Body | None, keys: Iterable[str]) -> SecretState:
    """Say whether a Secret is there, and which of its keys have no value."""
    data = (secret or {}).get("data") or {}
    return SecretState(namespace, name, secret is not None, tuple(key for key in keys if not data.get(key)))
