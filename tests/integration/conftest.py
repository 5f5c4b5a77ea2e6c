"""One sandbox for all integration tests; each test has a namespace of its own."""

import itertools
import os
from collections.abc import Iterator

import pytest
from support.cluster import Cluster
from support.doctor import Patient
from support.operator import OperatorProcess

from sandbox.platform import Sandbox

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A whole platform, without an operator."""
    with Sandbox(f"test-{os.getpid()}", without={"operator"}) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def cluster(sandbox: Sandbox) -> Cluster:
    return Cluster(sandbox)


@pytest.fixture(scope="session")
def operator(sandbox: Sandbox) -> Iterator[OperatorProcess]:
    """An operator that most tests share; those that start their own kill it first."""
    with OperatorProcess(sandbox) as operator:
        yield operator


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A user's namespace; its resources are gone after the test, whatever became of the test."""
    name = cluster.namespace(f"team-{next(_numbers)}")
    yield name
    cluster.sandbox.kubectl("-n", name, "delete", "winepipelines", "--all", "--wait=false")


@pytest.fixture(scope="session")
def patient() -> Iterator[Patient]:
    """A second platform, that the doctor's tests break; its Kubeflow Pipelines asks for tokens."""
    with Sandbox(f"patient-{os.getpid()}", without={"operator"}, authenticate=True) as sandbox:
        yield Patient(sandbox)
