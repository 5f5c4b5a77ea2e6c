"""What the pods of these tests request together, at the most."""

from pathlib import Path

import yaml
from support.capacity import Amount, of_manifests

from dev import helm
from dev.lint_manifests import rendered
from sandbox.seldon import objects

MODELS = 4  # two are served, one more is tried out, and a rollout has the old pod beside the new one
VISITORS = Path(__file__).with_name("visitors.yaml")


def needed() -> Amount:
    """Add up everything."""
    return charts() + model() * MODELS


def charts() -> Amount:
    """Add up both charts, `helm test` and the test's own pods, as they are rendered."""
    rendered_charts = [*helm.template(chart=helm.SANDBOX), *helm.template(chart=helm.CHART)]
    return of_manifests([*rendered_charts, *yaml.safe_load_all(VISITORS.read_text())])


def model() -> Amount:
    """What one pod of a served model requests."""
    [deployment] = (manifest for _, manifest in rendered() if manifest["kind"] == "SeldonDeployment")
    deployment["metadata"].setdefault("uid", "none")
    return of_manifests(predictor.deployment for predictor in objects.predictors(deployment))
