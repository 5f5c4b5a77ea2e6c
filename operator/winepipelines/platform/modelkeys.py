"""The key with which a namespace's train steps sign the records of their models, see `winecontract.signatures`.

It is in a Secret in the namespace in which steps run. The operator creates a missing key and never changes an existing one: an
administrator may have created it, or may be replacing it.
"""

import contextlib

from kubernetes.aio.dynamic.exceptions import ConflictError

from winecontract.reasons import Reason
from winecontract.signatures import CURRENT, SECRET, KeyInvalidError, Keys, new_key
from winepipelines.api.errors import Refused
from winepipelines.api.naming import MANAGED_BY, MANAGED_BY_LABEL, field_manager, owner_reference
from winepipelines.api.observed import KeyState, Presence
from winepipelines.api.pipeline import WinePipeline
from winepipelines.platform.kubernetes import SECRETS, Body, Kubernetes, secret_values
from winepipelines.platform.ownership import is_managed, owners_of
from winepipelines.platform.sharedreads import Reads


class ModelKeys:
    """Reads and creates the Secrets with the keys."""

    def __init__(self, kubernetes: Kubernetes, reads: Reads | None = None) -> None:
        """Use this adapter; `reads` may share what `state` and `presence` read."""
        self._kubernetes = kubernetes
        self._reads = reads or kubernetes

    async def state(self, namespace: str) -> KeyState:
        """Return whether a namespace has a key, and what is wrong with it."""
        return key_state(namespace, await self._reads.get(SECRETS, namespace, SECRET))

    async def keys(self, namespace: str) -> Keys:
        """Read a namespace's keys. Raises Refused if they are missing or invalid."""
        secret = await self._read(namespace)
        if secret is None:
            raise Refused(Reason.MODEL_KEY_MISSING, f"the Secret {SECRET} in namespace {namespace} does not exist")
        try:
            return Keys.parse(secret_values(secret))
        except KeyInvalidError as error:
            raise Refused(Reason.MODEL_KEY_INVALID, f"the Secret {SECRET} in namespace {namespace} is invalid: {error}") from None

    async def presence(self, pipeline: WinePipeline, namespace: str) -> Presence:
        """Compare the Secret with its desired state: it exists and, in the same namespace, has the resource as owner."""
        secret = await self._reads.get(SECRETS, namespace, SECRET)
        if secret is None:
            return Presence.ABSENT
        return Presence.OUTDATED if _lacks_owner(secret, pipeline) else Presence.CURRENT

    async def ensure(self, pipeline: WinePipeline, namespace: str) -> None:
        """Create a key if there is none; never change the value of an existing one."""
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
    """Build the Secret without its value. Owners of its namespace make Kubernetes delete it after the last resource."""
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
    """Describe a Secret with a key."""
    if secret is None:
        return KeyState(namespace, exists=False)
    try:
        Keys.parse(secret_values(secret))
    except KeyInvalidError as error:
        return KeyState(namespace, exists=True, problem=str(error))
    return KeyState(namespace, exists=True)


def _lacks_owner(secret: Body, pipeline: WinePipeline) -> bool:
    """Whether Kubernetes would delete an operator's key before a resource of its namespace."""
    in_its_namespace = secret["metadata"]["namespace"] == pipeline.namespace
    return is_managed(secret) and in_its_namespace and pipeline.uid not in owners_of(secret)
