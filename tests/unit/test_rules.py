"""Rules of the CRDs, evaluated without an API server: `render` prints the message that `kubectl apply` would."""

from pathlib import Path
from typing import Any

import pytest

from winepipelines.api.pipeline import API_VERSION
from winepipelines.platform import crds
from winepipelines.platform.rules import broken

SCHEMAS = crds.read(Path(__file__).parents[2] / "crds")
PIPELINE: dict[str, Any] = {"metadata": {"name": "wine"}, "spec": {"data": {"url": "http://data/wine.csv"}}}
PREDICTION: dict[str, Any] = {
    "metadata": {"name": "scores"},
    "spec": {"pipeline": "wine", "input": {"url": "http://data/wine.csv"}, "output": "s3://scores/wine.csv"},
}


def problems(kind: str, body: dict[str, Any]) -> list[str]:
    return list(crds.problems(body, SCHEMAS[API_VERSION, kind]))


def test_valid_resource_breaks_no_rule() -> None:
    assert problems("WinePipeline", PIPELINE) == []
    assert problems("WinePrediction", PREDICTION) == []


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"data": {"url": "http://u:p@data/wine.csv"}}, "spec.data.url: data.url must not have a user name"),
        ({"data": {"url": "s3://data/wine.csv?part=1"}}, "spec.data.url: data.url must have only versionId"),
        ({"data": {"url": "http://h/w", "sha256": "abc"}}, "spec.data.sha256: data.sha256 must be the 64 hexadecimal digits"),
        ({"data": {"url": "http://h/w", "separator": ";;"}}, "spec.data.separator: data.separator must be one character"),
        (
            {"data": {"url": "http://h/w", "checkSchedule": "@reboot"}},
            "spec.data.checkSchedule: data.checkSchedule must have five cron fields",
        ),
        ({"training": {"timeout": "1s"}}, "spec.training.timeout: training.timeout must be a duration"),
        ({"training": {"timeout": "soon"}}, "spec.training.timeout: training.timeout must be a duration"),
        (
            {"training": {"resources": {"limits": {"cpu": -1}}}},
            "spec.training.resources.limits.cpu: a quantity must be a number with an optional suffix, such as",
        ),
        (
            {"training": {"resources": {"limits": {"cpu": "lots"}}}},
            "spec.training.resources.limits.cpu: a quantity must be a number with an optional suffix, such as",
        ),
        ({"gate": [{"metric": "r2", "atLeast": 0}, {"metric": "$", "atMost": 1}]}, "spec.gate[1].metric: gate.metric must be"),
        (
            {"training": {"algorithm": "RandomForest", "parameters": {"alpha": 0.1}}},
            "spec.training: alpha",
        ),
    ],
)
def test_broken_rule_is_reported_with_its_field(spec: dict[str, Any], says: str) -> None:
    found = problems("WinePipeline", {**PIPELINE, "spec": {**PIPELINE["spec"], **spec}})
    assert [problem for problem in found if problem.startswith(says)], found


def test_output_that_is_the_input_is_rejected_offline() -> None:
    spec = {**PREDICTION["spec"], "input": {"url": "s3://scores/wine.csv"}}
    assert [problem for problem in problems("WinePrediction", {**PREDICTION, "spec": spec}) if "must not be the input" in problem]


@pytest.mark.parametrize(
    "rule", ["self == oldSelf", "self.all(x, x > 0)", "a ? b : c", "self.nothing == 1", "size(self) > 'a'", "(("]
)
def test_rules_for_the_api_server_only_are_skipped(rule: str) -> None:
    assert list(broken({}, {"x-kubernetes-validations": [{"rule": rule, "message": "no"}]})) == []
