"""What the watches of a settled resource's objects lead to: a reconcile where something changed, no reuse where it may have."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from winepipelines import background
from winepipelines.platform import metadata
from winepipelines.platform.metadata import Objects, Seen

OBJECTS = Objects("/api/v1/secrets", "Secrets")
OWNERS = [{"kind": "WinePipeline", "name": "mlflow"}, {"kind": "ReplicaSet", "name": "other"}]
OURS = {"name": "copy", "namespace": "team", "managedFields": [{"manager": "wine-operator-0123", "time": "2026-01-05T12:00:00Z"}]}
OTHERS = {**OURS, "managedFields": [{"manager": "kubectl", "time": "2026-01-05T12:00:01Z"}]}
SERVING = {"name": "mlflow", "namespace": "team", "ownerReferences": OWNERS}


class Calls:
    """Records what a watch causes: of the resources, of MLflow's credentials and of the reads of a namespace's objects."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *seen: Seen | None) -> None:
        async def watch(*_: object) -> AsyncIterator[Seen | None]:
            for one in seen:
                yield one

        monkeypatch.setattr(metadata, "watch", watch)
        self.made: list[str] = []
        self.adapters: Any = SimpleNamespace(
            kubernetes=None,
            settings=SimpleNamespace(platform_namespace="kubeflow"),
            mlflow=SimpleNamespace(forget_credentials=lambda: self.made.append("forget credentials")),
            namespace=SimpleNamespace(forget=lambda where="all": self.made.append(f"read {where}")),
        )

    def enqueue(self, key: tuple[str, str]) -> None:
        self.made.append(f"reconcile {'/'.join(key)}")

    def enqueue_all(self) -> None:
        self.made.append("reconcile all")

    def enqueue_namespace(self, namespace: str) -> None:
        self.made.append(f"reconcile {namespace}")

    def forget(self) -> None:
        self.made.append("forget")


@pytest.mark.parametrize(
    ("seen", "made"),
    [
        (None, ["read all", "forget"]),
        (Seen((OTHERS,), complete=True), ["read all", "forget"]),
        (Seen((OURS,)), ["read team"]),
        (Seen((OTHERS,)), ["read team", "reconcile team"]),
        (Seen((OURS,), gone=True), ["read team", "reconcile team"]),
        (Seen(({**OTHERS, "namespace": "kubeflow"},)), ["read kubeflow", "reconcile all"]),
    ],
    ids=["failed watch", "list", "own change", "change of others", "deletion", "change where steps run"],
)
async def test_copies(monkeypatch: pytest.MonkeyPatch, seen: Seen | None, made: list[str]) -> None:
    calls = Calls(monkeypatch, seen)
    await background._watch_copies(calls.adapters, OBJECTS, calls)
    assert calls.made == made


@pytest.mark.parametrize(
    ("seen", "made"),
    [
        (None, ["read kubeflow", "forget"]),
        (Seen((), complete=True), ["read kubeflow", "forget credentials", "reconcile all"]),
        (Seen((OTHERS,)), ["read kubeflow", "forget credentials", "reconcile all"]),
    ],
    ids=["failed watch", "list", "change"],
)
async def test_source_secrets(monkeypatch: pytest.MonkeyPatch, seen: Seen | None, made: list[str]) -> None:
    calls = Calls(monkeypatch, seen)
    await background._watch_source(calls.adapters, OBJECTS, calls)
    assert calls.made == made


@pytest.mark.parametrize(
    ("seen", "made"),
    [
        (None, ["forget"]),
        (Seen((SERVING,), complete=True), ["forget", "reconcile team/mlflow"]),
        (Seen((SERVING,)), ["reconcile team/mlflow"]),
        (Seen((SERVING,), gone=True), ["reconcile team/mlflow"]),
    ],
    ids=["failed watch", "list", "change", "deletion"],
)
async def test_serving_objects(monkeypatch: pytest.MonkeyPatch, seen: Seen | None, made: list[str]) -> None:
    calls = Calls(monkeypatch, seen)
    await background._watch_serving(calls.adapters, OBJECTS, calls)
    assert calls.made == made
