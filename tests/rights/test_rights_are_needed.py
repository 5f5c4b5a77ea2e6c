"""Every right of the operator is necessary: without it, a scenario fails. `make rights`.

A first pass finds in the audit log which scenarios use a right. Then each right is removed in turn. This takes more than a
quarter of an hour, so it is not part of `make test`; it runs with WINE_RIGHTS=each.
"""

import os
import time
from collections.abc import Callable

import pytest
from support.cluster import Cluster
from support.rights import Audit, Right, await_absence, grant, granted
from support.scenarios import OF_BACKEND, SCENARIOS, Scenario

from sandbox.errors import KubectlError
from sandbox.plan import Plan, load

# With KServe, only the rights that the operator has there and not with Seldon.
EACH = [("seldon", right) for right in granted("seldon")]
EACH += [("kserve", right) for right in granted("kserve") if right not in granted("seldon")]

pytestmark = pytest.mark.skipif(os.environ.get("WINE_RIGHTS") != "each", reason="only make rights removes each right in turn")


@pytest.fixture(scope="session")
def known() -> dict[str, dict[Right, list[Scenario]]]:
    """The scenarios that use each right, by backend; filled when the first right of a backend is removed."""
    return {}


@pytest.fixture
def users(
    cluster: Cluster, new_namespace: Callable[[], str], known: dict[str, dict[Right, list[Scenario]]]
) -> dict[Right, list[Scenario]]:
    """The scenarios that use each right, fastest first."""
    plan = load(cluster.sandbox.folder)
    assert plan is not None
    if plan.backend not in known:
        known[plan.backend] = _users(cluster, plan, new_namespace)
    return known[plan.backend]


def _users(cluster: Cluster, plan: Plan, new_namespace: Callable[[], str]) -> dict[Right, list[Scenario]]:
    found: dict[Right, list[Scenario]] = {right: [] for right in granted(plan.backend)}
    seconds: dict[str, float] = {}
    for scenario in SCENARIOS if plan.backend == "seldon" else OF_BACKEND:
        audit, began = Audit(plan.audit_log), time.monotonic()
        scenario.run(cluster, new_namespace())
        seconds[scenario.name] = time.monotonic() - began
        for right in audit.used(found):
            found[right].append(scenario)
    return {right: sorted(scenarios, key=lambda scenario: seconds[scenario.name]) for right, scenarios in found.items()}


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("cluster", "right"), EACH, ids=str, indirect=["cluster"])
def test_right_is_needed_by_a_scenario(
    cluster: Cluster, new_namespace: Callable[[], str], users: dict[Right, list[Scenario]], right: Right
) -> None:
    plan = load(cluster.sandbox.folder)
    assert plan is not None
    all_rights = granted(plan.backend)
    grant(cluster.sandbox, [other for other in all_rights if other != right])
    try:
        await_absence(cluster.sandbox, right)
        for scenario in users[right]:
            began = time.monotonic()
            if (failure := _failure(scenario, cluster, new_namespace())) is not None:
                print(f"\n{right!s:<70} {scenario.name:<10} {time.monotonic() - began:4.0f} s  {failure}")
                return
        names = ", ".join(scenario.name for scenario in users[right])
        pytest.fail(f"no scenario fails without it; it is used by {names or 'no scenario'}")
    finally:
        grant(cluster.sandbox, all_rights)


def _failure(scenario: Scenario, cluster: Cluster, namespace: str) -> str | None:
    """Run a scenario; return how it failed, or None if it succeeded."""
    try:
        scenario.run(cluster, namespace)
    except (AssertionError, KubectlError) as error:
        return " ".join(str(error).split())[:110] or type(error).__name__
    return None
