"""Every bound, enum and pattern of both CRDs is violated once, and the API server's message explains the allowed value."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cluster import Cluster

from sandbox.errors import KubectlError

ROOT = Path(__file__).parents[2]
MINIMAL: dict[str, dict[str, Any]] = {
    "WinePipeline": {"data": {"url": "http://data/wine.csv"}},
    "WinePrediction": {"pipeline": "wine", "input": {"url": "http://data/wine.csv"}, "output": "s3://scores/wine.csv"},
}
TEXTS = ["", " ", "x y?", "Ünsinn!", "@reboot", "-1", "\t", "soon", "0.5", "A" * 40, "ftp://a/b", "s3://a", "http://u:p@h/x"]
NUMBERS: list[float] = [-1, 0, 0.0001, 1, 1.5, 7, 1_000_000, 10**13, -(10**13), 2**31]
UNEXPLAINED = re.compile(r"should match|rule evaluation error|no such overload|cost|failed rule:|body in")


def leaves(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield the path and schema of every scalar field. `[]` is an element of a list, `{}` a value of a map."""
    if "properties" in schema:
        for name, inner in schema["properties"].items():
            yield from leaves(inner, (*path, name))
    elif isinstance(schema.get("additionalProperties"), dict):
        yield from leaves(schema["additionalProperties"], (*path, "{}"))
    elif schema.get("type") == "array":
        yield from leaves(schema["items"], (*path, "[]"))
    else:
        yield path, schema


def with_value(parent: Any, path: tuple[str, ...], value: Any) -> Any:
    """Return `parent` with another value in one field, and with the other fields that the schema requires on its path."""
    if not path:
        return value
    name, *rest = path
    if name == "[]":
        return [with_value({"metric": "r2"} if rest else None, tuple(rest), value)]
    key = "cpu" if name == "{}" else name
    required = {"maxReplicas": 3} if key == "autoscaling" else {}
    fields = parent if isinstance(parent, dict) else {}
    return {**fields, key: with_value(fields.get(key, required), tuple(rest), value)}


def violations(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    crd = yaml.safe_load((ROOT / "crds" / f"{kind.lower()}s.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for path, leaf in leaves(schema):
        numeric = leaf.get("type") in ("integer", "number")
        values = [value for value in NUMBERS if leaf["type"] == "number" or value == int(value)] if numeric else TEXTS
        for value in values if leaf.get("type") != "boolean" else ["maybe"]:
            yield ".".join(path), with_value(MINIMAL[kind], path, value)


@pytest.mark.parametrize("kind", list(MINIMAL))
def test_every_refusal_explains_the_allowed_value(cluster: Cluster, kind: str) -> None:
    tried = list(violations(kind))
    documents = [
        {
            "apiVersion": "winepipelines.io/v1alpha1",
            "kind": kind,
            "metadata": {"name": f"bad-{number}", "namespace": "admin"},
            "spec": spec,
        }
        for number, (_, spec) in enumerate(tried)
    ]
    with pytest.raises(KubectlError) as caught:
        cluster.sandbox.kubectl("create", "--dry-run=server", "-f", "-", stdin="\n---\n".join(map(json.dumps, documents)))
    messages = re.split(r"\n(?=The |Error from server)", str(caught.value))
    assert len(messages) > 100
    unexplained = [message for message in messages if UNEXPLAINED.search(message)]
    assert unexplained == []
    refused = {int(number) for message in messages for number in re.findall(r'"bad-(\d+)" is invalid', message)}
    accepted = {path for number, (path, _) in enumerate(tried) if number not in refused}
    fields = {path for path, _ in tried}
    never_refused = fields - {tried[number][0] for number in refused}
    assert never_refused <= {"data.target", "suspend", "overwrite"}, "the field accepts any value, or no value violates its bound"
    assert accepted, "some of the values must be valid"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"training": {"testFraction": 1}}, "training.testFraction must be between 0.05 and 0.5"),
        ({"training": {"testFraction": 0}}, "training.testFraction must be between 0.05 and 0.5"),
        (
            {"training": {"parameters": {"max_features": 2}, "algorithm": "RandomForest"}},
            "training.parameters.max_features must be between 0.01 and 1",
        ),
        ({"data": {"sha256": "abc"}}, "data.sha256 must be the 64 hexadecimal digits"),
        ({"data": {"url": "http://user:word@data/wine.csv"}}, "must not have a user name or password"),
        ({"data": {"url": "http://data/a b.csv"}}, "must not have a space; write %20"),
        ({"data": {"url": "s3://data/{{workflow.name}}.csv"}}, "data.url must not have {{ or }}"),
        ({"data": {"url": "http://data/{{=sprig.env('HOME')}}"}}, "data.url must not have {{ or }}"),
        ({"data": {"url": "http://data/a}}b"}}, "data.url must not have {{ or }}"),
        ({"data": {"url": "http://data/a", "target": "{{inputs.parameters.x}}"}}, "data.target must not have {{ or }}"),
        ({"data": {"url": "http://data/a", "columns": {"drop": ["{{x}}"]}}}, "data.columns must not list names with {{ or }}"),
        ({"training": {"resources": {"limits": {"x" * 200: 1}}}}, "at most 128 characters"),
        ({"data": {"url": " http://data/wine.csv"}}, "must begin with https://"),
        ({"data": {"url": "http://data/wine.csv "}}, "must not begin or end with a space"),
        ({"data": {"url": "http://data/wine.csv#top"}}, "write %23"),
        ({"data": {"url": "s3://data/wine.csv?versionid=1"}}, "only versionId="),
        ({"data": {"url": "s3://data/wine.csv?versionId=1&x=2"}}, "only versionId="),
        ({"data": {"url": "s3://data"}}, "must name a file in the bucket"),
        ({"data": {"url": "s3://data/folder/"}}, "must name a file in the bucket"),
        ({"data": {"url": "s3:///wine.csv"}}, "must name a host or bucket"),
        ({"data": {"separator": "\\t"}}, "data.separator must be one character"),
        ({"data": {"checkSchedule": "@reboot"}}, "or be one of @hourly"),
        ({"training": {"schedule": "0 3 * *"}}, "must have five cron fields"),
        (
            {"data": {"credentialsSecret": "Wine_Data", "url": "https://data/w.csv"}},
            "data.credentialsSecret must be the name of a Secret",
        ),
        (
            {"data": {"credentialsSecret": "wine-data", "url": "s3://data/w.csv"}},
            "data.credentialsSecret applies to http and https",
        ),
        (
            {"data": {"credentialsSecret": "wine-data", "url": "HTTP://data/w.csv"}},
            "data.url must be https when data.credentialsSecret is set",
        ),
        ({"training": {"timeout": "30"}}, "training.timeout must be a duration such as 90s"),
        ({"training": {"timeout": "99999999h"}}, "training.timeout must be a duration such as 90s"),
        ({"training": {"timeZone": "+2"}}, "training.timeZone must be a name"),
        (
            {"training": {"resources": {"limits": {"memory": "1 Gi"}}}},
            "a quantity must be a number with an optional suffix, such as 500m",
        ),
        (
            {"training": {"resources": {"limits": {"memory": -1}}}},
            "a quantity must be a number with an optional suffix, such as 500m",
        ),
    ],
)
def test_invalid_pipeline_is_refused_with_a_message(cluster: Cluster, spec: dict[str, Any], message: str) -> None:
    body = cluster.resource("admin", "bad")
    for part, fields in spec.items():
        body["spec"].setdefault(part, {}).update(fields)
    with pytest.raises(KubectlError, match=re.escape(message)):
        cluster.apply(body)


