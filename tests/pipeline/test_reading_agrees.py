"""One reader: what trains also scores, with the same numbers; what is refused is refused in the same words; however it is
read."""

import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from winesteps.failures import StepFailure
from winesteps.preprocess import MIN_ROWS, preprocess
from winesteps.reading import Columns, Options, Wanted, csvfile, open_csv, text

SETTINGS: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
}
Read = tuple[list[Any], list[int], dict[str, list[int]], list[Any]] | str


def read(content: bytes, options: Options, numeric: tuple[str, ...], *, fast: bool = True, block: int = 0) -> Read:
    """All that a reader says of a file, or the message of its refusal."""
    rows: list[Any] = []
    numbers: list[int] = []
    rejected: dict[str, list[int]] = {}
    problems: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "file"
        path.write_bytes(content)
        if not fast:
            patch.setattr(csvfile._Reader, "_at_full_speed", lambda *_: None)
        if block:
            patch.setattr(text, "BLOCK_BYTES", block)
        try:
            source = open_csv(path, options, Wanted(numeric[:1], "", frozenset(numeric)), Path(folder))
            for chunk in source.chunks():
                rows += chunk.table.to_pylist()
                numbers += chunk.numbers.tolist()
                for reason, at in chunk.rejected.items():
                    rejected.setdefault(reason, []).extend(at)
                for problem in chunk.problems:
                    problems.setdefault(problem.reason, problem)
        except StepFailure as failure:
            return str(failure)
    return rows, numbers, rejected, sorted(problems.items())


alphabet = st.text('0123456789.,+-eEnaNfi? "\n\r;\tx', max_size=80)


@settings(**SETTINGS, max_examples=500)
@given(alphabet.map(str.encode) | st.binary(max_size=40), st.sampled_from([";", ",", "\t", " "]), st.sampled_from([".", ","]))
@example(b"1;2\r3;4", ";", ".")
@example(b'"1\n";2', ";", ".")
@example(b'1;"2', ";", ".")
@example(b'1;x"\n2;"y', ";", ".")
@example(b'1;"x\n\n2;y"\n3;z', ";", ".")
@example(b"1;0x1p3\ninfinity;nan\n1;\n;\n", ";", ".")
@example(b"1;\xff\n2;\xc3\xa4\n3;x", ";", ".")
@example(b'"1"x;5" x\n "1";2', ";", ".")
@example(b'1;"x\n2;y"z\n3;"""', ";", ".")
def test_fast_and_careful_reading_agree(body: bytes, separator: str, decimal: str) -> None:
    """Both for a column of numbers and for one that comes along as text."""
    content = f"a{separator}b\n".encode() + body
    options = Options(separator, decimal, section="input")
    expected = read(content, options, ("a",))
    assert read(content, options, ("a",), fast=False) == expected


@settings(**SETTINGS, max_examples=300)
@given(
    st.lists(
        st.sampled_from(["1;2", "3;x", '4;"x', 'y"', '5;"a;b"', "", '6;"a""b"', ";", "x;1", '7;"c\r\nd"', '8;5" e', "9"]),
        max_size=30,
    )
)
def test_the_size_of_blocks_changes_nothing(lines: list[str]) -> None:
    content = ("a;b\n" + "\n".join(lines)).encode()
    options = Options(section="input")
    expected = read(content, options, ("a",))
    for block in (40, 64, 100):
        found = read(content, options, ("a",), block=block)
        assert found == expected or (isinstance(found, str) and "no line ends" in found)


@st.composite
def tables(draw: st.DrawFn) -> tuple[bytes, Options, bool]:
    """A file as people have them, how it is read, and whether all of it is good."""
    separator = draw(st.sampled_from(";,\t|¦^~"))
    decimal = draw(st.sampled_from([".", ","])) if separator != "," else "."
    names = draw(
        st.lists(st.sampled_from(["fixed acidity", "pH", "Säure", "alcohol", "x_1", "", "a b"]), max_size=4, unique=True)
    )
    names = [*names, "quality"]
    rows = draw(st.integers(MIN_ROWS, MIN_ROWS + 5))
    dirt = draw(st.sampled_from(["", "", "", "", "NA", "red", "nan", "1,5" if decimal == "." else "1.5", "inf"]))
    lines = [separator.join(f'"{name}"' if draw(st.booleans()) else name for name in names)]
    for row in range(rows):
        values = [f"{row * 3 % 7}.{column}{row}".replace(".", decimal) for column, _ in enumerate(names)]
        if dirt and row == rows // 2:
            values[draw(st.integers(0, len(values) - 1))] = dirt
        lines.append(separator.join(f'"{value}"' if row % 5 == 4 or (separator in value) else value for value in values))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    whole = end.join(lines) + draw(st.sampled_from(["", end, end * 3]))
    encodings = ["utf-8", "utf-8-sig", "utf-16", "utf-32", *(["cp1252"] if "^" not in separator else [])]
    encoded = whole.encode(draw(st.sampled_from(encodings)))
    drop = (names.index("") + 1,) if "" in names and draw(st.booleans()) else ()
    return encoded, Options(separator, decimal, Columns(drop=drop)), not dirt


@settings(**SETTINGS, max_examples=150)
@given(tables())
def test_what_trains_also_scores_and_refusals_are_the_same(tmp_path: Path, file: tuple[bytes, Options, bool]) -> None:
    content, options, _ = file
    source, target = tmp_path / "file.csv", tmp_path / "table"
    source.write_bytes(content)
    columns = {"drop": list(options.columns.drop)}
    trained: Any
    try:
        preprocess(source, target, separator=options.separator, decimal=options.decimal, columns=columns)
        trained = pq.read_table(target).to_pylist()
    except StepFailure as failure:
        trained = failure.message
    assume("besides the target" not in str(trained))
    scored = _score(source, options, ("quality",))
    if isinstance(scored, str) or isinstance(trained, str):
        assert str(scored).replace("input.", "data.").split(".")[0] == str(trained).split(".")[0]
    else:
        assert scored == trained


def _score(path: Path, options: Options, required: tuple[str, ...]) -> Any:
    """As the predict step reads: the rows, or the message about the first that is refused."""
    as_input = Options(options.separator, options.decimal, options.columns, section="input")
    rows: list[Any] = []
    try:
        source = open_csv(path, as_input, Wanted(required, ""), path.parent)
        for chunk in source.chunks():
            if chunk.problems:
                return source.explain(min(chunk.problems, key=lambda problem: problem.line))
            rows += chunk.table.to_pylist()
    except StepFailure as failure:
        return failure.message
    return rows
