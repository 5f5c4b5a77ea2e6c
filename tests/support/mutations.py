"""All single changes of an allowed object, derived from its schema: added fields, changed values, added items.

Each mutation changes one field only, so a rejection is for that field.
"""

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]
Path = tuple[str | int, ...]
DEEPEST = 7  # levels of nested fields that one mutation adds
TEXTS = {"date-time": "2026-01-05T12:00:00Z", "byte": "eA==", "int-or-string": "1"}


@dataclass(frozen=True)
class Mutation:
    """A changed object, and the path of the change."""

    path: str
    object: dict[str, Any]

    def __str__(self) -> str:
        return self.path


class Mutations:
    """Mutations of objects of one schema.

    All keys are regular expressions of paths. `free` lists the forbidden values of fields that may have several values. `opened`
    replaces the schemas of fields whose own schema is open. Paths that match `skipped` are not mutated.
    """

    def __init__(
        self, schema: Schema, free: Mapping[str, tuple[object, ...]], opened: Mapping[str, Schema], skipped: tuple[str, ...] = ()
    ) -> None:
        self._schema, self._free, self._opened, self._skipped = schema, free, opened, skipped

    def of(self, base: dict[str, Any]) -> Iterator[Mutation]:
        """Generate the mutations of an object."""
        for path, change in self._walk(base, self._schema, ()):
            if any(re.fullmatch(pattern, path) for pattern in self._skipped):
                continue
            mutated = copy.deepcopy(base)
            change(mutated)
            yield Mutation(path, mutated)

    def _walk(self, value: Any, schema: Schema, path: Path) -> Iterator[tuple[str, Callable[[Any], object]]]:
        where = _text(path)
        if any(re.fullmatch(pattern, where) for pattern in self._skipped):
            return
        schema = self._known(schema, where)
        if isinstance(value, dict):
            properties = schema.get("properties", {})
            for name in value:
                inside = properties.get(name, schema.get("additionalProperties", {}))
                yield from self._walk(value[name], inside if isinstance(inside, dict) else {}, (*path, name))
            for name in properties.keys() - value.keys():
                for suffix, added in self._values(properties[name], f"{where}.{name}", 0):
                    yield f"{where}.{name}{suffix}", _sets((*path, name), added)
            if isinstance(more := schema.get("additionalProperties"), dict):
                for suffix, added in self._values(more, f"{where}.other", 0):
                    yield f"{where}.other{suffix}", _sets((*path, "example.org-other"), added)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from self._walk(item, schema.get("items", {}), (*path, index))
            for suffix, added in self._values(schema.get("items", {}), f"{where}[]", 0):
                yield f"{where}[+]{suffix}", _appends(path, added)
        else:
            for other in self._others(value, where):
                yield f"{where}={str(other)[:40]}", _sets(path, other)

    def _others(self, value: object, where: str) -> tuple[object, ...]:
        """Return forbidden values of a field that has this value."""
        for pattern, refused in self._free.items():
            if re.fullmatch(pattern, where):
                return refused
        if isinstance(value, bool):
            return (not value,)
        if isinstance(value, int):
            return (value + 7, -1)
        return (f"{value}-other", "other")

    def _values(self, schema: Schema, where: str, depth: int) -> Iterator[tuple[str, Any]]:
        """Generate values of a schema, each with at most one optional field."""
        schema = self._known(schema, where)
        kind = schema.get("type")
        least = self._least(schema, where)
        if kind == "object" and depth < DEEPEST:
            yield "", least
            for name, inside in schema.get("properties", {}).items():
                for suffix, value in self._values(inside, f"{where}.{name}", depth + 1):
                    if {**least, name: value} != least:
                        yield f".{name}{suffix}", {**least, name: value}
        elif kind == "array" and depth < DEEPEST:
            for suffix, value in self._values(schema.get("items", {}), f"{where}[]", depth + 1):
                yield f"[]{suffix}", [value]
        else:
            yield "", least

    def _least(self, schema: Schema, where: str) -> Any:
        """Return the smallest value that a schema allows."""
        schema = self._known(schema, where)
        if "enum" in schema:
            return next(filter(None, schema["enum"]))
        kind = schema.get("type", "string")
        if schema.get("x-kubernetes-int-or-string"):
            return 1
        if kind == "object":
            least = {name: self._least(schema["properties"][name], f"{where}.{name}") for name in schema.get("required", ())}
            if not least and isinstance(more := schema.get("additionalProperties"), dict):
                return {"other": self._least(more, f"{where}.other")}
            return least
        if kind == "array":
            return [self._least(schema.get("items", {}), f"{where}[]")]
        simple: dict[str, Any] = {"boolean": True, "integer": 1, "number": 1}
        return simple.get(kind, TEXTS.get(schema.get("format", ""), "other"))

    def _known(self, schema: Schema, where: str) -> Schema:
        return next((found for pattern, found in self._opened.items() if re.fullmatch(pattern, where)), schema)


def _text(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


def _sets(path: Path, value: object) -> Callable[[Any], object]:
    def change(place: Any) -> None:
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = copy.deepcopy(value)

    return change


def _appends(path: Path, value: object) -> Callable[[Any], object]:
    def change(place: Any) -> None:
        for step in path:
            place = place[step]
        place.append(copy.deepcopy(value))

    return change
