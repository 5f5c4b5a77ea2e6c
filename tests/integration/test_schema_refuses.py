"""The API server refuses an invalid spec and names the field."""

import itertools
import json
import re
from typing import Any

import pytest
from support.cluster import Cluster

from sandbox.errors import KubectlError
from winepipelines.api.spec import Spec

URL = "http://data/wine.csv"
BOOSTING = ("learning_rate", "max_iter", "l2_regularization", "max_depth", "min_samples_leaf", "max_leaf_nodes")


NUMBERS = itertools.count(1)


def forest(**training: Any) -> dict[str, Any]:
    return {"algorithm": "RandomForest", **training}


def boosting(**training: Any) -> dict[str, Any]:
    return {"algorithm": "HistGradientBoosting", **training}


def range_(count: int) -> list[int]:
    return list(range(1, count + 1))


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
        ({"data": {"url": URL, "decimal": "'"}}, "spec.data.decimal"),
        ({"data": {"url": URL, "missing": "drop"}}, "spec.data.missing"),
        (
            {"data": {"url": URL, "columns": {"drop": ["Id"], "only": ["pH"]}}},
            "set data.columns.drop or data.columns.only, not both",
        ),
        ({"data": {"url": URL, "columns": {"drop": [0]}}}, "must list names, or positions from 1"),
        ({"data": {"url": URL, "columns": {"drop": [" "]}}}, "must list names, or positions from 1"),
        ({"data": {"url": URL, "columns": {"drop": []}}}, "spec.data.columns.drop"),
        ({"data": {"url": URL, "columns": {"only": [1.5]}}}, "spec.data.columns.only[0]"),
        ({"data": {"url": URL, "columns": {"drop": ["x" * 129]}}}, "spec.data.columns.drop[0]"),
        ({"data": {"url": URL, "colour": "red"}}, "spec.data.colour"),
        ({"data": {"url": URL}, "training": {"algorithm": "Magic"}}, "spec.training.algorithm"),
        ({"data": {"url": URL}, "training": {"parameters": {"alpha": -1}}}, "spec.training.parameters.alpha"),
        ({"data": {"url": URL}, "training": {"parameters": {"l1_ratio": 1.5}}}, "spec.training.parameters.l1_ratio"),
        ({"data": {"url": URL}, "training": {"parameters": {"depth": 3}}}, "spec.training.parameters.depth"),
        (
            {"data": {"url": URL}, "training": forest(parameters={"alpha": 0.1})},
            "alpha and l1_ratio are parameters of training.algorithm ElasticNet",
        ),
        (
            {"data": {"url": URL}, "training": forest(search={"l1_ratio": [0.1]})},
            "l1_ratio are parameters of training.algorithm ElasticNet",
        ),
        (
            {"data": {"url": URL}, "training": {"parameters": {"n_estimators": 9}}},
            "max_features are parameters of training.algorithm RandomForest",
        ),
        (
            {"data": {"url": URL}, "training": boosting(search={"max_features": [1]})},
            "max_features are parameters of training.algorithm RandomForest",
        ),
        ({"data": {"url": URL}, "training": forest(parameters={"max_iter": 9})}, "learning_rate, max_iter"),
        (
            {"data": {"url": URL}, "training": {"search": {"l2_regularization": [9]}}},
            "l2_regularization are parameters of training.algorithm",
        ),
        ({"data": {"url": URL}, "training": {"parameters": {"max_depth": 3}}}, "max_depth and min_samples_leaf are parameters"),
        (
            {"data": {"url": URL}, "training": {"search": {"min_samples_leaf": [3]}}},
            "max_depth and min_samples_leaf are parameters",
        ),
        ({"data": {"url": URL}, "training": forest(parameters={"n_estimators": 1001})}, "spec.training.parameters.n_estimators"),
        ({"data": {"url": URL}, "training": forest(parameters={"n_estimators": 1.5})}, "spec.training.parameters.n_estimators"),
        ({"data": {"url": URL}, "training": forest(parameters={"max_features": 0})}, "spec.training.parameters.max_features"),
        ({"data": {"url": URL}, "training": boosting(parameters={"learning_rate": 0})}, "spec.training.parameters.learning_rate"),
        (
            {"data": {"url": URL}, "training": boosting(parameters={"max_leaf_nodes": 1})},
            "spec.training.parameters.max_leaf_nodes",
        ),
        ({"data": {"url": URL}, "training": boosting(search={"learning_rate": [0]})}, "spec.training.search.learning_rate"),
        ({"data": {"url": URL}, "training": {"search": {}}}, "spec.training.search"),
        ({"data": {"url": URL}, "training": {"search": {"colour": [1]}}}, "spec.training.search.colour"),
        ({"data": {"url": URL}, "training": {"search": {"alpha": []}}}, "spec.training.search.alpha"),
        ({"data": {"url": URL}, "training": {"search": {"alpha": [0.1, 0.1]}}}, "spec.training.search.alpha"),
        ({"data": {"url": URL}, "training": {"search": {"alpha": [-1]}}}, "spec.training.search.alpha"),
        ({"data": {"url": URL}, "training": {"search": {"alpha": list(range(11))}}}, "spec.training.search.alpha"),
        (
            {
                "data": {"url": URL},
                "training": forest(search={"n_estimators": range_(10), "max_depth": range_(6), "max_features": [0.5, 1]}),
            },
            "at most 100 combinations",
        ),
        ({"data": {"url": URL}, "training": boosting(search={name: [1] for name in BOOSTING})}, "spec.training.search"),
        (
            {"data": {"url": URL}, "training": forest(), "serving": {"runtime": "mlflowserver"}},
            "runtime mlflowserver serves models of ElasticNet only",
        ),
        ({"data": {"url": URL}, "training": {"testFraction": 0}}, "spec.training.testFraction"),
        ({"data": {"url": URL}, "training": {"testFraction": 0.9}}, "spec.training.testFraction"),
        ({"data": {"url": URL}, "training": {"seed": -1}}, "spec.training.seed"),
        ({"data": {"url": URL}, "training": {"timeout": "soon"}}, "spec.training.timeout"),
        ({"data": {"url": URL}, "training": {"timeout": "1s"}}, "timeout must be a duration such as 90s, 30m or 1h30m, between"),
        ({"data": {"url": URL}, "training": {"attempts": 0}}, "spec.training.attempts"),
        ({"data": {"url": URL}, "training": {"experiment": "a/b"}}, "spec.training.experiment"),
        (
            {"data": {"url": URL}, "training": {"resources": {"limits": {"memory": "lots"}}}},
            "spec.training.resources.limits[memory]",
        ),
        ({"data": {"url": URL}, "serving": {"replicas": 0}}, "spec.serving.replicas"),
        ({"data": {"url": URL}, "serving": {"protocol": "v3"}}, "spec.serving.protocol"),
        ({"data": {"url": URL}, "serving": {"runtime": "triton"}}, "spec.serving.runtime"),
        (
            {"data": {"url": URL}, "serving": {"runtime": "mlflowserver", "protocol": "v2"}},
            "serving.runtime mlflowserver supports serving.protocol seldon only",
        ),
        ({"data": {"url": URL}, "serving": {"autoscaling": {}}}, "spec.serving.autoscaling.maxReplicas"),
        ({"data": {"url": URL}, "serving": {"autoscaling": {"maxReplicas": 101}}}, "spec.serving.autoscaling.maxReplicas"),
        (
            {"data": {"url": URL}, "serving": {"autoscaling": {"minReplicas": -1, "maxReplicas": 2}}},
            "spec.serving.autoscaling.minReplicas",
        ),
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
def test_invalid_spec_is_refused_with_the_field(cluster: Cluster, spec: dict[str, Any], named: str) -> None:
    body = {**cluster.resource("admin", "bad"), "spec": spec}
    with pytest.raises(KubectlError, match=re.escape(named)):
        cluster.apply(body)


