"""Generate every file, and every section of a file, that has its source elsewhere: `make generate`.

`--check` writes nothing and fails where one is stale (`make lint`). Add a generator to `GENERATORS`: a `Page` is a whole file,
a `Section` the lines between two markers, a `Command` a program that writes its own files and takes `--check`. Generators run in
order, so that a later one can read what an earlier one wrote. A section's markers are two comment lines of the file:

    # BEGIN GENERATED: algorithms
    # END GENERATED: algorithms
"""

import argparse
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dev import algorithms, api_reference, architecture, reasons, settings_reference

ROOT = Path(__file__).resolve().parents[1]


class Generator(Protocol):
    """A part of the repository that is generated."""

    def stale(self) -> list[str]:
        """List what is missing or differs from its source, by path."""
        ...

    def write(self) -> list[str]:
        """Write what is stale; return its paths."""
        ...


@dataclass(frozen=True)
class Page:
    """A whole file. `path` is relative to the root of the repository."""

    path: str
    text: Callable[[], str]
    root: Path = ROOT

    def stale(self) -> list[str]:
        """See `Generator`."""
        file = self.root / self.path
        return [] if file.is_file() and file.read_text(encoding="utf-8") == self.text() else [self.path]

    def write(self) -> list[str]:
        """See `Generator`."""
        stale = self.stale()
        for path in stale:
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(self.text(), encoding="utf-8")
        return stale


@dataclass(frozen=True)
class Section:
    """The lines between `BEGIN GENERATED: name` and `END GENERATED: name`, indented as the first marker is."""

    path: str
    name: str
    text: Callable[[], str]
    root: Path = ROOT

    def stale(self) -> list[str]:
        """See `Generator`."""
        old = (self.root / self.path).read_text(encoding="utf-8")
        return [] if self._filled(old) == old else [f"{self.path} ({self.name})"]

    def write(self) -> list[str]:
        """See `Generator`."""
        stale = self.stale()
        if stale:
            file = self.root / self.path
            file.write_text(self._filled(file.read_text(encoding="utf-8")), encoding="utf-8")
        return stale

    def _filled(self, old: str) -> str:
        """Put the generated text between the markers.

        Raises:
            ValueError: the file does not have each marker exactly once, in order.

        """
        lines = old.splitlines(keepends=True)
        first, last = (self._marker(lines, f"{which} GENERATED: {self.name}") for which in ("BEGIN", "END"))
        if first > last:
            raise ValueError(f"{self.path}: the END marker of {self.name} is before its BEGIN marker")
        indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
        text = textwrap.indent(self.text(), indent)
        return "".join(lines[: first + 1]) + text + ("" if text.endswith("\n") else "\n") + "".join(lines[last:])

    def _marker(self, lines: Sequence[str], marker: str) -> int:
        found = [number for number, line in enumerate(lines) if line.strip().strip("#<>!-/* ") == marker]
        if len(found) != 1:
            raise ValueError(f"{self.path}: expected one line with the marker {marker!r}, found {len(found)}")
        return found[0]


@dataclass(frozen=True)
class Command:
    """A program that writes its own files and has `--check`. `environment` is one of `dev/environment`."""

    name: str
    arguments: tuple[str, ...]
    environment: str = "dev"

    def stale(self) -> list[str]:
        """See `Generator`. The program itself prints which files are stale."""
        return [self.name] if self._run("--check") else []

    def write(self) -> list[str]:
        """See `Generator`. The program itself prints which files it wrote."""
        if status := self._run():
            raise SystemExit(f"generate: {self.name} failed with status {status}")
        return []

    def _run(self, *options: str) -> int:
        python = sys.executable
        if self.environment != "dev":
            found = subprocess.run([ROOT / "dev/environment", self.environment], check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - the project's own
            python = found.stdout.strip()
        paths = os.pathsep.join(str(ROOT / folder) for folder in ("contract", "operator", "pipeline", "."))
        environment = os.environ | {"PYTHONPATH": paths}
        return subprocess.run([python, *self.arguments, *options], cwd=ROOT, env=environment, check=False).returncode  # noqa: S603 - the project's own


GENERATORS: tuple[Generator, ...] = (
    Section("crds/winepipelines.yaml", "algorithms of runtimes", algorithms.crd_runtimes),
    Section("crds/winepipelines.yaml", "algorithms of parameters", algorithms.crd_rules),
    Section("crds/winepipelines.yaml", "algorithms", algorithms.crd_fields),
    Page("operator/winepipelines/api/algorithms.py", algorithms.typed_models),
    Section("docs/how-to/choose-an-algorithm.md", "algorithms", algorithms.reference),
    Page("docs/reference/api.md", api_reference.reference),
    Section("contract/winecontract/reasons.py", "reasons", reasons.members),
    Page("docs/reference/reasons.md", reasons.reference),
    Command("pipelines", ("-m", "winesteps.compile"), environment="pipeline"),
    Command("licences", ("dev/licences.py",)),
    Section("docs/explanation/architecture.md", "imports", architecture.picture),
    Page("docs/reference/settings.md", settings_reference.page),
    Command("charts", ("dev/chart.py",)),  # copies the CRDs: after all that writes them
)


def main(arguments: Sequence[str] | None = None, generators: Sequence[Generator] = GENERATORS) -> int:
    """Write what is stale, or check that nothing is; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dev.generate", description="Generate what has its source elsewhere.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a part is stale")
    if parser.parse_args(arguments).check:
        stale = [part for generator in generators for part in generator.stale()]
        for part in stale:
            print(f"{part} is stale: run make generate", file=sys.stderr)
        return int(bool(stale))
    for generator in generators:
        for part in generator.write():
            print(f"wrote {part}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
