"""Check that a tag can be released, and print its section of CHANGELOG.md: `PYTHONPATH=. python dev/release.py v0.1.0`.

Called by the release workflow before anything is built. Needs Python alone.
"""

import re
import sys

from dev import version

SECTION = re.compile(r"^## \[(?P<name>[^\]]+)\](?: - (?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2}))?$", re.MULTILINE)
UNRELEASED = "Unreleased"


class ReleaseError(Exception):
    """The tag cannot be released; the message says what to do."""


def main() -> int:
    """Print the section of the tag's version; return the exit status."""
    [tag] = sys.argv[1:] or [""]
    try:
        print(notes(tag, version.version(), (version.ROOT / version.HISTORY).read_text()))
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


def notes(tag: str, current: str, changelog: str) -> str:
    """Return the section of the tag's version.

    Raises ReleaseError where the tag is another version than the files say, or its section is missing, empty or has no date.
    """
    if tag != f"v{current}":
        raise ReleaseError(
            f"the tag is {tag!r} and the version in {version.SOURCE} is {current}: run dev/version.py --set …, or use another tag"
        )
    dates = {match["name"]: match["date"] for match in SECTION.finditer(changelog)}
    text = sections(changelog).get(current, "")
    if not text or not dates[current]:
        raise ReleaseError(f"{version.HISTORY} has no section '## [{current}] - <date>' with text")
    return text


def sections(changelog: str) -> dict[str, str]:
    """Read the text of each section by its version."""
    heads = [*SECTION.finditer(changelog)]
    ends = [head.start() for head in heads[1:]] + [len(changelog)]
    return {head["name"]: changelog[head.end() : end].strip() for head, end in zip(heads, ends, strict=True)}


if __name__ == "__main__":
    sys.exit(main())
