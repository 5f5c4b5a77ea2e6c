"""Check spelling and terms of every tracked text file: `make lint`. Exits with 1 if anything is found.

Spelling is checked by typos (settings: `[tool.typos]` in pyproject.toml), terms by the list of retired words in
dev/retired-words.yaml. With paths as arguments only these files and folders are checked.
"""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
LIST = "dev/retired-words.yaml"
SKIPPED = ("requirements/", "LICENSE", LIST, "tests/unit/test_lint_words.py")
"""Files that hold no text of ours, and those that quote retired words."""
BREAK = r"(?:[ _]|\n[ \t]*(?:#|//|\|)?[ \t]*)+"
"""What a space in a pattern matches: an identifier's underscore, or a line break with a comment sign, too."""


@dataclass(frozen=True)
class Retired:
    """A pattern, what to write instead, and the files and folders where it is allowed."""

    pattern: re.Pattern[str]
    say: str
    allowed: tuple[str, ...] = ()


def retired(entries: Iterable[dict[str, str | list[str]]]) -> list[Retired]:
    """Compile the list of retired words.

    Raises KeyError where an entry lacks a part, re.error where a pattern is no regular expression.
    """
    compiled = []
    for entry in entries:
        words = str(entry["words"]).replace(" ", BREAK)
        pattern = re.compile(rf"(?<![^\W_])(?:{words})(?![^\W_])", re.IGNORECASE)
        compiled.append(Retired(pattern, str(entry["say"]), tuple(entry.get("except", ()))))
    return compiled


def find(path: str, text: str, words: Iterable[Retired]) -> Iterator[str]:
    """List the retired words in a file's text, each with its place and what to write instead."""
    for word in words:
        if path.startswith(word.allowed):
            continue
        for match in word.pattern.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{path}:{line}: {' '.join(match[0].split())!r}: say {word.say}"


def tracked(under: Iterable[str] = ()) -> list[str]:
    """List the tracked text files by their paths below the root."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--", *under]
    listed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - git, on our own files
    return [path for path in listed.stdout.split("\0") if path and not path.startswith(SKIPPED) and (ROOT / path).is_file()]


def misspelled(paths: Iterable[str]) -> str:
    """Run typos on the files; return what it found."""
    program = Path(sys.executable).with_name("typos")
    command = [str(program), "--config", "pyproject.toml", "--force-exclude", "--format", "brief", "--file-list", "-"]
    found = subprocess.run(command, input="\n".join(paths), stdout=subprocess.PIPE, text=True, cwd=ROOT)  # noqa: S603 - pinned in requirements/dev.txt
    if found.returncode not in (0, 2):
        raise subprocess.CalledProcessError(found.returncode, command)
    return found.stdout


def main() -> int:
    """Check the files; return the exit status."""
    words = retired(yaml.safe_load((ROOT / LIST).read_text())["retired"])
    paths = tracked(sys.argv[1:])
    found = [line for path in paths for line in find(path, (ROOT / path).read_text(errors="replace"), words)]
    shown = "".join(f"{line}\n" for line in found) + misspelled(paths)
    sys.stdout.write(shown)
    return 1 if shown else 0


if __name__ == "__main__":
    sys.exit(main())
