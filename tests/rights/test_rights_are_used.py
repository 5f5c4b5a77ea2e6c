"""The operator uses every right that it has and requests no other, according to the API server's audit log.

With KServe, only what differs is exercised: the rights that it has there and not with Seldon.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
from support.cluster import Cluster
from support.rights import Audit, Right, grant, granted
from support.scenarios import OF_BACKEND, SCENARIOS

from sandbox.plan import load
from sandbox.rights import SOURCES


@pytest.mark.parametrize("scope", ["cluster", "namespaces"])
@pytest.mark.parametrize("cluster", ["seldon", "kserve"], indirect=True)
@pytest.mark.timeout(600)
def test_rights_are_all_used_and_sufficient(cluster: Cluster, new_namespace: Callable[[], str], scope: str) -> None:
    plan = load(cluster.sandbox.folder)
    assert plan is not None
    of_seldon, rights, changes = granted("seldon"), granted(plan.backend), {}
    scenarios = list(SCENARIOS if plan.backend == "seldon" else OF_BACKEND)
    namespaces = [new_namespace() for _ in scenarios]
    if scope == "namespaces":  # without cluster-wide rights the operator cannot read CRDs
        rights = [right for right in rights if right.resource != "customresourcedefinitions"]
        scenarios = [scenario for scenario in scenarios if not scenario.cluster_wide]
        # What may be read in all namespaces is not granted again in the platform's, unless there is a list of namespaces.
        rights += [replace(right, namespace="kubeflow") for right in rights if right.name == SOURCES[plan.backend]]
        changes = {"WINE_NAMESPACES": ",".join(namespaces)}
    grant(cluster.sandbox, rights, namespaces if scope == "namespaces" else ())
    try:
        audit = Audit(plan.audit_log)
        for scenario, namespace in zip(scenarios, namespaces, strict=False):
            scenario.run(cluster, namespace, changes)
        log = (plan.logs / "operator-under-test.log").read_text()
        assert "Traceback" not in log, "an unexpected error may hide requests"
        expected = set(rights) if plan.backend == "seldon" else set(rights) - set(of_seldon)
        unused = expected - audit.used(rights)
        assert not unused, f"granted and not used: {', '.join(map(str, sorted(unused)))}"
        refused: set[Right] = audit.refused()
        assert not refused, f"requested and not granted: {', '.join(map(str, sorted(refused)))}"
    finally:
        grant(cluster.sandbox, granted(plan.backend))
