"""Each example becomes Ready. Only the URL of its data is changed."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cluster import Body, Cluster, ready
from support.operator import OperatorProcess

FOLDER = Path(__file__).parents[2] / "deploy" / "examples"
PIPELINES = sorted(
    path.stem for path in FOLDER.glob("*.yaml") if path.stem != "batch"
)  # tests/integration/test_predictions.py covers it


def example(name: str, cluster: Cluster, namespace: str) -> Body:
    """Read an example, with the URL of this machine's copy of the data."""
    body: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    body["metadata"]["namespace"] = namespace
    body["spec"]["data"]["url"] = cluster.info.data_url
    return body


@pytest.mark.parametrize("name", PIPELINES)
def test_example_becomes_ready(cluster: Cluster, operator: OperatorProcess, namespace: str, name: str) -> None:
    body = example(name, cluster, namespace)
    cluster.apply(body)
    pipeline = cluster.wait(namespace, ready, body["metadata"]["name"])
    assert pipeline.status.served is not None
    assert 3 < cluster.predict(namespace, pipeline.name) < 9
    if name == "scheduled":
        assert pipeline.status.schedule is not None
        assert pipeline.status.schedule.next_time.weekday() == 0
    if name == "search":
        assert pipeline.status.served.model.metrics["r2"] > 0.2
