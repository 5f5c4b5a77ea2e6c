"""From CSV to parquet: good files come through whole, bad ones are refused with the place of the fault."""

import contextlib
import csv
import io
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from winecolumns import lower_snake
from winecontract.reasons import Reason
from winesteps.failures import StepFailure
from winesteps.preprocess import MIN_ROWS, preprocess

ROWS = [f"{n};{n % 7}.5;{n % 3}" for n in range(30)]
GOOD = "\n".join(["A;b b;quality", *ROWS]) + "\n"


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Preprocesses text or bytes and returns the table's columns."""

    def run(content: str | bytes, **options: Any) -> dict[str, list[float]]:
        source, target = tmp_path / "a file.csv", tmp_path / "table"
        source.write_bytes(content.encode() if isinstance(content, str) else content)
        preprocess(source, target, **options)
        result: dict[str, list[float]] = pq.read_table(target).to_pydict()
        return result

    return run


def refused(run: Any, reason: Reason, content: str | bytes, **options: str) -> str:
    with pytest.raises(StepFailure) as caught:
        run(content, **options)
    assert caught.value.reason is reason, caught.value
    assert caught.value.permanent
    return caught.value.message


def with_row(row: str, at: int = 5) -> str:
    """A good file whose line `at` (the header is line 1) is `row`."""
    lines = GOOD.splitlines()
    lines[at - 1] = row
    return "\n".join(lines) + "\n"


EXPECTED = {
    "a": [float(n) for n in range(30)],
    "b_b": [n % 7 + 0.5 for n in range(30)],
    "quality": [float(n % 3) for n in range(30)],
}


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.rstrip("\n"),
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        "\n\n" + GOOD.replace("\n", "\n\n"),
        GOOD.replace("A;b b;quality", '"A";"b b";"quality"'),
        GOOD.replace(";", " ; "),
        GOOD.replace("\n7;", '\n"7";'),
        GOOD.replace("\n7;", "\n+7e0;"),
        "\ufeff" + GOOD.replace("A;b b;quality", '"A";"b b";"quality"').replace("\n", "\r\n").replace("\r\n7;", "\r\n+7.;"),
    ],
    ids=["plain", "no last newline", "CRLF", "BOM", "blank lines", "quotes", "spaces", "a quoted value", "signed", "everything"],
)
def test_ways_to_write_the_same(run: Any, content: str) -> None:
    assert run(content) == EXPECTED


@pytest.mark.parametrize("separator", [",", "\t", "|", ":", " "])
def test_separators(run: Any, separator: str) -> None:
    assert run(GOOD.replace("b b", "b-b").replace(";", separator), separator=separator) == EXPECTED


def test_the_wine_data(tmp_path: Path, red_wine: Path) -> None:
    done = preprocess(red_wine, tmp_path / "table")
    assert done.rows == 1599
    assert len(done.features) == 11
    assert done.features[:2] == ["fixed_acidity", "volatile_acidity"]
    assert done.target == "quality"
    read = pq.read_table(tmp_path / "table")
    assert {str(field.type) for field in read.schema} == {"double"}
    with red_wine.open(encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter=";"))
    assert [lower_snake(name) for name in rows[0]] == read.column_names
    assert [list(row.values()) for row in read.to_pylist()] == [[float(value) for value in row] for row in rows[1:]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("fixed acidity", "fixed_acidity"), ("pH", "ph"), (" a  (g/l) ", "a_g_l"), ("__x__", "x"), ("Säure", "säure"), ("--", "")],
)
def test_column_names(name: str, expected: str) -> None:
    assert lower_snake(name) == expected


@pytest.mark.parametrize("target", ["b b", "b_b", " B-b "])
def test_the_target_as_the_header_or_the_table_names_it(run: Any, target: str) -> None:
    assert run(GOOD, target=target) == EXPECTED


def test_target_missing(run: Any) -> None:
    message = refused(run, Reason.COLUMN_MISSING, GOOD, target="grade")
    assert "'grade'" in message
    assert "a, b_b, quality" in message
    assert "separator" not in message


