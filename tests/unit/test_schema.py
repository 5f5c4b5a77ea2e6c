"""The CRD of WinePipeline and the typed models agree."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from support.world import World

from winecontract.protocols import Protocol
from winepipelines.api.algorithms import Algorithm
from winepipelines.api.spec import Pods, Runtime, Spec, Training, parse_duration
from winepipelines.api.status import ConditionType, RevisionOutcome, Stage, Status
from winepipelines.serving.seldon.naming import GRAPH, PREDICTOR

CRD = yaml.safe_load((Path(__file__).parents[2] / "crds" / "winepipelines.yaml").read_text())
[VERSION] = CRD["spec"]["versions"]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]["properties"]


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Find the model in `Model`, `Model | None` or `tuple[Model, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _model_in(argument)) is not None:
            return found
    return None


def _compare(model: type[BaseModel], schema: dict[str, Any], where: str) -> None:
    assert set(_fields(model)) == set(schema["properties"]), where
    for name, annotation in _fields(model).items():
        part = schema["properties"][name]
        part = part.get("items", part)
        inner = _model_in(annotation)
        if inner is not None:
            _compare(inner, part, f"{where}.{name}")


def test_models_and_schema_have_the_same_fields() -> None:
    _compare(Spec, SCHEMA["spec"], "spec")
    _compare(Status, SCHEMA["status"], "status")


def _defaults(schema: dict[str, Any]) -> dict[str, Any]:
    """Fill in defaults as the API server does."""
    filled = {}
    for name, part in schema["properties"].items():
        if part.get("type") == "object" and "properties" in part and ("default" in part or name == "data"):
            filled[name] = _defaults(part)
        elif "default" in part:
            filled[name] = part["default"]
    return filled


def test_models_and_schema_have_the_same_defaults() -> None:
    filled = _defaults(SCHEMA["spec"])
    filled["data"]["url"] = "http://data/wine.csv"
    assert Spec.model_validate(filled) == Spec.model_validate({"data": {"url": "http://data/wine.csv"}})


def test_every_field_is_bounded() -> None:
    def walk(schema: dict[str, Any], where: str) -> None:
        kind = schema.get("type")
        if kind == "string" and "enum" not in schema and schema.get("format") != "date-time":
            assert "maxLength" in schema, where
        if kind == "array":
            assert "maxItems" in schema, where
            walk(schema["items"], where + "[]")
        if kind in ("integer", "number") and where.startswith("spec"):
            rules = " ".join(rule["rule"] for rule in schema.get("x-kubernetes-validations", []))
            assert "minimum" in schema or "self >= " in rules, where
            assert "maximum" in schema or "self <= " in rules, where
        if "additionalProperties" in schema:
            assert "maxProperties" in schema, where
        for name, part in schema.get("properties", {}).items():
            walk(part, f"{where}.{name}")

    walk(SCHEMA["spec"], "spec")
    walk(SCHEMA["status"], "status")


def test_enums_of_models_and_schema_agree() -> None:
    assert SCHEMA["status"]["properties"]["stage"]["enum"] == [stage.value for stage in Stage]
    outcomes = SCHEMA["status"]["properties"]["history"]["items"]["properties"]["outcome"]["enum"]
    assert outcomes == [outcome.value for outcome in RevisionOutcome]
    serving = SCHEMA["spec"]["properties"]["serving"]["properties"]
    training = SCHEMA["spec"]["properties"]["training"]["properties"]
    assert training["algorithm"]["enum"] == [algorithm.value for algorithm in Algorithm]
    assert training["pods"]["enum"] == [pods.value for pods in Pods]
    assert serving["protocol"]["enum"] == [protocol.value for protocol in Protocol]
    assert serving["runtime"]["enum"] == [runtime.value for runtime in Runtime]
    assert len(ConditionType) <= SCHEMA["status"]["properties"]["conditions"]["maxItems"]


def test_inputs_hash_of_a_stored_resource_is_stable() -> None:
    assert Spec.model_validate({"data": {"url": "http://data/wine.csv"}, "training": STORED}).inputs == "c64c52bf06a7fb21"


STORED = {"registeredModel": "wine-elasticnet"}
"""The field that an earlier schema stored in every resource."""


@pytest.mark.parametrize(
    ("data", "is_the_same"),
    [
        ({"decimal": ".", "missing": "refuse"}, True),
        ({"columns": {}}, True),
        ({"columns": {"drop": []}}, True),
        ({"decimal": ","}, False),
        ({"missing": "dropRows"}, False),
        ({"columns": {"drop": ["Id"]}}, False),
        ({"columns": {"only": ["Id"]}}, False),
    ],
)
def test_reading_options_change_the_inputs_hash_when_not_default(data: dict[str, Any], is_the_same: bool) -> None:
    """A resource that was stored without these fields keeps its hash."""
    read = Spec.model_validate({"data": {"url": "http://data/wine.csv", **data}, "training": STORED})
    assert (read.inputs == "c64c52bf06a7fb21") is is_the_same


def test_column_is_a_name_or_a_position() -> None:
    one, other = (
        Spec.model_validate({"data": {"url": "http://data/wine.csv", "columns": {"drop": [column]}}}) for column in (1, "1")
    )
    assert one.data.selection == {"drop": [1]}
    assert other.data.selection == {"drop": ["1"]}
    assert one.inputs != other.inputs


ELASTIC = {"alpha": 0.5, "l1_ratio": 0.5}
"""The parameters that an earlier schema stored in every resource."""


@pytest.mark.parametrize(
    ("training", "inputs"),
    [
        ({}, "c64c52bf06a7fb21"),
        ({"algorithm": "ElasticNet", "parameters": ELASTIC}, "c64c52bf06a7fb21"),
        ({"parameters": {}}, "c64c52bf06a7fb21"),
        ({"parameters": {"alpha": 0.1, "l1_ratio": 0}}, "e35d72feafb18e5d"),
    ],
)
def test_inputs_hash_is_stable_for_parameters_of_an_earlier_schema(training: dict[str, Any], inputs: str) -> None:
    assert Spec.model_validate({"data": {"url": "http://data/wine.csv"}, "training": STORED | training}).inputs == inputs


def test_registered_model_defaults_to_namespace_and_name() -> None:
    def named(namespace: str, name: str, **training: Any) -> str:
        spec = Spec.model_validate({"data": {"url": "http://data/wine.csv"}, "training": training})
        return replace(World().pipeline, namespace=namespace, name=name, spec=spec).registered_model

    assert named("admin", "mlflow") == "admin.mlflow"
    assert named("admin", "mlflow", registeredModel="wine's") == "wine's"
    [rule] = SCHEMA["spec"]["properties"]["training"]["properties"]["registeredModel"]["x-kubernetes-validations"]
    allowed = re.search(r"matches\('(.*?)'\)", rule["rule"])[1]  # type: ignore[index] # it is there, or this fails
    assert re.fullmatch(allowed, named("n" * 63, "w" * 45)), "what may be written may be the default too"
    assert len(named("n" * 63, "w" * 45)) <= 128


def test_another_credentials_secret_changes_the_inputs_hash() -> None:
    def inputs(**data: Any) -> str:
        return Spec.model_validate({"data": {"url": "https://data/wine.csv", **data}}).inputs

    assert inputs(credentialsOverHTTP=True) == inputs()
    assert len({inputs(), inputs(credentialsSecret="a"), inputs(credentialsSecret="b")}) == 3


def test_defaults_of_the_table_apply_to_their_algorithm_only() -> None:
    def fixed(**training: Any) -> dict[str, float]:
        return Training.model_validate(training).fixed_parameters

    assert fixed() == fixed(parameters={"alpha": 0.5}) == ELASTIC
    assert fixed(algorithm="RandomForest") == {}
    assert fixed(algorithm="RandomForest", parameters={"n_estimators": 300}) == {"n_estimators": 300}
    assert fixed(search={"alpha": [0.1, 1]}, parameters={"alpha": 0.3}) == {"l1_ratio": 0.5}, "a searched parameter is not fixed"


def test_crd_fits_the_annotation_of_client_side_apply() -> None:
    assert len(yaml.safe_dump(CRD)) < 262_144


def test_longest_name_makes_a_service_name_of_at_most_63_characters() -> None:
    [rule] = VERSION["schema"]["openAPIV3Schema"]["x-kubernetes-validations"]
    longest = 2 + int(re.search(r"\{0,(\d+)\}", rule["rule"])[1])  # type: ignore[index] # it is there, or this fails
    assert longest + len(f"-{PREDICTOR}") <= 63
    assert GRAPH == "classifier"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("1h1m1s", 3661)])
def test_parse_duration_reads_hours_minutes_and_seconds(text: str, seconds: int) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "soon", "1d", "5", "m30", "-5m"])
def test_parse_duration_rejects_other_texts(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_inputs_hash_changes_with_fields_of_the_model_only() -> None:
    base = Spec.model_validate({"data": {"url": "http://data/wine.csv"}})
    body = base.model_dump(by_alias=True)
    for same in (
        {"serving": {"replicas": 3}},
        {"serving": {"protocol": "v2", "autoscaling": {"maxReplicas": 3}}},
        {"suspend": True},
        {"historyLimit": 3},
        {"training": {"timeout": "1h", "attempts": 9, "pods": "Single", "resources": {"limits": {"cpu": "1"}}}},
    ):
        assert Spec.model_validate({**body, **same}).inputs == base.inputs, same
    for other in (
        {"data": {"url": "http://data/white.csv"}},
        {"data": {"url": "http://data/wine.csv", "target": "pH"}},
        {"training": {"seed": 7}},
        {"training": {"parameters": {"alpha": 0.1}}},
        {"training": {"algorithm": "RandomForest"}},
        {"training": {"search": {"alpha": [0.5]}}},
        {"training": {"search": {"alpha": [0.1, 0.5]}}},
        {"training": {"registeredModel": "other"}},
        {"serving": {"runtime": "mlflowserver"}},
    ):
        assert Spec.model_validate({**body, **other}).inputs != base.inputs, other
