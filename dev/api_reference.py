"""Generate `docs/reference/api.md`, the reference of both kinds, from the CRDs: see `dev/generate.py`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("winepipelines", "winepredictions")

HEAD = """<!-- Generated from crds/ by `make generate`: change those. -->
# API reference
The API group is `winepipelines.io`, the version `v1alpha1`. `kubectl explain winepipeline.spec` prints the same descriptions.

"""


@dataclass(frozen=True)
class Field:
    """A field of an object: its path in the resource, its schema, and whether the object requires it."""

    path: str
    schema: Mapping[str, Any]
    required: bool

    @property
    def name(self) -> str:
        """The field's own name."""
        return self.path.rpartition(".")[2]


@dataclass(frozen=True)
class Object:
    """An object of the API and its fields. `path` is empty for the resource itself."""

    path: str
    schema: Mapping[str, Any]
    fields: Sequence[Field] = field(default_factory=tuple)


def load(name: str) -> dict[str, Any]:
    """Read a CRD of this project."""
    crd: dict[str, Any] = yaml.safe_load((ROOT / "crds" / f"{name}.yaml").read_text(encoding="utf-8"))
    return crd


def objects(schema: Mapping[str, Any], path: str = "") -> Iterator[Object]:
    """List an object and those below it, outer ones first. Elements of a list have its path and `[]`."""
    required = set(schema.get("required", ()))
    names = [name for name in schema["properties"] if path or name in ("spec", "status")]
    fields = [Field(f"{path}.{name}".lstrip("."), schema["properties"][name], name in required) for name in names]
    yield Object(path, schema, fields)
    for one in fields:
        inner, suffix = _element(one.schema)
        if "properties" in inner:
            yield from objects(inner, one.path + suffix)


def reference() -> str:
    """Generate the page."""
    return HEAD + "\n".join(_kind(load(name)) for name in KINDS)


def _kind(crd: Mapping[str, Any]) -> str:
    [version] = crd["spec"]["versions"]
    kind = crd["spec"]["names"]["kind"]
    parts = [_section(kind, one) for one in objects(version["schema"]["openAPIV3Schema"])]
    first, *rest = parts
    return "\n".join([first, _columns(crd["spec"]["names"], version), *rest])


def _section(kind: str, part: Object) -> str:
    title = f"### {kind} {part.path}" if part.path else f"## {kind}"
    lines = [title, str(part.schema.get("description", "")), ""]
    lines += ["| field | type | default | constraints | description |", "|---|---|---|---|---|"]
    lines += [_row(kind, one) for one in part.fields]
    if rules := part.schema.get("x-kubernetes-validations"):
        lines += ["", "Rules:", "", *(f"- {_cell(rule['message'])}" for rule in rules)]
    return "\n".join([*lines, ""])


def _row(kind: str, one: Field) -> str:
    default = "required" if one.required else ""
    if one.schema.get("default", {}) != {}:
        default = f"`{json.dumps(one.schema['default'], ensure_ascii=False)}`"
    limits = "; ".join(constraints(one.schema))
    return f"| `{one.name}` | {_type(kind, one)} | {default} | {_cell(limits)} | {_cell(one.schema.get('description', ''))} |"


def constraints(schema: Mapping[str, Any]) -> Iterator[str]:
    """List what the schema requires of a value."""
    element, suffix = _element(schema)
    each = "each " if suffix else ""
    if suffix:
        least = schema.get("minItems", 0)
        yield f"{least} to {schema['maxItems']} items" if least else f"at most {schema['maxItems']} items"
    if values := element.get("enum"):
        yield f"{each}one of {', '.join(f'`{value}`' for value in values)}"
    if "minimum" in element:
        yield f"{each}{_number(element['minimum'])} to {_number(element['maximum'])}"
    if "maxLength" in element and "enum" not in element:
        yield f"{each}at most {element['maxLength']} characters"
    if "maxProperties" in schema:
        least = schema.get("minProperties", 0)
        yield f"{least} to {schema['maxProperties']} entries" if least else f"at most {schema['maxProperties']} entries"
    if "properties" not in element:  # those of an object are below its own table
        yield from (rule["message"] for rule in element.get("x-kubernetes-validations", ()))
    if suffix:
        yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", ()))
    if isinstance(values := schema.get("additionalProperties"), Mapping):
        yield from (f"each value: {rule['message']}" for rule in values.get("x-kubernetes-validations", ()))


def _columns(names: Mapping[str, Any], version: Mapping[str, Any]) -> str:
    short = " and ".join(f"`{name}`" for name in names["shortNames"])
    lines = [f"`kubectl get {names['plural']}` (short: {short}) prints:", "", "| column | field | description |", "|---|---|---|"]
    for column in version["additionalPrinterColumns"]:
        wide = " (with `-o wide`)" if column.get("priority") else ""
        path = column["jsonPath"].replace("|", "\\|")
        lines.append(f"| {column['name']}{wide} | `{path}` | {_cell(column.get('description', ''))} |")
    return "\n".join([*lines, ""])


def _element(schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """The schema of a list's elements, and `[]`; of another field its own."""
    return (schema["items"], "[]") if schema.get("type") == "array" else (schema, "")


def _type(kind: str, one: Field) -> str:
    element, suffix = _element(one.schema)
    if "properties" in element:
        title = f"{kind} {one.path}{suffix}"
        anchor = "".join(letter for letter in title.lower() if letter.isalnum() or letter in "-_ ").replace(" ", "-")
        name = f"[object](#{anchor})"
    elif "additionalProperties" in element:
        name = f"map of string to {_scalar(element['additionalProperties'])}"
    else:
        name = _scalar(element)
    return f"list of {name}" if suffix else name


def _scalar(schema: Mapping[str, Any]) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    return "time (RFC 3339)" if schema.get("format") == "date-time" else str(schema.get("type", "any"))


def _number(value: float) -> str:
    """Write an integer with all its digits, and another number in its short form."""
    return str(value) if isinstance(value, int) else f"{value:g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("{{", "{&#123;")