@pytest.mark.parametrize(
    "spec",
    [
        {"data": {"sha256": "ABCDEF0123456789" * 4}},
        {"data": {"url": "HTTPS://data/wine.csv"}},
        {"data": {"url": "S3://data/wine.csv"}},
        {"data": {"url": "s3://data/a b#1%20.csv?versionId=3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY"}},
        {"data": {"url": "http://bücher.example/wein.csv"}},
        {"data": {"separator": "\t"}},
        {"data": {"checkSchedule": "@daily"}, "training": {"schedule": "@weekly"}},
        {"data": {"credentialsSecret": "wine-data", "url": "https://data/w.csv"}},
        {"data": {"credentialsSecret": "wine-data", "url": "http://data/w.csv", "credentialsOverHTTP": True}},
        {"training": {"testFraction": 0.5}},
        {"training": {"resources": {"limits": {"cpu": 2, "memory": "1Gi"}}}},
    ],
)
def test_unusual_valid_spec_is_accepted(cluster: Cluster, spec: dict[str, Any]) -> None:
    body = cluster.resource("admin", "good")
    for part, fields in spec.items():
        body["spec"].setdefault(part, {}).update(fields)
    cluster.sandbox.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(body))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"input": {"url": "s3://scores/wine.csv"}}, "must not be the input"),
        ({"input": {"url": "http://minio.kubeflow:9000/scores/wine.csv?X-Amz-Signature=1"}}, "must not be the input"),
        ({"input": {"url": "s3://scores/wine.csv.report.json"}}, "must not be the input"),
        ({"output": "s3://scores/wine.txt"}, "output must end in .parquet or .csv"),
        ({"output": "s3://scores/a b.csv"}, "output must have only letters, digits"),
        ({"output": "s3://scores//wine.csv"}, "output must have only letters, digits"),
        ({"output": "s3://scores/a%20b.csv"}, "output must have only letters, digits"),
        ({"output": "https://scores/wine.csv"}, "output must begin with s3://"),
        ({"output": "s3://Scores/wine.csv"}, "output must begin with s3://"),
        ({"output": "s3://mlpipeline/v2/artifacts/x.csv"}, "where MLflow or Kubeflow Pipelines keep artifacts"),
        ({"output": "s3://mlflow/1/0123456789abcdef0123456789abcdef/artifacts/x.csv"}, "where MLflow or Kubeflow Pipelines keep"),
        ({"pipeline": "Wine"}, "pipeline must be the name of a WinePipeline"),
        ({"ttlAfterFinished": "1d"}, "ttlAfterFinished must be a duration"),
    ],
)
def test_invalid_prediction_is_refused_with_a_message(cluster: Cluster, spec: dict[str, Any], message: str) -> None:
    body = {
        "apiVersion": "winepipelines.io/v1alpha1",
        "kind": "WinePrediction",
        "metadata": {"name": "bad", "namespace": "admin"},
        "spec": {**MINIMAL["WinePrediction"], **spec},
    }
    with pytest.raises(KubectlError, match=re.escape(message)):
        cluster.apply(body)