@pytest.mark.parametrize(("used", "named"), [(",", "a comma"), ("\t", "a tab"), ("|", "a bar")])
def test_wrong_separator_is_hinted(run: Any, used: str, named: str) -> None:
    message = refused(run, Reason.COLUMN_MISSING, "\n" + GOOD.replace(";", used))
    assert f"The file is separated by {named}" in message
    assert "data.separator" in message


@pytest.mark.parametrize("header", ['"A",b-b,"quality"', '"A","b, ""b""","quality"', '"A\nB","b","quality"'])
def test_wrong_separator_is_hinted_for_quoted_names_too(run: Any, header: str) -> None:
    rows = "\n".join(ROWS).replace(";", ",")
    message = refused(run, Reason.COLUMN_MISSING, f"\n{header}\n{rows}\n")
    assert message == (
        "There is no column 'quality': with the separator \";\" the header is one column. "
        'The file is separated by a comma (","): set data.separator to ",".'
    )


def test_wrong_separator_for_the_wine_data(run: Any, red_wine: Path) -> None:
    assert 'a comma (",")' in refused(run, Reason.COLUMN_MISSING, red_wine.read_bytes().replace(b";", b","))
    assert 'a semicolon (";")' in refused(run, Reason.COLUMN_MISSING, red_wine.read_bytes(), separator=",")


def test_a_header_whose_quotes_do_not_close(run: Any) -> None:
    assert "Line 1 cannot be read as CSV" in refused(run, Reason.DATA_INVALID, GOOD.replace("A;b b;quality", '"A;b;quality'))


@pytest.mark.parametrize("separator", ["", ";;", '"', "\n"])
def test_separator_that_is_none(run: Any, separator: str) -> None:
    refused(run, Reason.PARAMETERS_INVALID, GOOD, separator=separator)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("1;2", "Line 5 has 2 values, the header has 3 columns"),
        ("1;2;3;4", "Line 5 has 4 values"),
        ("1", "Line 5 has 1 value,"),
        ("1;;3", "Line 5, column 'b_b' has no value"),
        ("1;2; ", "Line 5, column 'quality' has no value"),
        ("good;2;3", "Line 5, column 'a' is 'good', not a finite number"),
        ("1;NaN;3", "Line 5, column 'b_b' is 'NaN'"),
        ("1;2;-inf", "Line 5, column 'quality' is '-inf'"),
        ("1;1e999;3", "Line 5, column 'b_b' is '1e999'"),
        ("1;0x10;3", "Line 5, column 'b_b' is '0x10'"),
        ("1;1_000;3", "Line 5, column 'b_b' is '1_000'"),
        ("1;NA;3", "Line 5, column 'b_b' is 'NA'"),
        ("1;true;3", "Line 5, column 'b_b' is 'true'"),
        ("1;2,5;3", "Line 5, column 'b_b' is '2,5', with a decimal comma"),
        (f"1;{'x' * 99};3", f"is '{'x' * 40}…', not"),
        ('1;"2;3', "Line 5 cannot be read as CSV"),
        ('1;"2"x;3', "Line 5, column 'b_b' is '2x', not a finite number"),
    ],
)
def test_bad_rows(run: Any, row: str, expected: str) -> None:
    assert expected in refused(run, Reason.DATA_INVALID, with_row(row))


def test_the_first_bad_row_is_named_by_its_line_in_the_file(run: Any) -> None:
    content = "\n" + with_row("bad;2;3", at=9).replace("\n", "\r\n") + "worse;2;3\n"
    assert "Line 10, column 'a' is 'bad'" in refused(run, Reason.DATA_INVALID, content)


@pytest.mark.parametrize("line", [1, 5, 31])
def test_damaged_utf8(run: Any, line: int) -> None:
    """Of a file that has whole characters of UTF-8 beside damaged ones."""
    content = with_row("Säure;quality;1", line).encode("latin-1") + "1;2;ä\n".encode()
    message = refused(run, Reason.DATA_INVALID, content)
    assert f"Line {line}" in message
    assert "is not UTF-8: it has the byte 0xe4" in message


