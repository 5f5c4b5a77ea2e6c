"""`dev/lint_links.py` finds links of documents that lead nowhere."""

import pytest

from dev.lint_links import anchors, broken

TEXTS = {
    "README.md": "# Wine\n[a](docs/a.md#the-first-step) [b](docs/) [c](https://host/docs/gone.md)\n",
    "docs/a.md": "## The *first* step\n## `b` (of [two](b.md))\n[up](../README.md#wine) [here](#the-first-step)\n",
    "docs/b.md": "# B\n```console\n# no heading [gone](gone.md)\n```\n",
}
EXISTS = frozenset({*TEXTS, "docs", "main.py"})


def test_links_are_accepted_when_file_and_heading_exist() -> None:
    assert list(broken(TEXTS, EXISTS)) == []


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("README.md", "one\n[a](docs/c.md)\n", "README.md:2: docs/c.md: there is no docs/c.md"),
        ("docs/b.md", "[a](a.md#second)\n", "docs/b.md:1: a.md#second: docs/a.md has no heading #second"),
        ("docs/b.md", "# B\n[a](#c)\n", "docs/b.md:2: #c: docs/b.md has no heading #c"),
        ("main.py", "raise Error('see docs/c.md')\n", "main.py:1: docs/c.md: there is no docs/c.md"),
        ("main.py", "# see docs/a.md#second\n", "main.py:1: docs/a.md#second: docs/a.md has no heading #second"),
    ],
)
def test_link_is_reported_when_it_leads_nowhere(path: str, text: str, expected: str) -> None:
    assert expected in list(broken({**TEXTS, path: text}, EXISTS))


def test_anchors_are_those_of_github_headings() -> None:
    assert anchors(TEXTS["docs/a.md"]) == {"the-first-step", "b-of-two"}
    assert anchors("# A\n# A\n") == {"a", "a-1"}
    assert anchors(TEXTS["docs/b.md"]) == {"b"}
