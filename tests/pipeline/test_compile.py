"""The compiled files: current, the same wherever they are made, and what the platform needs in them."""

import dataclasses
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from winecontract import signatures
from winesteps import components, steps
from winesteps.compile import TEMPLATES, compiled, main, stale
from winesteps.descriptions import INPUTS, described
from winesteps.preprocess import preprocess
from winesteps.train import Task

ROOT = TEMPLATES.parent


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return compiled()


@pytest.fixture(scope="module")
def documents(files: dict[str, str]) -> list[Any]:
    return list(yaml.safe_load_all(files["pipelines/wine-training.yaml"]))


@pytest.fixture(scope="module")
def single(files: dict[str, str]) -> list[Any]:
    return list(yaml.safe_load_all(files["pipelines/wine-training-single.yaml"]))


@pytest.fixture(scope="module")
def check(files: dict[str, str]) -> list[Any]:
    return list(yaml.safe_load_all(files["pipelines/wine-data-check.yaml"]))


def test_the_files_in_the_repository_are_current() -> None:
    assert stale() == {}, "run python -m winesteps.compile"


def test_a_stale_file_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    templates = tmp_path / "templates"
    arguments = ["--templates", str(templates)]
    assert main([*arguments, "--check"]) == 1
    assert caplog.text.count("stale: ") == len(compiled())
    assert not templates.exists()
    assert main(arguments) == 0
    assert main([*arguments, "--check"]) == 0
    changed = templates / "components" / "train.yaml"
    changed.write_text(changed.read_text() + "# by hand\n")
    caplog.clear()
    assert main([*arguments, "--check"]) == 1
    assert "components/train.yaml" in caplog.text
    assert caplog.text.count("stale: ") == 1


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_compiled_files_do_not_depend_on_the_folder_or_the_hash_seed(files: dict[str, str], tmp_path: Path, seed: str) -> None:
    copy = tmp_path / "another place" / "pipeline"
    shutil.copytree(ROOT / "pipeline" / "winesteps", copy / "winesteps")
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join((str(copy), str(ROOT / "contract")))}
    subprocess.run([sys.executable, "-m", "winesteps.compile"], check=True, cwd=tmp_path, env=environment, capture_output=True)
    for name, content in files.items():
        assert (copy.parent / "templates" / name).read_text() == content


def test_parameters(documents: list[Any]) -> None:
    inputs = documents[0]["root"]["inputDefinitions"]["parameters"]
    assert {name: (entry["parameterType"], entry.get("defaultValue")) for name, entry in inputs.items()} == {
        "data_url": ("STRING", None),
        "data_sha256": ("STRING", ""),
        "max_bytes": ("NUMBER_INTEGER", 1073741824),
        "separator": ("STRING", ";"),
        "decimal": ("STRING", "."),
        "columns": ("STRUCT", {}),
        "missing": ("STRING", "refuse"),
        "target": ("STRING", "quality"),
        "algorithm": ("STRING", "ElasticNet"),
        "parameters": ("STRUCT", {}),
        "search": ("STRUCT", {}),
        "test_fraction": ("NUMBER_DOUBLE", 0.25),
        "seed": ("NUMBER_INTEGER", 1337),
        "experiment": ("STRING", "wine"),
        "registered_model": ("STRING", "wine-elasticnet"),
        "mlflow_tracking_uri": ("STRING", None),
        "s3_endpoint_url": ("STRING", None),
        "server_version": ("STRING", ""),
        "served_run": ("STRING", ""),
        "served_digest": ("STRING", ""),
        "allow_unsigned": ("BOOLEAN", False),
        "reusable_runs": ("LIST", []),
        "data_secret": ("STRING", "winepipelines-no-credentials"),
        "credentials_over_http": ("BOOLEAN", False),
        "s3_secret": ("STRING", "mlpipeline-minio-artifact"),
        "mlflow_secret": ("STRING", "wine-mlflow-credentials"),
        "owner": ("STRUCT", {}),
    }
    assert all(entry["description"] for entry in inputs.values())


