"""The chart's values and the operator's settings are held together: every setting can be reached, none is misspelt."""

import re
import tomllib
from dataclasses import MISSING, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.chart import CHART, SANDBOX, Value, flat, made, values_of
from winepipelines.resource.policy import Policy
from winepipelines.settings import PREFIX, Settings
from winepipelines.validation import CHART_VALUES, problem

VALUES = list(flat(values_of(CHART)))
BY_VARIABLE = {value.variable: value for value in VALUES if value.variable}
PUT_TOGETHER = set(re.findall(r'"name" "(WINE_[A-Z_]+)"', (CHART / "templates/_environment.tpl").read_text()))
# What the image and the pod are sure of: where the files are, and that the pod's ports are reached from outside.
FIXED = {"WINE_TEMPLATES", "WINE_CRDS", "WINE_PROBE_HOST", "WINE_METRICS_HOST"}
ADDRESSES = {"WINE_KFP_URL", "WINE_MLFLOW_URL", "WINE_S3_ENDPOINT_URL"}  # the operator has no default for them


def _variables() -> dict[str, Any]:
    """Every variable that the operator reads, with its default."""
    variables = {}
    for setting in fields(Settings):
        if setting.name != "policy":
            variables[PREFIX + setting.name.upper()] = None if setting.default is MISSING else setting.default
    for patience in fields(Policy):
        assert isinstance(patience.default, timedelta)
        variables[f"{PREFIX}{patience.name.upper()}_SECONDS"] = patience.default.total_seconds()
    return variables


def test_every_setting_can_be_reached() -> None:
    assert _variables().keys() - BY_VARIABLE.keys() - PUT_TOGETHER - FIXED == set()


def test_no_variable_is_misspelt() -> None:
    assert (BY_VARIABLE.keys() | PUT_TOGETHER | FIXED) - _variables().keys() == set()


@pytest.mark.parametrize("name", sorted(BY_VARIABLE.keys() - ADDRESSES))
def test_a_default_is_the_operators_own_or_left_to_it(name: str) -> None:
    value = BY_VARIABLE[name]
    assert value.default in ("", [], None) or value.default == _variables()[name]


def test_the_operator_reads_what_the_values_say() -> None:
    environment = {name: _text(value) for name, value in BY_VARIABLE.items() if _text(value)}
    settings = Settings.from_environment(environment)
    assert settings == Settings(settings.kfp_url, settings.mlflow_url, settings.s3_endpoint_url)


def test_a_wrong_setting_is_named_by_its_chart_value() -> None:
    by_variable = {name: ".".join(value.path) for name, value in BY_VARIABLE.items()}
    named = {name: value for name, value in CHART_VALUES.items() if name in by_variable}
    assert named == by_variable
    paths = {".".join(value.path) for value in VALUES}
    for name, value in CHART_VALUES.items():
        assert name in _variables()
        assert any(path == value or path.startswith(f"{value}.") for path in paths), value


@pytest.mark.parametrize("name", sorted(name for name, value in BY_VARIABLE.items() if value.schema))
def test_what_the_charts_schema_refuses_the_operator_refuses_too(name: str) -> None:
    schema = BY_VARIABLE[name].schema
    for keyword, wrong in (
        ("minimum", lambda bound: bound - 1),
        ("exclusiveMinimum", lambda bound: bound),
        ("enum", lambda _: "another"),
        ("pattern", lambda _: "/ /"),
        ("minLength", lambda _: ""),
    ):
        if keyword in schema:
            value = wrong(schema[keyword])
            assert problem(name, value) is not None, (name, keyword, value)


@pytest.mark.parametrize("chart", [CHART, SANDBOX], ids=lambda chart: chart.name)
def test_every_value_says_what_it_is(chart: Path) -> None:
    assert [".".join(value.path) for value in flat(values_of(chart)) if not value.about] == []


def test_no_part_of_the_chart_is_stale() -> None:
    assert [path.name for path, text in made().items() if path.read_text() != text] == []


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((CHART.parents[2] / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (project, project)
    images = yaml.safe_load(chart["annotations"]["artifacthub.io/images"])
    assert {image["image"].rpartition(":")[2] for image in images} == {project}
    crds = [yaml.safe_load(path.read_text()) for path in (CHART / "files/crds").glob("*.yaml")]
    told = {crd["name"] for crd in yaml.safe_load(chart["annotations"]["artifacthub.io/crds"])}
    assert told == {crd["metadata"]["name"] for crd in crds}


def _text(value: Value) -> str:
    """Write a default as the chart does."""
    default = value.default
    if isinstance(default, bool):
        return str(default).lower()
    return ",".join(default) if isinstance(default, list) else "" if default is None else str(default)
