"""Short scenarios of the operator's work, each of which needs some of its RBAC rights and fails without them.

A scenario raises AssertionError if an expected state is not reached within seconds. The intervals of the operator are set to
minutes, so that only a watch can report a change in time.
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
from support.poddefaults import conflicting_poddefault
from support.rights import Audit

from sandbox.errors import KubectlError
from sandbox.plan import load
from winepipelines.api.naming import MLFLOW_SECRET, PODDEFAULT_MINIO
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import ConditionType, Stage
from winepipelines.platform.metadata import WATCH_FAILED
from winepipelines.serving.kserve import naming as kserve
from winepipelines.serving.seldon import naming as seldon

CRD = Path(__file__).parents[2] / "crds" / "winepipelines.yaml"
AT_ONCE, SOON = 15, 30  # seconds; of at once, most is for a busy machine
ONLY_WATCHES = {"WINE_POLL_SECONDS": "600", "WINE_POLL_FALLBACK_SECONDS": "600", "WINE_CHECK_INTERVAL_SECONDS": "600"}


@dataclass(frozen=True)
class Copy:
    """A copy of a Secret of the platform's, and one of its keys, which stems from another in the source."""

    name: str
    source: str
    key: str
    source_key: str


@dataclass(frozen=True)
class Backend:
    """What serves models: the kind of its objects, and the Secret that it copies models with."""

    kind: str
    copy: Copy
    seconds: float  # until a model is served

    @classmethod
    def of(cls, cluster: Cluster) -> "Backend":
        """Return the backend of a platform."""
        return KSERVE if cluster.info.kserve_url else SELDON


MLFLOW = Copy(MLFLOW_SECRET, "mlflow-tracking-credentials", *["MLFLOW_TRACKING_PASSWORD"] * 2)
RCLONE = Copy(seldon.COPY_SECRET, "mlflow-server-seldon-init-container-s3-credentials", *["RCLONE_CONFIG_S3_REGION"] * 2)
SELDON = Backend("sdep", RCLONE, SOON)
KSERVE = Backend("isvc", Copy(kserve.COPY_SECRET, "mlpipeline-minio-artifact", "AWS_SECRET_ACCESS_KEY", "secretkey"), 2 * SOON)


def _unless_stalled(holds: Callable[[WinePipeline], bool]) -> Callable[[WinePipeline], bool]:
    """Wrap a condition so that it fails at once if the resource is Stalled."""

    def checked(pipeline: WinePipeline) -> bool:
        stalled = pipeline.status.condition(ConditionType.STALLED)
        assert stalled is None, f"{stalled.reason}: {stalled.message}" if stalled else ""
        return holds(pipeline)

    return checked


def serving(cluster: Cluster, namespace: str) -> None:
    """Serve a model and record Events; restore a deleted deployment; delete the deployment with the resource."""
    backend = Backend.of(cluster)
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, _unless_stalled(settled), seconds=backend.seconds)
    eventually(lambda: "Serving" in {reason for reason, _ in cluster.events(namespace)}, AT_ONCE)
    cluster.sandbox.kubectl("-n", namespace, "delete", backend.kind, "mlflow", "--wait=false")
    eventually(lambda: "DriftCorrected" in {reason for reason, _ in cluster.events(namespace)}, AT_ONCE)
    cluster.wait(namespace, _unless_stalled(settled), seconds=backend.seconds)
    cluster.sandbox.kubectl("-n", namespace, "delete", "winepipeline", "mlflow", f"--timeout={AT_ONCE}s")
    eventually(lambda: cluster.get(backend.kind, namespace, "mlflow") is None, AT_ONCE)
    assert "ResourcesLeftBehind" not in {reason for reason, _ in cluster.events(namespace)}


def children(cluster: Cluster, namespace: str) -> None:
    """Create the shared children of a namespace, restore deleted ones, and update copied Secrets when their source changes."""
    cluster.apply(cluster.resource(namespace, suspend=True))
    cluster.wait(namespace, _unless_stalled(lambda pipeline: pipeline.status.stage is Stage.SUSPENDED), seconds=SOON)
    copy = Backend.of(cluster).copy
    for kind, name in (("secret", copy.name), ("secret", MLFLOW_SECRET), ("poddefault", PODDEFAULT_MINIO)):
        cluster.sandbox.kubectl("-n", namespace, "delete", kind, name)
        eventually(lambda kind=kind, name=name: cluster.get(kind, namespace, name) is not None, AT_ONCE)  # type: ignore[misc]
    with conflicting_poddefault(cluster, namespace):
        eventually(lambda: cluster.get("poddefault", namespace, PODDEFAULT_MINIO) is None, AT_ONCE)
    eventually(lambda: cluster.get("poddefault", namespace, PODDEFAULT_MINIO) is not None, AT_ONCE)
    for each in (copy, MLFLOW):
        _updates(cluster, namespace, each)


def _updates(cluster: Cluster, namespace: str, copy: Copy) -> None:
    before = cluster.get("secret", "kubeflow", copy.source)
    assert before is not None
    changed = base64.b64encode(b"changed").decode()
    _patch(cluster, copy.source, {copy.source_key: changed})
    try:
        eventually(lambda: (cluster.get("secret", namespace, copy.name) or {}).get("data", {}).get(copy.key) == changed, AT_ONCE)
    finally:
        _patch(cluster, copy.source, {copy.source_key: before["data"].get(copy.source_key)})


def _patch(cluster: Cluster, secret: str, data: dict[str, str | None]) -> None:
    cluster.sandbox.kubectl("-n", "kubeflow", "patch", "secret", secret, "--type=merge", "-p", json.dumps({"data": data}))


