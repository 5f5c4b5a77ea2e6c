"""Read or set the project's version, `[project] version` of pyproject.toml.

    python dev/version.py              print it
    python dev/version.py --set 0.2.0  set it, in pyproject.toml and in all copies

Copies are in files that cannot read pyproject.toml: the operator's package, which has no metadata in its image, the charts, and
the names of the images. A unit test compares them. Needs only Python and Git.
"""

import argparse
import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Valid as an image tag, a chart version and, after a "v", a Git tag.
WORD = r"(?P<version>[0-9]+\.[0-9]+\.[0-9]+(?:-[0-9A-Za-z]+(?:\.[0-9A-Za-z]+)*)?)"
SOURCE = "pyproject.toml"
COPIES = {  # by file: the text before the version
    SOURCE: r'(?m:^version = ")',
    "operator/winepipelines/__init__.py": r'(?m:^__version__ = ")',
    "deploy/charts/wine-operator/Chart.yaml": r"(?m:^(?:version|appVersion): )",
    "deploy/charts/wine-sandbox/Chart.yaml": r"(?m:^(?:version|appVersion): )",
}
IMAGE = r"\bwinepipelines/(?:operator|steps|server|sandbox):"
"""The text before the version in every tracked file."""
HISTORY = "CHANGELOG.md"  # has older ones


def main() -> None:
    """Print the version, or set another."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--set", metavar="VERSION", dest="another", type=_version, help="set the version in pyproject.toml and in all copies"
    )
    another = parser.parse_args().another
    if another is None:
        print(version())
        return
    for path in write(another):
        print(f"wrote {path}")
    print("now: make generate; then CHANGELOG.md, see docs/how-to/release.md")


def version(root: Path = ROOT) -> str:
    """Read the version."""
    return str(tomllib.loads((root / SOURCE).read_text())["project"]["version"])


def copies(root: Path = ROOT) -> dict[str, list[str]]:
    """List the versions in each file, by its path; tests can contain others."""
    files = [(path, pattern) for path, pattern in _patterns(root) if not path.startswith("tests/")]
    found = {path: [match["version"] for match in pattern.finditer(_text(root / path))] for path, pattern in files}
    return {path: versions for path, versions in found.items() if versions or path in COPIES}


def write(another: str, root: Path = ROOT) -> list[str]:
    """Replace the version in all copies; return the paths of the changed files."""
    changed = []
    now = version(root)
    for path, pattern in _patterns(root):
        text = _text(root / path)
        new = pattern.sub(lambda match: match["before"] + (another if match["version"] == now else match["version"]), text)
        if new != text:
            (root / path).write_text(new)
            changed.append(path)
    return changed


def _patterns(root: Path) -> list[tuple[str, re.Pattern[str]]]:
    listed = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], check=True, capture_output=True, text=True)  # noqa: S603, S607 - git
    return [
        (path, re.compile(f"(?P<before>{'|'.join(filter(None, (COPIES.get(path), IMAGE)))}){WORD}"))
        for path in sorted({*listed.stdout.split("\0"), *COPIES} - {"", HISTORY})
        if (root / path).is_file() or path in COPIES
    ]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""  # no place for a version


def _version(text: str) -> str:
    if not re.fullmatch(WORD, text):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 1.2.3 or 1.2.3-rc.1")
    return text


if __name__ == "__main__":
    main()
