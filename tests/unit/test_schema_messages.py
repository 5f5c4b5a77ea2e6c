"""What the API server refuses is refused in words: no bare pattern, no bound that it rounds in its message."""

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
def test_no_pattern_is_bare(kind: str) -> None:
    """The API server quotes a pattern as it stands; a rule has a message beside it."""
    assert [path for path, schema in walk(specification(kind)) if "pattern" in schema] == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_bound_is_rounded_in_the_message(kind: str) -> None:
    """Of a whole number that is refused the API server quotes a bound of 0.5 as 0."""
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
def test_every_rule_says_what_to_write(kind: str) -> None:
    rules = [(path, rule) for path, schema in walk(specification(kind)) for rule in schema.get("x-kubernetes-validations", [])]
    assert len(rules) > 10
    assert [(path, rule["rule"]) for path, rule in rules if len(rule.get("message", "").split()) < 5] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_is_judged_by_a_rule(kind: str) -> None:
    """What may be any text is listed here; all else has a rule with a message, or an enum, which the API server spells out."""
    free = {"spec.data.target"}
    texts = {path: schema for path, schema in walk(specification(kind)) if schema.get("type") == "string"}
    unjudged = {path for path, schema in texts.items() if "enum" not in schema and not schema.get("x-kubernetes-validations")}
    assert unjudged <= free
