"""Every right of the operator's is used, and it asks for no other: by the API server's audit log."""

from collections.abc import Callable

import pytest
from support.cluster import Cluster
from support.rights import Audit, Right, grant, granted
from support.ways import WAYS

from sandbox.plan import load


@pytest.mark.parametrize("scope", ["cluster", "namespaces"])
@pytest.mark.timeout(600)
def test_every_right_is_used_and_none_is_missed(cluster: Cluster, new_namespace: Callable[[], str], scope: str) -> None:
    plan = load(cluster.sandbox.folder)
    assert plan is not None
    rights, ways, changes, places = granted(), list(WAYS), {}, [new_namespace() for _ in WAYS]
    if scope == "namespaces":  # where the operator may not see which kinds there are
        rights = [right for right in rights if right.resource != "customresourcedefinitions"]
        ways = [way for way in ways if not way.cluster_wide]
        changes = {"WINE_NAMESPACES": ",".join(places)}
    grant(cluster.sandbox, rights, places if scope == "namespaces" else ())
    try:
        audit = Audit(plan.audit_log)
        for way, place in zip(ways, places, strict=False):
            way.run(cluster, place, changes)
        log = (plan.logs / "operator-under-test.log").read_text()
        assert "Traceback" not in log, "a defect asks for nothing"
        unused = set(rights) - audit.used(rights)
        assert not unused, f"granted and not used: {', '.join(map(str, sorted(unused)))}"
        refused: set[Right] = audit.refused()
        assert not refused, f"asked for and not granted: {', '.join(map(str, sorted(refused)))}"
    finally:
        grant(cluster.sandbox, granted())
