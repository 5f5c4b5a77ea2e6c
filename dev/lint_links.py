"""Check the links of documents, and the names of documents in other files: `make lint`. Exits with 1 if one leads nowhere.

Checked are links and images of tracked Markdown files to files and headings of this repository, and paths such as
`docs/how-to/install.md` wherever a tracked text file names one. Links to other hosts are not followed.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from posixpath import normpath
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(([^()\s]{1,500})\)")
HEADING = re.compile(r"^#{1,6} (.{1,500})$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
MADE_UP = ("tests/unit/test_lint_links.py", "tests/unit/test_generate.py")
"""Tests that name documents which need not exist."""
NAMED = re.compile(r"(?<![\w/.-])docs/[\w./-]{1,200}\.md(?:#[\w-]{1,200})?")


def anchors(document: str) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    made = set()
    for heading in HEADING.findall(FENCE.sub("", document)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        made.add(f"{slug}-{found[slug]}" if slug in found else slug)
        found[slug] = found.get(slug, 0) + 1
    return made


def broken(texts: Mapping[str, str], exists: frozenset[str]) -> Iterator[str]:
    """List links and names of documents that lead nowhere.

    `texts` are the tracked files' texts by path, `exists` the paths of all tracked files and folders.
    """
    for path, text in texts.items():
        here = PurePosixPath(path).parent
        targets = [(match.start(), match[0], match[0]) for match in NAMED.finditer(text)]
        if path.endswith(".md"):
            prose = FENCE.sub(lambda match: re.sub("[^\n]", " ", match[0]), text)
            targets += [
                (match.start(), match[1], normpath(str(here / match[1])) if not match[1].startswith("#") else path + match[1])
                for match in LINK.finditer(prose)
                if not re.match(r"[a-z]+:", match[1])
            ]
        for start, written, target in targets:
            file, _, anchor = unquote(target).partition("#")
            line = text.count("\n", 0, start) + 1
            if file.rstrip("/") not in exists:
                yield f"{path}:{line}: {written}: there is no {file}"
            elif anchor and file.endswith(".md") and anchor not in anchors(texts[file]):
                yield f"{path}:{line}: {written}: {file} has no heading #{anchor}"


def main() -> int:
    """Check all files that are checked in; return the exit status."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603, S607 - git, on our own files
    paths = [path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()]
    folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    texts = {path: (ROOT / path).read_text(errors="replace") for path in paths if path not in MADE_UP}
    wrong = [*broken(texts, frozenset(paths) | folders)]
    sys.stdout.write("".join(f"{line}\n" for line in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
