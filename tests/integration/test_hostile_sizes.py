"""One team fills its namespace with huge objects and MLflow with huge runs: the operator's memory stays under the chart's limit.

The API server, MLflow, the operator's process and all objects are real.
"""

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cluster import Body, Cluster, eventually, ready, says
from support.operator import OperatorProcess

from dev import helm
from sandbox.errors import KubectlError
from sandbox.platform import Sandbox
from sandbox.seldon.api import DEPLOYMENT, MERGE_PATCH, POD, Api
from winepipelines.api.naming import MANAGED_BY, MANAGED_BY_LABEL
from winepipelines.api.status import ConditionType
from winepipelines.serving.seldon.naming import COPY_SECRET

LIMIT = 256 * 1024  # KiB: the chart's limits.memory
CHART = yaml.safe_load((helm.CHARTS / "wine-operator/values.yaml").read_text())
AT_ONCE = 8  # concurrent requests
PIPELINES = "winepipelines.io/v1alpha1/winepipelines"
ANNOTATION = "x" * 250_000  # the API server takes 256 KiB of annotations
OURS = {MANAGED_BY_LABEL: MANAGED_BY}


def _most(operator: OperatorProcess) -> int:
    """Read the peak resident memory of the process, in KiB."""
    status = Path(f"/proc/{operator.pid}/status").read_text()
    return int(re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[0])


def _metadata(namespace: str, name: str, **labels: str) -> Body:
    return {"namespace": namespace, "name": name, "labels": labels, "annotations": {"big": ANNOTATION}}


