"""The CRD of WinePrediction, the typed models and the parameters of its run agree."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from support.prediction_world import MODEL, OUTPUT, SPEC, PredictionWorld

from winepipelines.api.prediction import PredictionSpec, PredictionStage, PredictionStatus
from winepipelines.doctor.schema import missing_fields
from winepipelines.platform.runrequests import RunRequests
from winepipelines.settings import Settings

ROOT = Path(__file__).parents[2]
CRD = yaml.safe_load((ROOT / "crds" / "winepredictions.yaml").read_text())
SCHEMA = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
SETTINGS = Settings(
    kfp_url="http://kfp",
    mlflow_url="http://mlflow",
    s3_endpoint_url="http://minio",
    steps_mlflow_url="http://mlflow.inside",
    steps_image="steps:1",
)


def test_models_have_no_field_that_the_schema_lacks() -> None:
    schema = {**SCHEMA, "x-kubernetes-group-version-kind": [{"kind": "WinePrediction"}]}
    assert missing_fields({"wp": schema}) == ("WinePipeline",)


def test_schema_has_no_field_that_the_models_lack() -> None:
    def names(schema: dict[str, Any]) -> set[str]:
        return set(schema["properties"])

    spec = SCHEMA["properties"]["spec"]
    assert names(spec) == {field.alias or name for name, field in PredictionSpec.model_fields.items()}
    assert names(SCHEMA["properties"]["status"]) == {field.alias or name for name, field in PredictionStatus.model_fields.items()}


def test_models_and_schema_have_the_same_defaults() -> None:
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


def test_stages_of_model_and_schema_agree() -> None:
    assert SCHEMA["properties"]["status"]["properties"]["stage"]["enum"] == [stage.value for stage in PredictionStage]


def test_spec_is_immutable_except_for_its_ttl() -> None:
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


def test_run_parameters_have_the_chosen_model_and_no_credential() -> None:
    prediction = PredictionWorld().prediction.with_status(PredictionStatus(model=MODEL, pipeline_uid="0123456789ab"))
    request = RunRequests(SETTINGS).prediction(prediction, "scores-89abcdef-batch", "e1")
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


def test_run_parameters_name_the_credentials_secret() -> None:
    """Without a Secret, the default of the compiled pipeline applies, the name of a Secret that does not exist."""
    prediction = PredictionWorld().prediction.with_status(PredictionStatus(model=MODEL, pipeline_uid="0123456789ab"))
    assert {"data_secret", "credentials_over_http"}.isdisjoint(RunRequests(SETTINGS).prediction_parameters(prediction))
    named = prediction.spec.model_dump(by_alias=True)
    named["input"] |= {"url": "https://data/wine.csv", "credentialsSecret": "wine-data"}
    parameters = RunRequests(SETTINGS).prediction_parameters(replace(prediction, spec=PredictionSpec.model_validate(named)))
    assert (parameters["data_secret"], parameters["credentials_over_http"]) == ("wine-data", False)
