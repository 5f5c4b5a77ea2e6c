"""The key that a namespace's train steps sign their models' records with, see `winecontract.signatures`. Called by `namespace`.

It is in a Secret in the namespace in which steps run. The operator makes one where there is none, and never changes one that is
there: an administrator may have put a key there, or be replacing one by another.
"""

import contextlib

from kubernetes.aio.dynamic.exceptions import ConflictError

from winecontract.signatures import CURRENT, SECRET, KeyInvalidError, Keys, new_key
from winepipelines.platform.kubernetes import SECRETS, Body, Kubernetes, secret_values
from winepipelines.resource.errors import Refused
from winepipelines.resource.naming import MANAGED_BY, MANAGED_BY_LABEL, field_manager, owner_reference
from winepipelines.resource.observed import KeyState, Presence
from winepipelines.resource.pipeline import WinePipeline


class ModelKeys:
    """The Secrets with the keys."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        """Use this adapter."""
        self._kubernetes = kubernetes

    async def state(self, namespace: str) -> KeyState:
        """Tell whether a namespace has a key, and what is wrong with it."""
        return key_state(namespace, await self._read(namespace))

    async def keys(self, namespace: str) -> Keys:
        """Read a namespace's keys. Raises Refused where there are none."""
        secret = await self._read(namespace)
        if secret is None:
            raise Refused("ModelKeyMissing", f"the Secret {SECRET} in namespace {namespace} does not exist")
        try:
            return Keys.parse(secret_values(secret))
        except KeyInvalidError as error:
            raise Refused("ModelKeyInvalid", f"the Secret {SECRET} in namespace {namespace} is of no use: {error}") from None

    async def presence(self, pipeline: WinePipeline, namespace: str) -> Presence:
        """Compare what is there with what shall be: a key, which lives as long as a resource of its namespace."""
        secret = await self._read(namespace)
        if secret is None:
            return Presence.ABSENT
        return Presence.OUTDATED if _lacks_owner(secret, pipeline) else Presence.CURRENT

    async def ensure(self, pipeline: WinePipeline, namespace: str) -> None:
        """Make a key where there is none; never touch one that is there."""
        secret, body = await self._read(namespace), without_key(pipeline, namespace)
        if secret is None:
            made = {**body, "type": "Opaque", "stringData": {CURRENT: new_key()}}
            with contextlib.suppress(ConflictError):  # another resource's reconcile was faster
                await self._kubernetes.ask("post", SECRETS.path(namespace), body=made)
        elif _lacks_owner(secret, pipeline):
            await self._kubernetes.apply(SECRETS, body, field_manager(pipeline))

    async def _read(self, namespace: str) -> Body | None:
        return await self._kubernetes.get(SECRETS, namespace, SECRET)


def without_key(pipeline: WinePipeline, namespace: str) -> Body:
    """Build the Secret but for what is in it: an owner, where the resource can be one, lets it go with the last resource."""
    owned = namespace == pipeline.namespace
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": SECRET,
            "namespace": namespace,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY},
            **({"ownerReferences": [owner_reference(pipeline)]} if owned else {}),
        },
    }


def key_state(namespace: str, secret: Body | None) -> KeyState:
    """Judge a Secret with a key."""
    if secret is None:
        return KeyState(namespace, exists=False)
    try:
        Keys.parse(secret_values(secret))
    except KeyInvalidError as error:
        return KeyState(namespace, exists=True, problem=str(error))
    return KeyState(namespace, exists=True)


def _lacks_owner(secret: Body, pipeline: WinePipeline) -> bool:
    """Tell whether a key of the operator's would be gone before a resource of its namespace."""
    metadata = secret["metadata"]
    ours = (metadata.get("labels") or {}).get(MANAGED_BY_LABEL) == MANAGED_BY
    owners = {owner["uid"] for owner in metadata.get("ownerReferences") or []}
    return ours and metadata["namespace"] == pipeline.namespace and pipeline.uid not in owners
