"""Generate docs/reference/settings.md: the operator's variables and the chart values that set them. See dev/generate.py."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from dev.chart import CHART, composed_variables, fields, flat, values_of
from winepipelines.serving.backends import all_settings

HEAD = """# Settings
The operator reads its settings from environment variables when it starts, and validates all of them. A resource cannot change
a setting. The chart sets the variables from its values; [the chart's README](../../deploy/charts/wine-operator/README.md) lists
also the values that set no variable. Set another variable with the value `extraEnv`. An empty chart value keeps the default.

| variable | chart value | default | description |
|---|---|---|---|
"""
OTHERS = {
    "WINE_TEMPLATES": "Folder with manifests and compiled pipelines.",
    "WINE_CRDS": "Folder with the CRDs.",
    "WINE_PROBE_HOST": "Address on which the liveness and readiness probes are served.",
    "WINE_PROBE_PORT": "Port of the probes; 0 disables them. The chart sets 8080.",
    "WINE_METRICS_HOST": "Address on which metrics are served.",
    "WINE_KFP_TOKEN_FILE": "File with the token for Kubeflow Pipelines.",
    "WINE_KFP_CA_FILE": "File with the CA certificate of Kubeflow Pipelines.",
    "WINE_MLFLOW_CA_FILE": "File with the CA certificate of MLflow.",
}
"""Descriptions of variables that no single chart value sets."""


def page() -> str:
    """Build the page.

    Raises:
        KeyError: a variable has neither a described chart value nor a description in OTHERS.

    """
    root = Path(__file__).resolve().parents[1]
    described = {".".join(value.path): value.about for value in flat(values_of(CHART))}
    charted = {variable: value for settings in all_settings() for variable, value in settings.chart_values().items()}
    composed = composed_variables()
    rows = []
    for variable, field in sorted(fields().items()):
        value = charted.get(variable, "")
        about = described.get(value) or OTHERS.get(variable) or (_composed(value) if variable in composed else "")
        if not about:
            raise KeyError(f"{variable} has no description: add one in dev/settings_reference.py")
        rows.append(f"| `{variable}` | {f'`{value}`' if value else ''} | {_default(field.default, root)} | {_cell(about)} |\n")
    return HEAD + "".join(rows)


def _composed(value: str) -> str:
    return f"Set from the values below `{value}`." if value else "Set from several values."


def _default(default: Any, root: Path) -> str:
    if default is PydanticUndefined:
        return "required"
    if isinstance(default, str):
        return f"`{default.replace(str(root), '…')}`" if default else ""
    if isinstance(default, timedelta):
        return f"`{default.total_seconds():g}`"
    return f"`{json.dumps(list(default) if isinstance(default, tuple) else default)}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