def ending(cluster: Cluster, namespace: str) -> None:
    """Terminate the run of a deleted resource. A run without a Workflow cannot be terminated and is deleted."""
    with socket.create_server(("127.0.0.1", 0)) as silent_server:
        url = f"http://127.0.0.1:{silent_server.getsockname()[1]}/wine.csv"
        for name in ("intact", "broken"):
            cluster.apply(cluster.resource(namespace, name, url=url))
        runs = {
            name: cluster.wait(namespace, _unless_stalled(_running), name, seconds=SOON).status.run
            for name in ("intact", "broken")
        }
        assert runs["broken"] is not None
        cluster.sandbox.kubectl("-n", namespace, "delete", "workflows", "-l", f"pipeline/runid={runs['broken'].id}")
        cluster.sandbox.kubectl("-n", namespace, "delete", "winepipelines", "intact", "broken", f"--timeout={AT_ONCE}s")
        remaining = _runs(cluster, namespace)
        assert "intact" in {run["display_name"].partition("-")[0] for run in remaining}
        assert runs["broken"].id not in {run["run_id"] for run in remaining}, (
            "a run without a Workflow never ends, so it must be deleted"
        )
        assert {run["state"] for run in remaining} <= {"CANCELING", "FAILED"}, (
            "every remaining run must have ended or be terminating, other attempts too"
        )


def retrying(cluster: Cluster, namespace: str) -> None:
    """Start another attempt after a run failed for a reason that may pass."""
    cluster.apply(cluster.resource(namespace, url="http://127.0.0.1:1/wine.csv", training={"attempts": 2}))
    cluster.wait(namespace, _runs_again, seconds=SOON)


def scoring(cluster: Cluster, namespace: str) -> None:
    """Score a file with the served model; delete the WinePrediction after its time to live."""
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, _unless_stalled(settled), seconds=SOON)
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
    """List the runs in Kubeflow Pipelines with the operator's token."""
    import urllib.request

    token = (cluster.info.folder / "kfp.token").read_text()
    url = f"{cluster.info.kfp_url}/apis/v2beta1/runs?namespace={namespace}&page_size=200"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
        return list(json.loads(answer.read()).get("runs") or [])


def kinds(cluster: Cluster, namespace: str) -> None:
    """Watch resources again after their CRD was deleted and created again."""
    plan = load(cluster.sandbox.folder)
    assert plan is not None
    cluster.apply(cluster.resource(namespace, "before", suspend=True))  # kopf has discovered the kinds once it is reconciled
    cluster.wait(namespace, lambda pipeline: pipeline.status.stage is Stage.SUSPENDED, "before", seconds=SOON)
    cluster.sandbox.kubectl("-n", namespace, "delete", "winepipeline", "before", f"--timeout={SOON}s")
    audit = Audit(plan.audit_log)
    cluster.sandbox.kubectl("delete", "-f", str(CRD), "--timeout=30s")
    eventually(audit.kind_is_missed, SOON)  # else the watch could just reconnect after the CRD is back, which needs no right
    _create_kind(cluster)
    cluster.sandbox.kubectl("annotate", "-f", str(CRD), "--overwrite", f"test={namespace}")
    cluster.apply(cluster.resource(namespace, suspend=True))
    cluster.wait(namespace, lambda pipeline: pipeline.status.stage is Stage.SUSPENDED, seconds=15)


def _create_kind(cluster: Cluster) -> None:
    cluster.sandbox.kubectl("apply", "--server-side", "-f", str(CRD))
    eventually(lambda: "winepipelines" in cluster.sandbox.kubectl("api-resources", "--api-group=winepipelines.io", "-o", "name"))


@dataclass(frozen=True)
class Scenario:
    """A scenario. If it is `cluster_wide`, the operator must watch the whole cluster."""

    steps: Callable[[Cluster, str], None]
    cluster_wide: bool = False

    @property
    def name(self) -> str:
        return self.steps.__name__

    def run(self, cluster: Cluster, namespace: str, changes: dict[str, str] | None = None) -> None:
        """Run the scenario with an operator of its own.

        Raises AssertionError or KubectlError if it fails.
        """
        operator = OperatorProcess(cluster.sandbox, {**ONLY_WATCHES, **(changes or {})})
        begun = operator.log.stat().st_size if operator.log.exists() else 0
        try:
            operator.start()
            self.steps(cluster, namespace)
            log = operator.log.read_bytes()[begun:].decode()
            assert WATCH_FAILED not in log, "a watch failed, so the operator notices changes late"
        finally:
            operator.kill()
            _clean(cluster, namespace)


def _clean(cluster: Cluster, namespace: str) -> None:
    _create_kind(cluster)
    for kind in ("winepredictions", "winepipelines"):
        for body in cluster.objects(kind, namespace):
            name = body["metadata"]["name"]
            with suppress(KubectlError):  # it may be gone by now
                free = json.dumps({"metadata": {"finalizers": []}})
                cluster.sandbox.kubectl("-n", namespace, "delete", kind, name, "--wait=false")
                cluster.sandbox.kubectl("-n", namespace, "patch", kind, name, "--type=merge", "-p", free)


SCENARIOS = (
    Scenario(children),
    Scenario(serving),
    Scenario(ending),
    Scenario(retrying),
    Scenario(scoring),
    Scenario(kinds, cluster_wide=True),
)
OF_BACKEND = tuple(scenario for scenario in SCENARIOS if scenario.steps in (children, serving))
"""The scenarios that use the rights on a backend's objects."""