def _deployment(namespace: str, number: int) -> Body:
    """Return a Deployment that claims to belong to the SeldonDeployment, with an environment of the maximal size for etcd."""
    labels = {"app": "forged"}
    container = {"name": "c", "image": "none", "env": [{"name": "E", "value": "x" * 1_000_000}]}
    spec = {
        "replicas": 0,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    metadata = {"namespace": namespace, "name": f"forged-{number}", "labels": {"seldon-deployment-id": "mlflow"}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def _pod(namespace: str, number: int) -> Body:
    """Return a pod of a run, which is never scheduled."""
    labels = {"pipeline/runid": f"run-{number}", "seldon-deployment-id": "mlflow"}
    spec = {"schedulerName": "nobody", "containers": [{"name": "c", "image": "none"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": _metadata(namespace, f"pod-{number}", **labels), "spec": spec}


def _workflow(namespace: str, number: int) -> Body:
    metadata = _metadata(namespace, f"workflow-{number}", **{"pipeline/runid": f"run-{number}"})
    spec = {"arguments": {"parameters": [{"name": "p", "value": "x" * 700_000}]}}
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": metadata, "spec": spec}


def _pod_default(namespace: str, number: int) -> Body:
    spec = {"selector": {"matchLabels": {"a": "b"}}}
    metadata = _metadata(namespace, f"default-{number}", **OURS)
    return {"apiVersion": "kubeflow.org/v1alpha1", "kind": "PodDefault", "metadata": metadata, "spec": spec}


def _seldon_deployment(namespace: str, number: int) -> Body:
    metadata = _metadata(namespace, f"foreign-{number}", **OURS)
    graph = {"name": "g", "implementation": "SKLEARN_SERVER", "modelUri": "s3://none/" + "x" * 500_000}
    spec = {"predictors": [{"name": "p", "replicas": 0, "graph": graph}]}
    return {"apiVersion": "machinelearning.seldon.io/v1", "kind": "SeldonDeployment", "metadata": metadata, "spec": spec}


def _secret(namespace: str, _: int) -> Body:
    data = {"k": "x" * 900_000}
    metadata = _metadata(namespace, COPY_SECRET, **OURS)
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}


Objects = tuple[tuple[str, Callable[[str, int], Body], int], ...]
LISTED: Objects = (
    (DEPLOYMENT, _deployment, 80),
    (POD, _pod, 100),
    ("v1/secrets", _secret, 1),
)  # of one WinePipeline's deployment
WATCHED: Objects = (
    ("argoproj.io/v1alpha1/workflows", _workflow, 60),
    ("kubeflow.org/v1alpha1/poddefaults", _pod_default, 100),
    ("machinelearning.seldon.io/v1/seldondeployments", _seldon_deployment, 40),
)


async def _fill(cluster: Cluster, namespace: str, crowded: str) -> None:
    """Create the attacker's objects: 200 suspended WinePipelines in one namespace, forged children of one in the other."""
    api, slots = Api.connect(cluster.info.kubeconfig), asyncio.Semaphore(AT_ONCE)

    async def create(resource: str, body: Body) -> None:
        async with slots:
            await api.create(resource, body)

    def pipeline(number: int) -> Body:
        body = cluster.resource(namespace, f"wine-{number}", suspend=True)
        return {**body, "metadata": _metadata(namespace, f"wine-{number}")}

    try:
        await asyncio.gather(
            *(create(PIPELINES, pipeline(number)) for number in range(200)),
            *(create(resource, build(namespace, number)) for resource, build, count in WATCHED for number in range(count)),
            *(create(resource, build(crowded, number)) for resource, build, count in LISTED for number in range(count)),
        )
    finally:
        await api.close()


async def _change(cluster: Cluster, namespace: str) -> None:
    """Change all of the attacker's WinePipelines at once, which causes a burst of events."""
    api, slots = Api.connect(cluster.info.kubeconfig), asyncio.Semaphore(AT_ONCE)

    async def change(number: int) -> None:
        async with slots:
            patch = {"metadata": {"annotations": {"big": "y" * 250_000}}}
            url = api._url(PIPELINES, namespace, f"wine-{number}")
            await api._request("PATCH", url, patch, MERGE_PATCH)

    try:
        await asyncio.gather(*(change(number) for number in range(200)))
    finally:
        await api.close()


def _forge_run(cluster: Cluster, tags: dict[str, str]) -> None:
    """Write an MLflow run with these tags and 28 MB of others into the experiment that the pipeline will use."""

    def post(path: str, body: Body) -> Body:
        return cluster.http(f"{cluster.info.mlflow_url}/api/2.0/mlflow/{path}", body)

    experiment = post("experiments/create", {"name": "wine"})["experiment_id"]
    now = int(time.time() * 1000)
    forged = [{"key": f"winepipelines.io/{name}", "value": value} for name, value in tags.items()]
    run = post("runs/create", {"experiment_id": experiment, "start_time": now, "tags": forged})["run"]["info"]["run_id"]
    for batch in range(70):
        more = [{"key": f"t{batch}-{number}", "value": "x" * 4900} for number in range(80)]
        post("runs/log-batch", {"run_id": run, "tags": more})


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Run a platform of its own: the remains of the attack would disturb other tests."""
    with Sandbox(f"hostile-{os.getpid()}", without={"operator"}) as sandbox:
        yield Cluster(sandbox)


@pytest.fixture
def own_operator(cluster: Cluster) -> Iterator[OperatorProcess]:
    """Start an operator during the attack, so that its peak memory is due to the attack."""
    with OperatorProcess(cluster.sandbox, {"WINE_DOCTOR_SECONDS": "10"}) as operator:
        yield operator


@pytest.fixture
def filled(cluster: Cluster) -> str:
    asyncio.run(_fill(cluster, cluster.namespace("filled"), cluster.namespace("crowded")))
    return "filled"


@pytest.mark.timeout(600)
def test_memory_stays_within_the_limit_when_objects_and_runs_are_huge(
    cluster: Cluster, filled: str, own_operator: OperatorProcess
) -> None:
    assert CHART["resources"]["limits"]["memory"] == "256Mi"
    honest, pid = cluster.namespace("honest"), own_operator.pid
    started = _most(own_operator)
    cluster.apply(cluster.resource(honest, suspend=True))
    cluster.apply(cluster.resource("crowded"))
    uid = cluster.wait(honest, lambda _: True).uid
    _forge_run(cluster, {"uid": uid, "revision": "1"})
    cluster.apply(cluster.resource(honest))
    asyncio.run(_change(cluster, filled))
    cluster.wait(honest, ready, seconds=240)
    refused = cluster.wait("crowded", says(ConditionType.DEPLOYED, "TooManyDeployments"), seconds=240)
    assert "kubectl" in str(refused.status.condition(ConditionType.DEPLOYED))
    asyncio.run(_change(cluster, filled))
    most = _most(own_operator)
    measured = f"{started / 1024:.0f} MiB peak during start, {most / 1024:.0f} MiB peak in total"
    logging.getLogger(__name__).warning(measured)
    assert own_operator.pid == pid
    assert own_operator.alive()
    assert most < LIMIT, measured


def test_chart_policy_refuses_too_much_metadata(cluster: Cluster) -> None:
    namespace = cluster.namespace("limited")
    stored = {**cluster.resource(namespace, "stored"), "metadata": _metadata(namespace, "stored")}
    cluster.sandbox.kubectl("create", "-f", "-", stdin=yaml.safe_dump(stored))
    policy = [one for one in helm.template() if one["metadata"]["name"].endswith(".limits")]
    assert [one["kind"] for one in policy] == ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"]
    cluster.sandbox.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(policy))
    try:
        _check_refusals(cluster, namespace)
        with pytest.raises(KubectlError, match="annotations, labels, finalizers and owners have 2500"):
            cluster.sandbox.kubectl("-n", namespace, "annotate", "winepipeline", "stored", "winepipelines.io/retrain=now")
        patch = '{"spec": {"suspend": true}}'  # a change that adds no metadata passes, whatever is stored
        cluster.sandbox.kubectl("-n", namespace, "patch", "winepipeline", "stored", "--type=merge", f"--patch={patch}")
    finally:
        cluster.sandbox.kubectl("delete", "-f", "-", stdin=yaml.safe_dump_all(policy))


def _check_refusals(cluster: Cluster, namespace: str) -> None:
    """Wait until the policy takes effect. Then check that each kind of metadata is limited and that ordinary metadata pass."""

    def refused(**metadata: Any) -> bool:
        body = cluster.resource(namespace, "policy")
        body["metadata"] |= metadata
        try:
            cluster.sandbox.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(body))
        except KubectlError as error:
            return "at most 65536 are allowed" in str(error)
        return False

    eventually(lambda: refused(annotations={"big": ANNOTATION}), 30)
    assert refused(labels={f"l{number}": "x" * 60 for number in range(1200)})
    assert refused(finalizers=[f"example.com/{number:060d}" for number in range(1200)])
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "c"}
    assert refused(ownerReferences=[{**owner, "uid": str(number)} for number in range(400)])
    assert not refused(annotations={"kubectl.kubernetes.io/last-applied-configuration": "x" * 45_000})