@pytest.mark.parametrize("name", ["1wine", "wine.red", "w" * 46])
def test_name_is_refused_when_it_cannot_be_part_of_a_service_name(cluster: Cluster, name: str) -> None:
    with pytest.raises(KubectlError, match="at most 45 characters"):
        cluster.apply(cluster.resource("admin", name))


def test_defaults_of_schema_and_models_agree(cluster: Cluster) -> None:
    """The API server sets the same defaults as the typed models."""
    cluster.apply(cluster.resource("admin", "defaults", suspend=True))
    stored = cluster.get("winepipelines", "admin", "defaults")
    assert stored is not None
    assert Spec.model_validate(stored["spec"]) == Spec.model_validate({"data": {"url": cluster.info.data_url}, "suspend": True})
    filled = Spec.model_validate(stored["spec"]).model_dump(by_alias=True, mode="json")
    assert set(filled["training"].pop("parameters").values()) == {None}, (
        "defaults of parameters apply to ElasticNet only: see fixed_parameters"
    )
    assert stored["spec"]["training"].pop("parameters") == {}
    assert filled["training"].pop("search") is None
    texts = ("data", "sha256"), ("data", "checkSchedule"), ("data", "credentialsSecret"), ("training", "schedule")
    for part, optional in (*texts, ("training", "registeredModel"), ("serving", "backend")):
        assert filled[part].pop(optional) == "", "the API server omits empty fields"
    assert filled.pop("gate") == []
    for optional in ("autoscaling", "canary"):
        assert filled["serving"].pop(optional) is None
    assert filled["data"].pop("columns") is None
    for part in ("training", "serving"):
        for side in ("requests", "limits"):
            assert filled[part]["resources"].pop(side) == {}
    assert filled == stored["spec"]
    cluster.sandbox.kubectl("-n", "admin", "delete", "winepipeline", "defaults", "--wait=false")


