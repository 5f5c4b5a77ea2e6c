"""Validate resources against the CRDs in `crds/` without an API server.

CEL rules are evaluated if `rules` can parse them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from winepipelines.platform.rules import broken

Schema = dict[str, Any]
UNKNOWN = "x-kubernetes-preserve-unknown-fields"


def schemas(crd: Schema) -> dict[tuple[str, str], Schema]:
    """Return the schemas of a CRD's versions by API version and kind, changed to reject unknown fields."""
    group, kind = crd["spec"]["group"], crd["spec"]["names"]["kind"]
    made = {}
    for version in crd["spec"]["versions"]:
        schema = _closed(version["schema"]["openAPIV3Schema"])
        for free in ("metadata", "apiVersion", "kind"):
            schema.get("properties", {}).pop(free, None)
        schema["additionalProperties"] = True
        made[f"{group}/{version['name']}", kind] = schema
    return made


def read(folder: str | Path) -> dict[tuple[str, str], Schema]:
    """Read the schemas of a folder of CRDs."""
    known: dict[tuple[str, str], Schema] = {}
    for path in sorted(Path(folder).glob("*.yaml")):
        for crd in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            known |= schemas(crd)
    return known


def problems(body: Schema, schema: Schema) -> Iterator[str]:
    """List the problems of an object, each with the path of its field."""
    import jsonschema  # here, to save memory in the operator

    for error in jsonschema.Draft202012Validator(schema).iter_errors(body):
        yield f"{error.json_path.removeprefix('$.')}: {error.message}"
    yield from _against_rules(body, schema, "")


def _against_rules(value: Any, schema: Schema, path: str) -> Iterator[str]:
    yield from (f"{path or 'object'}: {message}" for message in broken(value, schema))
    if isinstance(value, dict):
        for name, inner in value.items():
            known = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if isinstance(known, dict):
                yield from _against_rules(inner, known, f"{path}.{name}".lstrip("."))
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for number, item in enumerate(value):
            yield from _against_rules(item, schema["items"], f"{path}[{number}]")


def _closed(schema: Any) -> Any:
    """Refuse unknown fields wherever the schema does not say that it keeps them."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get(UNKNOWN) and "additionalProperties" not in schema:
        closed["additionalProperties"] = False
    return closed
