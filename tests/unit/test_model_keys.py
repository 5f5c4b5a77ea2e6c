"""The Secret with the key that signs models: created once, never changed, and reported when invalid."""

import base64
from typing import Any

import pytest
from kubernetes.aio.dynamic.exceptions import ConflictError
from support.world import World

from winecontract.reasons import Reason
from winecontract.signatures import SECRET, Keys
from winepipelines.api.errors import Refused
from winepipelines.api.observed import KeyState, Presence, SecretState
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import ConditionType
from winepipelines.platform.modelkeys import ModelKeys

OTHER_OWNER = {"apiVersion": "winepipelines.io/v1alpha1", "kind": "WinePipeline", "name": "other", "uid": "another"}
GOOD = "ab" * 32


class Cluster:
    """An API server with one Secret or none. `raced`: another client creates it just before the operator."""

    def __init__(self, values: dict[str, str] | None = None, *, managed: bool = True, raced: bool = False) -> None:
        self.raced = raced
        self.writes: list[dict[str, Any]] = []
        self.secret: dict[str, Any] | None = None
        if values is not None:
            labels = {"app.kubernetes.io/managed-by": "wine-operator"} if managed else {}
            metadata = {"name": SECRET, "namespace": "admin", "labels": labels, "ownerReferences": [OTHER_OWNER]}
            data = {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}
            self.secret = {"metadata": metadata, "data": data}

    async def get(self, *_: object) -> dict[str, Any] | None:
        return self.secret

    async def ask(self, _method: str, _path: str, body: dict[str, Any]) -> None:
        if self.raced:
            raise _already_exists()
        self.writes.append(body)

    async def apply(self, _kind: object, body: dict[str, Any], _manager: str) -> None:
        self.writes.append(body)


def _already_exists() -> ConflictError:
    cause: Any = type("Cause", (), {"status": 409, "reason": "AlreadyExists", "body": "{}", "headers": {}})()
    return ConflictError(cause)


def keys(cluster: Cluster) -> ModelKeys:
    adapter: Any = cluster
    return ModelKeys(adapter)


@pytest.fixture
def pipeline() -> WinePipeline:
    return World().pipeline


async def test_missing_key_is_created(pipeline: WinePipeline) -> None:
    cluster = Cluster()
    assert await keys(cluster).presence(pipeline, "admin") is Presence.ABSENT
    await keys(cluster).ensure(pipeline, "admin")
    await keys(cluster).ensure(pipeline, "admin")
    made = [Keys.parse(body["stringData"]).current.secret for body in cluster.writes]
    assert len(set(made)) == 2, "each key is random"
    assert all(body["type"] == "Opaque" for body in cluster.writes)


async def test_key_that_is_created_concurrently_is_kept(pipeline: WinePipeline) -> None:
    cluster = Cluster(raced=True)
    await keys(cluster).ensure(pipeline, "admin")
    assert cluster.writes == []


async def test_existing_key_is_not_changed(pipeline: WinePipeline) -> None:
    """Not even an invalid one: a user may be replacing it."""
    for values in ({"current": GOOD}, {"current": "rubbish"}, {}):
        cluster = Cluster(values)
        assert await keys(cluster).presence(pipeline, "admin") is Presence.OUTDATED, "the WinePipeline is not an owner yet"
        await keys(cluster).ensure(pipeline, "admin")
        [owner] = cluster.writes
        assert owner["metadata"]["ownerReferences"][0]["uid"] == pipeline.uid
        assert not {"data", "stringData", "type"} & owner.keys()


async def test_unmanaged_key_is_used_and_not_changed(pipeline: WinePipeline) -> None:
    cluster = Cluster({"current": GOOD}, managed=False)
    assert await keys(cluster).presence(pipeline, "admin") is Presence.CURRENT
    await keys(cluster).ensure(pipeline, "admin")
    assert cluster.writes == []
    assert await keys(cluster).keys("admin") == Keys.parse({"current": GOOD})


@pytest.mark.parametrize("values", [{}, {"current": ""}, {"current": "a secret"}, {"current": GOOD, "previous": "a secret"}])
async def test_invalid_key_is_reported_without_its_value(values: dict[str, str]) -> None:
    state = await keys(Cluster(values)).state("admin")
    assert (state.exists, bool(state.problem)) == (True, True)
    with pytest.raises(Refused) as caught:
        await keys(Cluster(values)).keys("admin")
    assert caught.value.reason == "ModelKeyInvalid"
    assert "a secret" not in state.problem + caught.value.message


async def test_missing_key_is_reported() -> None:
    assert await keys(Cluster()).state("admin") == KeyState("admin", exists=False)
    with pytest.raises(Refused) as caught:
        await keys(Cluster()).keys("admin")
    assert caught.value.reason == "ModelKeyMissing"


def test_no_run_is_created_with_an_invalid_key() -> None:
    world = World(key=KeyState("admin", exists=True, problem="the Secret wine-model-key has no key 'current'"))
    world.reconcile()
    prepared = world.condition(ConditionType.PREPARED)
    assert prepared.reason == Reason.MODEL_KEY_INVALID
    assert "kubectl -n admin delete secret wine-model-key" in prepared.message
    assert world.created == []
    world.key = KeyState("admin", exists=True)
    world.reconcile()
    assert len(world.created) == 1


def test_no_run_is_created_without_a_key_that_the_operator_may_not_create() -> None:
    world = World(key=KeyState("kubeflow", exists=False), artifacts=SecretState("kubeflow", "artifacts", True))
    world.reconcile()
    prepared = world.condition(ConditionType.PREPARED)
    assert prepared.reason == Reason.MODEL_KEY_MISSING
    assert (
        "kubectl -n kubeflow create secret generic wine-model-key --from-literal=current=$(openssl rand -hex 32)"
        in prepared.message
    )
    assert world.created == []
