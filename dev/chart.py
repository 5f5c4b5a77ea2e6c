"""Make the charts' parts that have their source elsewhere: `make chart`; `--check` fails where one is stale (`make lint`).

The CRDs and the operator's rights are copies, as a chart must hold all that it needs. What is said of the values, their schema
and which of them sets which variable of the operator come from the comments in each chart's `values.yaml`, the rest of its
README from `dev/charts`.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "deploy/charts/wine-operator"
SANDBOX = ROOT / "deploy/charts/wine-sandbox"
COPIES = ("files/crds", "files/kinds")  # folders in which nothing else stands
MADE = "made from values.yaml by `make chart`"


@dataclass(frozen=True)
class Value:
    """A value, its default and what its comment says. `children` is of a mapping whose keys are values too."""

    path: tuple[str, ...]
    default: Any
    about: str
    variable: str
    schema: dict[str, Any]
    children: tuple["Value", ...]


def main() -> int:
    """Write every part, or tell which ones are stale; return the exit status."""
    parts = made()
    stale = [path for path, text in parts.items() if not path.exists() or path.read_text() != text]
    copied = [path for chart in (CHART, SANDBOX) for folder in COPIES for path in (chart / folder).glob("*")]
    orphans = [path for path in copied if path not in parts]
    if "--check" in sys.argv[1:]:
        for path in (*stale, *orphans):
            print(f"{path.relative_to(ROOT)} is stale: make chart", file=sys.stderr)
        return bool(stale or orphans)
    for path in orphans:
        path.unlink()
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(parts[path])
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


def made() -> dict[Path, str]:
    """Build every part's text by its path."""
    kinds = sorted((ROOT / "sandbox/manifests").glob("2*.yaml"))  # the others are namespaces
    return {
        **{CHART / "files/crds" / crd.name: crd.read_text() for crd in sorted((ROOT / "crds").glob("*.yaml"))},
        CHART / "files/rights.yaml": (ROOT / "deploy/operator/rbac.yaml").read_text(),
        CHART / "files/settings.yaml": _settings(values_of(CHART)),
        **{SANDBOX / "files/kinds" / kind.name: kind.read_text() for kind in kinds},
        **_about(CHART),
        **_about(SANDBOX),
    }


def values_of(chart: Path) -> tuple[Value, ...]:
    """Read a chart's values."""
    return read((chart / "values.yaml").read_text())


def _about(chart: Path) -> dict[Path, str]:
    """Build what is said of a chart's values."""
    values = values_of(chart)
    schema = json.dumps(_schema_of_all(values), indent=2, ensure_ascii=False) + "\n"
    return {chart / "values.schema.json": schema, chart / "README.md": _readme(chart, values)}


def read(text: str) -> tuple[Value, ...]:
    """Read values with the comments above them."""
    return tuple(_values(yaml.compose(text), text.splitlines(), ()))


def flat(values: tuple[Value, ...]) -> Iterator[Value]:
    """List those that hold something themselves."""
    for value in values:
        if value.children:
            yield from flat(value.children)
        else:
            yield value


def _values(node: Any, lines: list[str], path: tuple[str, ...]) -> Iterator[Value]:
    for key, held in node.value:
        about, variable, schema = _comment(lines, key.start_mark.line)
        here = (*path, key.value)
        default = yaml.safe_load(yaml.serialize(held))
        free = "properties" in schema or "additionalProperties" in schema or here[-1] == "labels"
        children = tuple(_values(held, lines, here)) if isinstance(default, dict) and default and not free else ()
        yield Value(here, default, about, variable, schema, children)


def _comment(lines: list[str], line: int) -> tuple[str, str, dict[str, Any]]:
    """Read the comment above a line: its text, its variable and its schema."""
    first = line
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    said = [text.strip().removeprefix("#").strip() for text in lines[first:line]]
    variable = next((text.removeprefix("@env ") for text in said if text.startswith("@env ")), "")
    schema: dict[str, Any] = next((json.loads(text.removeprefix("@schema ")) for text in said if text.startswith("@schema ")), {})
    return " ".join(text for text in said if not text.startswith("@")), variable, schema


def _settings(values: tuple[Value, ...]) -> str:
    lines = [f"{value.variable}: {'.'.join(value.path)}\n" for value in flat(values) if value.variable]
    return f"# Which value sets which of the operator's variables; {MADE}.\n" + "".join(lines)


def _schema_of_all(values: tuple[Value, ...]) -> dict[str, Any]:
    schema = _object(values)
    schema["properties"]["global"] = {"type": "object", "description": "Given by a chart that this one is part of; unused."}
    return {"$schema": "http://json-schema.org/draft-07/schema#", "$comment": MADE, **schema}


def _object(values: tuple[Value, ...]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": {value.path[-1]: _schema(value) for value in values}}


def _schema(value: Value) -> dict[str, Any]:
    about = {"description": value.about} if value.about else {}
    if value.children:
        return {**about, **_object(value.children)}
    match value.default:
        case bool():
            kind: dict[str, Any] = {"type": "boolean"}
        case int():
            kind = {"type": "integer"}
        case float():
            kind = {"type": "number"}
        case str():
            kind = {"type": "string"}
        case list():
            kind = {"type": "array"}
        case dict():
            kind = {"type": "object", "additionalProperties": {"type": "string"}}
        case _:
            kind = {}
    return {**about, **kind, **value.schema}


def _readme(folder: Path, values: tuple[Value, ...]) -> str:
    chart = yaml.safe_load((folder / "Chart.yaml").read_text())
    rows = []
    for value in flat(values):
        default = json.dumps(value.default, ensure_ascii=False).replace("|", "\\|")
        rows.append(f"| `{'.'.join(value.path)}` | `{default}` | {value.about.replace('|', chr(92) + '|')} |\n")
    text = (ROOT / "dev/charts" / f"{folder.name}.md").read_text()
    return HEAD.format(**chart) + text + TAIL.format(rows="".join(rows))


HEAD = """<!-- Made from values.yaml and dev/charts/{name}.md by `make chart`: change those. -->
# {name}
{description}. Chart {version}, images {appVersion}, Kubernetes {kubeVersion}.

"""

TAIL = """
Unknown values are refused, see `values.schema.json`.

| value | default | what it is |
|---|---|---|
{rows}"""


if __name__ == "__main__":
    sys.exit(main())
