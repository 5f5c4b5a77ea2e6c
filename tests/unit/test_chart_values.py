"""Values of the chart correspond to settings of the operator: each setting has a value, with the same default and bounds."""

import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.chart import CHART, SANDBOX, Value, composed_variables, fields, flat, made, read, values_of
from winepipelines.serving.backends import all_settings
from winepipelines.serving.seldon.settings import SeldonSettings
from winepipelines.settings import Settings

VALUES = list(flat(values_of(CHART)))
BY_VARIABLE = {value.variable: value for value in VALUES if value.variable}
COMPOSED = composed_variables()
# Set by the image and the Deployment: paths of files, and addresses to listen on.
FIXED = {"WINE_TEMPLATES", "WINE_CRDS", "WINE_PROBE_HOST", "WINE_METRICS_HOST"}
REQUIRED = {"WINE_KFP_URL", "WINE_MLFLOW_URL", "WINE_S3_ENDPOINT_URL"}  # they have no default


def _variables() -> dict[str, Any]:
    """Return the default of each environment variable that the operator reads."""
    defaults = {name: field.default for name, field in fields().items()}
    return {name: value.total_seconds() if isinstance(value, timedelta) else value for name, value in defaults.items()}


def test_each_setting_has_a_chart_value() -> None:
    assert _variables().keys() - BY_VARIABLE.keys() - COMPOSED - FIXED == set()


def test_each_variable_of_the_chart_is_a_setting() -> None:
    assert (BY_VARIABLE.keys() | COMPOSED | FIXED) - _variables().keys() == set()


@pytest.mark.parametrize("name", sorted(BY_VARIABLE.keys() - REQUIRED))
def test_default_of_a_chart_value_is_empty_or_the_settings_default(name: str) -> None:
    value = BY_VARIABLE[name]
    assert value.default in ("", [], None) or value.default == _variables()[name]


def test_default_values_give_the_default_settings() -> None:
    environment = {name: _text(value) for name, value in BY_VARIABLE.items() if _text(value)}
    settings = Settings.from_environment(environment)
    assert settings == Settings(
        kfp_url=settings.kfp_url, mlflow_url=settings.mlflow_url, s3_endpoint_url=settings.s3_endpoint_url
    )
    assert SeldonSettings.from_environment(environment) == SeldonSettings()


def test_chart_value_named_by_each_setting_exists() -> None:
    paths = {".".join(value.path) for value in VALUES}
    for value in (value for settings in all_settings() for value in settings.chart_values().values()):
        assert any(path == value or path.startswith(f"{value}.") for path in paths), value


@pytest.mark.parametrize("name", sorted(name for name, value in BY_VARIABLE.items() if value.schema))
def test_value_rejected_by_the_chart_schema_is_rejected_by_the_operator(name: str) -> None:
    schema = BY_VARIABLE[name].schema
    for keyword, invalid_value in (
        ("minimum", lambda bound: bound - 1),
        ("exclusiveMinimum", lambda bound: bound),
        ("enum", lambda _: "another"),
        ("maximum", lambda bound: bound * 2),
        ("pattern", lambda _: "/ /"),
        ("minLength", lambda _: ""),
    ):
        if keyword in schema:
            value = invalid_value(schema[keyword])
            reader = next(settings for settings in all_settings() if name in settings.variables())
            assert reader.problem(name, value) is not None, (name, keyword, value)


@pytest.mark.parametrize("chart", [CHART, SANDBOX], ids=lambda chart: chart.name)
def test_each_value_has_a_description(chart: Path) -> None:
    assert [".".join(value.path) for value in flat(values_of(chart)) if not value.about] == []


def test_generated_files_of_the_chart_are_current() -> None:
    assert [path.name for path, text in made().items() if path.read_text() != text] == []


def test_chart_has_the_projects_version_and_crds() -> None:
    project = tomllib.loads((CHART.parents[2] / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (project, project)
    images = yaml.safe_load(chart["annotations"]["artifacthub.io/images"])
    assert {image["image"].rpartition(":")[2] for image in images} == {project}
    crds = [yaml.safe_load(path.read_text()) for path in (CHART / "files/crds").glob("*.yaml")]
    named = {crd["name"] for crd in yaml.safe_load(chart["annotations"]["artifacthub.io/crds"])}
    assert named == {crd["metadata"]["name"] for crd in crds}


def _text(value: Value) -> str:
    """Write a default as the chart does."""
    default = value.default
    if isinstance(default, bool):
        return str(default).lower()
    return ",".join(default) if isinstance(default, list) else "" if default is None else str(default)


def test_duplicate_value_is_rejected() -> None:
    with pytest.raises(ValueError, match="limits appears twice"):
        read("limits:\n  workers: 10\nlimits:\n  create: true\n", {})
