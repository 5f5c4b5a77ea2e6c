"""Run Helm for the checks and tests of the charts."""

import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from sandbox.programs import built

CHARTS = Path(__file__).resolve().parents[1] / "deploy/charts"
CHART, SANDBOX = CHARTS / "wine-operator", CHARTS / "wine-sandbox"
KUBERNETES = "1.34.0"


class HelmError(Exception):
    """Helm failed; the message is its own."""


def run(*arguments: str, stdin: str = "", kubeconfig: str = os.devnull) -> str:
    """Run Helm, built on first use; return its output.

    Raises HelmError.
    """
    with TemporaryDirectory() as home:  # without the user's plugins and repositories
        places = {f"HELM_{place}_HOME": home for place in ("CACHE", "CONFIG", "DATA")}
        done = subprocess.run(  # noqa: S603 - our own arguments
            [_path(), *arguments],
            env={"PATH": os.environ["PATH"], "HOME": home, "KUBECONFIG": kubeconfig, **places},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise HelmError((done.stdout + done.stderr).strip())
    return done.stdout


def template(
    values: dict[str, Any] | None = None, *, chart: Path = CHART, release: str = "", namespace: str = "kubeflow"
) -> list[Any]:
    """Render a chart with these values; return its manifests. The release name defaults to the chart's name.

    Raises HelmError.
    """
    arguments = ("template", release or chart.name, str(chart), "--namespace", namespace, "--kube-version", KUBERNETES)
    return list(_manifests(run(*arguments, "--values", "-", stdin=yaml.safe_dump(values or {}))))


def notes(values: dict[str, Any] | None = None, *, chart: Path = CHART, namespace: str = "kubeflow") -> str:
    """Render the notes that Helm prints after an installation."""
    arguments = ("install", chart.name, str(chart), "--namespace", namespace, "--dry-run=client", "--values", "-")
    return run(*arguments, stdin=yaml.safe_dump(values or {})).partition("NOTES:\n")[2]


def _manifests(text: str) -> Iterator[Any]:
    yield from (manifest for manifest in yaml.safe_load_all(text) if manifest)


@cache
def _path() -> str:
    return str(built("helm", print))
