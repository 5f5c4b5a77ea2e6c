"""Check that the operator names a serving backend only in the backend's own folder: `make lint`. Exits with 1 otherwise.

The registry lists each backend. Any other mention, in code, comments or file names, ties the operator to one backend.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OPERATOR = "operator"
REGISTRY = "operator/winepipelines/serving/backends.py"
WORDS = {"seldon": ("seldon", "rclone"), "kserve": ("kserve", "inferenceservice", "servingruntime")}
"""The words of each backend, by the name of its folder below operator/winepipelines/serving."""


def find(path: str, text: str) -> Iterator[str]:
    """List the words of a backend in the path and the text of a file outside its folder, each with its place."""
    for folder, words in WORDS.items():
        if path.startswith(f"operator/winepipelines/serving/{folder}/"):
            continue
        pattern = re.compile("|".join(words), re.IGNORECASE)
        if pattern.search(path):
            yield f"{path}: the file's name names a serving backend"
        for number, line in enumerate(text.splitlines(), start=1):
            if (match := pattern.search(line)) is not None and not _lists(path, folder, line):
                yield f"{path}:{number}: {match[0]!r} belongs into operator/winepipelines/serving/{folder}"


def _lists(path: str, folder: str, line: str) -> bool:
    """Tell whether a line of the registry imports or lists a backend."""
    imports = line.startswith(f"from winepipelines.serving.{folder}.backend import ")
    return path == REGISTRY and (imports or line.startswith("BACKENDS"))


def main() -> int:
    """Check every file below the operator's folder; return the exit status."""
    found = [
        finding
        for path in sorted((ROOT / OPERATOR).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
        for finding in find(str(path.relative_to(ROOT)), path.read_text(errors="replace"))
    ]
    sys.stdout.write("".join(f"{finding}\n" for finding in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