def test_tasks(documents: list[Any]) -> None:
    pipeline = documents[0]
    assert pipeline["pipelineInfo"]["name"] == "wine-training"
    tasks = pipeline["root"]["dag"]["tasks"]
    assert set(tasks) == {"download", "preprocess", "train"}
    for task in tasks.values():
        assert not task["cachingOptions"].get("enableCache"), "the bytes behind an address change"
        assert task["inputs"]["parameters"]["kfp_run"]["runtimeValue"]["constant"] == "{{$.pipeline_job_uuid}}"


def test_a_single_pod_has_the_inputs_and_the_output_of_three(documents: list[Any], single: list[Any]) -> None:
    pipeline = single[0]
    assert pipeline["pipelineInfo"]["name"] == "wine-training-single"
    assert pipeline["root"]["inputDefinitions"] == documents[0]["root"]["inputDefinitions"]
    assert pipeline["root"]["outputDefinitions"] == documents[0]["root"]["outputDefinitions"]


def test_a_single_pod_is_one_task_with_the_outputs_of_the_train_step(documents: list[Any], single: list[Any]) -> None:
    pipeline = single[0]
    (task,) = pipeline["root"]["dag"]["tasks"].values()
    assert not task["cachingOptions"].get("enableCache"), "the bytes behind an address change"
    assert task["inputs"]["parameters"]["kfp_run"]["runtimeValue"]["constant"] == "{{$.pipeline_job_uuid}}"
    (component,) = pipeline["components"].values()
    assert component["outputDefinitions"] == documents[0]["components"]["comp-train"]["outputDefinitions"]
    assert "artifacts" not in component["inputDefinitions"], "files between the steps stay in the container"
    (executor,) = pipeline["deploymentSpec"]["executors"].values()
    assert set(executor["container"]) == {"image", "command", "args"}, "resources are the platform's to set"


