"""Check that no regular expression takes more than linear time, because an attacker chooses the text that costs most.

Reads the calls of `re` in the packages' source, and `pattern` and `matches()` in the CRDs, which the command line matches
in Python. A pattern must be a constant, at module level or in the call. Run by `make lint`.
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dev.backtracking import MODES, problem

FOLDERS = ("contract", "operator", "pipeline", "sandbox")
CRDS, SCHEMAS = ("crds",), ("deploy/charts",)
CALLS = {"compile", "search", "match", "fullmatch", "split", "findall", "finditer", "sub", "subn"}
# Patterns from the CRDs, which are checked here too.
FROM_ELSEWHERE = {("platform/rules.py", "pattern")}
MATCHES = re.compile(r"""\.matches\(\s{0,20}r?('(?:[^'\\]|\\.){1,2000}'|"(?:[^"\\]|\\.){1,2000}")\s{0,20}\)""")


class UnreadableError(Exception):
    """A pattern is not a constant."""


@dataclass(frozen=True)
class Pattern:
    """A regular expression, where it is, and how it is matched: as a whole, from the beginning, or anywhere."""

    place: str
    text: str | bytes
    flags: int = 0
    mode: str = "search"


class Module:
    """The patterns of a source file."""

    def __init__(self, path: Path, uses: dict[str, set[str]]) -> None:
        """Parse it; `uses` tells for each name which methods are called on it, in all files."""
        self._path, self._uses = path, uses
        self._tree = ast.parse(path.read_text())
        self._constants = {
            target.id: node.value
            for node in self._tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        self._names = {id(node): name for name, value in self._constants.items() for node in ast.walk(value)}

    def patterns(self) -> Iterator[Pattern | str]:
        """List the patterns, and what is wrong with those that cannot be read."""
        for node in ast.walk(self._tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            called = node.func
            if not (isinstance(called.value, ast.Name) and called.value.id == "re" and called.attr in CALLS):
                continue
            place = f"{self._path}:{node.lineno}"
            if ("/".join(self._path.parts[-2:]), ast.unparse(node.args[0])) in FROM_ELSEWHERE:
                continue
            try:
                yield Pattern(place, self._text(node.args[0]), self._flags(node), self._mode(node, called.attr))
            except UnreadableError as error:
                yield f"{place}: {error} is not a constant: write the pattern at module level, compiled, or in the call"

    def _mode(self, node: ast.Call, called: str) -> str:
        if called != "compile":
            return called if called in MODES else "search"
        uses = self._uses.get(self._names.get(id(node), ""), set()) - {"pattern", "flags"}
        if not uses or uses - {"fullmatch", "match"}:
            return "search"
        return "match" if "match" in uses else "fullmatch"

    def _flags(self, node: ast.Call) -> int:
        position = 1 if getattr(node.func, "attr", "") == "compile" else 4 if getattr(node.func, "attr", "") == "sub" else 2
        given = [keyword.value for keyword in node.keywords if keyword.arg == "flags"] + node.args[position : position + 1]
        names = [part.attr for value in given for part in ast.walk(value) if isinstance(part, ast.Attribute)]
        flags = 0
        for name in names:
            flags |= int(getattr(re, name, 0))
        return flags

    def _text(self, node: ast.expr) -> str | bytes:
        """Read a constant of text. Raises UnreadableError."""
        match node:
            case ast.Constant(str() | bytes() as text):
                return text
            case ast.Name(name) if name in self._constants:
                return self._text(self._constants[name])
            case ast.Attribute(inner, "pattern"):
                return self._text(inner)
            case ast.Call(ast.Attribute(ast.Name("re"), "compile"), [first, *_]):
                return self._text(first)
            case ast.Call(ast.Attribute(ast.Name("re"), "escape"), [_]):
                return "x"  # some text or other: none of it is repeated
            case ast.BinOp(left, ast.Add(), right):
                return self._joined([self._text(left), self._text(right)])
            case ast.JoinedStr(values):
                return self._joined(
                    [self._text(value.value if isinstance(value, ast.FormattedValue) else value) for value in values]
                )
            case ast.Call(ast.Attribute(separator, "join"), [ast.Tuple(items) | ast.List(items)]):
                parts = [str(self._text(item)) for item in items]
                return str(self._text(separator)).join(parts)
        raise UnreadableError(ast.unparse(node))

    def _joined(self, parts: list[str | bytes]) -> str | bytes:
        return b"".join(parts) if isinstance(parts[0], bytes) else "".join(map(str, parts))  # type: ignore[arg-type] # all alike


def uses(paths: list[Path]) -> dict[str, set[str]]:
    """List the attributes used on each name, as in NAME.fullmatch and module.NAME.match; `search` if it is passed on."""
    found: dict[str, set[str]] = {}
    for path in paths:
        tree = ast.parse(path.read_text())
        owners: set[int] = set()
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute):
                continue
            owner = node.value.value if isinstance(node.value, ast.Subscript) else node.value
            if isinstance(owner, ast.Name | ast.Attribute):
                found.setdefault(owner.id if isinstance(owner, ast.Name) else owner.attr, set()).add(node.attr)
                owners.add(id(owner))
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in owners:
                found.setdefault(node.id, set()).add("search")
    return found


def of_schema(schema: Any, place: str) -> Iterator[Pattern]:
    """List the patterns of a schema: `pattern`, the names of `patternProperties`, and `matches()` in rules."""
    if isinstance(schema, list):
        for item in schema:
            yield from of_schema(item, place)
    if not isinstance(schema, dict):
        return
    if isinstance(text := schema.get("pattern"), str):
        yield Pattern(place, text)
    if isinstance(names := schema.get("patternProperties"), dict):
        yield from (Pattern(place, name) for name in names)
    if isinstance(rule := schema.get("rule"), str):
        for found in MATCHES.finditer(rule):
            yield Pattern(
                f"{place}: {rule[:60]}", str(ast.literal_eval(f"r{found[1]}" if rule[found.start(1) - 1] == "r" else found[1]))
            )
    for name, value in schema.items():
        yield from of_schema(value, f"{place}.{name}" if name not in ("properties", "items") else place)


def all_patterns(root: Path = Path()) -> Iterator[Pattern | str]:
    """List the patterns of all packages, CRDs and schemas."""
    sources = sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))
    used = uses(sources)
    for path in sources:
        yield from Module(path, used).patterns()
    for path in sorted(path for folder in CRDS for path in (root / folder).glob("*.yaml")):
        for crd in yaml.safe_load_all(path.read_text()):
            for version in crd["spec"]["versions"]:
                yield from of_schema(version["schema"]["openAPIV3Schema"], str(path))
    for path in sorted(path for folder in SCHEMAS for path in (root / folder).glob("*/values.schema.json")):
        yield from of_schema(json.loads(path.read_text()), str(path))


def main() -> int:
    """Print what is wrong; return the exit status."""
    known: dict[tuple[str | bytes, int, str], str] = {}
    wrong: list[str] = []
    for found in all_patterns():
        if isinstance(found, str):
            wrong.append(found)
            continue
        key = (found.text, found.flags, found.mode)
        if key not in known:
            known[key] = problem(*key)
        if known[key]:
            wrong.append(f"{found.place}: {found.text!r} ({found.mode}): {known[key]}")
    print("\n".join(wrong) if wrong else f"{len(known)} regular expressions, all of linear time")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
