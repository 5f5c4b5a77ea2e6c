"""The operator uses every right that it has and requests no other, according to the API server's audit log."""

from collections.abc import Callable

import pytest
from support.cluster import Cluster
from support.rights import Audit, Right, grant, granted
from support.scenarios import SCENARIOS

from sandbox.plan import load


@pytest.mark.parametrize("scope", ["cluster", "namespaces"])
@pytest.mark.timeout(600)
def test_rights_are_all_used_and_sufficient(cluster: Cluster, new_namespace: Callable[[], str], scope: str) -> None:
    plan = load(cluster.sandbox.folder)
    assert plan is not None
    rights, scenarios, changes = granted(), list(SCENARIOS), {}
    namespaces = [new_namespace() for _ in SCENARIOS]
    if scope == "namespaces":  # without cluster-wide rights the operator cannot read CRDs
        rights = [right for right in rights if right.resource != "customresourcedefinitions"]
        scenarios = [scenario for scenario in scenarios if not scenario.cluster_wide]
        changes = {"WINE_NAMESPACES": ",".join(namespaces)}
    grant(cluster.sandbox, rights, namespaces if scope == "namespaces" else ())
    try:
        audit = Audit(plan.audit_log)
        for scenario, namespace in zip(scenarios, namespaces, strict=False):
            scenario.run(cluster, namespace, changes)
        log = (plan.logs / "operator-under-test.log").read_text()
        assert "Traceback" not in log, "an unexpected error may hide requests"
        unused = set(rights) - audit.used(rights)
        assert not unused, f"granted and not used: {', '.join(map(str, sorted(unused)))}"
        refused: set[Right] = audit.refused()
        assert not refused, f"requested and not granted: {', '.join(map(str, sorted(refused)))}"
    finally:
        grant(cluster.sandbox, granted())
