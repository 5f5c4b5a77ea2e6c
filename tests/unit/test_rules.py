"""The rules of the CRDs, checked without an API server: what `render` says of a field is what `kubectl apply` would."""

from pathlib import Path
from typing import Any

import pytest

from winepipelines.platform import crds
from winepipelines.platform.rules import broken
from winepipelines.resource.pipeline import API_VERSION

SCHEMAS = crds.read(Path(__file__).parents[2] / "crds")
PIPELINE: dict[str, Any] = {"metadata": {"name": "wine"}, "spec": {"data": {"url": "http://data/wine.csv"}}}
PREDICTION: dict[str, Any] = {
    "metadata": {"name": "scores"},
    "spec": {"pipeline": "wine", "input": {"url": "http://data/wine.csv"}, "output": "s3://scores/wine.csv"},
}


def problems(kind: str, body: dict[str, Any]) -> list[str]:
    return list(crds.problems(body, SCHEMAS[API_VERSION, kind]))


def test_a_good_resource_breaks_none() -> None:
    assert problems("WinePipeline", PIPELINE) == []
    assert problems("WinePrediction", PREDICTION) == []


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"data": {"url": "http://u:p@data/wine.csv"}}, "spec.data.url: data.url must not have a user name"),
        ({"data": {"url": "s3://data/wine.csv?part=1"}}, "spec.data.url: after a '?' an s3 address can have only versionId"),
        ({"data": {"url": "http://h/w", "sha256": "abc"}}, "spec.data.sha256: data.sha256 must be the 64 hexadecimal digits"),
        ({"data": {"url": "http://h/w", "separator": ";;"}}, "spec.data.separator: data.separator must be one character"),
        (
            {"data": {"url": "http://h/w", "checkSchedule": "@reboot"}},
            "spec.data.checkSchedule: data.checkSchedule must have cron's",
        ),
        ({"training": {"timeout": "1s"}}, "spec.training.timeout: training.timeout must be a duration"),
        ({"training": {"timeout": "soon"}}, "spec.training.timeout: training.timeout must be a duration"),
        ({"training": {"resources": {"limits": {"cpu": -1}}}}, "spec.training.resources.limits.cpu: a quantity must be such as"),
        (
            {"training": {"resources": {"limits": {"cpu": "lots"}}}},
            "spec.training.resources.limits.cpu: a quantity must be such as",
        ),
        ({"gate": [{"metric": "r2", "atLeast": 0}, {"metric": "$", "atMost": 1}]}, "spec.gate[1].metric: gate.metric must be"),
        (
            {"training": {"algorithm": "RandomForest", "parameters": {"alpha": 0.1}}},
            "spec.training: alpha and l1_ratio are parameters of algorithm ElasticNet alone",
        ),
    ],
)
def test_a_broken_rule_is_named_with_its_field(spec: dict[str, Any], says: str) -> None:
    found = problems("WinePipeline", {**PIPELINE, "spec": {**PIPELINE["spec"], **spec}})
    assert [problem for problem in found if problem.startswith(says)], found


def test_an_output_over_the_input_is_refused_offline() -> None:
    spec = {**PREDICTION["spec"], "input": {"url": "s3://scores/wine.csv"}}
    assert [
        problem
        for problem in problems("WinePrediction", {**PREDICTION, "spec": spec})
        if "must not be the input itself" in problem
    ]


@pytest.mark.parametrize(
    "rule", ["self == oldSelf", "self.all(x, x > 0)", "a ? b : c", "self.nothing == 1", "size(self) > 'a'", "(("]
)
def test_what_only_the_api_server_can_check_is_left_to_it(rule: str) -> None:
    assert list(broken({}, {"x-kubernetes-validations": [{"rule": rule, "message": "no"}]})) == []
