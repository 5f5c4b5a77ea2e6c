"""Each right of the operator's is there because something fails without it: every one is taken away in turn. `make rights`.

Which ways need a right is not written down: a first pass has the audit log tell which use it. That takes a quarter of an hour or
more, so it is no part of `make test`; it runs with WINE_RIGHTS=each.
"""

import os
import time
from collections.abc import Callable

import pytest
from support.cluster import Cluster
from support.rights import Audit, Right, await_absence, grant, granted
from support.ways import WAYS, Way

from sandbox.errors import KubectlError
from sandbox.plan import load

pytestmark = pytest.mark.skipif(os.environ.get("WINE_RIGHTS") != "each", reason="make rights takes each right away in turn")


@pytest.fixture(scope="session")
def users(cluster: Cluster, new_namespace: Callable[[], str]) -> dict[Right, list[Way]]:
    """The ways that use each right, those first that take least time."""
    plan = load(cluster.sandbox.folder)
    assert plan is not None
    found: dict[Right, list[Way]] = {right: [] for right in granted()}
    seconds: dict[str, float] = {}
    for way in WAYS:
        audit, began = Audit(plan.audit_log), time.monotonic()
        way.run(cluster, new_namespace())
        seconds[way.name] = time.monotonic() - began
        for right in audit.used(found):
            found[right].append(way)
    return {right: sorted(ways, key=lambda way: seconds[way.name]) for right, ways in found.items()}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("right", granted(), ids=str)
def test_something_fails_without_it(
    cluster: Cluster, new_namespace: Callable[[], str], users: dict[Right, list[Way]], right: Right
) -> None:
    grant(cluster.sandbox, [other for other in granted() if other != right])
    try:
        await_absence(cluster.sandbox, right)
        for way in users[right]:
            began = time.monotonic()
            if (failure := _failure(way, cluster, new_namespace())) is not None:
                print(f"\n{right!s:<70} {way.name:<10} {time.monotonic() - began:4.0f} s  {failure}")
                return
        pytest.fail(f"nothing fails without it; it is used by {', '.join(way.name for way in users[right]) or 'no way'}")
    finally:
        grant(cluster.sandbox, granted())


def _failure(way: Way, cluster: Cluster, namespace: str) -> str | None:
    """Go a way; say how it failed, None where it did not."""
    try:
        way.run(cluster, namespace)
    except (AssertionError, KubectlError) as error:
        return " ".join(str(error).split())[:110] or type(error).__name__
    return None
