"""The classification of failures that Seldon reports as transient or not."""

from typing import Any

import pytest
from support.world import World

from winecontract.reasons import Reason
from winepipelines.api.observed import DeploymentView
from winepipelines.api.status import ConditionType
from winepipelines.serving.seldon.rollout import own_problems, transient_problem

TRANSIENT = [
    'Deployment.apps "mlflow-wine-super-model-0-classifier" not found',
    'deployments.apps "mlflow-wine-super-model-0-classifier" already exists',
    'Service "mlflow-wine-super-model" not found',
    'services "seldon-5f1c2a" already exists',
    'horizontalpodautoscalers.autoscaling "mlflow" not found',
    'PodDisruptionBudget.policy "mlflow" not found',
    'seldondeployments.machinelearning.seldon.io "mlflow" not found',
    'Operation cannot be fulfilled on services "mlflow": the object has been modified; please try again',
]
OTHERS = [
    'configmaps "seldon-config" not found',
    'secrets "seldon-init-container-secret" not found',
    'serviceaccounts "models" not found',
    'deployments.apps is forbidden: User "seldon" cannot create resource "deployments"',
    'admission webhook "x" denied the request: deployments.apps "mlflow" not found in the allow list',
]


def failed(description: str) -> dict[str, Any]:
    return {"state": "Failed", "description": description}


@pytest.mark.parametrize("description", TRANSIENT)
def test_failure_of_seldons_cache_is_transient(description: str) -> None:
    assert own_problems(failed(description)) == []
    assert transient_problem(failed(description)) == f"Seldon reports: {description}"


@pytest.mark.parametrize("description", OTHERS)
def test_other_failure_is_reported(description: str) -> None:
    [problem] = own_problems(failed(description))
    assert (problem.reason, problem.message) == ("DeploymentFailed", f"Seldon reports: {description}")
    assert transient_problem(failed(description)) == ""


def test_description_of_another_state_is_ignored() -> None:
    assert transient_problem({"state": "Creating", "description": TRANSIENT[0]}) == ""


def test_transient_failure_is_reported_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.reconcile()
    world.succeed()
    view = world._deployment

    def lagging(*rollout: Any) -> DeploymentView:
        observed = view(*rollout)
        return DeploymentView(
            observed.presence, owned=True, message="Seldon is rolling the model out", passing="Seldon reports: not found"
        )

    monkeypatch.setattr(world, "_deployment", lagging)
    world.reconcile()
    deployed = world.condition(ConditionType.DEPLOYED)
    assert (deployed.reason, deployed.message) == (Reason.ROLLOUT_IN_PROGRESS, "Seldon is rolling the model out")
    world.pass_time(minutes=16)
    world.reconcile()
    assert world.condition(ConditionType.DEPLOYED).message.endswith("minutes. Seldon reports: not found")
