"""Record every decision of many random histories, and compare two recordings: for changes that must preserve behavior.

    python -m simulation.decisions record --histories 1000 before.jsonl.gz
    python -m simulation.decisions compare --renames renames.yaml before.jsonl.gz after.jsonl.gz

A recording has one line per history: its kind, its seed and its decisions in order. Texts for people are recorded only as
present or absent: rewording is not a difference. `renames.yaml` maps old names to new ones.
"""

import argparse
import dataclasses
import gzip
import itertools
import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from support.memory import InMemory
from support.prediction_world import PredictionWorld
from support.world import World

from simulation import test_predictions, test_rules
from simulation.history import History

TEXTS = {
    "message",
    "rejectionMessage",
    "failureMessage",
    "comparisonFailureMessage",
    "ignoredRecord",
    "left_behind",
    "drift_corrected",
    "updated",
}


def plain(value: object) -> Any:
    """Turn a value into JSON data: objects keep their type's name, texts for people only whether they are empty."""
    if isinstance(value, BaseModel):
        return _fields(value.model_dump(by_alias=True, mode="json", exclude_none=True, exclude_defaults=True))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"type": type(value).__name__, **_fields(fields)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return _fields(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _fields(mapping: Mapping[Any, object]) -> dict[str, Any]:
    return {str(name): bool(value) if name in TEXTS else plain(value) for name, value in mapping.items()}


class Recorder:
    """Wraps a world's `decide` and keeps what it returned."""

    def __init__(self, world: type[InMemory[Any]]) -> None:
        self.decisions: list[Any] = []
        self._world = world
        self._original = world.controller

    def __enter__(self) -> "Recorder":
        self._world.controller = dataclasses.replace(self._original, decide=self._decide)
        return self

    def __exit__(self, *_: object) -> None:
        self._world.controller = self._original

    def _decide(self, resource: Any, *arguments: Any) -> Any:
        decision = self._original.decide(resource, *arguments)
        recorded = {field.name: getattr(decision, field.name) for field in dataclasses.fields(decision)}
        if recorded["status"] == resource.status:
            del recorded["status"]
        self.decisions.append(plain({name: value for name, value in recorded.items() if value not in (None, ())}))
        return decision


def _pipeline(seed: int) -> None:
    test_rules.run_history(History(seed))


def _prediction(seed: int) -> None:
    test_predictions.run_history(seed)


KINDS: dict[str, tuple[type[InMemory[Any]], Callable[[int], None]]] = {
    "WinePipeline": (World, _pipeline),
    "WinePrediction": (PredictionWorld, _prediction),
}


def history(kind: str, seed: int) -> str:
    """Record one history as a line of JSON."""
    world, live = KINDS[kind]
    random.seed(seed)
    with Recorder(world) as recorder:
        live(seed)
    return json.dumps({"kind": kind, "seed": seed, "decisions": recorder.decisions}, sort_keys=True)


def record(path: Path, histories: int) -> None:
    """Record `histories` histories of each kind."""
    kinds = [kind for kind in KINDS for _ in range(histories)]
    with gzip.open(path, "wt") as file, ProcessPoolExecutor() as processes:
        for number, line in enumerate(processes.map(history, kinds, [*range(histories)] * len(KINDS), chunksize=8), start=1):
            file.write(line + "\n")
            if number % 100 == 0:
                print(f"recorded {number} of {len(kinds)} histories", file=sys.stderr)


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Replace old names, as keys and as values."""
    if isinstance(value, dict):
        return {names.get(key, key): renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def compare(before: Path, after: Path, names: Mapping[str, str]) -> Iterator[str]:
    """Describe the first difference of each history that differs."""
    with gzip.open(before, "rt") as old, gzip.open(after, "rt") as new:
        for old_line, new_line in itertools.zip_longest(old, new, fillvalue="{}"):
            one, other = renamed(json.loads(old_line), names), json.loads(new_line)
            if one == other:
                continue
            pairs = itertools.zip_longest(one.get("decisions", []), other.get("decisions", []))
            number, (left, right) = next((position, pair) for position, pair in enumerate(pairs) if pair[0] != pair[1])
            place = f"{one.get('kind')} {one.get('seed')}, decision {number}"
            yield f"{place}:\n  before {json.dumps(left)}\n  after  {json.dumps(right)}"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="simulation.decisions", description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="record decisions")
    recording.add_argument("path", type=Path)
    recording.add_argument("--histories", type=int, default=1000, help="of each kind (default: %(default)s)")
    comparing = commands.add_parser("compare", help="compare two recordings")
    comparing.add_argument("--renames", type=Path, help="YAML mapping of old names to new ones")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    options = parser.parse_args()
    if options.command == "record":
        record(options.path, options.histories)
        return 0
    names = yaml.safe_load(options.renames.read_text()) if options.renames else {}
    differences = list(compare(options.before, options.after, names))
    print("\n".join([*differences[:5], f"{len(differences)} histories differ"]))
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
