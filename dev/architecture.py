"""Draw the operator's packages and their imports for docs/explanation/architecture.md. See dev/generate.py.

The picture is a Mermaid graph of the import graph: the packages and modules directly in `winepipelines`, and the contract. An
import that follows from others is left out. Round nodes do no I/O, which import-linter enforces; modules that are exempt from it
rule, such as `pipelines.observe`, are nodes besides their package.
"""

import sys
import tomllib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
OPERATOR, CONTRACT = "winepipelines", "winecontract"
ORDER, PURE = "Imports point one way", "Deciding does no I/O"
"""Names of the contracts in pyproject.toml that give the order of the layers, and the packages that do no I/O."""
ALSO_PURE = {"engine", CONTRACT}
"""Packages that other contracts keep from I/O."""


def picture() -> str:
    """Draw the import graph."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["name"] == ORDER)
    deciding = next(contract for contract in contracts if contract["name"] == PURE)
    exempt = [line.partition(" -> ")[0] for line in deciding.get("ignore_imports", ())]
    pure = {one.rpartition(".")[2] for one in deciding["source_modules"]} | ALSO_PURE
    edges = reduced(imports(exempt))
    order = [name.strip().rpartition(".")[2] for layer in layers for name in layer.split("|")] + [CONTRACT]
    lines = ["```mermaid", "flowchart TD"]
    rank = {name: number for number, name in enumerate(order)}
    for name in sorted(edges, key=lambda name: (rank.get(name.partition(".")[0], 0), -len(name), name)):
        shape = f"([{name}])" if name in pure else f"[{name}]"
        lines.append(f"  {_id(name)}{shape}")
    lines += [f"  {_id(name)} --> {_id(other)}" for name in sorted(edges) for other in sorted(edges[name])]
    return "\n".join([*lines, "```"]) + "\n"


def imports(exempt: Sequence[str]) -> dict[str, set[str]]:
    """Read which package imports which other one, by the packages' short names. `exempt` are patterns of modules with I/O."""
    sys.path[:0] = [str(ROOT / "operator"), str(ROOT / "contract")]  # a package named operator would hide the standard library's
    graph = grimp.build_graph(OPERATOR, CONTRACT, cache_dir=None)
    found: dict[str, set[str]] = {}
    for module in sorted(graph.modules - {OPERATOR}):
        others = graph.find_modules_directly_imported_by(module) - {OPERATOR}
        found.setdefault(_short(module, exempt), set()).update(_short(other, exempt) for other in others)
    return {name: others - {name} for name, others in found.items()}


def reduced(edges: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Leave out edges that follow from others.

    Raises:
        ValueError: the graph has a cycle.

    """

    def reach(name: str, path: tuple[str, ...] = ()) -> set[str]:
        if name in path:
            raise ValueError(f"imports in a circle: {' -> '.join((*path, name))}")
        return edges[name].union(*(reach(other, (*path, name)) for other in edges[name]))

    return {name: {one for one in others if not any(one in reach(other) for other in others)} for name, others in edges.items()}


def _short(module: str, exempt: Sequence[str]) -> str:
    """Name the package or module directly in `winepipelines` that contains a module, and the module itself if it is exempt."""
    root, *rest = module.split(".")
    if root != OPERATOR:
        return root
    return ".".join(rest[: 2 if any(fnmatch(module, pattern) for pattern in exempt) else 1])


def _id(name: str) -> str:
    return {"__main__": "main"}.get(name, name.replace(".", "_"))
