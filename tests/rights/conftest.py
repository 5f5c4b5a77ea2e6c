"""One platform for each serving backend, that checks every request: Kubeflow Pipelines requires tokens, MLflow a password."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from support.cluster import Cluster
from support.guard import install

from sandbox.plan import load
from sandbox.platform import Sandbox

_numbers = itertools.count(1)


class Platforms:
    """The platform of one backend at a time: another one replaces it."""

    def __init__(self) -> None:
        self._backend = ""
        self._open = ExitStack()
        self._cluster: Cluster | None = None

    def of(self, backend: str) -> Cluster:
        """Return the platform of a backend; start it unless it runs."""
        if self._cluster is None or self._backend != backend:
            self.close()
            without, name = {"operator"}, f"rights-{os.getpid()}"
            sandbox = Sandbox(name, without=without, authenticate=True, audit=True, mlflow="proxied", backend=backend)
            self._open.enter_context(sandbox)
            plan = load(sandbox.folder)
            assert plan is not None
            # Everything that the operator applies in the scenarios must pass the chart's admission policies.
            values = {"mlflow": {"url": plan.mlflow_url}, "objectStore": {"url": plan.url("store")}}
            install(sandbox, {**values, "serving": {"backend": backend}})
            self._backend, self._cluster = backend, Cluster(sandbox)
        return self._cluster

    def close(self) -> None:
        """Stop the platform, if one runs."""
        self._cluster = None
        self._open.close()


@pytest.fixture(scope="session")
def platforms() -> Iterator[Platforms]:
    made = Platforms()
    yield made
    made.close()


@pytest.fixture
def cluster(request: pytest.FixtureRequest, platforms: Platforms) -> Cluster:
    """Return the platform with the backend that the parameter names."""
    return platforms.of(request.param)


@pytest.fixture
def new_namespace(cluster: Cluster) -> Callable[[], str]:
    """Return a function that creates a user's namespace."""
    return lambda: cluster.namespace(f"team-{next(_numbers)}")
