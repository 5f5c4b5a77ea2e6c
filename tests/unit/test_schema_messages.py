"""Descriptions and messages of the CRDs' spec sections."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
KINDS = ["winepipelines", "winepredictions"]


def specification(kind: str) -> dict[str, Any]:
    crd = yaml.safe_load((ROOT / "crds" / f"{kind}.yaml").read_text())
    [version] = crd["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def walk(schema: dict[str, Any], path: str = "spec") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from walk(inner, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from walk(schema[name], f"{path}[]")


@pytest.mark.parametrize("kind", KINDS)
def test_descriptions_follow_the_conventions_of_the_kubernetes_api(kind: str) -> None:
    """A description begins with the field's name and is made of sentences; a default that the schema has is in it."""
    fields = list(walk(specification(kind)))[1:]
    described = {path: schema for path, schema in fields if not path.endswith("[]")}
    assert len(described) > 15
    for path, schema in described.items():
        text = schema.get("description", "")
        assert re.match(rf"`{path.rpartition('.')[2]}` (is|are|lists|maps|selects|configures|allows|defines|\w+s) ", text), path
        assert text.endswith("."), path
        if schema.get("default", {}) != {}:
            default = schema["default"]
            shown = str(default).lower() if isinstance(default, bool) else str(default)
            assert "Defaults to " in text, path
            assert shown in text.partition("Defaults to ")[2], path


@pytest.mark.parametrize("kind", KINDS)
def test_messages_of_rules_name_the_field(kind: str) -> None:
    """A message names a field that the rule reads, so that it can be understood without the path before it."""
    for path, schema in walk(specification(kind)):
        for rule in schema.get("x-kubernetes-validations", []):
            names = {
                *path.removeprefix("spec.").replace("[]", "").split("."),
                *schema.get("properties", {}),
                "quantity",
                "compute",
            }
            assert (
                any(re.search(rf"\b{name}\b", rule["message"]) for name in names - {"spec"}) or "immutable" in rule["message"]
            ), (
                path,
                rule["message"],
            )


@pytest.mark.parametrize("kind", KINDS)
def test_schema_has_no_pattern_without_a_message(kind: str) -> None:
    """The API server quotes the pattern in its error; a rule has a message."""
    assert [path for path, schema in walk(specification(kind)) if "pattern" in schema] == []


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_are_integers(kind: str) -> None:
    """In the error for an integer, the API server truncates a bound of 0.5 to 0."""
    bounds = [
        (path, schema[name])
        for path, schema in walk(specification(kind))
        for name in ("minimum", "maximum", "multipleOf")
        if name in schema
    ]
    assert [(path, bound) for path, bound in bounds if bound != int(bound)] == []
    exclusive = [path for path, schema in walk(specification(kind)) if {"exclusiveMinimum", "exclusiveMaximum"} & set(schema)]
    assert exclusive == [], "its message does not say whether the bound itself is allowed"


@pytest.mark.parametrize("kind", KINDS)
def test_messages_of_rules_have_several_words(kind: str) -> None:
    rules = [(path, rule) for path, schema in walk(specification(kind)) for rule in schema.get("x-kubernetes-validations", [])]
    assert len(rules) > 10
    assert [(path, rule["rule"]) for path, rule in rules if len(rule.get("message", "").split()) < 5] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_string_has_a_rule_or_an_enum(kind: str) -> None:
    """Only the listed fields take any text."""
    free = {"spec.data.target"}
    texts = {path: schema for path, schema in walk(specification(kind)) if schema.get("type") == "string"}
    unjudged = {path for path, schema in texts.items() if "enum" not in schema and not schema.get("x-kubernetes-validations")}
    assert unjudged <= free
