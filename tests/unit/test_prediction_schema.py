"""The CRD and the typed model of a WinePrediction say the same, and what is submitted of it is what it says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from support.prediction_world import CHAMPION, OUTPUT, SPEC, PredictionWorld

from winepipelines.doctor.schema import missing_fields
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.resource.prediction import PredictionSpec, PredictionStage, PredictionStatus
from winepipelines.settings import Settings

ROOT = Path(__file__).parents[2]
CRD = yaml.safe_load((ROOT / "crds" / "winepredictions.yaml").read_text())
SCHEMA = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
SETTINGS = Settings("http://kfp", "http://mlflow", "http://minio", steps_mlflow_url="http://mlflow.inside", steps_image="steps:1")


def test_every_field_is_in_the_schema() -> None:
    schema = {**SCHEMA, "x-kubernetes-group-version-kind": [{"kind": "WinePrediction"}]}
    assert missing_fields({"wp": schema}) == ("WinePipeline",)


def test_the_schema_has_no_field_that_the_model_lacks() -> None:
    def names(schema: dict[str, Any]) -> set[str]:
        return set(schema["properties"])

    spec = SCHEMA["properties"]["spec"]
    assert names(spec) == {field.alias or name for name, field in PredictionSpec.model_fields.items()}
    assert names(SCHEMA["properties"]["status"]) == {field.alias or name for name, field in PredictionStatus.model_fields.items()}


def test_the_defaults_are_the_same() -> None:
    defaults = {
        name: field["default"] for name, field in SCHEMA["properties"]["spec"]["properties"].items() if "default" in field
    }
    assert defaults == {
        "timeout": SPEC.timeout,
        "attempts": SPEC.attempts,
        "resources": {},
        "overwrite": SPEC.overwrite,
        "escapeFormulas": SPEC.escape_formulas,
    }
    assert SCHEMA["properties"]["spec"]["properties"]["input"]["properties"]["separator"]["default"] == SPEC.input.separator


def test_the_stages_are_the_same() -> None:
    assert SCHEMA["properties"]["status"]["properties"]["stage"]["enum"] == [stage.value for stage in PredictionStage]


def test_nothing_of_the_spec_can_be_changed_but_its_time() -> None:
    for name, field in SCHEMA["properties"]["spec"]["properties"].items():
        constant = any(rule["rule"] == "self == oldSelf" for rule in field.get("x-kubernetes-validations", []))
        assert constant is (name != "ttlAfterFinished"), name


def test_every_field_is_bounded() -> None:
    def check(schema: dict[str, Any], path: str) -> None:
        if schema.get("type") == "string":
            assert "maxLength" in schema or "enum" in schema or schema.get("format") == "date-time", path
        if schema.get("type") == "array":
            assert "maxItems" in schema, path
            check(schema["items"], f"{path}[]")
        for name, inner in schema.get("properties", {}).items():
            check(inner, f"{path}.{name}")

    for part in ("spec", "status"):
        check(SCHEMA["properties"][part], part)


def test_a_run_is_submitted_with_the_chosen_model_and_no_credential() -> None:
    prediction = PredictionWorld().prediction.with_status(PredictionStatus(model=CHAMPION))
    request = Kubeflow(SETTINGS).prediction_request(prediction, "scores-89abcdef-batch", "e1")
    assert request["display_name"] == "scores-89abcdef-batch"
    assert request["experiment_id"] == "e1"
    parameters = request["runtime_config"]["parameters"]
    assert (parameters["mlflow_run"], parameters["model_version"], parameters["pipeline_uid"]) == ("abc", "3", "0123456789ab")
    assert parameters["output"] == OUTPUT
    assert parameters["mlflow_tracking_uri"] == "http://mlflow.inside"
    assert parameters["owner"] == {"namespace": "admin", "name": "scores", "uid": "89abcdef0123"}
    inputs = request["pipeline_spec"]["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) <= set(inputs), "Kubeflow refuses unknown parameters"
    assert {name for name, about in inputs.items() if not about.get("isOptional")} <= set(parameters)
    executors = request["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"]
    assert [executor["container"]["image"] for executor in executors.values()] == ["steps:1"]


def test_a_secret_is_named_and_not_read() -> None:
    """Where none is named the compiled pipeline's default holds, which is the name of none."""
    prediction = PredictionWorld().prediction.with_status(PredictionStatus(model=CHAMPION))
    assert {"data_secret", "credentials_over_http"}.isdisjoint(Kubeflow(SETTINGS).prediction_parameters(prediction))
    named = prediction.spec.model_dump(by_alias=True)
    named["input"] |= {"url": "https://data/wine.csv", "credentialsSecret": "wine-data"}
    parameters = Kubeflow(SETTINGS).prediction_parameters(replace(prediction, spec=PredictionSpec.model_validate(named)))
    assert (parameters["data_secret"], parameters["credentials_over_http"]) == ("wine-data", False)
