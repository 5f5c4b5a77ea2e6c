"""One team puts huge and forged texts into its objects: its condition stays bounded, and other teams are not affected.

The API server, the controllers, the operator's process and the texts in statuses are real.
"""

import json
import re

import pytest
from support.cluster import Cluster, eventually, ready
from support.operator import OperatorProcess

from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import ConditionType

HUGE = "1.1:1:" * 35_000  # a regular expression for addresses once took minutes on this text
FORGED = "2026-01-05T12:00:00+0000 INFO winepipelines.engine.controller Wrote status ready=True"
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} [A-Z]+ |    ")


def _patch(cluster: Cluster, namespace: str, path: str, value: str) -> None:
    """Add a value, given as JSON, to the SeldonDeployment."""
    patch = f'[{{"op": "add", "path": "{path}", "value": {value}}}]'
    arguments = ("-n", namespace, "patch", "sdep", "mlflow", "--type=json", "--patch-file=/dev/stdin")
    cluster.sandbox.kubectl(*arguments, stdin=patch)


@pytest.fixture
def honest(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    return cluster.namespace("honest-team")


def test_hostile_text_of_one_team_does_not_affect_others(
    cluster: Cluster, operator: OperatorProcess, namespace: str, honest: str
) -> None:
    process = operator.pid
    cluster.apply(cluster.resource(namespace))
    cluster.wait(namespace, ready)

    # The API server quotes the value in its refusal, and Seldon quotes the API server.
    _patch(cluster, namespace, "/spec/predictors/0/labels", json.dumps({"huge": f"a\n{FORGED}\x1b[2K\u202e{HUGE}"}))

    def quoted(pipeline: WinePipeline) -> bool:
        deployed = pipeline.status.condition(ConditionType.DEPLOYED)
        return deployed is not None and deployed.status == "False" and "Seldon reports" in deployed.message

    attacked = cluster.wait(namespace, quoted, seconds=60)
    live = cluster.get("sdep", namespace, "mlflow")
    assert live is not None
    assert len(live["status"]["description"]) > 200_000, "the attack must reach the status"
    for condition in attacked.status.conditions:
        assert len(condition.message) <= 2048
        assert condition.message.isprintable()

    cluster.apply(cluster.resource(honest))
    cluster.wait(honest, ready)
    cluster.delete("winepipelines", honest, "mlflow")
    cluster.delete("sdep", namespace, "mlflow")
    eventually(lambda: cluster.get("sdep", namespace, "mlflow") is not None)
    cluster.wait(namespace, ready)

    assert operator.alive()
    assert operator.pid == process
    lines = operator.log.read_text().splitlines()
    assert [line for line in lines if not (LINE.match(line) and line.isprintable())] == []
    assert not any(line.startswith(FORGED) for line in lines)
