"""One platform that checks every request: Kubeflow Pipelines requires tokens, MLflow a password."""

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
def cluster() -> Iterator[Cluster]:
    with Sandbox(f"rights-{os.getpid()}", without={"operator"}, authenticate=True, audit=True, mlflow="proxied") as sandbox:
        plan = load(sandbox.folder)
        assert plan is not None
        # Everything that the operator applies in the scenarios must pass the chart's admission policies.
        install(sandbox, {"mlflow": {"url": plan.mlflow_url}, "objectStore": {"url": plan.url("minio")}})
        yield Cluster(sandbox)


@pytest.fixture(scope="session")
def new_namespace(cluster: Cluster) -> Callable[[], str]:
    """Return a function that creates a user's namespace."""
    return lambda: cluster.namespace(f"team-{next(_numbers)}")
