"""Generate the members of `winecontract.reasons.Reason` and their reference from `contract/reasons.yaml`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

TABLE = Path(__file__).resolve().parents[1] / "contract/reasons.yaml"
KINDS = ("informational", "passing", "permanent", "platform")
TRAITS = ("uncounted", "unstartable", "adapter", "no-example", "foreign")
WIDTH = 120  # of a meaning, in characters
WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

INTRODUCTION = """\
<!-- Generated from contract/reasons.yaml by `make generate`: change it there. -->
# Reasons
Conditions, failed steps, platform checks and Events have one of these reasons. The *class* says what it takes until it passes:

| class | meaning |
|---|---|
| informational | Nothing is wrong. |
| passing | It may pass by itself: the operator retries. |
| permanent | It does not pass until someone changes the resource, its data or its model. |
| platform | A system of the platform fails or refuses. The operator retries; an administrator may have to act. |

The condition `Stalled` is True while the operator waits for someone. Once you have corrected the cause,
[troubleshooting](../how-to/troubleshoot.md#5-correct-the-cause) says whether more is needed: most often nothing, otherwise the
annotation `winepipelines.io/retrain`.
"""


@dataclass(frozen=True)
class Entry:
    """A row of the table."""

    name: str
    kind: str
    meaning: str
    remedy: str = ""
    traits: tuple[str, ...] = ()

    @classmethod
    def read(cls, name: str, row: Mapping[str, Any]) -> Self:
        """Check a row.

        Raises:
            ValueError: the row lacks a field, or has an unknown one.

        """
        unknown = row.keys() - {"kind", "traits", "meaning", "remedy"}
        entry = cls(name, row.get("kind", ""), row.get("meaning", ""), row.get("remedy", ""), tuple(row.get("traits", ())))
        if unknown or entry.kind not in KINDS or not set(entry.traits) <= set(TRAITS):
            raise ValueError(f"reason {name} has an unknown kind, trait or field")
        if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name):
            raise ValueError(f"reason {name} is not CamelCase")
        if not entry.meaning.endswith(".") or len(entry.meaning) > WIDTH or "|" in entry.meaning + entry.remedy:
            raise ValueError(f"the meaning of reason {name} must be a sentence of at most {WIDTH} characters, without '|'")
        return entry

    @property
    def constant(self) -> str:
        """The name of the member: `RunFailed` is RUN_FAILED."""
        return WORD.sub("_", self.name).upper()


@dataclass(frozen=True)
class Section:
    """A part of the reference."""

    title: str
    text: str
    entries: tuple[Entry, ...]


def read(text: str | None = None) -> tuple[Section, ...]:
    """Read the table.

    Raises:
        ValueError: a row is invalid, or a reason has two.

    """
    parts = yaml.safe_load(TABLE.read_text(encoding="utf-8") if text is None else text)
    sections = tuple(
        Section(part["section"], part.get("text", ""), tuple(Entry.read(name, row) for name, row in part["reasons"].items()))
        for part in parts
    )
    names = [entry.name for section in sections for entry in section.entries]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"reasons with two rows: {', '.join(sorted(twice))}")
    return sections


def members(sections: Sequence[Section] | None = None) -> str:
    """Generate the members of the enumeration."""
    return "\n".join(line for section in sections or read() for line in _members(section)) + "\n"


def _members(section: Section) -> Iterator[str]:
    yield f"# {section.title}"
    for entry in section.entries:
        traits = " | ".join(f"Trait.{trait.replace('-', '_').upper()}" for trait in entry.traits)
        yield f'{entry.constant} = "{entry.name}", Kind.{entry.kind.upper()}' + (f", {traits}" if traits else "")


def reference(sections: Sequence[Section] | None = None) -> str:
    """Generate the reference."""
    parts = [INTRODUCTION]
    for section in sections or read():
        text = f"{section.text}\n\n" if section.text else ""
        rows = [f"| `{entry.name}` | {entry.kind} | {entry.meaning} | {entry.remedy} |" for entry in section.entries]
        table = "\n".join(("| reason | class | meaning | remedy |", "|---|---|---|---|", *rows))
        parts.append(f"## {section.title}\n{text}{table}\n")
    return "\n".join(parts)
