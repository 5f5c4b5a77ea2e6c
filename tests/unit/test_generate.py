"""Generated files and sections of files: `dev/generate.py`."""

from pathlib import Path

import pytest

from dev.generate import Page, Section, main


def test_page_is_stale_until_written(tmp_path: Path) -> None:
    page = Page("docs/new.md", lambda: "text\n", root=tmp_path)
    assert main(["--check"], [page]) == 1
    assert main([], [page]) == 0
    assert (tmp_path / "docs/new.md").read_text() == "text\n"
    assert main(["--check"], [page]) == 0


def test_page_is_stale_when_edited_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new.md").write_text("edited\n")
    assert main(["--check"], [Page("new.md", lambda: "text\n", root=tmp_path)]) == 1
    assert capsys.readouterr().err == "new.md is stale: run make generate\n"
    assert (tmp_path / "new.md").read_text() == "edited\n"


def test_section_replaces_the_lines_between_its_markers_alone(tmp_path: Path) -> None:
    (tmp_path / "crd.yaml").write_text("a: 1\nb:\n  # BEGIN GENERATED: one\n  old: 1\n  # END GENERATED: one\n  d: 2\n")
    section = Section("crd.yaml", "one", lambda: "c:\n  e: 3\n", root=tmp_path)
    assert main(["--check"], [section]) == 1
    assert main([], [section]) == 0
    expected = "a: 1\nb:\n  # BEGIN GENERATED: one\n  c:\n    e: 3\n  # END GENERATED: one\n  d: 2\n"
    assert (tmp_path / "crd.yaml").read_text() == expected
    assert main(["--check"], [section]) == 0


def test_section_reads_markers_of_markdown(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("<!-- BEGIN GENERATED: one -->\n<!-- END GENERATED: one -->\n")
    assert main([], [Section("page.md", "one", lambda: "| a |", root=tmp_path)]) == 0
    assert (tmp_path / "page.md").read_text() == "<!-- BEGIN GENERATED: one -->\n| a |\n<!-- END GENERATED: one -->\n"


@pytest.mark.parametrize(
    "text",
    [
        "# BEGIN GENERATED: one\n",
        "# BEGIN GENERATED: one more\n# END GENERATED: one\n",
        "# END GENERATED: one\n# BEGIN GENERATED: one\n",
        "# BEGIN GENERATED: one\n# END GENERATED: one\n# END GENERATED: one\n",
    ],
)
def test_section_fails_when_its_markers_are_not_there_once_and_in_order(tmp_path: Path, text: str) -> None:
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(ValueError, match="marker"):
        main([], [Section("page.md", "one", lambda: "text", root=tmp_path)])
    assert (tmp_path / "page.md").read_text() == text
