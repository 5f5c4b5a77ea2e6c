"""A bad spec never reaches the operator: the API server refuses it, and names the field."""

from typing import Any

import pytest
from support.cluster import Cluster

from sandbox.errors import KubectlError
from winepipelines.resource.spec import Spec

URL = "http://data/wine.csv"


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({}, "spec.data"),
        ({"data": {}}, "spec.data.url"),
        ({"data": {"url": "ftp://data/wine.csv"}}, "spec.data.url"),
        ({"data": {"url": "http://user:word@data/wine.csv"}}, "spec.data.url"),
        ({"data": {"url": "http://data/a b.csv"}}, "spec.data.url"),
        ({"data": {"url": "http://" + "d" * 2048}}, "spec.data.url"),
        ({"data": {"url": URL, "sha256": "ABC"}}, "spec.data.sha256"),
        ({"data": {"url": URL, "separator": ";;"}}, "spec.data.separator"),
        ({"data": {"url": URL, "separator": ",", "target": "a,b"}}, "data.target must not contain data.separator"),
        ({"data": {"url": URL, "target": ""}}, "spec.data.target"),
        ({"data": {"url": URL, "colour": "red"}}, "spec.data.colour"),
        ({"data": {"url": URL}, "training": {"algorithm": "Magic"}}, "spec.training.algorithm"),
        ({"data": {"url": URL}, "training": {"parameters": {"alpha": -1}}}, "spec.training.parameters.alpha"),
        ({"data": {"url": URL}, "training": {"parameters": {"l1_ratio": 1.5}}}, "spec.training.parameters.l1_ratio"),
        ({"data": {"url": URL}, "training": {"parameters": {"depth": 3}}}, "spec.training.parameters.depth"),
        ({"data": {"url": URL}, "training": {"testFraction": 0.9}}, "spec.training.testFraction"),
        ({"data": {"url": URL}, "training": {"seed": -1}}, "spec.training.seed"),
        ({"data": {"url": URL}, "training": {"timeout": "soon"}}, "spec.training.timeout"),
        ({"data": {"url": URL}, "training": {"timeout": "1s"}}, "timeout must be between"),
        ({"data": {"url": URL}, "training": {"attempts": 0}}, "spec.training.attempts"),
        ({"data": {"url": URL}, "training": {"experiment": "a/b"}}, "spec.training.experiment"),
        (
            {"data": {"url": URL}, "training": {"resources": {"limits": {"memory": "lots"}}}},
            "spec.training.resources.limits.memory",
        ),
        ({"data": {"url": URL}, "serving": {"replicas": 0}}, "spec.serving.replicas"),
        ({"data": {"url": URL}, "serving": {"protocol": "v3"}}, "spec.serving.protocol"),
        ({"data": {"url": URL}, "serving": {"runtime": "triton"}}, "spec.serving.runtime"),
        ({"data": {"url": URL}, "serving": {"runtime": "mlflowserver", "protocol": "v2"}}, "runtime mlflowserver speaks"),
        ({"data": {"url": URL}, "serving": {"autoscaling": {}}}, "spec.serving.autoscaling.maxReplicas"),
        ({"data": {"url": URL}, "serving": {"autoscaling": {"maxReplicas": 101}}}, "spec.serving.autoscaling.maxReplicas"),
        (
            {"data": {"url": URL}, "serving": {"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}},
            "minReplicas must not be greater",
        ),
        (
            {"data": {"url": URL}, "serving": {"autoscaling": {"maxReplicas": 2, "targetCPUUtilization": 0}}},
            "spec.serving.autoscaling.targetCPUUtilization",
        ),
        ({"data": {"url": URL}, "historyLimit": 1000}, "spec.historyLimit"),
        ({"data": {"url": URL}, "deletionPolicy": "Forget"}, "spec.deletionPolicy"),
        ({"data": {"url": URL}, "suspend": "maybe"}, "spec.suspend"),
    ],
)
def test_a_bad_spec_is_refused_by_name(cluster: Cluster, spec: dict[str, Any], named: str) -> None:
    body = {**cluster.resource("admin", "bad"), "spec": spec}
    with pytest.raises(KubectlError, match=named.replace(".", r"\.").replace("[", r"\[")):
        cluster.apply(body)


@pytest.mark.parametrize("name", ["1wine", "wine.red", "w" * 46])
def test_a_name_that_cannot_be_part_of_a_service_is_refused(cluster: Cluster, name: str) -> None:
    with pytest.raises(KubectlError, match="at most 45 characters"):
        cluster.apply(cluster.resource("admin", name))


def test_defaults_of_schema_and_models_agree(cluster: Cluster) -> None:
    """What the API server fills in is what the typed models would."""
    cluster.apply(cluster.resource("admin", "defaults", suspend=True))
    stored = cluster.get("winepipelines", "admin", "defaults")
    assert stored is not None
    assert Spec.model_validate(stored["spec"]) == Spec.model_validate({"data": {"url": cluster.info.data_url}, "suspend": True})
    filled = Spec.model_validate(stored["spec"]).model_dump(by_alias=True, mode="json")
    filled["data"].pop("sha256")  # optional: left out rather than empty
    assert filled["serving"].pop("autoscaling") is None
    for part in ("training", "serving"):
        for side in ("requests", "limits"):
            assert filled[part]["resources"].pop(side) == {}
    assert filled == stored["spec"]
    cluster.sandbox.kubectl("-n", "admin", "delete", "winepipeline", "defaults", "--wait=false")