@pytest.mark.parametrize("names", ["A;a;quality", "x y;X_Y;quality", "quality;b;Quality"])
def test_two_columns_of_one_name(run: Any, names: str) -> None:
    assert "Two columns would be named" in refused(run, Reason.DATA_INVALID, GOOD.replace("A;b b;quality", names))


def test_a_column_without_name(run: Any) -> None:
    assert "Column 2 of the header" in refused(run, Reason.DATA_INVALID, GOOD.replace("b b", " "))


@pytest.mark.parametrize("content", ["", "\n \n".replace(" ", ""), "\ufeff"])
def test_nothing_in_it(run: Any, content: str) -> None:
    refused(run, Reason.DATA_NOT_CSV, content)


def test_rows_are_counted(run: Any) -> None:
    lines = GOOD.splitlines()
    assert len(run("\n".join(lines[: MIN_ROWS + 1]))["a"]) == MIN_ROWS
    message = refused(run, Reason.TOO_FEW_ROWS, "\n".join(lines[:MIN_ROWS]))
    assert f"{MIN_ROWS - 1} rows" in message
    assert "0 rows" in refused(run, Reason.TOO_FEW_ROWS, lines[0])


def test_the_target_alone(run: Any) -> None:
    assert "no column besides" in refused(run, Reason.DATA_INVALID, "quality\n" + "1\n2\n" * MIN_ROWS)


def test_columns_that_teach_nothing(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    rows = range(MIN_ROWS)
    constant_target = "a;quality\n" + "".join(f"{n};5\n" for n in rows)
    assert "the same 'quality', 5" in refused(run, Reason.DATA_INVALID, constant_target)
    constant_features = "a;b;quality\n" + "".join(f"1;2;{n}\n" for n in rows)
    assert "only one value. Add features that vary" in refused(run, Reason.DATA_INVALID, constant_features)
    assert list(run("a;b;quality\n" + "".join(f"1;{n};{n}\n" for n in rows))) == ["a", "b", "quality"]
    assert "Columns with only one value, which the model cannot use: 'a'" in caplog.text


finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text("abcdefgh XYZ_-", min_size=1, max_size=9)


@st.composite
def good_files(draw: st.DrawFn) -> tuple[str, str, dict[str, list[float]]]:
    """Text, separator, and the columns that it must come out as."""
    names = [*draw(st.lists(words, min_size=1, max_size=4)), "quality"]
    known = [lower_snake(name) for name in names]
    names = [name for place, name in enumerate(names) if known[place] and known.index(known[place]) == place]
    rows = draw(st.integers(MIN_ROWS, MIN_ROWS + 9))
    columns = {name: draw(st.lists(finite, min_size=rows, max_size=rows)) for name in names}
    for values in columns.values():
        values[0] = 0.0 if values[1] else 1.0  # not anyway
    separator = draw(st.sampled_from(";,\t|"))
    text = io.StringIO(newline="")
    writer = csv.writer(
        text,
        delimiter=separator,
        lineterminator=draw(st.sampled_from(["\n", "\r\n"])),
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])),
    )
    writer.writerow(names)
    style = draw(st.sampled_from([repr, "{:.17g}".format, "{:.16e}".format, "{:+.16E}".format]))
    writer.writerows([style(value) for value in row] for row in zip(*columns.values(), strict=True))
    bom = draw(st.sampled_from(["", "\ufeff"]))
    return bom + text.getvalue(), separator, {lower_snake(name): values for name, values in columns.items()}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(good_files())
def test_good_files_come_through_whole(run: Any, file: tuple[str, str, dict[str, list[float]]]) -> None:
    text, separator, columns = file
    if len(columns) > 1:
        assert run(text, separator=separator) == columns


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.binary(max_size=200) | st.text('ab;,\n\r"0\0').map(str.encode), st.booleans())
def test_any_bytes_are_read_or_refused(run: Any, content: bytes, header: bool) -> None:
    with contextlib.suppress(StepFailure):
        run(b"quality;b\n" + content if header else content)
