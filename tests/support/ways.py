"""What the operator needs its rights for: short ways through its work, each of which uses some and fails without them.

A way raises AssertionError where something is not so in seconds. What an interval would mend in the end must happen at once: the
operator is told of it by a watch, or it is not.
"""

import base64
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from support.cluster import Cluster, eventually, settled
from support.operator import OperatorProcess

from sandbox.errors import KubectlError
from winepipelines.resource.naming import MLFLOW_SECRET, PODDEFAULT_MINIO, SELDON_SECRET
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.status import ConditionType, Stage

CRD = Path(__file__).parents[2] / "crds" / "winepipelines.yaml"
SOURCES = {"mlflow-server-seldon-init-container-s3-credentials": SELDON_SECRET, "mlflow-tracking-credentials": MLFLOW_SECRET}
AT_ONCE, SOON = 6, 30  # seconds
ONLY_WATCHES = {"WINE_POLL_SECONDS": "600", "WINE_POLL_FALLBACK_SECONDS": "600", "WINE_CHECK_INTERVAL_SECONDS": "600"}


def _unless_stuck(so: Callable[[WinePipeline], bool]) -> Callable[[WinePipeline], bool]:
    """Fail as soon as the status says that a person has to help."""

    def is_so(pipeline: WinePipeline) -> bool:
        stalled = pipeline.status.condition(ConditionType.STALLED)
        assert stalled is None, f"{stalled.reason}: {stalled.message}" if stalled else ""
        return so(pipeline)

    return is_so


def serving(cluster: Cluster, namespace: str) -> None:
    """A resource is served, and told about; what serves is made again where it was deleted, and goes with the resource."""
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, _unless_stuck(settled), seconds=SOON)
    eventually(lambda: "Serving" in {reason for reason, _ in cluster.events(namespace)}, AT_ONCE)
    cluster.sandbox.kubectl("-n", namespace, "delete", "sdep", "mlflow", "--wait=false")
    eventually(lambda: "DriftMended" in {reason for reason, _ in cluster.events(namespace)}, AT_ONCE)
    cluster.wait(namespace, _unless_stuck(settled), seconds=SOON)
    cluster.sandbox.kubectl("-n", namespace, "delete", "winepipeline", "mlflow", f"--timeout={AT_ONCE}s")
    assert cluster.get("sdep", namespace, "mlflow") is None
    assert "LeftBehind" not in {reason for reason, _ in cluster.events(namespace)}


def children(cluster: Cluster, namespace: str) -> None:
    """What a namespace needs is there, is made again where it was deleted, and follows what it is a copy of."""
    cluster.apply(cluster.resource(namespace, suspend=True))
    cluster.wait(namespace, _unless_stuck(lambda pipeline: pipeline.status.stage is Stage.SUSPENDED), seconds=SOON)
    for kind, name in (("secret", SELDON_SECRET), ("secret", MLFLOW_SECRET), ("poddefault", PODDEFAULT_MINIO)):
        cluster.sandbox.kubectl("-n", namespace, "delete", kind, name)
        eventually(lambda kind=kind, name=name: cluster.get(kind, namespace, name) is not None, AT_ONCE)  # type: ignore[misc]
    for source, copy in SOURCES.items():
        _follows(cluster, namespace, source, copy)


def _follows(cluster: Cluster, namespace: str, source: str, copy: str) -> None:
    key = "RCLONE_CONFIG_S3_REGION" if copy == SELDON_SECRET else "MLFLOW_TRACKING_PASSWORD"
    before = cluster.get("secret", "kubeflow", source)
    assert before is not None
    changed = base64.b64encode(b"changed").decode()
    _patch(cluster, source, {key: changed})
    try:
        eventually(lambda: (cluster.get("secret", namespace, copy) or {}).get("data", {}).get(key) == changed, AT_ONCE)
    finally:
        _patch(cluster, source, {key: before["data"].get(key)})


def _patch(cluster: Cluster, secret: str, data: dict[str, str | None]) -> None:
    cluster.sandbox.kubectl("-n", "kubeflow", "patch", "secret", secret, "--type=merge", "-p", json.dumps({"data": data}))


def ending(cluster: Cluster, namespace: str) -> None:
    """A deleted resource ends its run; one whose Workflow is gone cannot be ended and is removed."""
    with socket.create_server(("127.0.0.1", 0)) as nobody_answers:
        url = f"http://127.0.0.1:{nobody_answers.getsockname()[1]}/wine.csv"
        for name in ("whole", "torn"):
            cluster.apply(cluster.resource(namespace, name, url=url))
        runs = {
            name: cluster.wait(namespace, _unless_stuck(_running), name, seconds=SOON).status.run for name in ("whole", "torn")
        }
        assert runs["torn"] is not None
        cluster.sandbox.kubectl("-n", namespace, "delete", "workflows", "-l", f"pipeline/runid={runs['torn'].id}")
        cluster.sandbox.kubectl("-n", namespace, "delete", "winepipelines", "whole", "torn", f"--timeout={AT_ONCE}s")
        states = {run["display_name"].partition("-")[0]: run["state"] for run in _runs(cluster, namespace)}
        assert "whole" in states
        assert set(states.values()) <= {"CANCELING", "FAILED"}, "another attempt may have begun; none goes on"


