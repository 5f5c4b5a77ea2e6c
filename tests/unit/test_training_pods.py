"""`spec.training.pods`: which compiled pipeline a training run is submitted with. The model does not depend on it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.settings import SETTINGS
from support.world import World

from winecontract.signatures import SECRET
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.spec import Pods, Spec
from winepipelines.api.status import Status
from winepipelines.platform import runrequests
from winepipelines.platform.runrequests import RunRequests

STEPS = {Pods.PER_STEP: {"download", "preprocess", "train"}, Pods.SINGLE: {"training"}}
RESOURCES = {"requests": {"cpu": "2"}, "limits": {"memory": "8Gi"}}


def request(**training: Any) -> dict[str, Any]:
    spec = Spec.model_validate({"data": {"url": "http://data/wine.csv"}, "training": training})
    pipeline = WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", spec, Status())
    return RunRequests(SETTINGS).training(pipeline, "mlflow-01234567-1", 1, "experiment-1")


def compiled(submitted: dict[str, Any]) -> dict[str, Any]:
    specification: dict[str, Any] = submitted["pipeline_spec"]["pipeline_spec"]
    return specification


@pytest.mark.parametrize("pods", Pods)
def test_run_has_the_steps_of_its_pods(pods: Pods) -> None:
    specification = compiled(request(pods=pods.value))
    assert set(specification["root"]["dag"]["tasks"]) == STEPS[pods]
    assert set(specification["deploymentSpec"]["executors"]) == {f"exec-{step}" for step in STEPS[pods]}


def test_run_has_a_pod_for_each_step_by_default() -> None:
    assert request() == request(pods="PerStep")


def test_run_in_a_single_pod_has_the_parameters_of_one_with_a_pod_for_each_step() -> None:
    per_step, single = (request(pods=pods.value) for pods in Pods)
    assert single["runtime_config"] == per_step["runtime_config"]
    inputs, declared = (compiled(one)["root"]["inputDefinitions"] for one in (per_step, single))
    assert inputs == declared
    assert compiled(single)["root"]["outputDefinitions"] == compiled(per_step)["root"]["outputDefinitions"]


def test_single_pod_has_the_resources_of_the_training() -> None:
    [executor] = compiled(request(pods="Single", resources=RESOURCES))["deploymentSpec"]["executors"].values()
    executors = compiled(request(resources=RESOURCES))["deploymentSpec"]["executors"]
    assert executor["container"]["resources"] == executors["exec-train"]["container"]["resources"]
    assert executor["container"]["resources"]["resourceMemoryLimit"] == "8Gi"
    assert executor["container"]["env"] == executors["exec-download"]["container"]["env"], "networks that data may come from"
    assert executor["container"]["image"] == SETTINGS.steps_image


def test_single_pod_has_the_credentials_of_every_step() -> None:
    def secrets(pods: Pods) -> set[str]:
        executors = request(pods=pods.value)["pipeline_spec"]["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]
        return {str(secret) for executor in executors["executors"].values() for secret in executor["secretAsEnv"]}

    assert secrets(Pods.SINGLE) == secrets(Pods.PER_STEP)
    assert any(SECRET in secret for secret in secrets(Pods.SINGLE))


def test_steps_are_recognized_in_both_forms() -> None:
    assert RunRequests(SETTINGS).steps >= STEPS[Pods.PER_STEP] | STEPS[Pods.SINGLE]


def test_every_compiled_pipeline_is_known_to_the_operator() -> None:
    found = {path.stem for path in Path(SETTINGS.templates, "pipelines").glob("*.yaml")}
    assert set(runrequests.COMPILED) == found


def test_settings_hash_depends_on_the_pipeline_with_a_single_pod(tmp_path: Path) -> None:
    """A run that cannot start is submitted again when a new release has another pipeline."""
    before = RunRequests(SETTINGS).settings_hash()
    (tmp_path / "pipelines").mkdir()
    for path in Path(SETTINGS.templates, "pipelines").glob("*.yaml"):
        pipeline, *platform = yaml.safe_load_all(path.read_text())
        if path.stem == "wine-training-single":
            pipeline["pipelineInfo"]["description"] = "Another one."
        (tmp_path / "pipelines" / path.name).write_text(yaml.safe_dump_all([pipeline, *platform]))
    assert RunRequests(SETTINGS.with_(templates=str(tmp_path))).settings_hash() != before


def test_other_pods_begin_no_revision(world: World) -> None:
    world.serve()
    world.change(training={"pods": "Single"})
    world.reconcile()
    assert world.status.revision == 1
    assert world.ready_condition().status == "True"
    assert len(world.created) == 1
