"""Kubeflow Pipelines in single-user mode: runs and their Secret are in its namespace. The mode can change without a restart."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.cluster import Cluster, eventually, ready, says
from support.operator import OperatorProcess

from sandbox.components import answers, base_environment, python_environment
from sandbox.manifests import ARTIFACT_SECRET, artifact_secret
from sandbox.plan import Plan, load
from sandbox.platform import Sandbox
from sandbox.ports import choose
from winepipelines.api.status import ConditionType

PREPARED, TRAINED = ConditionType.PREPARED, ConditionType.TRAINED


@contextmanager
def kubeflow(plan: Plan, port: int, state: Path, *flags: str) -> Iterator[None]:
    """Run the stand-in in one of its modes, on a port."""
    state.mkdir()
    command = [plan.pipeline_python, "-m", "sandbox.kubeflow", "--port", str(port), "--state", str(state)]
    command += ["--kubeconfig", str(plan.kubeconfig), "--orphan-seconds", "2", *flags]
    environment = {**base_environment(), **python_environment("", "pipeline"), "MLFLOW_S3_ENDPOINT_URL": plan.url("store")}
    with subprocess.Popen(command, env=environment) as process:
        try:
            url = f"http://127.0.0.1:{port}/apis/v2beta1/healthz"
            eventually(lambda: process.poll() is None and answers(url), 60)
            yield
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    with Sandbox(f"single-{os.getpid()}", without={"operator", "kubeflow"}) as sandbox:
        plan = load(sandbox.folder)
        assert plan is not None
        yield plan


@pytest.fixture(scope="module")
def cluster(plan: Plan) -> Cluster:
    return Cluster(Sandbox(plan.name, plan.folder))


def _without_secret(cluster: Cluster, name: str) -> str:
    """Create a user's namespace without the objects of a profile controller."""
    cluster.namespace(name)
    cluster.delete("secret", name, ARTIFACT_SECRET)
    return name


def test_secret_is_needed_in_the_namespace_of_runs_when_the_mode_changes(plan: Plan, cluster: Cluster, tmp_path: Path) -> None:
    port = choose(("kfp",), {})["kfp"]
    first, second = _without_secret(cluster, "first"), _without_secret(cluster, "second")
    with OperatorProcess(Sandbox(plan.name, plan.folder), {"WINE_KFP_URL": f"http://127.0.0.1:{port}"}) as operator:
        with kubeflow(plan, port, tmp_path / "single", "--namespace", "kubeflow"):
            cluster.apply(cluster.resource(first))
            pipeline = cluster.wait(first, says(PREPARED, "ArtifactSecretMissing"))
            condition = pipeline.status.condition(PREPARED)
            assert condition is not None
            assert f"Secret kubeflow/{ARTIFACT_SECRET} does not exist" in condition.message
            cluster.apply(artifact_secret(plan, "kubeflow"))
            cluster.wait(first, ready)
            assert cluster.get("secret", first, ARTIFACT_SECRET) is None, "no run uses one there"

        with kubeflow(plan, port, tmp_path / "multi", "--multi-user"):
            cluster.apply(cluster.resource(second))
            pipeline = cluster.wait(second, says(PREPARED, "ArtifactSecretMissing"))
            condition = pipeline.status.condition(PREPARED)
            assert condition is not None
            assert f"Secret {second}/{ARTIFACT_SECRET} does not exist" in condition.message
            cluster.apply(artifact_secret(plan, second))
            cluster.wait(second, ready)

        third = _without_secret(cluster, "third")
        with kubeflow(plan, port, tmp_path / "single-again", "--namespace", "kubeflow"):
            cluster.apply(cluster.resource(third))
            cluster.wait(third, ready)
        assert operator.alive()
        assert "Kubeflow Pipelines has changed its mode mode=multi-user" in operator.log.read_text()
