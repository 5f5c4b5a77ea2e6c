"""What Seldon says of its own failures: which of them pass by themselves a moment later."""

from typing import Any

import pytest
from support.world import World

from winepipelines.lifecycle import reasons
from winepipelines.platform.seldon import _passing, _said
from winepipelines.resource.observed import DeploymentView
from winepipelines.resource.status import ConditionType

PASSING = [
    'Deployment.apps "mlflow-wine-super-model-0-classifier" not found',
    'deployments.apps "mlflow-wine-super-model-0-classifier" already exists',
    'Service "mlflow-wine-super-model" not found',
    'services "seldon-5f1c2a" already exists',
    'horizontalpodautoscalers.autoscaling "mlflow" not found',
    'PodDisruptionBudget.policy "mlflow" not found',
    'seldondeployments.machinelearning.seldon.io "mlflow" not found',
    'Operation cannot be fulfilled on services "mlflow": the object has been modified; please try again',
]
LASTING = [
    'configmaps "seldon-config" not found',
    'secrets "seldon-init-container-secret" not found',
    'serviceaccounts "models" not found',
    'deployments.apps is forbidden: User "seldon" cannot create resource "deployments"',
    'admission webhook "x" denied the request: deployments.apps "mlflow" not found in the allow list',
]


def failed(description: str) -> dict[str, Any]:
    return {"state": "Failed", "description": description}


@pytest.mark.parametrize("description", PASSING)
def test_a_failure_of_seldons_cache_is_not_reported(description: str) -> None:
    assert _said(failed(description)) == []
    assert _passing(failed(description)) == f"Seldon says: {description}"


@pytest.mark.parametrize("description", LASTING)
def test_a_lasting_failure_is_reported(description: str) -> None:
    [trouble] = _said(failed(description))
    assert (trouble.reason, trouble.message) == ("DeploymentFailed", f"Seldon says: {description}")
    assert _passing(failed(description)) == ""


def test_an_old_description_is_no_failure() -> None:
    assert _passing({"state": "Creating", "description": PASSING[0]}) == ""


def test_a_failure_that_does_not_pass_is_told_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.reconcile()
    world.succeed()
    view = world._deployment

    def lagging(rollout: Any) -> DeploymentView:
        seen = view(rollout)
        return DeploymentView(
            seen.presence, owned=True, message="Seldon is rolling the model out", passing="Seldon says: not found"
        )

    monkeypatch.setattr(world, "_deployment", lagging)
    world.reconcile()
    deployed = world.condition(ConditionType.DEPLOYED)
    assert (deployed.reason, deployed.message) == (reasons.ROLLING_OUT, "Seldon is rolling the model out")
    world.pass_time(minutes=16)
    world.reconcile()
    assert world.condition(ConditionType.DEPLOYED).message.endswith("minutes: Seldon says: not found")
