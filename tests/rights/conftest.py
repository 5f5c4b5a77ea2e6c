"""One platform for each serving backend, that checks every request: Kubeflow Pipelines requires tokens, MLflow a password."""

import itertools
import os
from collections.abc import Callable, Iterator

import pytest
from support.cluster import Cluster
from support.guard import install

from sandbox.plan import load
from sandbox.platform import Sandbox

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Start the platform with the backend that the parameter names. Tests of one backend run together."""
    without, name = {"operator"}, f"rights-{os.getpid()}"
    with Sandbox(name, without=without, authenticate=True, audit=True, mlflow="proxied", backend=request.param) as sandbox:
        plan = load(sandbox.folder)
        assert plan is not None
        # Everything that the operator applies in the scenarios must pass the chart's admission policies.
        values = {"mlflow": {"url": plan.mlflow_url}, "objectStore": {"url": plan.url("minio")}}
        install(sandbox, {**values, "serving": {"backend": request.param}})
        yield Cluster(sandbox)


@pytest.fixture(scope="session")
def new_namespace(cluster: Cluster) -> Callable[[], str]:
    """Return a function that creates a user's namespace."""
    return lambda: cluster.namespace(f"team-{next(_numbers)}")
