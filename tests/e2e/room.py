"""The total requests of the pods of these tests."""

from pathlib import Path

import yaml
from support.capacity import Amount, of_manifests

from dev import helm
from dev.lint_manifests import rendered
from sandbox.kserve.cluster import controller
from sandbox.seldon import objects

MODELS = 4  # two served models, one canary, and one old pod during a rollout
VISITORS = Path(__file__).with_name("visitors.yaml")


def needed() -> Amount:
    """Return the total requests."""
    return charts() + model() * MODELS


def charts() -> Amount:
    """Return the requests of both charts, of `helm test`, of KServe's controller and of the test's own pod."""
    rendered_charts = [*helm.template(chart=helm.SANDBOX), *helm.template(chart=helm.CHART)]
    return of_manifests([*rendered_charts, controller("kserve"), *yaml.safe_load_all(VISITORS.read_text())])


def model() -> Amount:
    """Return the requests of one pod of a served model."""
    [deployment] = (manifest for _, manifest in rendered() if manifest["kind"] == "SeldonDeployment")
    deployment["metadata"].setdefault("uid", "none")
    return of_manifests(predictor.deployment for predictor in objects.predictors(deployment))
