"""The table of algorithms and what is generated from it: `winecontract.algorithms`, `dev.algorithms`."""

import math
import typing
from typing import Any

import pytest
import yaml

from dev import algorithms as generated
from winecontract.algorithms import ALGORITHMS, DEFAULT, MAX_DEPTH, Algorithm, Parameter, table
from winepipelines.api.algorithms import Parameters, Search
from winepipelines.platform.rules import broken

SAMPLE = Algorithm(
    name="SampleRegressor",
    estimator="sample.SampleRegressor",
    parameters=(
        Parameter("sample_strength", "the shape parameter", 0, 10),
        ALGORITHMS["HistGradientBoosting"].known["max_iter"],
        Parameter("sample_tolerance", "the tolerance", 0.001, 1, searchable=False),
    ),
    advice="Lower sample_strength",
    estimator_defaults={"sample_strength": 1e-6, "max_iter": 300, "sample_tolerance": 0.001},
    linear=True,
)
EXTENDED = table([*ALGORITHMS.values(), SAMPLE])


def training(algorithms: Any = EXTENDED) -> dict[str, Any]:
    rules = yaml.safe_load(generated.crd_rules(algorithms))
    return {"x-kubernetes-validations": rules, "properties": yaml.safe_load(generated.crd_fields(algorithms))}


def test_default_is_in_the_table() -> None:
    assert DEFAULT in ALGORITHMS


def test_table_rejects_a_parameter_that_is_defined_twice() -> None:
    other = Algorithm("Other", "x.Other", (Parameter("max_depth", "another depth", 1, 5),), advice="")
    with pytest.raises(ValueError, match="max_depth differently"):
        table([*ALGORITHMS.values(), other])


def test_table_rejects_a_name_that_is_used_twice() -> None:
    with pytest.raises(ValueError, match="same name"):
        table([SAMPLE, SAMPLE])


@pytest.mark.parametrize(
    ("value", "accepted"),
    [(1, True), (100, True), (3.0, True), (0, False), (101, False), (1.5, False), (True, False), ("3", False), (math.nan, False)],
)
def test_parameter_accepts_numbers_in_range_only(value: object, accepted: bool) -> None:
    assert MAX_DEPTH.accepts(value) is accepted


def test_new_algorithm_is_in_every_generated_part() -> None:
    fields = training()["properties"]
    assert fields["algorithm"]["enum"] == [*ALGORITHMS, "SampleRegressor"]
    assert {"sample_strength", "sample_tolerance"} <= set(fields["parameters"]["properties"])
    assert "sample_strength" in fields["search"]["properties"]
    assert "sample_tolerance" not in fields["search"]["properties"]
    assert "sample_tolerance" not in fields["search"]["x-kubernetes-validations"][0]["rule"]
    assert 'SAMPLE_REGRESSOR = "SampleRegressor"' in generated.typed_models(EXTENDED)
    assert "    sample_strength: tuple[float, ...] | None = None" in generated.typed_models(EXTENDED)
    assert (
        "| `SampleRegressor` | `sample_tolerance` | the tolerance | a number from 0.001 to 1 | 0.001 | no |"
        in generated.reference(EXTENDED)
    )
    [runtimes] = yaml.safe_load(generated.crd_runtimes(EXTENDED))
    assert "'SampleRegressor'" in runtimes["rule"]


def test_new_algorithm_has_the_shared_parameter_described_for_both() -> None:
    described = training()["properties"]["parameters"]["properties"]["max_iter"]["description"]
    assert "Defaults to 100 for HistGradientBoosting and 300 for SampleRegressor." in described


@pytest.mark.parametrize("algorithm", [None, *EXTENDED])
@pytest.mark.parametrize("section", ["parameters", "search"])
def test_rules_keep_each_parameter_to_its_algorithms(algorithm: str | None, section: str) -> None:
    schema = training()
    for name in schema["properties"][section]["properties"]:
        spec = {section: {name: [1] if section == "search" else 1}} | ({"algorithm": algorithm} if algorithm else {})
        takes = name in EXTENDED[algorithm or DEFAULT].known
        assert (list(broken(spec, schema)) == []) is takes, f"{name} of {algorithm}"


def test_runtimes_rule_admits_linear_models_only() -> None:
    schema = {"x-kubernetes-validations": yaml.safe_load(generated.crd_runtimes(EXTENDED))}
    for name, algorithm in EXTENDED.items():
        spec = {"training": {"algorithm": name}, "serving": {"runtime": "mlflowserver"}}
        assert (list(broken(spec, schema)) == []) is algorithm.linear, name
    assert list(broken({"training": {"algorithm": "RandomForest"}, "serving": {"runtime": "bundled"}}, schema)) == []


def test_search_rule_counts_the_combinations_of_every_parameter() -> None:
    search = training()["properties"]["search"]
    [combinations] = search["x-kubernetes-validations"]
    assert all(f"(has(self.{name}) ? size(self.{name}) : 1)" in combinations["rule"] for name in search["properties"])


def test_models_have_the_fields_and_types_of_the_schema() -> None:
    fields = training(ALGORITHMS)["properties"]
    types = {"integer": int, "number": float}
    for model, section in ((Parameters, "parameters"), (Search, "search")):
        schema = {name: types[part.get("items", part)["type"]] for name, part in fields[section]["properties"].items()}
        assert {name: _element(field.annotation) for name, field in model.model_fields.items()} == schema


def _element(annotation: Any) -> Any:
    """Return `float` of `float | None` and of `tuple[float, ...] | None`."""
    while arguments := typing.get_args(annotation):
        annotation = arguments[0]
    return annotation
