"""Serving backends beside each other: three resources in one namespace, and models that move without a failed request."""

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from support.cluster import EXAMPLE_ROW, Cluster, eventually, settled
from support.operator import OperatorProcess
from support.platforms import KSERVE, SELDON

from sandbox.platform import Sandbox
from winepipelines.api.pipeline import WinePipeline

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def both() -> Iterator[Cluster]:
    """Run the platform with both backends, and one operator for them."""
    with Sandbox(f"moves-{os.getpid()}", without={"operator"}, backend="both") as sandbox, OperatorProcess(sandbox):
        yield Cluster(sandbox)


@pytest.fixture
def team(both: Cluster) -> Iterator[str]:
    name = both.namespace(f"moving-{next(_numbers)}")
    yield name
    both.sandbox.kubectl("-n", name, "delete", "winepipelines", "--all", "--wait=false")


def _settled_with(backend: str, pipeline: WinePipeline) -> bool:
    served = pipeline.status.served
    return settled(pipeline) and served is not None and served.backend == backend


def _is_gone(cluster: Cluster, kind: str, namespace: str) -> bool:
    return cluster.get(kind, namespace, "mlflow") is None


def _endpoint(cluster: Cluster, namespace: str, name: str) -> str:
    resource = cluster.get("winepipelines", namespace, name)
    assert resource is not None
    return str(resource["status"]["endpoint"]["url"])


@contextmanager
def _asked(cluster: Cluster, namespace: str, name: str) -> Iterator[list[str]]:
    """Request a prediction at the endpoint in the status again and again; return the failures."""
    failures: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.1):
            try:
                cluster.http(_endpoint(cluster, namespace, name), {"data": {"ndarray": [EXAMPLE_ROW]}})
            except Exception as error:  # whatever it is, a client has no answer
                failures.append(f"{type(error).__name__}: {error}"[:200])

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield failures
    finally:
        over.set()
        thread.join(30)


@pytest.mark.timeout(600)
def test_model_moves_to_the_other_backend_and_back_without_a_failed_request(both: Cluster, team: str) -> None:
    names = {"mlflow": SELDON, "beside": SELDON, "other": KSERVE}
    for name, backend in names.items():
        choice = {} if name == "mlflow" else {"backend": backend.name}
        both.apply(both.resource(team, name, serving={**choice, "migrationGrace": "5s"}))
    for name, backend in names.items():
        both.wait(team, partial(_settled_with, backend.name), name, 240)
    revisions = {one["metadata"]["name"]: one["status"]["revision"] for one in both.objects("winepipelines", team)}
    runs = len(both.runs(team))

    for backend, left in ((KSERVE, SELDON), (SELDON, KSERVE)):
        with _asked(both, team, "mlflow") as failures:
            both.apply(both.resource(team, "mlflow", serving={"backend": backend.name, "migrationGrace": "5s"}))
            both.wait(team, partial(_settled_with, backend.name), seconds=180)
            assert not _is_gone(both, backend.plural, team)
            eventually(partial(_is_gone, both, left.plural, team), 60)
        assert failures == []

    assert len(both.runs(team)) == runs, "nothing is trained again"
    after = {one["metadata"]["name"]: one["status"]["revision"] for one in both.objects("winepipelines", team)}
    assert after == revisions
    for name in ("beside", "other"):
        assert both.http(_endpoint(both, team, name), {"data": {"ndarray": [EXAMPLE_ROW]}})["data"]["ndarray"]
    assert "DriftCorrected" not in {reason for reason, _ in both.events(team)}
    both.delete("winepipelines", team, "mlflow")
    eventually(lambda: all(_is_gone(both, one.plural, team) for one in (SELDON, KSERVE)), 60)
