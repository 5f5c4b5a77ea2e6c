"""A resource at rest costs no writes, whatever its backend's controller writes into its own objects."""

import json
import time

from support.cluster import Cluster, eventually, settled
from support.operator import OperatorProcess
from support.parametrized import both_backends
from support.rights import Audit

from sandbox.plan import load

WRITES = {"create", "update", "patch", "delete", "deletecollection"}
QUIET = 3.0  # seconds in which a write would follow what the operator has read


@both_backends
def test_churning_status_of_the_deployment_causes_no_write(cluster: Cluster, operator: OperatorProcess, namespace: str) -> None:
    """The controller's own status changes again and again: its conditions, generations and times."""
    plan = load(cluster.sandbox.folder)
    assert plan is not None
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, settled)
    eventually(lambda: "Serving" in {reason for reason, _ in cluster.events(namespace)})
    audit = Audit(plan.audit_log)
    for number in range(5):
        _change_status(cluster, namespace, f"2026-01-05T12:00:0{number}Z")

    def reads() -> int:
        return sum(request.right.namespace == namespace and request.right.verb in ("get", "list") for request in audit.requests())

    eventually(lambda: reads() > 0, 60)  # the operator has observed it since
    time.sleep(QUIET)
    written = [str(one.right) for one in audit.requests() if one.right.namespace == namespace and one.right.verb in WRITES]
    assert written == []


def _change_status(cluster: Cluster, namespace: str, moment: str) -> None:
    """Add a condition to the backend's object and to its Deployment, which their controllers remove again or keep."""
    condition = {"type": "Churning", "status": "True", "lastTransitionTime": moment}
    patch = json.dumps([{"op": "add", "path": "/status/conditions/-", "value": condition}])
    deployment = cluster.backend.deployment.format(name="mlflow")
    for kind, name in ((cluster.backend.plural, "mlflow"), ("deployments", deployment)):
        cluster.sandbox.kubectl("-n", namespace, "patch", kind, name, "--subresource=status", "--type=json", "-p", patch)
