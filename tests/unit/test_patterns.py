"""The check for regular expressions of super-linear time."""

import ast
import re
from pathlib import Path

import pytest

from dev.backtracking import Engine, problem
from dev.patterns import Module, Pattern, all_patterns, of_schema, uses

SUPER_LINEAR = [
    (r"[\w.:\[\]]+:\d+->", 0, "search"),  # a new attempt at each character; found in the field
    (r"(a+)+$", 0, "search"),
    (r"(?:a|a)*b", 0, "match"),
    (r"(a|aa)*b", 0, "match"),
    (r"a*a*$", 0, "match"),
    (r"\s+$", 0, "search"),
    (r"^(\d+|\d+\.)*$", 0, "match"),
    (r"v\w*_\w*_\w*$", 0, "match"),
    (r"CERT.*(?:x|y) mismatch", 0, "search"),
    (r"a.*?b", 0, "search"),
    (r"(\S+)@x", 0, "search"),
    (rb"(?:a|b|ab)*c", 0, "search"),
    (r"(?:\s|<!--.*?-->)*<html", re.DOTALL, "match"),
    (r"(?P<quote>['\"]).*?(?P=quote)x", 0, "search"),
    (r"(?=.*x)y", 0, "search"),
    (r"X+Y", re.IGNORECASE, "search"),
    (r"((?:\w://|url: /)[^\s?'\"]*)\?x", 0, "search"),
    (r"(a?){30}a{30}", 0, "fullmatch"),  # exponential in its bounds
    (r"<title>\s{0,80}([^<]{1,80}?)\s{0,80}</title>", 0, "search"),  # cubic in its bounds
]
LINEAR = [
    (r"[\w.:\[\]]{1,64}:\d{1,5}->", 0, "search"),
    (r"(\S+)@x", 0, "match"),
    (r"(\w://)[^\s/@]*@", 0, "search"),
    (r"((?:\w://|url: /)[^\s?'\"]*+)(?:\?[^\s]*)?", 0, "search"),
    (r"(?:\s|(?><!--.*?-->))*+<html", re.DOTALL, "match"),
    (r"[0-9a-f]{64}", 0, "fullmatch"),
    (r"[!-~]{1,256}", 0, "fullmatch"),
    (r"\d+", 0, "search"),
    (r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", 0, "fullmatch"),
    (r'failed calling webhook "(?P<webhook>[^"]{1,253})"(?P<why>.*)', re.DOTALL, "search"),
    (r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", 0, "fullmatch"),
    (r"^(?!\.{1,2}(/|$))[A-Za-z0-9_=+.@-]{1,255}(?<!x)\b$", re.MULTILINE, "match"),
    (r"anything at all", 0, "search"),
]


@pytest.mark.parametrize(("pattern", "flags", "mode"), SUPER_LINEAR)
def test_super_linear_pattern_is_found(pattern: str | bytes, flags: int, mode: str) -> None:
    assert problem(pattern, flags, mode)


@pytest.mark.parametrize(("pattern", "flags", "mode"), LINEAR)
def test_linear_pattern_is_accepted(pattern: str, flags: int, mode: str) -> None:
    assert problem(pattern, flags, mode) == ""


TEXTS = ["", "a", "aab", "2026-01-02T03:04:05", "x@y.z", "<!-- a --><html>", "a\nb\n", "'q'x", "foo.bar-baz", "ÄÖ ü", "12h3m"]


@pytest.mark.parametrize(("pattern", "flags", "mode"), [case for case in SUPER_LINEAR + LINEAR if isinstance(case[0], str)])
def test_engine_gives_the_matches_of_python(pattern: str, flags: int, mode: str) -> None:
    """The engine's count of steps is valid only if it backtracks as Python's engine does."""
    compiled = re.compile(pattern, flags)
    engine = Engine(pattern, flags, reduce=False)
    for text in TEXTS:
        ends: list[int] = []
        engine.text, engine.steps, engine.budget = text, 0, 100_000
        found = engine._match(0, lambda end, ends=ends: ends.append(end) is None)  # type: ignore[misc]
        expected = compiled.match(text)
        assert found is (expected is not None), text
        assert not expected or ends[-1] == expected.end(), text


SOURCE = """
import re
WORD = "a+"
WHOLE = re.compile(rf"{WORD}!", re.IGNORECASE | re.DOTALL)
BEGIN = re.compile("b" + WORD)
PASSED_ON = re.compile("c")
TABLE = {"x": re.compile(rf"d{re.escape(unknown)}")}
WHOLE.fullmatch(text), BEGIN.match(text), TABLE["x"].fullmatch(text), some(PASSED_ON)
re.sub(r"e", "", text, flags=re.MULTILINE)
re.search(given, text)
re.split(f"{given}x", text)
"""


def test_patterns_are_found_in_source(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(SOURCE)
    found = list(Module(path, uses([path])).patterns())
    read = [item for item in found if isinstance(item, Pattern)]
    assert {(item.text, item.flags, item.mode) for item in read} == {
        ("a+!", int(re.IGNORECASE | re.DOTALL), "fullmatch"),
        ("ba+", 0, "match"),  # sic
        ("c", 0, "search"),
        ("dx", 0, "fullmatch"),
        ("e", int(re.MULTILINE), "search"),
    }
    assert [item.partition(": ")[2][:5] for item in found if isinstance(item, str)] == ["given", "given"]


def test_patterns_are_found_in_schemas() -> None:
    rule = {"rule": r"self.url.matches('^a+$') && self.name.matches('b\\d') && self.id.matches(r'e\d')"}
    schema = {"properties": {"url": {"pattern": "c", "x-kubernetes-validations": [rule]}, "pattern": {"type": "string"}}}
    assert {item.text for item in of_schema(schema, "crd")} == {"^a+$", r"b\d", "c", r"e\d"}


def test_patterns_of_the_project_can_all_be_parsed() -> None:
    """`make lint` checks that each is of linear time."""
    found = list(all_patterns(Path(__file__).parents[2]))
    assert [item for item in found if isinstance(item, str)] == []
    assert len(found) > 150
    assert any("crds" in item.place for item in found if isinstance(item, Pattern))


def test_modules_import_re_by_its_name_only() -> None:
    """The check would miss a pattern that is compiled under another name of the module or of its functions."""
    root = Path(__file__).parents[2]
    for folder in ("contract", "operator", "pipeline", "sandbox"):
        for path in (root / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom):
                    assert node.module not in ("re", "regex"), path
                if isinstance(node, ast.Import):
                    assert all(name.name not in ("re", "regex") or name.asname is None for name in node.names), path