@pytest.mark.parametrize(
    "training",
    [
        forest(parameters={"n_estimators": 300, "max_depth": 12, "min_samples_leaf": 2, "max_features": 0.5}),
        boosting(parameters={"learning_rate": 0.05, "max_iter": 300, "max_leaf_nodes": 15, "l2_regularization": 1}),
        boosting(search={"learning_rate": [0.05, 0.1], "max_depth": [3, 6]}, parameters={"max_iter": 200}),
        forest(search={"n_estimators": range_(10), "max_depth": range_(10)}),
        {"search": {"alpha": [0.01, 0.1, 0.5]}, "parameters": {"l1_ratio": 0.2}},
    ],
)
def test_parameters_of_an_algorithm_are_stored_unchanged(cluster: Cluster, training: dict[str, Any]) -> None:
    name = f"algorithm-{next(NUMBERS)}"
    cluster.apply(cluster.resource("admin", name, suspend=True, training=training))
    stored = cluster.get("winepipelines", "admin", name)
    assert stored is not None
    kept = {name: value for name, value in stored["spec"]["training"].items() if name in ("algorithm", "parameters", "search")}
    assert kept == {"algorithm": "ElasticNet", "parameters": {}, **training}, "no default of another algorithm is stored"
    cluster.sandbox.kubectl("-n", "admin", "delete", "winepipeline", name, "--wait=false")


def test_null_removes_parameters_that_an_earlier_schema_stored(cluster: Cluster) -> None:
    """It stored ElasticNet's defaults in every resource. `kubectl apply` keeps them, because no user applied them."""
    body = cluster.resource("admin", "earlier", suspend=True)
    cluster.apply(body)
    written = json.dumps({"spec": {"training": {"parameters": {"alpha": 0.5, "l1_ratio": 0.5}}}})
    cluster.sandbox.kubectl("-n", "admin", "patch", "winepipeline", "earlier", "--type=merge", "-p", written)
    before = cluster.get("winepipelines", "admin", "earlier")
    assert before is not None
    assert Spec.model_validate(before["spec"]).inputs == Spec.model_validate(body["spec"]).inputs
    body["spec"]["training"] = forest()
    with pytest.raises(KubectlError, match="null removes what was stored"):
        cluster.apply(body)
    body["spec"]["training"] = forest(parameters={"alpha": None, "l1_ratio": None})
    cluster.apply(body)
    after = cluster.get("winepipelines", "admin", "earlier")
    assert after is not None
    assert after["spec"]["training"]["parameters"] == {}
    cluster.sandbox.kubectl("-n", "admin", "delete", "winepipeline", "earlier", "--wait=false")


def test_unknown_parameters_are_refused_or_pruned_without_validation(cluster: Cluster) -> None:
    """`kubectl` requests strict validation. For other clients, the API server prunes unknown fields and warns."""
    body = cluster.resource("admin", "unknown", suspend=True, training={"parameters": {"depth": 3}})
    with pytest.raises(KubectlError, match=r"spec\.training\.parameters\.depth"):
        cluster.apply(body)
    cluster.sandbox.kubectl("apply", "--validate=false", "-f", "-", stdin=json.dumps(body))
    stored = cluster.get("winepipelines", "admin", "unknown")
    assert stored is not None
    assert stored["spec"]["training"]["parameters"] == {}
    cluster.sandbox.kubectl("-n", "admin", "delete", "winepipeline", "unknown", "--wait=false")