def retrying(cluster: Cluster, namespace: str) -> None:
    """A run that failed for a passing reason is tried again."""
    cluster.apply(cluster.resource(namespace, url="http://127.0.0.1:1/wine.csv", training={"attempts": 2}))
    cluster.wait(namespace, _runs_again, seconds=SOON)


def scoring(cluster: Cluster, namespace: str) -> None:
    """A file is scored with the model that serves, and the prediction goes when its time is over."""
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, _unless_stuck(settled), seconds=SOON)
    cluster.apply(
        {
            "apiVersion": "winepipelines.io/v1alpha1",
            "kind": "WinePrediction",
            "metadata": {"name": "scores", "namespace": namespace},
            "spec": {
                "pipeline": "mlflow",
                "input": {"url": cluster.info.data_url},
                "output": f"s3://mlpipeline/{namespace}/scores.csv",
                "ttlAfterFinished": "2s",
            },
        }
    )
    cluster.sandbox.kubectl("-n", namespace, "wait", "--for=jsonpath={.status.rows}=1599", "wpred/scores", f"--timeout={SOON}s")
    cluster.sandbox.kubectl("-n", namespace, "wait", "--for=delete", "winepredictions/scores", f"--timeout={SOON}s")


def _running(pipeline: WinePipeline) -> bool:
    return pipeline.status.run is not None and pipeline.status.run.state == "RUNNING"


def _runs_again(pipeline: WinePipeline) -> bool:
    run = pipeline.status.run
    return run is not None and run.attempt == 2 and bool(run.id)


def _runs(cluster: Cluster, namespace: str) -> list[dict[str, str]]:
    """Read the database of Kubeflow Pipelines' stand-in through its API, as the operator, who may list."""
    import urllib.request

    token = (cluster.info.folder / "kfp.token").read_text()
    url = f"{cluster.info.kfp_url}/apis/v2beta1/runs?namespace={namespace}&page_size=200"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
        return list(json.loads(answer.read()).get("runs") or [])


def kinds(cluster: Cluster, namespace: str) -> None:
    """A kind that is deleted and created again is noticed, when its CRD changes once more after it is served."""
    cluster.sandbox.kubectl("delete", "-f", str(CRD), "--timeout=30s")
    _create_kind(cluster)
    cluster.sandbox.kubectl("annotate", "-f", str(CRD), "--overwrite", f"test={namespace}")
    cluster.apply(cluster.resource(namespace, suspend=True))
    cluster.wait(namespace, lambda pipeline: pipeline.status.stage is Stage.SUSPENDED, seconds=15)


def _create_kind(cluster: Cluster) -> None:
    cluster.sandbox.kubectl("apply", "--server-side", "-f", str(CRD))
    eventually(lambda: "winepipelines" in cluster.sandbox.kubectl("api-resources", "--api-group=winepipelines.io", "-o", "name"))


@dataclass(frozen=True)
class Way:
    """A way; one that is `cluster_wide` needs an operator that watches the whole cluster."""

    go: Callable[[Cluster, str], None]
    cluster_wide: bool = False

    @property
    def name(self) -> str:
        return self.go.__name__

    def run(self, cluster: Cluster, namespace: str, changes: dict[str, str] | None = None) -> None:
        """Go it with an operator of its own. Raises AssertionError or KubectlError where it does not lead through."""
        operator = OperatorProcess(cluster.sandbox, {**ONLY_WATCHES, **(changes or {})})
        begun = operator.log.stat().st_size if operator.log.exists() else 0
        try:
            operator.start()
            self.go(cluster, namespace)
            told = operator.log.read_bytes()[begun:].decode()
            assert "cannot be watched" not in told, "what is told at once is looked for now and then"
        finally:
            operator.kill()
            _clean(cluster, namespace)


def _clean(cluster: Cluster, namespace: str) -> None:
    _create_kind(cluster)
    for kind in ("winepredictions", "winepipelines"):
        for body in cluster.objects(kind, namespace):
            name = body["metadata"]["name"]
            with suppress(KubectlError):  # it may be on its way out
                free = json.dumps({"metadata": {"finalizers": []}})
                cluster.sandbox.kubectl("-n", namespace, "delete", kind, name, "--wait=false")
                cluster.sandbox.kubectl("-n", namespace, "patch", kind, name, "--type=merge", "-p", free)


WAYS = (Way(children), Way(serving), Way(ending), Way(retrying), Way(scoring), Way(kinds, cluster_wide=True))