def test_a_single_pod_has_the_secrets_of_the_three_and_no_variable_twice(documents: list[Any], single: list[Any]) -> None:
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    (executor,) = single[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    for secret in executor["secretAsEnv"]:
        assert any(secret in one["secretAsEnv"] for one in executors.values())
    for one in executors.values():
        assert all(secret in executor["secretAsEnv"] for secret in one["secretAsEnv"])
    variables = [entry["envVar"] for secret in executor["secretAsEnv"] for entry in secret["keyToEnv"]]
    assert len(variables) == len(set(variables)) == 10
    assert executor["securityContext"] == {"runAsNonRoot": True}


def test_a_training_gets_every_setting_from_its_inputs() -> None:
    assert {*steps.TASK, "source"} == {field.name for field in dataclasses.fields(Task)}
    assert {*steps.READING, "csv_file", "table_file"} == set(inspect.signature(preprocess).parameters)


def test_a_data_check_is_one_step(check: list[Any]) -> None:
    pipeline, platform = check
    assert pipeline["pipelineInfo"]["name"] == "wine-data-check"
    (task,) = pipeline["root"]["dag"]["tasks"].values()
    assert not task["cachingOptions"].get("enableCache")
    inputs = pipeline["root"]["inputDefinitions"]["parameters"]
    assert {name for name, entry in inputs.items() if not entry.get("isOptional")} == {
        *("data_url", "mlflow_tracking_uri", "s3_endpoint_url"),
    }
    assert all(entry["description"] for entry in inputs.values())
    (executor,) = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    assert len(executor["secretAsEnv"]) == 3
    assert executor["securityContext"] == {"runAsNonRoot": True}


def test_containers(documents: list[Any], files: dict[str, str]) -> None:
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        assert executor["container"]["image"] == components.IMAGE == "winepipelines/steps:0.1.0"
        assert set(executor["container"]) == {"image", "command", "args"}, "resources are the platform's to set"
    assert "pip install" not in "".join(files.values()), "the image has everything"


def test_credentials_come_from_the_secret_that_a_parameter_names(documents: list[Any]) -> None:
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == {"exec-download", "exec-preprocess", "exec-train"}
    for name, executor in executors.items():
        secret, mlflow, *data = executor["secretAsEnv"]
        if name == "exec-train":
            data = [one for one in data if one.get("secretName") != signatures.SECRET]
        assert bool(data) is (name == "exec-download"), "only the step that fetches reads the user's Secret"
        for one in data:
            assert one["secretNameParameter"] == {"componentInputParameter": "data_secret"}
            assert one["optional"] is True, "the step says which Secret or key is missing"
            assert {entry["secretKey"]: entry["envVar"] for entry in one["keyToEnv"]} == {
                "username": "WINE_DATA_USERNAME",
                "password": "WINE_DATA_PASSWORD",
                "token": "WINE_DATA_TOKEN",
            }
        assert mlflow["secretNameParameter"] == {"componentInputParameter": "mlflow_secret"}
        assert mlflow["optional"] is True, "most platforms' MLflow requires nothing"
        assert [entry["envVar"] for entry in mlflow["keyToEnv"]] == [entry["secretKey"] for entry in mlflow["keyToEnv"]]
        assert len({entry["envVar"] for entry in mlflow["keyToEnv"] + secret["keyToEnv"]}) == 5, "none from two sources"
        assert secret["secretNameParameter"] == {"componentInputParameter": "s3_secret"}
        assert secret["keyToEnv"] == [
            {"envVar": "AWS_ACCESS_KEY_ID", "secretKey": "accesskey"},
            {"envVar": "AWS_SECRET_ACCESS_KEY", "secretKey": "secretkey"},
        ]
        assert executor["securityContext"] == {"runAsNonRoot": True}
        assert "podMetadata" not in executor, "a PodDefault that matched would set the variables twice"


def test_only_the_train_step_gets_the_model_key(files: dict[str, str], documents: list[Any]) -> None:
    """The key signs models: a step that fetches or reads data of others must not hold it."""
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    given = [one for one in executors["exec-train"]["secretAsEnv"] if one.get("secretName") == signatures.SECRET]
    assert [one["keyToEnv"] for one in given] == [
        [{"secretKey": signatures.CURRENT, "envVar": signatures.KEY_VARIABLE}],
        [{"secretKey": signatures.PREVIOUS, "envVar": signatures.PREVIOUS_KEY_VARIABLE}],
    ]
    assert all(one["secretNameParameter"]["runtimeValue"]["constant"] == signatures.SECRET for one in given)
    assert all(one["optional"] for one in given), "the step says that it is missing; a container would wait without a word"
    holders = [name for name, text in files.items() if signatures.SECRET in text]
    assert holders == ["pipelines/wine-training.yaml", "pipelines/wine-training-single.yaml"]
    assert not any(signatures.SECRET in str(executors[name]) for name in ("exec-download", "exec-preprocess"))


def test_no_path_of_the_machine_it_was_compiled_on(files: dict[str, str]) -> None:
    assert str(ROOT) not in "".join(files.values())


def test_every_input_is_described_and_every_description_is_used(files: dict[str, str]) -> None:
    found: dict[str, str] = {}
    for text in files.values():
        specification = next(yaml.safe_load_all(text))
        for part in (specification["root"], *specification["components"].values()):
            inputs = part.get("inputDefinitions", {})
            for name, definition in {**inputs.get("parameters", {}), **inputs.get("artifacts", {})}.items():
                found[name] = definition["description"]
    assert set(found) == set(INPUTS)
    assert all(found.values())


def test_described_fails_for_an_input_without_a_description() -> None:
    with pytest.raises(KeyError, match="colour"):

        @described()
        def step(colour: str) -> None:
            """Do nothing."""
