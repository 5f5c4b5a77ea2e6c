"""One API server with the chart's admission policies."""

from collections.abc import Iterator

import pytest
from support.cluster import eventually
from support.guard import POLICY, Guarded, guarded
from support.guard_attacks import ATTACKS, changed

FIRST = {"Secret": "another name", "PodDefault": "for every pod", "SeldonDeployment": "no image"}


@pytest.fixture(scope="session")
def guard() -> Iterator[Guarded]:
    with guarded() as guard:
        for kind, attack in FIRST.items():  # policies take effect with a delay
            manifest = changed(kind, ATTACKS[kind][attack])
            eventually(lambda: POLICY in guard.operator.create(manifest))  # noqa: B023
        yield guard
