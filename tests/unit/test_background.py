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


COPIES, SOURCE, SERVED = background._watch_copies, background._watch_source, background._watch_serving


@pytest.mark.parametrize(
    ("watch", "seen", "made"),
    [
        pytest.param(COPIES, None, ["read all", "forget"], id="copies, failed watch"),
        pytest.param(COPIES, Seen((OTHERS,), complete=True), ["read all", "forget"], id="copies, list"),
        pytest.param(COPIES, Seen((OURS,)), ["read team"], id="copies, own change"),
        pytest.param(COPIES, Seen((OTHERS,)), ["read team", "reconcile team"], id="copies, change of others"),
        pytest.param(COPIES, Seen((OURS,), gone=True), ["read team", "reconcile team"], id="copies, deletion"),
        pytest.param(
            COPIES,
            Seen(({**OTHERS, "namespace": "kubeflow"},)),
            ["read kubeflow", "reconcile all"],
            id="copies, change where steps run",
        ),
        pytest.param(SOURCE, None, ["read kubeflow", "forget"], id="source, failed watch"),
        pytest.param(
            SOURCE, Seen((), complete=True), ["read kubeflow", "forget credentials", "reconcile all"], id="source, list"
        ),
        pytest.param(SOURCE, Seen((OTHERS,)), ["read kubeflow", "forget credentials", "reconcile all"], id="source, change"),
        pytest.param(SERVED, None, ["forget"], id="served, failed watch"),
        pytest.param(SERVED, Seen((SERVING,), complete=True), ["forget", "reconcile team/mlflow"], id="served, list"),
        pytest.param(SERVED, Seen((SERVING,)), ["reconcile team/mlflow"], id="served, change"),
        pytest.param(SERVED, Seen((SERVING,), gone=True), ["reconcile team/mlflow"], id="served, deletion"),
    ],
)
async def test_watch_leads_to(monkeypatch: pytest.MonkeyPatch, watch: Any, seen: Seen | None, made: list[str]) -> None:
    calls = Calls(monkeypatch, seen)
    await watch(calls.adapters, OBJECTS, calls)
    assert calls.made == made
