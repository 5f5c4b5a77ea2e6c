"""A settled resource causes no writes, also when its backend's controller changes the status of its objects, and no reads."""

import json
import time

from support.cluster import Cluster, eventually, settled
from support.fleet import running_operator
from support.operator import OperatorProcess
from support.parametrized import both_backends
from support.rights import Audit

from sandbox.plan import load
from winepipelines.api.naming import ARTIFACT_SECRET

READS = {"get", "list"}
WRITES = {"create", "update", "patch", "delete", "deletecollection"}
QUIET = 3.0  # seconds in which a write would follow what the operator has read


@both_backends
def test_churning_status_of_the_deployment_causes_no_write(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    """The controller's own status changes again and again: its conditions, generations and times."""
    _serve(cluster, namespace)
    audit = _audit(cluster)
    for number in range(5):
        _change_status(cluster, namespace, f"2026-01-05T12:00:0{number}Z")
    eventually(lambda: bool(_requested(audit, namespace, READS)), 60)  # the operator has observed it since
    time.sleep(QUIET)
    assert _requested(audit, namespace, WRITES) == []


@both_backends
def test_settled_resource_is_read_only_when_its_objects_change(
    cluster: Cluster, operator: OperatorProcess, namespace: str
) -> None:
    """Reconciles every second, for prediction checks, read nothing of the API server."""
    _serve(cluster, namespace)
    operator.kill()
    every_second = {"WINE_CHECK_INTERVAL_SECONDS": "1", "WINE_PROBATION_INTERVAL_SECONDS": "1"}
    try:
        with running_operator(cluster.sandbox, every_second) as reconciling:

            def await_reconciles(number: int) -> None:
                before = reconciling.reconciles()
                eventually(lambda: reconciling.reconciles() >= before + number, 60)

            await_reconciles(5)  # the first ones read
            audit = _audit(cluster)
            await_reconciles(5)
            assert _requested(audit, namespace, READS) == []
            _change_status(cluster, namespace, "2026-01-05T12:00:00Z")
            eventually(lambda: bool(_requested(audit, namespace, READS)), 10)
            later = _audit(cluster)
            cluster.sandbox.kubectl("-n", namespace, "annotate", "secret", ARTIFACT_SECRET, "changed=true")
            eventually(lambda: f"get secrets {ARTIFACT_SECRET} in {namespace}" in _requested(later, namespace, READS), 10)
    finally:
        operator.start()


def _serve(cluster: Cluster, namespace: str) -> None:
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, settled)
    eventually(lambda: "Serving" in {reason for reason, _ in cluster.events(namespace)})


def _audit(cluster: Cluster) -> Audit:
    plan = load(cluster.sandbox.folder)
    assert plan is not None
    return Audit(plan.audit_log)


def _requested(audit: Audit, namespace: str, verbs: set[str]) -> list[str]:
    """List the operator's requests about a namespace."""
    return [str(one.right) for one in audit.requests() if one.right.namespace == namespace and one.right.verb in verbs]


def _change_status(cluster: Cluster, namespace: str, moment: str) -> None:
    """Add a condition to the backend's object and to its Deployment, which their controllers remove again or keep."""
    condition = {"type": "Churning", "status": "True", "lastTransitionTime": moment}
    patch = json.dumps([{"op": "add", "path": "/status/conditions/-", "value": condition}])
    deployment = cluster.backend.deployment.format(name="mlflow")
    for kind, name in ((cluster.backend.plural, "mlflow"), ("deployments", deployment)):
        cluster.sandbox.kubectl("-n", namespace, "patch", kind, name, "--subresource=status", "--type=json", "-p", patch)
