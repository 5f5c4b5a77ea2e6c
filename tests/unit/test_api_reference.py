"""The API reference, `docs/reference/api.md`: every field of both kinds is in it."""

import pytest

from dev import api_reference
from dev.lint_links import anchors

PAGE = api_reference.reference()


def fields(name: str) -> list[api_reference.Field]:
    [version] = api_reference.load(name)["spec"]["versions"]
    return [one for part in api_reference.objects(version["schema"]["openAPIV3Schema"]) for one in part.fields]


@pytest.mark.parametrize("name", api_reference.KINDS)
def test_reference_has_a_row_for_every_field(name: str) -> None:
    kind = api_reference.load(name)["spec"]["names"]["kind"]
    sections = PAGE.split("\n### ")
    for one in fields(name):
        parent = one.path.rpartition(".")[0]
        heading = f"{kind} {parent}\n" if parent else "# API reference"
        [section] = [
            section for section in sections if section.startswith(heading) or (not parent and f"\n## {kind}\n" in section)
        ]
        assert f"| `{one.name}` |" in section, one.path


@pytest.mark.parametrize("name", api_reference.KINDS)
def test_every_field_has_a_description_that_begins_with_its_name(name: str) -> None:
    assert [one.path for one in fields(name) if not one.schema.get("description", "").startswith(f"`{one.name}` ")] == []


@pytest.mark.parametrize("name", api_reference.KINDS)
def test_every_printer_column_has_a_description(name: str) -> None:
    [version] = api_reference.load(name)["spec"]["versions"]
    assert [column["name"] for column in version["additionalPrinterColumns"] if not column.get("description")] == []


def test_links_lead_to_the_section_of_the_object() -> None:
    targets = {part.partition(")")[0] for part in PAGE.split("[object](#")[1:]}
    assert len(targets) > 10
    assert targets <= anchors(PAGE)


def test_constraints_list_bounds_values_and_rules() -> None:
    schema = {
        "type": "array",
        "minItems": 1,
        "maxItems": 3,
        "items": {
            "type": "integer",
            "minimum": 1,
            "maximum": 9,
            "x-kubernetes-validations": [{"rule": "self != 3", "message": "must not be 3"}],
        },
        "x-kubernetes-validations": [{"rule": "self.isSorted()", "message": "must be in ascending order"}],
    }
    assert list(api_reference.constraints(schema)) == [
        *("1 to 3 items", "each 1 to 9", "must not be 3", "must be in ascending order"),
    ]
    assert list(api_reference.constraints({"type": "string", "enum": ["a", "b"], "maxLength": 3})) == ["one of `a`, `b`"]
